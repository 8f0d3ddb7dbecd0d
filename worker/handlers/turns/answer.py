"""Answering one channel user: claim, conversation, intent, POST, settle; then his next turn."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar
from uuid import uuid5

from worker.domain.errors import (
    DatabaseAwayError,
    NotFoundError,
    StaleLeaseError,
    WorkerError,
)
from worker.domain.ids import ChannelUserId
from worker.domain.routing import Agent, Routing
from worker.domain.timing import Timing
from worker.domain.turns.claim import Claimed, Intent, NotClaimed, Settled
from worker.domain.turns.next_step import GoOn, Prepare, Reconcile, Record, Send, Step, next_step
from worker.domain.turns.plan import Later, Recorded, Replace, UseTools
from worker.domain.turns.reconcile import HUMAN_KEY
from worker.domain.turns.records import Snapshot
from worker.domain.turns.request_items import input_items
from worker.domain.turns.retries import plan_after, plan_without_conversation
from worker.handlers.telemetry.counting import count_claim, count_post
from worker.handlers.telemetry.telling import tell_ended, tell_expired, tell_tools_wanted
from worker.handlers.telemetry.turns import note_post, post_span, turn_span
from worker.handlers.turns.find_conversation import ConversationFinder
from worker.handlers.turns.rate_limit import FRESH_S, UNDER_WAY_S, WOKEN_S, RateLimiter
from worker.handlers.turns.reconcile import ReconcileTurn
from worker.handlers.turns.run_tools import RunTools
from worker.handlers.turns.settle import Settle
from worker.handlers.turns.slots import TurnSlots
from worker.net.clock import boottime
from worker.net.window import CallWindow
from worker.observability.logs import log
from worker.observability.metrics import Meters
from worker.observability.traces import Tracer
from worker.store.turns.claims import ClaimStore
from worker.store.turns.turns import TurnStore
from worker.telnyx.conversations import Conversations
from worker.telnyx.responses import ResponseRequest, Responses

_Result = TypeVar("_Result")

MAX_TURNS = 5
MAX_TASK_S = 60.0
"""A task ends after so many turns or seconds, and the user's next turn is another task's."""
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
    routing: Routing
    timing: Timing
    slots: TurnSlots
    forget_wake: Callable[[ChannelUserId], None]
    """Lets another process be woken for this user at once."""
    rate_limiter: RateLimiter = field(default_factory=RateLimiter)
    meters: Meters = field(default_factory=Meters)
    tracer: Tracer = field(default_factory=Tracer)

    def __call__(self, user_id: ChannelUserId, agent: str = "") -> int:
        """Answer what is due of this user, where a slot is free; gives the number of turns.

        `agent`: to whose share of the slots it counts.
        """
        with self.slots.woken(agent) as taken:
            if taken:
                return self.with_slot(user_id, patience_s=WOKEN_S)
        self.forget_wake(user_id)
        self.slots.note_waiting(agent)
        return 0

    def with_slot(
        self, user_id: ChannelUserId, *, first_in_s: float = 0.0, patience_s: float = FRESH_S
    ) -> int:
        """Answer what is due of this user in `first_in_s`; the caller holds a slot.

        `patience_s`: where the permit of a call is further away, the user is left in line.
        """
        return self._turns(
            user_id, due_in_s=first_in_s, turns=0, since=boottime(), patience_s=patience_s
        )

    def go_on(self, claimed: Claimed, t0: float) -> None:
        """Answer a user whose turn was started after `t0`, then what is due of him."""
        due_in_s = self._turn(claimed, t0)
        self._turns(claimed.lease.user_id, due_in_s=due_in_s, turns=1, since=t0)

    def _turns(
        self,
        user_id: ChannelUserId,
        *,
        due_in_s: float | None,
        turns: int,
        since: float,
        patience_s: float = FRESH_S,
    ) -> int:
        while turns < MAX_TURNS and boottime() - since < MAX_TASK_S:
            if due_in_s is None or due_in_s > MAX_SLEEP_S:
                break
            if self.slots.closed:
                self.forget_wake(user_id)
                break
            if due_in_s > 0:  # even a sleep of nothing gives the processor away
                time.sleep(due_in_s)
            permit = self.rate_limiter.acquire(patience_s)
            if permit is None:
                self.forget_wake(user_id)
                break
            t0 = boottime()
            claimed = self.claims.claim(user_id, self._decide)
            if isinstance(claimed, NotClaimed) or not isinstance(claimed.step, Send):
                self.rate_limiter.release(permit)
            if isinstance(claimed, NotClaimed):
                due_in_s = claimed.due_in_s
                tell_ended(user_id, claimed)
                if claimed.trouble:
                    log.error("turn.waits_for_operator", user=user_id, why=claimed.trouble)
                continue
            turns += 1
            due_in_s = self._turn(claimed, t0)
            if self.rate_limiter.rates is not None:  # his next turn goes behind the others
                due_in_s = None
        return turns

    def _turn(self, claimed: Claimed, t0: float) -> float | None:
        """Work for a claimed user; gives when his next step may start, None = not by this task."""
        user_id = claimed.lease.user_id
        count_claim(self.meters, claimed)
        try:
            with turn_span(self.tracer, claimed):
                settled = self._work(claimed, t0)
        except StaleLeaseError:
            self.meters.fenced("turn")
            log.warning("lease.stale", user=user_id, token=claimed.lease.token)
            return None
        finally:
            self.meters.worked(boottime() - t0)
        return settled.due_in_s

    def _decide(self, snapshot: Snapshot) -> Step:
        return next_step(snapshot, self.routing)

    def _work(self, claimed: Claimed, t0: float) -> Settled:
        if not isinstance(claimed.step, Reconcile | GoOn) and claimed.step.expired:
            tell_expired(claimed.lease.user_id, claimed.step.expired)
        match claimed.step:
            case Send():
                return self._send(claimed, t0)
            case Prepare():
                return self._prepare(claimed)
            case Record():
                return self._unless_telnyx_fails(claimed, self._record)
            case Reconcile():
                return self._reconcile(claimed)
            case GoOn():
                return self._go_on(claimed)

    def _prepare(self, claimed: Claimed) -> Settled:
        conversation = self._unless_telnyx_fails(claimed, self.finder.find)
        if isinstance(conversation, Settled):
            return conversation
        return self._go_on(replace(claimed, conversation=conversation))

    def _reconcile(self, claimed: Claimed) -> Settled:
        found = self.reconcile(claimed)
        if isinstance(found, Settled):
            return found
        if found.paused and found.turn.round == 0:
            return self._unless_telnyx_fails(found, self._record)
        return self._go_on(found)

    def _go_on(self, claimed: Claimed) -> Settled:
        claimed = self.run_tools(claimed)
        if claimed.turn.round > 0 and self.slots.closed:
            return self.settle(claimed, None, Later(wait_s=0.0, reason="shutting down"))
        if self.rate_limiter.acquire(UNDER_WAY_S) is None:
            later = Later(wait_s=UNDER_WAY_S, reason="calls_per_second")
            return self.settle(claimed, None, later)
        t0 = boottime()
        return self._send(self.turns.record_intent(claimed, claimed.conversation), t0)

    def _record(self, claimed: Claimed) -> Settled:
        """Add what was written to a person, or what he said himself, to the thread."""
        ours = claimed.turn.is_said_by_us
        conversation = self.finder.find(claimed) if claimed.channel.persist else None
        self.turns.mark_human(claimed, conversation)
        if conversation is not None and conversation.telnyx_id is not None:
            # The same key each time, so that a repetition after an unknown outcome adds nothing.
            key = uuid5(conversation.remote_key, f"turn {claimed.turn.id}")
            try:
                self.conversations.add_message(
                    conversation.telnyx_id,
                    key,
                    role="assistant" if ours else "user",
                    text=claimed.turn.input_text,
                    metadata={HUMAN_KEY: "true"} if ours else None,
                )
            except NotFoundError:
                return self.settle(claimed, None, Replace(reason="gone"))
        landed = None if conversation is None else not ours
        return self.settle(claimed, None, Recorded(landed=landed))

    def _unless_telnyx_fails(
        self, claimed: Claimed, do: Callable[[Claimed], _Result]
    ) -> _Result | Settled:
        """Do it; where Telnyx's conversations fail, the turn is settled: it waits."""
        try:
            return do(claimed)
        except (DatabaseAwayError, StaleLeaseError):
            raise
        except WorkerError as error:
            plan = plan_without_conversation(error, open_s=claimed.open_s)
            self.meters.conversation_failed(type(error).__name__)
            log.warning("conversation.failed", turn=claimed.turn.id, error=str(error))
            return self.settle(claimed, None, plan)

    def _send(self, claimed: Claimed, t0: float) -> Settled:
        agent, intent = claimed.agent, claimed.committed_intent
        window = CallWindow.since(
            t0, timeout_s=agent.call_timeout_s, send_grace_s=self.timing.send_grace_s
        )
        sink = self.settle.show.sink(claimed)
        began = boottime()
        with post_span(self.tracer, claimed):
            outcome = self.responses.create(self._request(claimed, intent), window, sink)
            note_post(self.tracer, outcome)
        count_post(self.meters, claimed, outcome, seconds=boottime() - began)
        plan = plan_after(
            outcome,
            agent=agent,
            attempt=intent.attempt,
            round_=intent.round,
            timing=self.timing,
        )
        if not isinstance(plan, UseTools):
            return self.settle(claimed, outcome, plan)
        self.settle.show.forget(claimed)
        with_tools = self.turns.start_tools(claimed, outcome, plan.calls)
        tell_tools_wanted(claimed, outcome, plan.calls)
        return self._go_on(with_tools)

    def _request(self, claimed: Claimed, intent: Intent) -> ResponseRequest:
        agent, conversation = claimed.agent, claimed.conversation
        return ResponseRequest(
            model=agent.model,
            input=input_items(claimed.turn, conversation),
            conversation=conversation.telnyx_id if conversation else None,
            instructions=intent.instructions,
            tools=self._offered(agent) if intent.round < agent.max_tool_rounds else (),
            extra=agent.options,
            stream=agent.stream,
            stream_idle_s=agent.stream_idle_s,
        )

    def _offered(self, agent: Agent) -> tuple[dict[str, object], ...]:
        """Give the agent's tools as the model is told of them."""
        tools = self.run_tools.tools
        return tuple(tools[name].spec.as_item() for name in agent.tools if name in tools)
