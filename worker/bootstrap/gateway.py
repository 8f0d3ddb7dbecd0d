"""Builds the gateway: from settings to its application."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from celery import Celery
from starlette.applications import Starlette

from message_worker_client.envelope.wire import INBOUND
from worker.bootstrap.agents import CurrentAgents
from worker.bootstrap.events import build_take_event
from worker.bootstrap.mail import build_take_mail
from worker.bootstrap.reports import open_database
from worker.bootstrap.telnyx import build_telnyx
from worker.config.settings import Settings
from worker.domain.errors import SettingsError, WorkerError
from worker.gateway.app import build_app
from worker.gateway.callers import Callers, SourceRate
from worker.gateway.mails import MAILS_AT_ONCE, Mails
from worker.gateway.messages import Messages
from worker.gateway.replies import Replies
from worker.gateway.signature import TelnyxKeys
from worker.gateway.storage import Storage
from worker.gateway.webhooks import TelnyxWebhooks
from worker.handlers.operators.drafts import Drafts
from worker.net.signing import signer_of
from worker.observability.metrics_server import MetricsServer
from worker.queue.broker import celery_settings
from worker.queue.broker_client import BrokerClient
from worker.queue.waiting import waiting_entries
from worker.store.operators.drafts import DraftStore
from worker.store.reports.by_id import MessageById
from worker.store.revisions import RevisionStore

_POOL_SIZE: Final = 4 + MAILS_AT_ONCE
"""One writes, the others read outcomes, answer probes and take mails."""


@dataclass(frozen=True, kw_only=True)
class Gateway:
    """The application, and what a process does beside serving it."""

    app: Starlette
    reload_agents: Callable[[], None]
    start_telemetry: Callable[[], bool]
    close: Callable[[], None]


def build_gateway(settings: Settings) -> Gateway:
    """Build it, and fetch Telnyx's public key if no setting has it. Raises `SettingsError`."""
    agents = CurrentAgents(settings.agents_file)
    keys, callers = _telnyx_keys(settings), _callers(settings)
    stack = ExitStack()
    url, prepare = settings.database_url, settings.database_prepare
    opened = open_database(url, pool_size=_POOL_SIZE, name="worker-gateway", prepare=prepare)
    database = stack.enter_context(opened)
    take = build_take_event(database, agents.current, settings.namespace)
    storage = Storage(take.commit, _broker(settings.broker_url).publish)
    stack.callback(storage.close)
    metrics = MetricsServer(port=settings.metrics_port, files=settings.metrics_file_sd_dir)
    stack.callback(metrics.stop)
    for_callers = None
    if callers is not None:
        rate = SourceRate(settings.gateway_messages_per_second)
        messages = Messages(
            callers=callers,
            rate=rate,
            storage=storage,
            routing=agents.current,
            namespace=settings.namespace,
            outcomes=MessageById(database),
            link=f"{settings.public_url or ''}/messages",
        )
        take_mail = build_take_mail(database, agents.current, settings.namespace)
        mails = Mails(callers=callers, rate=rate, take=take_mail)
        drafts = Drafts(store=DraftStore(database), routing=agents.current)
        replies = Replies(callers=callers, rate=rate, drafts=drafts)
        for_callers = messages, mails, replies
    checks = {
        "postgres": RevisionStore(database).revision,
        "broker": lambda: waiting_entries(settings.broker_url, [INBOUND]),
    }
    webhooks = TelnyxWebhooks(keys=keys, take=take, storage=storage)
    return Gateway(
        app=build_app(webhooks, for_callers, checks),
        reload_agents=agents.reload,
        start_telemetry=metrics.start,
        close=stack.close,
    )


def _telnyx_keys(settings: Settings) -> TelnyxKeys:
    def fetch() -> str:
        with build_telnyx(settings) as telnyx:
            return telnyx.public_key()

    keys = (settings.telnyx_public_key or "").split()
    try:
        return TelnyxKeys(keys) if keys else TelnyxKeys([fetch()], fetch)
    except WorkerError as error:
        fault = f"it is not set, and Telnyx does not answer ({error})"
    except ValueError as error:
        fault = str(error)
    raise SettingsError(f"TELNYX_PUBLIC_KEY: {fault}")


def _callers(settings: Settings) -> Callers | None:
    """Return who may send messages; None = nobody."""
    tokens, secrets = settings.gateway_token, settings.gateway_secret
    if not (tokens or secrets):
        return None
    try:
        signer = signer_of(secrets.split(), "GATEWAY_SECRET") if secrets else None
    except ValueError as error:
        raise SettingsError(str(error)) from None
    return Callers(tokens=(tokens or "").split(), signer=signer)


def _broker(url: str) -> BrokerClient:
    app = Celery("worker-gateway", set_as_current=False)
    # It consumes nothing: the other two do not matter.
    app.conf.update(celery_settings(url, concurrency=1, longest_task_s=0.0))
    return BrokerClient(app, url=url)
