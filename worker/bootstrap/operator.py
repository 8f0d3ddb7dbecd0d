# ruff: noqa: PLC0415 - a command imports the use case that it runs, and no other
"""Builds the operators' commands out of the worker's own stores and handlers, without threads."""

from functools import cached_property
from typing import TYPE_CHECKING

from worker.config.agents_file import load_agents
from worker.store.database import Database
from worker.store.dead_letters import DeadLetterStore
from worker.store.operators.users import UserStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.config.settings import Settings
    from worker.console.desk import Desk
    from worker.domain.ids import ChannelUserId, DeadLetterId
    from worker.handlers.background.ask_telnyx import AskTelnyx
    from worker.handlers.operators.compare import ComparedRow
    from worker.handlers.operators.consents import Consents
    from worker.handlers.operators.conversations import AdoptConversation, Reset
    from worker.handlers.operators.drafts import Drafts
    from worker.handlers.operators.say import SayToUser
    from worker.handlers.privacy.erase import EraseUser
    from worker.store.operators.audits import AuditStore
    from worker.store.operators.interventions import InterventionStore
    from worker.store.privacy.raw_bytes import RawStore
    from worker.store.reports.conversations import ConversationReports, ConversationSummary
    from worker.store.reports.recent import RecentStore
    from worker.telnyx.client import TelnyxClient
    from worker.telnyx.messages import OptOut


