"""`worker simulate`: routes an envelope and shows its outcome, without sending or writing."""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from worker.cli.console import escape_for_terminal, print_json, print_line
from worker.cli.errors import MISUSED, CommandError
from worker.cli.settings import routing_of, settings_for
from worker.domain.reasons import DeadLetterReason
from worker.domain.routing import Delivery, EntryPointDelivery, TaskDelivery, WebhookDelivery
from worker.envelope import EnvelopeError
from worker.handlers.intake.dry_run import DryRun, Route, Verdict, dry_run
from worker.queue.gate.entry import TooDeepError, loads


def run(path: str, *, as_json: bool) -> None:
    """Show it. Raises `CommandError` for an envelope that would be a dead letter."""
    routing = routing_of(settings_for())
    try:
        outcome = dry_run(_document(_read(path)), routing, now=datetime.now(UTC))
    except EnvelopeError as error:
        outcome = DryRun(verdict=Verdict.DEAD_LETTER, why=error.reason, detail=str(error))
    if as_json:
        print_json(_facts(outcome))
    else:
        for line in _lines(outcome):
            print_line(escape_for_terminal(line))
    if outcome.verdict is Verdict.DEAD_LETTER:
        raise CommandError(f"this would be a dead letter: {outcome.detail}")


def _read(path: str) -> bytes:
    if path == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}", exit_code=MISUSED) from None


def _document(raw: bytes) -> object:
    """Read it as a worker does. Raises `EnvelopeError` if it is not JSON."""
    try:
        return loads(raw.decode())
    except TooDeepError:
        fix = "too many brackets inside each other"
        raise EnvelopeError(DeadLetterReason.TOO_DEEP, "envelope", fix) from None
    except ValueError:
        fix = "give JSON in UTF-8"
        raise EnvelopeError(DeadLetterReason.BODY_NOT_JSON, "envelope", fix) from None


def _facts(outcome: DryRun) -> dict[str, object]:
    facts: dict[str, object] = {
        "verdict": outcome.verdict,
        "why": outcome.why,
        "detail": outcome.detail,
        "unknown_fields": [asdict(one) for one in outcome.unknown],
    }
    return facts | (_route(outcome.route) if outcome.route else {})


def _route(route: Route) -> dict[str, object]:
    message, policy = route.message, route.policy
    return {
        "channel_user": asdict(message.who),
        "message_id": message.message_id,
        "agent": route.agent.name,
        "model": route.agent.model,
        "kind": policy.kind,
        "hold_s": message.hold_s,
        "debounce_s": policy.debounce_s,
        "reorder_s": policy.reorder_s,
        "max_wait_s": message.max_wait_s,
        "expires_at": message.expires_at,
        "max_pending": message.max_pending,
        "persist": policy.persist,
        "supersede": policy.supersede,
        "way_out": route.delivery_policy.name,
        "delivery": delivery_of(route.delivery_policy.delivery),
    }


def _lines(outcome: DryRun) -> Iterator[str]:
    happens = {
        Verdict.ANSWERED: "the model is asked, and its answer delivered",
        Verdict.SKIPPED: f"kept, and not answered: outcome {outcome.why}",
        Verdict.EXPIRED: "kept, and not answered: it is too old",
        Verdict.DEAD_LETTER: f"dead letter, reason {outcome.why}",
    }
    yield f"verdict       {happens[outcome.verdict]}"
    if outcome.detail:
        yield f"fix           {outcome.detail}"
    for one in outcome.unknown:
        meant = f": is {one.meant} meant?" if one.meant else ""
        yield f"unknown field {one.name}{meant}"
    if outcome.route is None:
        return
    message, policy = outcome.route.message, outcome.route.policy
    who, agent = message.who, outcome.route.agent
    parts = (("recipient", who.recipient), ("thread", who.thread))
    more = "".join(f", {name} {value}" for name, value in parts if value)
    yield f"channel user  {who.channel}:{who.address}{more}"
    yield f"agent         {agent.name}, model {agent.model}"
    yield (
        f"waits         {message.hold_s:g} s for others (debounce {policy.debounce_s:g} s, reorder"
        f" {policy.reorder_s:g} s where sent_at is given), at most {message.max_wait_s:g} s"
    )
    yield f"expires       {message.expires_at or 'never'}"
    yield f"skipped       where {message.max_pending} of this person wait already (overflow)"
    thread = "kept at Telnyx" if policy.persist else "none, each turn stands alone"
    yield f"conversation  {thread}"
    delivery = outcome.route.delivery_policy
    by_route = f" ({delivery.name})" if delivery is not policy else ""
    yield f"delivery      {delivery_of(delivery.delivery)}{by_route}"


def delivery_of(delivery: Delivery | None) -> str:
    """Describe a delivery. Of a URL it shows the host only: the rest may be a secret."""
    match delivery:
        case None:
            return "kept in Postgres, nothing is sent"
        case TaskDelivery():
            return f"Celery task {delivery.task} on queue {delivery.queue}"
        case WebhookDelivery():
            return f"webhook to {urlsplit(delivery.url).hostname}"
        case EntryPointDelivery():
            return f"entry point {delivery.entry_point}"
