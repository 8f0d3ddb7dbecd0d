"""A claim of a turn, as telemetry reads it. Texts and addresses are words to search for."""

from datetime import UTC, datetime

from worker.domain.ids import ChannelUserId, TurnId
from worker.domain.messages import ChannelAddress
from worker.domain.routing import Agent, ChannelPolicy
from worker.domain.turns.claim import Claimed, Intent
from worker.domain.turns.next_step import Reconcile, Send
from worker.domain.turns.records import Lease, OpenTurn
from worker.net.clock import boottime

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def claimed(
    step: Send | Reconcile, *, agent: str = "default", intent: Intent | None = None
) -> Claimed:
    return Claimed(
        lease=Lease(user_id=ChannelUserId(1), token=2),
        who=ChannelAddress(channel="web", recipient="hush", address="hush", thread="hush"),
        now=NOW,
        agent=Agent(name=agent, model="any"),
        channel=ChannelPolicy(name="web"),
        delivery_policy="web",
        turn=OpenTurn(
            id=TurnId(3), agent=agent, input_text="hush", parts=(), opened_at=NOW, messages=2
        ),
        conversation=None,
        paused=False,
        step=step,
        intent=intent,
        gates=(),
        claimed_at_s=boottime(),
    )
