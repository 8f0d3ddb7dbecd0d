"""Builds what the commands of operators work with: the same stores and handlers, and no threads."""

from collections.abc import Callable
from dataclasses import dataclass

from worker.config.agents_file import load_agents
from worker.config.settings import Settings
from worker.handlers.intake.accept import AcceptEnvelope
from worker.handlers.operators.compare import CompareThread
from worker.handlers.operators.conversations import AdoptConversation, ResetConversation
from worker.handlers.operators.pause import PauseUser
from worker.handlers.operators.replay import Replay
from worker.handlers.operators.say import SayToUser
from worker.handlers.privacy.erase import EraseUser
from worker.handlers.privacy.export import ExportUser
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
from worker.telnyx.client import TelnyxClient


@dataclass(frozen=True, kw_only=True)
class Operator:
    """What a person's commands work with; it runs no turns."""

    users: UserStore
    pause: PauseUser
    dead_letters: DeadLetterStore
    replay: Replay
    ledger: ConversationReports
    compare: CompareThread
    reset: ResetConversation
    adopt: AdoptConversation
    say: SayToUser
    erase: EraseUser
    export: ExportUser
    close: Callable[[], None]


def build_operator(settings: Settings) -> Operator:
    """Build the parts of the operators' commands. Raises `SettingsError`."""
    routing, timing = load_agents(settings.agents_file)
    database = Database(settings.database_url, pool_size=2, name="worker-cli")
    telnyx = TelnyxClient(settings.telnyx_api_key, base_url=settings.telnyx_base_url)
    users = UserStore(database)
    dead_letters = DeadLetterStore(database)
    ledger = ConversationReports(database)
    slowest_s = max(one.call_timeout_s for one in routing.agents.values())
    interventions = InterventionStore(
        database, quiet_s=timing.quiet_s(slowest_s), settle_s=timing.settle_s
    )

    erasures, raw = ErasureStore(database), RawStore(database)

    def close() -> None:
        telnyx.close()
        database.close()

    return Operator(
        users=users,
        pause=PauseUser(users=users, telnyx=telnyx.conversations),
        dead_letters=dead_letters,
        replay=Replay(
            letters=dead_letters,
            accept=AcceptEnvelope(messages=MessageStore(database), routing=routing),
        ),
        ledger=ledger,
        compare=CompareThread(ledger=ledger, telnyx=telnyx.conversations),
        reset=ResetConversation(store=interventions),
        adopt=AdoptConversation(
            store=interventions,
            ledger=ledger,
            telnyx=telnyx.conversations,
            routing=routing,
            namespace=settings.namespace,
        ),
        say=SayToUser(store=interventions, saying=SayingStore(database), routing=routing),
        erase=EraseUser(
            store=erasures,
            interventions=interventions,
            raw=raw,
            telnyx=telnyx.conversations,
            routing=routing,
            namespace=settings.namespace,
        ),
        export=ExportUser(store=ExportStore(database), erasures=erasures, raw=raw, routing=routing),
        close=close,
    )
