"""How an app gets the entry gate, and how kombu finds the transport."""

from typing import Any

import pytest
from celery import Celery
from kombu import Connection
from kombu.transport import redis

from worker.domain.errors import RetryableError
from worker.queue.gate.amqp_transport import GatedConnection
from worker.queue.gate.base_task import DeadLetteringTask, PrivateRequest
from worker.queue.gate.gate import DEAD_LETTER_TASK
from worker.queue.gate.install import install_gate
from worker.queue.gate.redis_transport import GatedChannel, GatedTransport

STOCK = "kombu.transport.redis:Transport"


def an_app() -> Celery:
    app = Celery("t", broker="redis://127.0.0.1:1/0", set_as_current=False)
    app.conf.broker_transport_options = {"visibility_timeout": 7}
    install_gate(app, keep=lambda _: pytest.fail("not asked for"), accepts={"inbound": {"t.t"}})
    return app


def test_all_tasks_have_our_request_celerys_own_too() -> None:
    app = an_app()
    app.finalize()
    assert DEAD_LETTER_TASK in app.tasks
    assert {task.Request for task in app.tasks.values()} == {PrivateRequest}


def test_settings_made_before_are_kept() -> None:
    options = an_app().conf.broker_transport_options
    assert options["visibility_timeout"] == 7
    assert repr(options["entry_gate"]) == "EntryGate(inbound)"


def test_a_task_made_before_is_told() -> None:
    app = Celery("t", set_as_current=False)
    app.Task  # noqa: B018 # what a task definition does
    with pytest.raises(RuntimeError, match="before the first task"):
        install_gate(app, keep=lambda _: pytest.fail("not asked for"), accepts={})


@pytest.mark.parametrize("url", ["redis://h:1/2", "rediss://h:1/2", "redis://a:1;rediss://b:2"])
def test_the_transport_is_ours_for_every_url(url: str) -> None:
    connection = an_app().connection(url)
    assert connection.get_transport_cls() is GatedTransport
    connection.maybe_switch_next()
    assert connection.get_transport_cls() is GatedTransport


@pytest.mark.parametrize("url", ["amqp://h:1//;amqp://i:1//", "amqps://h:1//;amqps://i:1//"])
def test_rabbitmq_s_transport_is_ours_too(url: str) -> None:
    connection = an_app().connection(url)
    assert connection.get_transport_cls().Connection is GatedConnection
    connection.maybe_switch_next()
    assert connection.get_transport_cls().Connection is GatedConnection


@pytest.mark.parametrize("url", ["rediss://h:1/2?ssl_cert_reqs=required", "rediss://h:1/2"])
def test_tls_is_what_kombu_makes_of_it(url: str) -> None:
    an_app()
    ours = Connection(url)
    assert ours.get_transport_cls() is GatedTransport
    assert ours.ssl
    params = [_params_of(channel, ours) for channel in (GatedChannel, redis.Channel)]
    classes = [one.pop("connection_class") for one in params]
    assert params[0] == params[1]
    assert issubclass(classes[0], redis.redis.SSLConnection)
    assert classes[1] is redis.redis.SSLConnection


def _params_of(channel_cls: type, connection: Connection) -> dict[str, Any]:
    channel: GatedChannel = channel_cls.__new__(channel_cls)  # its __init__ connects
    channel.connection = connection.transport
    params: dict[str, Any] = channel._connparams()
    return params


def test_a_task_called_directly_runs_as_celery_has_it() -> None:
    app = an_app()

    @app.task(name="t.t", bind=True)
    def t(self: DeadLetteringTask, word: str) -> str:
        if word == "fail":
            raise RetryableError(word)
        assert self.request.called_directly
        return word

    assert t("w") == "w"
    with pytest.raises(RetryableError):
        t("fail")
