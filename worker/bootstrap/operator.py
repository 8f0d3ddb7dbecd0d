# ruff: noqa: PLC0415 - a command imports the use case that it runs, and no other
"""Builds the operators' commands out of the worker's own stores and handlers, without threads."""

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from worker.config.agents_file import load_agents
from worker.store.database import Database
from worker.store.dead_letters import DeadLetterStore
from worker.store.operators.users import UserStore

if TYPE_CHECKING:
    from worker.config.settings import Settings
    from worker.domain.ids import ChannelUserId, DeadLetterId
    from worker.handlers.background.ask_telnyx import AskTelnyx
    from worker.handlers.operators.compare import ComparedRow
    from worker.handlers.operators.consents import Consents
    from worker.handlers.operators.conversations import AdoptConversation, Reset
    from worker.handlers.operators.drafts import Drafts
    from worker.handlers.operators.say import SayToUser
    from worker.handlers.privacy.erase import EraseUser
    from worker.store.operators.interventions import InterventionStore
    from worker.store.reports.conversations import ConversationReports, ConversationSummary
    from worker.store.reports.recent import RecentStore
    from worker.telnyx.client import TelnyxClient


class Operator:
    """The use cases behind the operators' commands, each built when used; it runs no turns."""

    def __init__(
        self, settings: "Settings", *, pool_size: int = 2, name: str = "worker-cli"
    ) -> None:
        """Connect to nothing yet; `name` appears in `pg_stat_activity`. Raises `SettingsError`."""
        self._settings = settings
        self.routing, self.timing = load_agents(settings.agents_file)
        self.database = Database(settings.database_url, pool_size=pool_size, name=name)
        self.users = UserStore(self.database)
        self.dead_letters = DeadLetterStore(self.database)

    def close(self) -> None:
        """Close the connections to Telnyx and Postgres."""
        # Not through the attribute, which would build it.
        if "telnyx" in vars(self):
            self.telnyx.close()
        self.database.close()

    @cached_property
    def telnyx(self) -> "TelnyxClient":
        """The client of Telnyx."""
        from worker.bootstrap.telnyx import build_telnyx

        return build_telnyx(self._settings)

    @cached_property
    def _interventions(self) -> "InterventionStore":
        from worker.store.operators.interventions import InterventionStore

        slowest_s = max(one.call_timeout_s for one in self.routing.agents.values())
        timing = self.timing
        return InterventionStore(
            self.database, quiet_s=timing.quiet_s(slowest_s), settle_s=timing.settle_s
        )

    @cached_property
    def ledger(self) -> "ConversationReports":
        """The conversations as Postgres has them."""
        from worker.store.reports.conversations import ConversationReports

        return ConversationReports(self.database)

    @cached_property
    def recent(self) -> "RecentStore":
        """Recent messages and users."""
        from worker.store.reports.recent import RecentStore

        return RecentStore(self.database)

    @cached_property
    def consents(self) -> "Consents":
        """Who has opted out."""
        from worker.handlers.operators.consents import Consents
        from worker.store.operators.consents import ConsentStore

        return Consents(store=ConsentStore(self.database), routing=self.routing)

    def set_paused(self, user_id: "ChannelUserId", *, paused: bool) -> bool:
        """Let a person take over, or the model again."""
        from worker.handlers.operators.pause import set_paused

        telnyx = self.telnyx.conversations
        return set_paused(user_id, paused=paused, users=self.users, telnyx=telnyx)

    def replay(self, letter_id: "DeadLetterId", **names: str) -> None:
        """Give a dead letter another chance; `names` replace the `agent` and `reply_to` in it."""
        from worker.bootstrap.events import build_take_event
        from worker.bootstrap.mail import build_take_mail
        from worker.domain.email.mail import SmtpEnvelope
        from worker.handlers.operators.replay import replay
        from worker.store.intake.messages import MessageStore

        routing, namespace = self.routing, self._settings.namespace
        take_mail = build_take_mail(self.database, lambda: routing, namespace)
        replay(
            letter_id,
            names,
            letters=self.dead_letters,
            messages=MessageStore(self.database),
            take_event=build_take_event(self.database, lambda: routing, namespace),
            take_mail=lambda raw: take_mail.take(raw, SmtpEnvelope()),
            routing=routing,
        )

    def compare(self, mapping: "ConversationSummary") -> "list[ComparedRow]":
        """Pair the messages of a thread with our turns."""
        from worker.handlers.operators.compare import compare

        return compare(mapping, ledger=self.ledger, telnyx=self.telnyx.conversations)

    def reset(self, user_id: "ChannelUserId", agent: str | None = None) -> "Reset":
        """Close a conversation."""
        from worker.handlers.operators.conversations import reset_conversation

        return reset_conversation(self._interventions, user_id, agent)

    @cached_property
    def adopt(self) -> "AdoptConversation":
        """Continue with another conversation."""
        from worker.handlers.operators.conversations import AdoptConversation

        return AdoptConversation(
            store=self._interventions,
            ledger=self.ledger,
            telnyx=self.telnyx.conversations,
            routing=self.routing,
            namespace=self._settings.namespace,
        )

    @cached_property
    def ask_telnyx(self) -> "AskTelnyx":
        """Find conversations that are unknown here."""
        from worker.handlers.background.ask_telnyx import AskTelnyx

        return AskTelnyx.of(
            self.database,
            self.telnyx.conversations,
            namespace=self._settings.namespace,
            settle_s=self.timing.settle_s,
        )

    @cached_property
    def say(self) -> "SayToUser":
        """Write to a channel user."""
        from worker.handlers.operators.say import SayToUser
        from worker.store.operators.consents import ConsentStore
        from worker.store.operators.say import SayingStore

        return SayToUser(
            store=self._interventions,
            users=self.users,
            saying=SayingStore(self.database),
            consents=ConsentStore(self.database),
            routing=self.routing,
        )

    @cached_property
    def drafts(self) -> "Drafts":
        """Decide about drafts."""
        from worker.handlers.operators.drafts import Drafts
        from worker.store.operators.drafts import DraftStore

        routing = self.routing
        return Drafts(store=DraftStore(self.database), routing=lambda: routing)

    @cached_property
    def erase(self) -> "EraseUser":
        """Remove everything about a channel user."""
        from worker.handlers.privacy.erase import EraseUser
        from worker.store.privacy.erasures import ErasureStore
        from worker.store.privacy.raw_bytes import RawStore

        return EraseUser(
            store=ErasureStore(self.database),
            interventions=self._interventions,
            raw=RawStore(self.database),
            telnyx=self.telnyx.conversations,
            routing=self.routing,
            namespace=self._settings.namespace,
        )

    def export(self, user_id: "ChannelUserId") -> Iterator[str]:
        """Read everything about a channel user."""
        from worker.handlers.privacy.export import export_user
        from worker.store.privacy.exports import ExportStore
        from worker.store.privacy.raw_bytes import RawStore

        store, raw = ExportStore(self.database), RawStore(self.database)
        return export_user(user_id, store=store, raw=raw, routing=self.routing)
