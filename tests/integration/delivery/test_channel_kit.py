"""Our own channels pass the kit that we give to third parties."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.support.raw_server import raw_server
from tests.support.tcp_proxy import Mode, TcpProxy
from tests.support.webhook_inbox import DEADLINE_S, SLACK_S, Inbox, channel_at
from worker.channels.task import TaskChannel
from worker.domain.errors import BrokerAwayError
from worker.testing.channel_cases import ChannelCases, Stage, Weather


class WebhookStage:
    """A webhook, its receiver, and the wire between."""

    deadline_s = SLACK_S

    def __init__(self, inbox: Inbox, proxy: TcpProxy) -> None:
        self._url = f"http://127.0.0.1:{proxy.port}/in"
        self.channel = channel_at(self._url)
        self._inbox = inbox
        self._proxy = proxy

    def turn(self, weather: Weather) -> bool:
        self.deadline_s = DEADLINE_S if weather is Weather.SILENT else SLACK_S
        self.channel = channel_at(self._url, deadline_s=self.deadline_s)
        self._proxy.mode = Mode.REFUSE if weather is Weather.AWAY else Mode.PASS
        self._inbox.bad[:] = [b""] if weather is Weather.SILENT else []
        self._inbox.loses_answer = weather is Weather.ANSWER_LOST
        return True

    def kept(self) -> Sequence[str]:
        return self._inbox.texts()


class TestWebhookChannel(ChannelCases):
    @contextmanager
    def stage(self) -> Iterator[Stage]:
        inbox = Inbox()
        with raw_server(inbox.serve) as server, TcpProxy(("127.0.0.1", server.port)) as proxy:
            yield WebhookStage(inbox, proxy)


class TaskStage:
    """A Celery task's publishing, and a producer that drops a task id he has seen."""

    deadline_s = DEADLINE_S

    def __init__(self) -> None:
        self.channel = TaskChannel(publish=self._publish, task="crm.take", queue="crm")
        self._weather = Weather.FINE
        self._taken: dict[str, str] = {}

    def _publish(self, *published: Any) -> None:  # noqa: ANN401 name, queue, id, kwargs
        _, _, task_id, kwargs = published
        if self._weather in {Weather.FINE, Weather.ANSWER_LOST}:
            self._taken.setdefault(task_id, kwargs["reply"]["text"])
        if self._weather is not Weather.FINE:
            raise BrokerAwayError("TimeoutError")

    def turn(self, weather: Weather) -> bool:
        self._weather = weather
        return True

    def kept(self) -> Sequence[str]:
        return list(self._taken.values())


class TestTaskChannel(ChannelCases):
    @contextmanager
    def stage(self) -> Iterator[Stage]:
        yield TaskStage()
