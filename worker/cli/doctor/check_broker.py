"""The broker, Redis or RabbitMQ: reachable, writable, durable."""

from collections.abc import Mapping
from typing import Any, Final

from redis import Redis
from redis.exceptions import AuthenticationError, OutOfMemoryError, RedisError

from message_worker_client.envelope.wire import INBOUND
from message_worker_client.redis_client import redis_client
from worker.cli.doctor.examine import Setup
from worker.domain.errors import BrokerAwayError
from worker.domain.reports.finding import Finding, fault, ok, unchecked, warning
from worker.domain.reports.misplaced import misplaced_line
from worker.queue.broker import is_amqp
from worker.queue.misplaced import misplaced_entries
from worker.queue.redis_rights import missing_rights
from worker.queue.waiting import rabbitmq_version

_PATIENCE_S: Final = 3.0


def connection(setup: Setup) -> Finding:
    """Check that it can be reached and takes writes."""
    if _is_rabbitmq(setup):
        return _rabbitmq(setup.settings.broker_url)
    try:
        info = {**_info(setup, "server"), **_info(setup, "replication")}
    except AuthenticationError as error:
        return fault(f"refused ({type(error).__name__})", "put its password into BROKER_URL")
    except (RedisError, OSError, ValueError) as error:
        found = f"no connection ({type(error).__name__})"
        if "NOAUTH" in str(error):
            return fault(found, "put its password into BROKER_URL")
        return fault(found, "is it running, and is BROKER_URL right?")
    if info.get("role") == "slave":
        return fault("it is a replica", "let BROKER_URL name the primary")
    return ok(f"Redis {info.get('redis_version', 'of an unknown version')}")


def eviction(setup: Setup) -> Finding:
    """Check that it drops no queue entries when its memory is full."""
    if _is_rabbitmq(setup):
        return ok("none (RabbitMQ)")
    info = _info(setup, "memory")
    policy, limit = info.get("maxmemory_policy"), info.get("maxmemory")
    if policy is None or limit is None:  # some managed services hide them in INFO
        policy, limit = _config(setup, "maxmemory-policy"), _config(setup, "maxmemory")
    if policy is None or limit is None:
        return unchecked("it does not say")
    if policy == "noeviction":
        return ok("none (noeviction)")
    fix = "set maxmemory-policy noeviction, and a Redis of its own for what may be evicted"
    if int(limit) == 0:
        return warning(f"{policy}, in force once maxmemory is set", fix)
    return fault(f"{policy}: what is queued may be thrown away", fix)


def persistence(setup: Setup) -> Finding:
    """Check what a restart of the broker loses."""
    if _is_rabbitmq(setup):
        return ok("quorum queues")
    info = _info(setup, "persistence")
    if info.get("aof_enabled") not in {0, 1}:
        return unchecked("it does not say")
    if info["aof_enabled"] == 1:
        if info.get("aof_last_write_status", "ok") != "ok":
            return fault("it cannot write its append-only file", "give it disk space, see its log")
        return ok("append-only file")
    saves = _config(setup, "save")
    found = "snapshots only: a restart loses minutes" if saves else "none: a restart loses it all"
    fix = "set appendonly yes; messages not yet in Postgres are lost, see docs (guarantees)"
    return warning(found if saves is not None else "no append-only file", fix)


def misplaced(setup: Setup) -> Finding:
    """Check that no message is on a queue that no worker takes."""
    found = [misplaced_line(*one) for one in misplaced_entries(setup.settings.broker_url).items()]
    fix = f"let their sender name the queue {INBOUND}; docs/how-to/runbook.md moves them"
    return fault("; ".join(found), fix) if found else ok("none on other queues")


def rights(setup: Setup) -> Finding:
    """Check that the Redis user may do all that a worker does."""
    if _is_rabbitmq(setup):
        return ok("not checked (RabbitMQ)")
    live = any(agent.stream for agent in setup.routing.agents.values())
    url = setup.settings.broker_url
    try:
        lacking = missing_rights(url, timeout_s=_PATIENCE_S, live=live)
    except OutOfMemoryError:
        return fault("its memory is full: it takes no message", "raise maxmemory, or free some")
    if lacking:
        rules = " ".join(lacking)
        return fault(f"its user lacks {rules}", f"ACL SETUSER, its name, and: {rules}")
    return ok("all that a worker needs")


def live_replies(setup: Setup) -> Finding:
    """Check that live replies, if an agent has them, can be carried by the broker."""
    streamed = [name for name, agent in setup.routing.agents.items() if agent.stream]
    if streamed and _is_rabbitmq(setup):
        fix = "set stream = false, or use Redis as the broker"
        return warning("nothing is shown before it is finished: that takes Redis", fix)
    return ok("carried by Redis" if streamed else "no agent streams")


def _is_rabbitmq(setup: Setup) -> bool:
    return is_amqp(setup.settings.broker_url)


def _rabbitmq(url: str) -> Finding:
    try:
        found = rabbitmq_version(url)
    except BrokerAwayError as error:
        if str(error) == "AccessRefused":
            return fault(f"refused ({error})", "put user and password into BROKER_URL")
        return fault(f"no connection ({error})", "is it running, and is BROKER_URL right?")
    return ok(f"RabbitMQ {found}")


def _opened(setup: Setup) -> Redis:
    url = setup.settings.broker_url
    return redis_client(url, timeout_s=_PATIENCE_S, decode_responses=True)


def _info(setup: Setup, section: str) -> Mapping[str, Any]:
    with _opened(setup) as redis:
        return dict(redis.info(section))


def _config(setup: Setup, name: str) -> str | None:
    """Return one parameter; None if a managed Redis refuses to show it."""
    with _opened(setup) as redis:
        try:
            found: str | None = redis.config_get(name).get(name)
        except RedisError:
            return None
    return found
