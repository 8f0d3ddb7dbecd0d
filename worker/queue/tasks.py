"""The Celery tasks: decode, call the handler, nothing else."""

from typing import Any

from worker.celery import ANSWER, DELIVER, RECEIVE, app
from worker.domain.ids import ChannelUserId
from worker.queue.broker import INBOUND
from worker.queue.gate import install as intake


@app.task(name=RECEIVE, bind=True, on_defect=intake.OnDefect.KEEP)
def receive(task: intake.KeepingTask, envelope: Any) -> None:
    """Take in one envelope; on the fast path the turn is answered right here."""
    app.service.receive(
        envelope,
        raw=lambda: task.request.raw_body,
        queue=INBOUND,
        traceparent=task.request.get("traceparent"),
    )


@app.task(name=ANSWER, on_defect=intake.OnDefect.DROP)
def answer(user_id: int, agent: str = "") -> None:
    """Answer what is due of one channel user."""
    app.service.answer(ChannelUserId(user_id), agent)


@app.task(name=DELIVER, on_defect=intake.OnDefect.DROP)
def deliver(user_id: int) -> None:
    """Deliver what is due of one channel user."""
    app.service.deliver(ChannelUserId(user_id))
