"""Builds a worker process: from settings to its running parts."""

import os
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from worker.bootstrap.events import build_take_event
from worker.bootstrap.shared import SharedParts
from worker.channels.build import MailWay, TelnyxWay, build_channels
from worker.channels.channel import DEADLINE_S, Channel
from worker.channels.email.delivery.smtp import SmtpChannel
from worker.channels.zones import zones_by_number
from worker.config.settings import Settings
from worker.domain.routing import Routing
from worker.domain.screening.revocations import read_phrases
from worker.handlers.background.ask_telnyx import AskTelnyx
from worker.handlers.background.postgres_watch import PostgresWatch
from worker.handlers.background.schema import check_schema
from worker.handlers.background.sweeper import LocalRunner, Sweeper
from worker.handlers.background.threads import Background
from worker.handlers.background.watchdog import StallWatchdog
from worker.handlers.deliver import DeliverReplies
from worker.handlers.intake.drain_inbox import DrainInbox
from worker.handlers.intake.receive import ReceiveEnvelope
from worker.handlers.intake.take_event import TakeEvent
from worker.handlers.privacy.retention import HourlyRetention
from worker.handlers.turns.answer import AnswerUser
from worker.handlers.turns.find_conversation import ConversationFinder
from worker.handlers.turns.rate_limit import RateLimiter
from worker.handlers.turns.reconcile import ReconcileTurn
from worker.handlers.turns.refusals import JudgeRefusal
from worker.handlers.turns.run_tools import RunTools
from worker.handlers.turns.service_clock import ServiceClock
from worker.handlers.turns.settle import Settle
from worker.queue.broker_client import BrokerClient
from worker.store.cluster import ClusterStore
from worker.store.database import Database
from worker.store.dead_letters import DeadLetterStore
from worker.store.delivery.deliveries import DeliveryStore
from worker.store.delivery.gates import GateStore
from worker.store.delivery.pacing import PacingStore
from worker.store.intake.inbox import InboxListener, InboxStore
from worker.store.intake.mails import MailStore
from worker.store.intake.messages import MessageStore
from worker.store.limits.rates import RateStore
from worker.store.privacy.retention import RetentionStore
from worker.store.revisions import RevisionStore
from worker.store.turns.claims import ClaimStore
from worker.store.turns.conversations import ConversationStore
from worker.store.turns.fast_path import StartStore
from worker.store.turns.turns import TurnStore
from worker.store.workers import WorkerStore

LOCAL_DELIVERIES = 8
"""Threads of a process that retry deliveries; first attempts are Celery tasks."""

