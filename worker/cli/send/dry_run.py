"""`worker simulate`: routes an envelope and shows its outcome, without sending or writing."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from message_worker_client.envelope import EnvelopeError, read_envelope
from worker.cli.console import escape_for_terminal, print_line
from worker.cli.errors import CommandError, MisuseError
from worker.cli.text import print_json
from worker.domain.messages import NewMessage
from worker.domain.routing import ROUTE, Routing
from worker.domain.ways_out import (
    Delivery,
    EntryPointDelivery,
    MailDelivery,
    TaskDelivery,
    TelnyxDelivery,
    WebhookDelivery,
)
from worker.handlers.intake.route import parse_and_route, unknown_fields

_KEPT: Final = "kept in Postgres, nothing is sent"


def show(facts: Mapping[str, Any], lines: Iterable[str], *, as_json: bool) -> None:
    """Print facts, or lines. Raises `CommandError` for a dead letter."""
    if as_json:
        print_json(facts)
    else:
        for line in lines:
            print_line(escape_for_terminal(line))
    if facts["verdict"] == "dead_letter":
        raise CommandError(f"this would be a dead letter: {facts['detail']}")


def read_file(path: str) -> bytes:
    """Read a file, or standard input if it is `-`. Raises `MisuseError`."""
    if path == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise MisuseError(f"{path}: {error.strerror}") from None


def outcome_of(raw: bytes, routing: Routing) -> tuple[dict[str, Any], NewMessage | None]:
    """Check and route as accepting does; the envelope counts as one that waits for nothing.

    `why`: the outcome of the message, or the reason of the dead letter. `detail`: the field and
    the fix. `rule`: that of screening which recognised it. No message: it is a dead letter.
    """
    facts: dict[str, Any] = {"verdict": "answered", "why": None, "rule": None, "detail": None}
    facts["unknown_fields"] = []
    try:
        document = read_envelope(raw)
        if isinstance(document, Mapping):
            facts["unknown_fields"] = unknown_fields(map(str, document))
        message = parse_and_route(document, routing)
    except EnvelopeError as error:
        facts |= {"verdict": "dead_letter", "why": error.reason, "detail": str(error)}
        return facts, None
    if message.skip is not None:
        facts |= {"verdict": "skipped", "why": message.skip}
    elif message.expires_at is not None and message.expires_at <= datetime.now(UTC):
        facts |= {"verdict": "expired", "why": "expired"}
    facts["rule"] = message.verdict and message.verdict.rule
    return facts | _route(message, routing), message


def _route(message: NewMessage, routing: Routing) -> dict[str, Any]:
    policy = routing.channel(message.who.channel)
    way_out = routing.delivery_policy(message.who.channel, message.reply_to)
    return {
        "channel_user": asdict(message.who),
        "message_id": message.message_id,
        "agent": message.agent,
        "model": routing.agent(message.agent).model,
        "kind": policy.kind,
        "hold_s": message.hold_s,
        "debounce_s": policy.debounce_s,
        "reorder_s": policy.reorder_s,
        "max_wait_s": message.max_wait_s,
        "not_before": message.not_before,
        "expires_at": message.expires_at,
        "max_pending": message.max_pending,
        "persist": policy.persist,
        "supersede": policy.supersede,
        "way_out": way_out.name,
        "delivery": delivery_of(way_out.delivery),
    }


def lines_of(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of `outcome_of`, for people."""
    kept = facts.get("delivery") == _KEPT
    by_rule = f", rule {facts['rule']}" if facts["rule"] else ""
    happens = {
        "answered": f"the model is asked, and its answer {'kept' if kept else 'delivered'}",
        "skipped": f"kept, and not answered: outcome {facts['why']}" + by_rule,
        "expired": "kept, and not answered: it is too old",
        "dead_letter": f"dead letter, reason {facts['why']}",
    }
    yield f"verdict       {happens[facts['verdict']]}"
    if facts["detail"]:
        yield f"fix           {facts['detail']}"
    for one in facts["unknown_fields"]:
        meant = f": is {one['meant']} meant?" if one["meant"] else ""
        yield f"unknown field {one['name']}{meant}"
    if facts["verdict"] == "dead_letter":
        return
    who = facts["channel_user"]
    more = "".join(f", {name} {who[name]}" for name in ("recipient", "thread") if who[name])
    yield f"channel user  {who['channel']}:{who['address']}{more}"
    yield f"agent         {facts['agent']}, model {facts['model']}"
    yield (
        f"waits         {facts['hold_s']:g} s for others (debounce {facts['debounce_s']:g} s,"
        f" reorder {facts['reorder_s']:g} s where sent_at is given),"
        f" at most {facts['max_wait_s']:g} s"
    )
    if facts["not_before"]:
        yield f"held until    {facts['not_before']}"
    yield f"expires       {facts['expires_at'] or 'never'}"
    yield f"skipped       where {facts['max_pending']} of this person wait already (overflow)"
    thread = "kept at Telnyx" if facts["persist"] else "none, each turn stands alone"
    yield f"conversation  {thread}"
    by_route = f" ({facts['way_out']})" if facts["way_out"].startswith(ROUTE) else ""
    yield f"delivery      {facts['delivery']}{by_route}"


def delivery_of(delivery: Delivery | None) -> str:
    """Describe a delivery. Of a URL it shows the host only: the rest may be a secret."""
    match delivery:
        case None:
            return _KEPT
        case TaskDelivery():
            return f"Celery task {delivery.task} on queue {delivery.queue}"
        case WebhookDelivery():
            return f"webhook to {urlsplit(delivery.url).hostname}"
        case EntryPointDelivery():
            return f"entry point {delivery.entry_point}"
        case MailDelivery():
            return "e-mail by Telnyx" if delivery.telnyx else "e-mail by SMTP"
        case TelnyxDelivery():
            return "WhatsApp message of Telnyx" if delivery.whatsapp else "text message of Telnyx"
