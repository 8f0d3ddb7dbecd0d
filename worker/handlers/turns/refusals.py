"""Decides whose a refusal is: the account's, the rate's, the agent's, the thread's, the message's.

    400, 413, 422 ...  on a conversation that has had turns   -> replace the conversation, once
                       on a new one                           -> the message: alone, dead letter
                       several users there, no success        -> the agent: close its gate
    5xx                on such a conversation, others answered -> the same
    unknown outcomes   on such a conversation, others answered -> the next turn has a new one
    401, 402, 403, 404, 429 ...
                       others answered between them           -> the message: alone, dead letter
                       nobody answered since                  -> account, model or agent: its gate

A gate delays everybody, so it closes only if nobody else is answered behind it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from worker.domain.errors import PermanentError
from worker.domain.reasons import DeadLetterReason
from worker.domain.timing import Timing
from worker.domain.turns.calls import Fault, Refused
from worker.domain.turns.claim import Claimed
from worker.domain.turns.plan import GateClosing, GiveUp, Later, Plan, Replace, Split
from worker.domain.turns.records import CallRecord
from worker.domain.turns.retries import gate_after
from worker.store.turns.turns import TurnStore

ABOUT_THE_REQUEST: Final = frozenset({400, 413, 414, 415, 422, 431})
"""A refusal with another status is the message's own only if others were answered meanwhile."""
TOO_LARGE: Final = 413
MAX_REFUSED_USERS: Final = 3
"""Refused users of one agent, without a success between: then the agent is at fault, not they."""
MIN_REFUSALS: Final = 2
"""One refusal proves nothing: a fault of agent or account may have been fixed since."""
MIN_OWN_REFUSALS: Final = 3
"""Of a status that speaks of account or agent: two may be from two outages."""
MIN_RATE_REFUSALS: Final = 4
"""Of a rate limit that lets others through: near the limit, a call may lose several times."""
_GATED: Final = (Fault.ACCOUNT, Fault.RATE)


