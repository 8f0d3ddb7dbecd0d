"""Reads Telnyx's side of a turn whose earlier call may have happened, before a second call."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from worker.domain.deliveries import KEY_VALID_S
from worker.domain.errors import DatabaseAwayError, NotFoundError, StaleLeaseError, WorkerError
from worker.domain.reasons import DeadLetterReason
from worker.domain.timing import Timing
from worker.domain.turns.claim import Claimed, Settled
from worker.domain.turns.plan import Diverge, GiveUp, Later, Plan, Replace, UseTools
from worker.domain.turns.reconcile import (
    Expectation,
    Resend,
    TurnText,
    Unanswered,
    catch_up,
    reconcile,
    said_by_staff,
    sure_age_s,
)
from worker.domain.turns.records import OpenConversation, ThreadMessage
from worker.domain.turns.retries import (
    give_up_reason,
    plan_of_tools,
    plan_without_conversation,
)
from worker.handlers.telemetry.turns import record_compared
from worker.handlers.turns.refusals import JudgeRefusal
from worker.handlers.turns.service_clock import ServiceClock
from worker.handlers.turns.settle import Settle
from worker.store.cluster import ClusterAges, ClusterStore
from worker.store.turns.conversations import ConversationStore
from worker.store.turns.turns import TurnStore
from worker.telnyx.conversations import Conversations


@dataclass(frozen=True, kw_only=True)
class ReconcileTurn:
    """Decides by Telnyx's message log whether to send the turn again; settles it if not."""

    turns: TurnStore
    conversations: ConversationStore
    settle: Settle
    refusal: JudgeRefusal
    telnyx: Conversations
    timing: Timing
    clock: ServiceClock
    cluster: ClusterStore

    def __call__(self, claimed: Claimed) -> Claimed | Settled:
        """Return the claim, with what was found, if the turn goes on now; else it is settled.

        Raises `StaleLeaseError`.
        """
        try:
            self.clock.check(claimed.now, claimed.claimed_at_s)
            ages = self.cluster.ages()
            plan: Plan | UseTools | None = None
            if claimed.conversation is not None and claimed.conversation.behind:
                claimed, plan = self._catch_up(claimed, ages)
            if plan is None and claimed.turn.doubtful_calls:
                stateless = claimed.conversation is None
                plan = self._plan_stateless(claimed) if stateless else self._plan(claimed, ages)
        # Somebody has deleted the conversation at Telnyx.
        except NotFoundError:
            plan = Replace(reason="gone")
        # Not failures of Telnyx: nothing may be written without the database or the lease.
        except (DatabaseAwayError, StaleLeaseError):
            raise
        except WorkerError as error:
            plan = plan_without_conversation(error, open_s=claimed.open_s)
        if plan is None:
            return claimed
        if isinstance(plan, UseTools):
            return self.turns.start_tools(claimed, None, plan.calls)
        return self.settle(claimed, None, plan)

    def recorded(self, claimed: Claimed) -> bool | Diverge:
        """Whether the text of a turn that a person answers is in the thread already.

        It is added under an idempotency key, so only a key that Telnyx may have forgotten asks for
        a look: else False.
        """
        if claimed.open_s < KEY_VALID_S:
            return False
        _, thread, expected = self._read(claimed, self.cluster.ages())
        if claimed.turn.messages == 0:
            return said_by_staff(thread, expected)
        # Of the turn's age: what was added has long arrived.
        found = reconcile(thread, replace(expected, newest_call_s=claimed.open_s))
        if found.landed:
            self.turns.mark_landed(claimed.lease, found.landed)
        is_there = not isinstance(found.verdict, Resend)
        return found.verdict if isinstance(found.verdict, Diverge) else is_there

    def _plan_stateless(self, claimed: Claimed) -> Plan | None:
        """Plan without a conversation: nothing can be read, so one unknown call may be repeated."""
        unknown = sum(call.outcome_unknown for call in claimed.turn.doubtful_calls)
        if unknown > 1:
            return self._give_up(claimed, landed=None)
        return self.refusal(claimed, had_turns=False)

    def _catch_up(
        self, claimed: Claimed, ages: ClusterAges
    ) -> tuple[Claimed, Plan | UseTools | None]:
        """Look whether the turn is among those that Postgres has lost, before its first call."""
        conversation, thread, expected = self._read(claimed, ages)
        found = catch_up(thread, expected)
        wait_s = self.timing.settle_s - (ages.replaced_s or 0.0)
        if isinstance(found.verdict, Later):
            return claimed, found.verdict
        if found.verdict is None and wait_s > 0:
            return claimed, Later(wait_s=wait_s, reason="compare later")
        claimed = self.conversations.compared(
            claimed, conversation, skipped=found.skipped, complete=found.complete
        )
        record_compared(claimed, skipped=found.skipped, landed=found.verdict is not None)
        match found.verdict:
            case None | Resend():
                return claimed, None
            case Unanswered():
                return claimed, self._unanswered(claimed)
            case UseTools() as wanted:
                return claimed, plan_of_tools(wanted.calls, claimed.agent)
            case plan:
                return claimed, plan

    def _read(
        self, claimed: Claimed, ages: ClusterAges
    ) -> tuple[OpenConversation, Sequence[ThreadMessage], Expectation]:
        """Read both sides: Telnyx's log, and what our records make of it."""
        conversation = claimed.conversation
        if conversation is None or conversation.telnyx_id is None:
            raise ValueError("reconciling needs a conversation")
        thread = self.telnyx.messages(conversation.telnyx_id)
        landed, ended = self.turns.history(conversation.id)
        calls_s = {
            call.id: sure_age_s((claimed.now - call.intent_at).total_seconds(), ages.jumped_s)
            for call in claimed.turn.doubtful_calls
        }
        unknown_s = [calls_s[c.id] for c in claimed.turn.doubtful_calls if c.outcome_unknown]
        # Without a call in our records, one that they have lost may have been the newest.
        newest_call_s = min(calls_s.values(), default=ages.replaced_s or 0.0)
        expected = Expectation(
            user_messages=conversation.base_user_messages + len(landed),
            text=TurnText(text=claimed.turn.input_text, with_images=bool(claimed.turn.parts)),
            newest_call_s=newest_call_s,
            newest_unknown_s=min(unknown_s, default=None),
            quiet_s=self.timing.quiet_s(claimed.agent.call_timeout_s),
            again_s=self.timing.look_again_s(newest_call_s),
            ended=ended,
            landed=landed,
            in_thread=claimed.turn.is_in_thread,
            recorded=tuple(one for call in claimed.turn.tool_calls for one in call.ids),
        )
        return conversation, thread, expected

    def _plan(self, claimed: Claimed, ages: ClusterAges) -> Plan | UseTools | None:
        _, thread, expected = self._read(claimed, ages)
        found = reconcile(thread, expected)
        if found.landed:
            self.turns.mark_landed(claimed.lease, found.landed)
        match found.verdict:
            case Unanswered():
                return self._unanswered(claimed)
            case Resend():
                had_turns = bool(thread) and expected.user_messages > 0
                if give_up_reason(claimed.turn, now=claimed.now, timing=self.timing):
                    absent = False if expected.newest_unknown_s is None else None
                    end = self._give_up(claimed, landed=claimed.turn.is_in_thread or absent)
                    # Otherwise each further message would wait as long, and end in the same way.
                    return replace(end, closes=had_turns and self.refusal.is_own(claimed, None))
                return self.refusal(claimed, had_turns=had_turns)
            case UseTools() as wanted:
                return plan_of_tools(wanted.calls, claimed.agent)
            case plan:
                # `Later` does not give up before T_QUIET: the next turn's call would overlap with
                # this one's.
                return plan

    def _unanswered(self, claimed: Claimed) -> GiveUp:
        return replace(self._give_up(claimed, landed=True), outputs_landed=True)

    def _give_up(self, claimed: Claimed, *, landed: bool | None) -> GiveUp:
        return GiveUp(
            reason=DeadLetterReason.GAVE_UP,
            fallback_text=claimed.agent.fallback_text,
            landed=landed,
        )