class Operator:
    """The use cases behind the operators' commands, each built when used; it runs no turns."""

    def __init__(
        self, settings: "Settings", *, pool_size: int = 2, name: str = "worker-cli"
    ) -> None:
        """Connect to nothing yet; `name` appears in `pg_stat_activity`. Raises `SettingsError`."""
        self._settings = settings
        self._routing, self._timing = load_agents(settings.agents_file)
        self._database = Database(settings.database_url, pool_size=pool_size, name=name)
        self.users = UserStore(self._database)
        self.dead_letters = DeadLetterStore(self._database)

    def close(self) -> None:
        """Close the connections to Telnyx and Postgres."""
        # Not through the attribute, which would build it.
        if "_telnyx" in vars(self):
            self._telnyx.close()
        self._database.close()

    def check_schema(self) -> None:
        """Wait for Postgres. Raises `SystemExit` if migrations are missing."""
        from worker.handlers.background.schema import check_schema, start_on_postgres
        from worker.store.revisions import RevisionStore

        start_on_postgres(lambda: check_schema(RevisionStore(self._database)))

    @cached_property
    def _telnyx(self) -> "TelnyxClient":
        from worker.bootstrap.telnyx import build_telnyx

        return build_telnyx(self._settings)

    @cached_property
    def _interventions(self) -> "InterventionStore":
        from worker.store.operators.interventions import InterventionStore

        slowest_s = max(one.call_timeout_s for one in self._routing.agents.values())
        timing = self._timing
        return InterventionStore(
            self._database, quiet_s=timing.quiet_s(slowest_s), settle_s=timing.settle_s
        )

    @cached_property
    def _raw(self) -> "RawStore":
        from worker.store.privacy.raw_bytes import RawStore

        return RawStore(self._database)

    @cached_property
    def ledger(self) -> "ConversationReports":
        """The conversations as Postgres has them."""
        from worker.store.reports.conversations import ConversationReports

        return ConversationReports(self._database)

    @cached_property
    def recent(self) -> "RecentStore":
        """Recent messages and users."""
        from worker.store.reports.recent import RecentStore

        return RecentStore(self._database)

    def desk(self) -> "Desk":
        """Build the use cases behind the console's pages, all at once: threads share them."""
        from functools import partial

        from worker.console.desk import Desk
        from worker.domain.reports.explain_waiting import explain
        from worker.domain.states import Resolution
        from worker.store.reports.message_history import MessageReports
        from worker.store.reports.threads import ThreadStore

        _ = self._telnyx
        return Desk(
            threads=ThreadStore(self._database),
            users=self.users,
            recent=self.recent,
            messages=MessageReports(self._database),
            explain=partial(explain, routing=self._routing, timing=self._timing),
            tools=self._routing.tools,
            drafts=self.drafts,
            letters=self.dead_letters,
            replay=self.replay,
            dismiss=partial(self.dead_letters.resolve, resolution=Resolution.DISMISSED),
            consents=self.consents,
            say=self.say,
            set_paused=lambda user_id, paused: self.set_paused(user_id, paused=paused),
        )

    @cached_property
    def audits(self) -> "AuditStore":
        """Who has looked at what in the console."""
        from worker.store.operators.audits import AuditStore

        return AuditStore(self._database)

    @cached_property
    def consents(self) -> "Consents":
        """Who has opted out."""
        from worker.handlers.operators.consents import Consents
        from worker.store.operators.consents import ConsentStore

        return Consents(store=ConsentStore(self._database), routing=self._routing)

    def opt_outs_at_telnyx(self) -> "Iterator[OptOut]":
        """Read the people whom Telnyx blocks."""
        return self._telnyx.messages.opt_outs()

    def set_paused(self, user_id: "ChannelUserId", *, paused: bool) -> bool:
        """Let a person take over, or the model again."""
        from worker.handlers.operators.pause import set_paused

        telnyx = self._telnyx.conversations
        return set_paused(user_id, paused=paused, users=self.users, telnyx=telnyx)

    def replay(self, letter_id: "DeadLetterId", **names: str) -> None:
        """Give a dead letter another chance; `names` replace the `agent` and `reply_to` in it."""
        from worker.bootstrap.events import build_take_event
        from worker.bootstrap.mail import build_take_mail
        from worker.domain.email.mail import SmtpEnvelope
        from worker.handlers.operators.replay import replay
        from worker.store.intake.messages import MessageStore

        routing, namespace = self._routing, self._settings.namespace
        take_mail = build_take_mail(self._database, lambda: routing, namespace)
        replay(
            letter_id,
            names,
            letters=self.dead_letters,
            messages=MessageStore(self._database),
            take_event=build_take_event(self._database, lambda: routing, namespace),
            take_mail=lambda raw: take_mail.take(raw, SmtpEnvelope()),
            routing=routing,
        )

    def compare(self, mapping: "ConversationSummary") -> "list[ComparedRow]":
        """Pair the messages of a thread with our turns."""
        from worker.handlers.operators.compare import compare

        return compare(mapping, ledger=self.ledger, telnyx=self._telnyx.conversations)

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
            telnyx=self._telnyx.conversations,
            routing=self._routing,
            namespace=self._settings.namespace,
        )

    @cached_property
    def ask_telnyx(self) -> "AskTelnyx":
        """Find conversations that are unknown here."""
        from worker.handlers.background.ask_telnyx import AskTelnyx

        return AskTelnyx.of(
            self._database,
            self._telnyx.conversations,
            namespace=self._settings.namespace,
            settle_s=self._timing.settle_s,
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
            saying=SayingStore(self._database),
            consents=ConsentStore(self._database),
            routing=self._routing,
        )

    @cached_property
    def drafts(self) -> "Drafts":
        """Decide about drafts."""
        from worker.handlers.operators.drafts import Drafts
        from worker.store.operators.drafts import DraftStore

        routing = self._routing
        return Drafts(store=DraftStore(self._database), routing=lambda: routing)

    @cached_property
    def erase(self) -> "EraseUser":
        """Remove everything about a channel user."""
        from worker.handlers.privacy.erase import EraseUser
        from worker.store.privacy.erasures import ErasureStore

        return EraseUser(
            store=ErasureStore(self._database),
            interventions=self._interventions,
            raw=self._raw,
            telnyx=self._telnyx.conversations,
            routing=self._routing,
            namespace=self._settings.namespace,
        )

    def export(self, user_id: "ChannelUserId") -> "Iterator[str]":
        """Read everything about a channel user."""
        from worker.handlers.privacy.export import export_user
        from worker.store.privacy.exports import ExportStore

        store = ExportStore(self._database)
        return export_user(user_id, store=store, raw=self._raw, routing=self._routing)
