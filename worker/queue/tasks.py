"""The three Celery tasks: each decodes its arguments and calls a handler."""

from typing import Any

from worker.domain.ids import ChannelUserId
from worker.envelope.wire import INBOUND, RECEIVE
from worker.queue.broker import ANSWER, DELIVER
from worker.queue.gate.base_task import DeadLetteringTask, OnDefect


def register(app: Any) -> None:
    """Register the tasks with `app`, whose `service` holds the parts of the worker process."""

    @app.task(name=RECEIVE, bind=True, on_defect=OnDefect.DEAD_LETTER)
    def receive(task: DeadLetteringTask, envelope: Any) -> None:
        """Accept one envelope; on the fast path, answer its turn as well."""
        app.service.receive(
            envelope,
            raw=lambda: task.request.raw_body,
            queue=INBOUND,
            traceparent=task.request.get("traceparent"),
        )

    @app.task(name=ANSWER, on_defect=OnDefect.DROP)
    def answer(user_id: int, agent: str = "") -> None:
        """Answer one channel user's due messages."""
        app.service.answer(ChannelUserId(user_id), agent)

    @app.task(name=DELIVER, on_defect=OnDefect.DROP)
    def deliver(user_id: int) -> None:
        """Deliver one channel user's due replies."""
        app.service.deliver(ChannelUserId(user_id))