STALLED = 70
"""Exit code of a worker that ended itself because it took nothing (EX_SOFTWARE of sysexits.h)."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """Everything one worker process runs."""

    receive: ReceiveEnvelope
    take_event: TakeEvent
    answer: AnswerUser
    deliver: DeliverReplies
    dead_letters: DeadLetterStore
    background: Background
    reload_agents: Callable[[], None]
    finish_turns: Callable[[], None]
    """Waits for the turns that run on no thread of Celery."""
    start_telemetry: Callable[[], None]
    close: Callable[[], None]


def build_service(
    settings: Settings, *, broker: BrokerClient, channels: Mapping[str, Channel] | None = None
) -> Service:
    """Build a worker's parts; connect to nothing and start nothing. Raises `SettingsError`.

    `channels`: by name; they take precedence over those of the configuration.
    """
    shared = SharedParts(settings)
    deliveries = DeliveryStore(shared.database, lease_s=DEADLINE_S + shared.timing.lease_margin_s)
    deliver = _deliver(shared, deliveries, broker, channels or {})
    clock = ServiceClock(cluster=ClusterStore(shared.own_database))
    answer = _answer(shared, broker, clock)
    dead_letters = DeadLetterStore(shared.database, refusals=shared.agents.routing.refusals)
    turns_pool = ThreadPoolExecutor(settings.turn_slots, thread_name_prefix="turn")
    # Not on Celery's pool: a burst of retries must not take the threads of intake and turns.
    own_pool = ThreadPoolExecutor(LOCAL_DELIVERIES, thread_name_prefix="delivery")
    listener = InboxListener(shared.listen_url)
    sweep = Sweeper(
        sweeps=shared.sweeps,
        slots=shared.slots,
        timing=shared.timing,
        publish=broker.wake,
        run_here=LocalRunner(work=answer, most=settings.turn_slots, submit=broker.submit),
        deliveries=deliveries,
        deliver_here=LocalRunner(work=deliver, most=LOCAL_DELIVERIES, submit=own_pool.submit),
        drain=listener.rouse,
        retention=_retention(shared.own_database, settings.retention_days),
        rate_limiter=_rate_limiter(shared.agents.routing, shared.own_database),
    )

    # Deliveries that have not begun are dropped: they are due in Postgres.
    def close() -> None:
        own_pool.shutdown(cancel_futures=True)
        listener.close()
        for channel in deliver.channels.values():
            if isinstance(channel, SmtpChannel):
                channel.pool.close()
        shared.close()

    return Service(
        receive=_receive(shared, dead_letters, answer, turns_pool),
        take_event=build_take_event(shared.database, shared.agents.current, settings.namespace),
        answer=answer,
        deliver=deliver,
        dead_letters=dead_letters,
        background=_background(shared, broker, sweep, clock, listener),
        reload_agents=shared.agents.reload,
        finish_turns=turns_pool.shutdown,
        start_telemetry=shared.start_telemetry,
        close=close,
    )


def _receive(
    shared: SharedParts, dead_letters: DeadLetterStore, answer: AnswerUser, turns: Executor
) -> ReceiveEnvelope:
    for policy in shared.agents.routing.channels.values():
        if policy.kind != "other":
            read_phrases(policy.screening.languages)
    return ReceiveEnvelope(
        messages=MessageStore(shared.database),
        inbox=InboxStore(shared.database),
        routing=shared.agents.current,
        dead_letters=dead_letters,
        answer=answer,
        slots=shared.slots,
        starts=shared.leased(StartStore),
        turns=turns,
    )


def _rate_limiter(routing: Routing, database: Database) -> RateLimiter:
    rate = routing.calls_per_second
    return RateLimiter(rates=None if rate is None else RateStore(database, calls_per_second=rate))


def _answer(shared: SharedParts, broker: BrokerClient, clock: ServiceClock) -> AnswerUser:
    turns = shared.leased(TurnStore)
    conversations = shared.telnyx.conversations
    settle = Settle(
        turns=turns,
        wake_delivery=broker.wake_delivery,
        live=shared.live,
        namespace=shared.namespace,
    )
    return AnswerUser(
        claims=shared.leased(ClaimStore),
        turns=turns,
        settle=settle,
        finder=ConversationFinder(
            store=shared.leased(ConversationStore),
            telnyx=conversations,
            namespace=shared.namespace,
        ),
        reconcile=ReconcileTurn(
            turns=turns,
            conversations=shared.leased(ConversationStore),
            settle=settle,
            refusal=JudgeRefusal(turns=turns, models=shared.telnyx.model_ids, timing=shared.timing),
            telnyx=conversations,
            timing=shared.timing,
            clock=clock,
            cluster=ClusterStore(shared.database),
        ),
        run_tools=RunTools(tools=shared.tools, turns=turns, namespace=shared.namespace),
        conversations=conversations,
        responses=shared.telnyx.responses,
        timing=shared.timing,
        slots=shared.slots,
        forget_wake=shared.sweeps.forget_wake,
        rate_limiter=_rate_limiter(shared.agents.routing, shared.database),
    )


def _background(
    shared: SharedParts,
    broker: BrokerClient,
    sweep: Sweeper,
    clock: ServiceClock,
    listener: InboxListener,
) -> Background:
    workers = WorkerStore(
        shared.own_database,
        worker_id=shared.worker_id,
        host=socket.gethostname(),
        pid=os.getpid(),
        alive_s=shared.timing.alive_s,
    )
    watchdog = StallWatchdog(
        broker=broker,
        slots=shared.slots,
        timing=shared.timing,
        # `sys.exit` would end only its thread, and a stuck thread would keep the process alive.
        exit=lambda: os._exit(STALLED),
    )
    drain = DrainInbox(
        inbox=InboxStore(shared.own_database),
        routing=shared.agents.current,
        rouse=shared.slots.roused.set,
    )
    watch = PostgresWatch(workers=workers, cluster=clock.cluster, clock=clock)
    shared.database.on_connect = watch.look
    return Background(
        workers=workers,
        check_schema=partial(check_schema, RevisionStore(shared.own_database)),
        watch=watch,
        pin_to_core=shared.settings.pin_to_core,
        drain_inbox=drain,
        listener=listener,
        close_idle=shared.close_idle,
        sweep=sweep,
        watchdog=watchdog,
        ask_telnyx=AskTelnyx.of(
            shared.own_database,
            shared.telnyx.conversations,
            namespace=shared.namespace,
            settle_s=shared.timing.settle_s,
        ),
        slots=shared.slots,
        timing=shared.timing,
    )


def _retention(database: Database, keep_days: int | None) -> HourlyRetention | None:
    if keep_days is None:
        return None
    return HourlyRetention(store=RetentionStore(database, keep_days=keep_days))


def _deliver(
    shared: SharedParts,
    deliveries: DeliveryStore,
    broker: BrokerClient,
    given: Mapping[str, Channel],
) -> DeliverReplies:
    wanted = {
        name: policy.delivery
        for name, policy in shared.agents.routing.channels.items()
        if policy.delivery is not None and name not in given
    }
    telnyx = TelnyxWay(post=shared.telnyx.messages.send, public_url=shared.settings.public_url)
    mails = MailStore(shared.database)
    mail = MailWay(
        answered=mails.answered,
        key=lambda: mails.key,
        smtp_url=shared.settings.smtp_url,
        token_command=shared.settings.smtp_token_command,
    )
    built = build_channels(wanted, broker.publish, os.environ, telnyx=telnyx, mail=mail)
    return DeliverReplies(
        store=deliveries,
        gates=GateStore(shared.database),
        pacing=PacingStore(shared.database, shared.agents.routing),
        routing=shared.agents.current,
        channels=built | dict(given),
        zones=zones_by_number(),
        console_url=shared.settings.console_url,
    )
