"""Reads Telnyx's side of a turn whose earlier call may have happened, before a second call."""

from dataclasses import dataclass, replace
from http import HTTPStatus

from worker.domain.errors import (
    DatabaseAwayError,
    NotFoundError,
    PermanentError,
    StaleLeaseError,
    WorkerError,
)
from worker.domain.reasons import DeadLetterReason
from worker.domain.timing import Timing
from worker.domain.turns.calls import Fault
from worker.domain.turns.claim import Claimed, Settled
from worker.domain.turns.plan import (
    GateClosing,
    GiveUp,
    Later,
    Plan,
    Replace,
    Split,
    UseTools,
)
from worker.domain.turns.reconcile import Expectation, Resend, TurnText, Unanswered, reconcile
from worker.domain.turns.records import CallRecord
from worker.domain.turns.retries import give_up_reason, plan_without_conversation
from worker.handlers.turns.settle import Settle
from worker.store.turns.turns import TurnStore
from worker.telnyx.client import Models
from worker.telnyx.conversations import Conversations

MAX_REFUSED_USERS = 3
"""Refused users of one agent, without a success between: then the agent is at fault, not they."""
MIN_REFUSALS = 2
"""One refusal proves nothing: a fault of agent or account may have been fixed since."""


@dataclass(frozen=True, kw_only=True)
class ReconcileTurn:
    """Decides by Telnyx's message log whether to send the turn again; settles it if not."""

    turns: TurnStore
    settle: Settle
    telnyx: Conversations
    models: Models
    timing: Timing

    def __call__(self, claimed: Claimed) -> Claimed | Settled:
        """Return the claim, with what was found, if the turn goes on now; else it is settled.

        Raises `StaleLeaseError`.
        """
        try:
            stateless = claimed.conversation is None
            plan = self._plan_stateless(claimed) if stateless else self._plan(claimed)
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

    def _plan_stateless(self, claimed: Claimed) -> Plan | None:
        """Plan without a conversation: nothing can be read, so one unknown call may be repeated."""
        unknown = sum(call.outcome_unknown for call in claimed.turn.doubtful_calls)
        if unknown > 1:
            return self._give_up(claimed, landed=None)
        return self._after_refusal(claimed)

    def _plan(self, claimed: Claimed) -> Plan | UseTools | None:
        conversation = claimed.conversation
        if conversation is None or conversation.telnyx_id is None:
            raise ValueError("reconciling needs a conversation")
        thread = self.telnyx.messages(conversation.telnyx_id)
        landed, ended = self.turns.history(conversation.id)
        ages_s = {
            call.id: (claimed.now - call.intent_at).total_seconds()
            for call in claimed.turn.doubtful_calls
        }
        unknown_s = [ages_s[c.id] for c in claimed.turn.doubtful_calls if c.outcome_unknown]
        newest_call_s = min(ages_s.values())
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
            recorded=tuple(call.call_id for call in claimed.turn.tool_calls),
        )
        found = reconcile(thread, expected)
        if found.landed:
            self.turns.mark_landed(claimed.lease, found.landed)
        match found.verdict:
            case Unanswered():
                return replace(self._give_up(claimed, landed=True), outputs_landed=True)
            case Resend():
                if give_up_reason(claimed.turn, now=claimed.now, timing=self.timing):
                    absent = None if unknown_s else False
                    return self._give_up(claimed, landed=claimed.turn.is_in_thread or absent)
                return self._after_refusal(claimed)
            case plan:
                # `Later` does not give up before T_QUIET: the next turn's call would overlap with
                # this one's.
                return plan

    def _after_refusal(self, claimed: Claimed) -> Plan | None:
        """Decide about a call that was refused and is not in the thread; None = send it again."""
        last = claimed.turn.doubtful_calls[-1]
        age_s = (claimed.now - last.intent_at).total_seconds()
        refused = last.fault is not None
        if refused and claimed.conversation is not None and age_s < self.timing.settle_s:
            # Telnyx may have stored it all the same, and its log lags behind.
            return Later(wait_s=self.timing.settle_s - age_s, reason="look again")
        if last.fault is not Fault.REQUEST:
            return None
        if last.status == HTTPStatus.NOT_FOUND:
            # The conversation was just read, so the model or the address of the API is missing.
            return _wait_for_operator(claimed, last, "status 404")
        replaced = any(
            call.conversation_id != claimed.turn.conversation_id for call in claimed.turn.calls
        )
        if (
            last.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            and claimed.conversation is not None
            and not replaced
        ):
            return Replace(reason="full")
        if self._model_is_withdrawn(claimed, last):
            return _wait_for_operator(claimed, last, "model not offered")
        if not self._is_confirmed(claimed):
            return None
        if claimed.turn.round > 0:
            # The message is in the thread: Telnyx refuses our outputs of tools.
            return self._give_up(claimed, landed=claimed.turn.is_in_thread or None)
        if claimed.turn.messages > 1:
            return Split()
        if self.turns.others_refused(claimed) >= MAX_REFUSED_USERS - 1:
            return _wait_for_operator(claimed, last, f"status {last.status} for several users")
        return GiveUp(reason=DeadLetterReason.REFUSED, fallback_text=None, landed=False)

    def _is_confirmed(self, claimed: Claimed) -> bool:
        """Return whether the turn was refused often enough, and not only during an outage.

        If others were answered after the last refusal but not before it, the fault has been fixed
        since, and the refusals prove nothing.
        """
        refused = [one for one in claimed.turn.doubtful_calls if one.fault is Fault.REQUEST]
        if len(refused) < MIN_REFUSALS:
            return False
        before, last = refused[-2:]
        if not self.turns.others_answered(claimed, since=last.id):
            return True
        return self.turns.others_answered(claimed, since=before.id, until=last.id)

    def _model_is_withdrawn(self, claimed: Claimed, refused: CallRecord) -> bool:
        """Return whether Telnyx does not list the model and it has answered nobody since.

        An unlisted model that still answers others is a private one; then the message is at fault.
        """
        try:
            offered = self.models.list_ids()
        # Without the list there is no evidence against the model.
        except PermanentError:
            return False
        return claimed.agent.model not in offered and not self.turns.others_answered(
            claimed, since=refused.id
        )

    def _give_up(self, claimed: Claimed, *, landed: bool | None) -> GiveUp:
        return GiveUp(
            reason=DeadLetterReason.GAVE_UP,
            fallback_text=claimed.agent.fallback_text,
            landed=landed,
        )


def _wait_for_operator(claimed: Claimed, refused: CallRecord, reason: str) -> Later:
    """Close the agent's gate; this refusal does not count against the message."""
    gate = GateClosing(name=f"agent:{claimed.agent.name}", reason=reason)
    return Later(wait_s=0.0, reason=reason, gate=gate, excused=refused.id)
