"""Builds the operators' commands out of the worker's own stores and handlers, without threads."""

from functools import partial

from worker.bootstrap.telnyx import build_telnyx
from worker.config.agents_file import load_agents
from worker.config.settings import Settings
from worker.handlers.operators.compare import compare
from worker.handlers.operators.conversations import AdoptConversation, reset_conversation
from worker.handlers.operators.pause import set_paused
from worker.handlers.operators.replay import replay
from worker.handlers.operators.say import SayToUser
from worker.handlers.privacy.erase import EraseUser
from worker.handlers.privacy.export import export_user
from worker.store.database import Database
from worker.store.dead_letters import DeadLetterStore
from worker.store.intake.messages import MessageStore
from worker.store.operators.interventions import InterventionStore
from worker.store.operators.say import SayingStore
from worker.store.operators.users import UserStore
from worker.store.privacy.erasures import ErasureStore
from worker.store.privacy.exports import ExportStore
from worker.store.privacy.raw_bytes import RawStore
from worker.store.reports.conversations import ConversationReports


class Operator:
    """The use cases behind the operators' commands; it runs no turns."""

    def __init__(self, settings: Settings) -> None:
        """Connect to nothing yet. Raises `SettingsError`."""
        routing, timing = load_agents(settings.agents_file)
        self._database = database = Database(settings.database_url, pool_size=2, name="worker-cli")
        self._telnyx = build_telnyx(settings)
        telnyx, namespace = self._telnyx.conversations, settings.namespace
        slowest_s = max(one.call_timeout_s for one in routing.agents.values())
        interventions = InterventionStore(
            database, quiet_s=timing.quiet_s(slowest_s), settle_s=timing.settle_s
        )
        raw = RawStore(database)
        self.users = UserStore(database)
        self.set_paused = partial(set_paused, users=self.users, telnyx=telnyx)
        self.dead_letters = DeadLetterStore(database)
        accepted = MessageStore(database)
        self.replay = partial(replay, letters=self.dead_letters, messages=accepted, routing=routing)
        self.ledger = ConversationReports(database)
        self.compare = partial(compare, ledger=self.ledger, telnyx=telnyx)
        self.reset = partial(reset_conversation, interventions)
        self.adopt = AdoptConversation(
            store=interventions,
            ledger=self.ledger,
            telnyx=telnyx,
            routing=routing,
            namespace=namespace,
        )
        self.say = SayToUser(
            store=interventions, users=self.users, saying=SayingStore(database), routing=routing
        )
        self.erase = EraseUser(
            store=ErasureStore(database),
            interventions=interventions,
            raw=raw,
            telnyx=telnyx,
            routing=routing,
            namespace=namespace,
        )
        exports = ExportStore(database)
        self.export = partial(export_user, store=exports, raw=raw, routing=routing)

    def close(self) -> None:
        """Close the connections to Telnyx and Postgres."""
        self._telnyx.close()
        self._database.close()