@dataclass(frozen=True, kw_only=True)
class JudgeRefusal:
    """Decides about refusals by what Postgres knows of the calls of others."""

    turns: TurnStore
    models: Callable[[], tuple[str, ...]]
    timing: Timing

    def is_flowing(self, claimed: Claimed, refused: Refused) -> bool:
        """Return whether others are answered behind the gate that this refusal would close."""
        if refused.fault not in _GATED:
            return False
        earlier = [call.id for call in claimed.turn.calls if call.fault is refused.fault]
        # A time to wait is about the rate, unless one message alone is refused again.
        if not earlier and refused.fault is Fault.RATE and refused.retry_after_s is not None:
            return False
        since = earlier[-1] if earlier else None
        return self.turns.others_answered(claimed, refused.fault, since=since)

    def __call__(self, claimed: Claimed, *, had_turns: bool) -> Plan | None:
        """Decide about a call that was refused and is not in the thread; None = send it again.

        `had_turns`: the conversation holds something besides this turn.
        """
        last = claimed.turn.doubtful_calls[-1]
        age_s = (claimed.now - last.intent_at).total_seconds()
        fresh = last.fault is not None and age_s < self.timing.settle_s
        if fresh and last.fault in _GATED and self._has_to_close(claimed, last, last.fault):
            return gate_after(last.fault, claimed.agent, last.status)
        if fresh and claimed.conversation is not None:
            # Telnyx may have stored it all the same, and its log lags behind.
            return Later(wait_s=self.timing.settle_s - age_s, reason="look again")
        if last.fault is Fault.SERVER:
            # A thread may break Telnyx's server as well, while it answers all others.
            old = had_turns and _may_replace(claimed)
            broken = old and self.is_own(claimed, last.fault)
            return Replace(reason="refused") if broken else None
        if last.fault is None:
            return None
        if last.fault is Fault.REQUEST and last.status in ABOUT_THE_REQUEST:
            return self._about_the_request(claimed, last, age_s=age_s, had_turns=had_turns)
        if self.is_own(claimed, last.fault):
            return _end(claimed)
        # The conversation was just read, so with a 404 the model or the API's address is missing.
        if last.fault is Fault.REQUEST and not self.turns.others_answered(claimed, since=last.id):
            return _wait_for_operator(claimed, last, f"status {last.status}")
        return None

    def _has_to_close(self, claimed: Claimed, last: CallRecord, fault: Fault) -> bool:
        """Return whether the gate stayed open for others, and none of them was answered."""
        name = "account" if fault is Fault.ACCOUNT else f"model:{claimed.agent.model}"
        # With a row, the gate was closed since: the turn is sent again to find out.
        return name not in claimed.gates and not self.turns.others_answered(
            claimed, fault, since=last.id
        )

    def is_own(self, claimed: Claimed, fault: Fault | None) -> bool:
        """Return whether others were answered between each two of the last refusals.

        `fault` None = of the last calls of unknown outcome.
        """
        needed = MIN_RATE_REFUSALS if fault is Fault.RATE else MIN_OWN_REFUSALS
        refused = [one.id for one in claimed.turn.doubtful_calls if one.fault is fault][-needed:]
        return len(refused) == needed and all(
            self.turns.others_answered(claimed, fault or Fault.REQUEST, since=since, until=until)
            for since, until in pairwise(refused)
        )

    def _about_the_request(
        self, claimed: Claimed, last: CallRecord, *, age_s: float, had_turns: bool
    ) -> Plan | None:
        turn, may_replace = claimed.turn, _may_replace(claimed)
        if last.status == TOO_LARGE and may_replace:
            return Replace(reason="full")
        flowing = self.turns.others_answered(claimed, since=last.id)
        # If an unlisted model answers others, it is a private one and the message is at fault.
        if not flowing and self._model_is_withdrawn(claimed):
            return _wait_for_operator(claimed, last, "model not offered")
        if not self._is_confirmed(claimed, flowing=flowing):
            return None
        old = may_replace and (had_turns or turn.round > 0)
        if old and not flowing and self.turns.replaced(claimed) >= MAX_REFUSED_USERS:
            # If the agent is at fault, replacing helps nobody, and costs each user the history.
            if age_s < 4 * self.timing.settle_s:
                return Later(wait_s=self.timing.settle_s, reason="others are tried first")
        elif old:
            return Replace(reason="refused")
        if not flowing and self.turns.others_refused(claimed) >= MAX_REFUSED_USERS - 1:
            reason = f"status {last.status} for several users"
            return _wait_for_operator(claimed, last, reason)
        return Replace(reason="refused") if old else _end(claimed)

    def _is_confirmed(self, claimed: Claimed, *, flowing: bool) -> bool:
        """Return whether the turn was refused often enough, and not only during an outage.

        If others were answered after the last refusal (`flowing`) but not before it, the fault has
        been fixed since, and the refusals prove nothing.
        """
        refused = [one for one in claimed.turn.calls if one.fault is Fault.REQUEST]
        if len(refused) < MIN_REFUSALS:
            return False
        before, last = refused[-2:]
        return not flowing or self.turns.others_answered(claimed, since=before.id, until=last.id)

    def _model_is_withdrawn(self, claimed: Claimed) -> bool:
        """Return whether Telnyx does not list the agent's model."""
        try:
            return claimed.agent.model not in self.models()
        # Without the list there is no evidence against the model.
        except PermanentError:
            return False


def _may_replace(claimed: Claimed) -> bool:
    """Return whether the turn is on its first conversation: only one is replaced."""
    turn = claimed.turn
    return claimed.conversation is not None and all(
        call.conversation_id == turn.conversation_id for call in turn.calls
    )


def _end(claimed: Claimed) -> Plan:
    """Return the end of a refused turn: each of its messages alone, then a dead letter."""
    turn = claimed.turn
    if turn.round == 0 and turn.messages > 1:
        return Split()
    return GiveUp(
        reason=DeadLetterReason.REFUSED,
        fallback_text=claimed.agent.fallback_text,
        # With round > 0 Telnyx refuses outputs of tools: the message is in some thread.
        landed=False if turn.round == 0 else turn.is_in_thread or None,
    )


def _wait_for_operator(claimed: Claimed, refused: CallRecord, reason: str) -> Later:
    """Close the agent's gate; this refusal does not count against the message."""
    gate = GateClosing(name=f"agent:{claimed.agent.name}", reason=reason)
    return Later(wait_s=0.0, reason=reason, gate=gate, excused=refused.id)
