"""Answering one channel user: claim, conversation, intent, POST, settle; then their next turn.

due -> claim -> Prepare    find the conversation -+
                Reconcile  read Telnyx's side ----+-> tools -> intent -> POST -> settle
                GoOn       -----------------------+     ^                 |
                Send       intent is committed ------------------> POST   | tools wanted
                Record     a person answers -> settle   +-----------------+
                Quit       the person opted out -> settle
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar
from uuid import uuid5

from worker.domain.errors import DatabaseAwayError, NotFoundError, StaleLeaseError, WorkerError
from worker.domain.fairness import Share
from worker.domain.ids import ChannelUserId
from worker.domain.people import hand_over
from worker.domain.timing import MAX_TASK_S, Timing
from worker.domain.turns.calls import Refused
from worker.domain.turns.claim import Claimed, NotClaimed, Settled
from worker.domain.turns.next_step import GoOn, Prepare, Quit, Reconcile, Record, Send
from worker.domain.turns.plan import Diverge, Later, OptedOut, Recorded, Replace, UseTools
from worker.domain.turns.reconcile import HUMAN_KEY
from worker.domain.turns.records import input_items
from worker.domain.turns.retries import plan_after, plan_without_conversation
from worker.handlers.telemetry.turns import (
    post_span,
    record_claimed,
    record_conversation_failed,
    record_loop,
    record_not_claimed,
    record_post,
    record_stale_turn,
    record_tools_wanted,
    record_worked,
    turn_span,
)
from worker.handlers.turns.find_conversation import ConversationFinder
from worker.handlers.turns.rate_limit import FRESH_S, UNDER_WAY_S, WOKEN_S, RateLimiter
from worker.handlers.turns.reconcile import ReconcileTurn
from worker.handlers.turns.run_tools import RunTools
from worker.handlers.turns.settle import Settle
from worker.handlers.turns.slots import TurnSlots
from worker.net.clock import boottime
from worker.net.elsewhere import ELSEWHERE
from worker.net.window import CallWindow
from worker.store.turns.claims import ClaimStore
from worker.store.turns.turns import TurnStore
from worker.telnyx.conversations import Conversations
from worker.telnyx.responses import ResponseRequest, Responses

_Result = TypeVar("_Result")
_UNNAMED = Share("")

MAX_TURNS = 5
"""A task ends after this many turns, or MAX_TASK_S; the user's next turn is another task's."""
MAX_SLEEP_S = 1.0
"""A longer wait is a due time in Postgres, never a sleeping slot."""


@dataclass(frozen=True, kw_only=True)
class AnswerUser:
    """The use case; one instance serves all threads."""

    claims: ClaimStore
    turns: TurnStore
    settle: Settle
    finder: ConversationFinder
    reconcile: ReconcileTurn
    run_tools: RunTools
    conversations: Conversations
    responses: Responses
    timing: Timing
    slots: TurnSlots
    forget_wake: Callable[[ChannelUserId], None]
    """Allows sweepers to wake another process for this user at once."""
    rate_limiter: RateLimiter = field(default_factory=RateLimiter)

    def __call__(self, user_id: ChannelUserId, share: Share = _UNNAMED) -> list[Settled]:
        """Answer this user's due messages if a slot is free; return the work on their turns."""
        with self.slots.woken(share) as taken:
            if taken:
                return self.with_slot(user_id, patience_s=WOKEN_S)
        # Without this no sweeper would send another wake until the time of this one is over.
        self.forget_wake(user_id)
        self.slots.note_waiting(share)
        return []

    def with_slot(
        self,
        user_id: ChannelUserId,
        *,
        due_in_s: float | None = 0.0,
        patience_s: float = FRESH_S,
        worked: list[Settled] | None = None,
        since: float | None = None,
    ) -> list[Settled]:
        """Answer turn after turn of this user, the first in `due_in_s`; the caller holds a slot.

        `patience_s`: if the next permit for a call is further away, the user waits as a due user
        instead. `worked` is what this task did `since`. Return all of its work.
        """
        since = boottime() if since is None else since
        worked = [] if worked is None else worked
        while len(worked) < MAX_TURNS and boottime() - since < MAX_TASK_S:
            if due_in_s is None or due_in_s > MAX_SLEEP_S:
                break
            # Even `sleep(0)` yields the CPU, and a thousand threads want it.
            if due_in_s > 0 and not self.slots.closed:
                time.sleep(due_in_s)
            permit = None if self.slots.closed else self.rate_limiter.acquire(patience_s)
            if permit is None:
                self.forget_wake(user_id)
                break
            t0 = boottime()
            claimed = self.claims.claim(user_id)
            # Only `Send` calls the model at once; other steps take a permit before their POST.
            if isinstance(claimed, NotClaimed) or not isinstance(claimed.step, Send):
                self.rate_limiter.release(permit)
            if isinstance(claimed, NotClaimed):
                record_not_claimed(user_id, claimed)
                if claimed.hand_over is not None:
                    self.settle.wake_delivery(user_id)
                due_in_s = claimed.due_in_s
                continue
            settled = self._turn(claimed, t0)
            if settled is None:
                break
            worked.append(settled)
            due_in_s = settled.due_in_s
            # With a rate of calls, the user's next turn waits behind the other users.
            if self.rate_limiter.rates is not None:
                due_in_s = None
        return worked

    def go_on(self, claimed: Claimed, t0: float) -> list[Settled]:
        """Answer a turn that was started after `t0`, then what else is due of its user."""
        settled = self._turn(claimed, t0)
        if settled is None:
            return []
        return self.with_slot(
            claimed.lease.user_id, due_in_s=settled.due_in_s, worked=[settled], since=t0
        )

    def _turn(self, claimed: Claimed, t0: float) -> Settled | None:
        """Do a claimed user's next step; None = another worker has taken over."""
        try:
            with turn_span(claimed):
                record_claimed(claimed)
                return self._work(claimed, t0)
        except StaleLeaseError:
            record_stale_turn(claimed)
            return None
        finally:
            record_worked(boottime() - t0)

    def _work(self, claimed: Claimed, t0: float) -> Settled:
        ready: Claimed | Settled
        match claimed.step:
            case Send():
                return self._send(claimed, t0)
            case Record():
                return self._unless_telnyx_fails(claimed, self._record)
            case Prepare():
                ready = self._unless_telnyx_fails(
                    claimed, lambda one: replace(one, conversation=self.finder.find(one))
                )
                if isinstance(ready, Claimed) and ready.conversation and ready.conversation.behind:
                    ready = self.reconcile(ready)
            case Reconcile():
                with ELSEWHERE:
                    ready = self.reconcile(claimed)
                if isinstance(ready, Claimed) and ready.paused and ready.turn.round == 0:
                    return self._unless_telnyx_fails(ready, self._record)
            case GoOn():
                ready = claimed
            case Quit():
                return self._quit(claimed)
        return ready if isinstance(ready, Settled) else self._go_on(ready)

    def _go_on(self, claimed: Claimed) -> Settled:
        """Run the tools that the model asked for, then call it again."""
        claimed = self.run_tools(claimed)
        if claimed.turn.round > 0 and self.slots.closed:
            return self.settle(claimed, None, Later(wait_s=0.0, reason="shutting down"))
        if self.rate_limiter.acquire(UNDER_WAY_S) is None:
            later = Later(wait_s=UNDER_WAY_S, reason="calls_per_second")
            return self.settle(claimed, None, later)
        # Before the commit of the intent: the lease, and so the call's window, count from here.
        t0 = boottime()
        intended = self.turns.record_intent(claimed)
        if intended is None:
            return self._quit(claimed)
        if intended.loop is not None and claimed.loop is None:
            record_loop(intended.lease.user_id, intended.loop)
            return self._unless_telnyx_fails(intended, self._record)
        return self._send(intended, t0)

    def _quit(self, claimed: Claimed) -> Settled:
        """End the turn of a person who has opted out."""
        return self.settle(claimed, None, OptedOut(landed=claimed.turn.landed))

    def _send(self, claimed: Claimed, t0: float) -> Settled:
        """POST under the committed intent, and settle; if the model asks for tools, go on."""
        agent, intent = claimed.agent, claimed.committed_intent
        window = CallWindow.since(
            t0, timeout_s=agent.call_timeout_s, send_grace_s=self.timing.send_grace_s
        )
        sink = self.settle.live_sink(claimed)
        began_s = boottime()
        with post_span(claimed), ELSEWHERE:
            outcome = self.responses.create(self._request(claimed), window, sink)
            record_post(claimed, outcome, seconds=boottime() - began_s)
        plan = plan_after(
            outcome,
            agent=agent,
            attempt=intent.attempt,
            round_=intent.round,
            timing=self.timing,
            flowing=isinstance(outcome, Refused)
            and self.reconcile.refusal.is_flowing(claimed, outcome),
        )
        if not isinstance(plan, UseTools):
            return self.settle(claimed, outcome, plan)
        self.settle.reset_live(claimed)
        with_tools = self.turns.start_tools(claimed, outcome, plan.calls)
        record_tools_wanted(claimed, outcome, plan.calls)
        return self._go_on(with_tools)

    def _request(self, claimed: Claimed) -> ResponseRequest:
        agent, conversation = claimed.agent, claimed.conversation
        intent, tools = claimed.committed_intent, self.run_tools.tools
        offered = [tools[name].item for name in claimed.tools if name in tools]
        # None of the tools that run: to call it ends the turn, see `plan_of_tools`.
        if agent.hand_over is not None and agent.hand_over.tool:
            offered.append(hand_over.TOOL)
        return ResponseRequest(
            model=agent.model,
            input=input_items(claimed.turn, conversation),
            conversation=conversation.telnyx_id if conversation else None,
            instructions=intent.instructions,
            # After the last round the model has to answer with what it knows.
            tools=tuple(offered) if intent.round < agent.max_tool_rounds else (),
            extra=agent.options,
            stream=agent.stream,
            stream_idle_s=agent.stream_idle_s,
        )

    def _record(self, claimed: Claimed) -> Settled:
        """Add to the thread a message that a person answers, or the person's own answer."""
        # What our staff wrote answers no message, and is no user item.
        ours = claimed.turn.messages == 0
        conversation = self.finder.find(claimed) if claimed.channel.persist else None
        self.turns.mark_human(claimed, conversation)
        if conversation is not None and conversation.telnyx_id is not None:
            # The same key each time: a repetition after an unknown outcome adds nothing.
            key = uuid5(conversation.remote_key, f"turn {claimed.turn.id}")
            try:
                recorded = self.reconcile.recorded(replace(claimed, conversation=conversation))
                if isinstance(recorded, Diverge):
                    return self.settle(claimed, None, recorded)
                if not recorded:
                    self.conversations.add_message(
                        conversation.telnyx_id,
                        key,
                        role="assistant" if ours else "user",
                        text=claimed.turn.input_text,
                        metadata={HUMAN_KEY: "true"} if ours else None,
                    )
            # Somebody has deleted the conversation at Telnyx.
            except NotFoundError:
                return self.settle(claimed, None, Replace(reason="gone"))
        landed = None if conversation is None else not ours
        return self.settle(claimed, None, Recorded(landed=landed))

    def _unless_telnyx_fails(
        self, claimed: Claimed, do: Callable[[Claimed], _Result]
    ) -> _Result | Settled:
        """Call `do`; if Telnyx's conversations fail, settle the turn: it waits."""
        try:
            with ELSEWHERE:
                return do(claimed)
        # Not failures of Telnyx: nothing may be written without the database or the lease.
        except (DatabaseAwayError, StaleLeaseError):
            raise
        except WorkerError as error:
            plan = plan_without_conversation(error, open_s=claimed.open_s)
            record_conversation_failed(claimed, error)
            return self.settle(claimed, None, plan)
