"""Shows the history of one message: facts for scripts, a timeline for people.

Texts are shown only on request, addresses never.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from worker.cli.errors import CommandError
from worker.cli.text import print_json, warn
from worker.domain.reports.explain_ended import Explanation
from worker.domain.reports.message_history import MessageHistory, TurnSummary
from worker.domain.reports.timeline import timeline
from worker.domain.reports.times import clock, moment, span
from worker.domain.screening.rules import SIGNALS
from worker.handlers.intake.route import unknown_fields
from worker.store.reports.message_history import Found, InInbox, RefusedEnvelope

_AS_THEY_ARE: Final = ("sent_at", "expires_at", "agent", "reply_to")
# The model may have invented the name, with words of the sender in it.
_NO_TOOL: Final = "(no tool of ours)"
NOT_ACCEPTED: Final = (
    "no accepted message has this id; give our number, CHANNEL:USER:MESSAGE-ID, the"
    " channel's own id or that of the Celery task. One that is still in Redis has no row yet: see"
    " worker status"
)


def facts_of(
    history: MessageHistory, told: Explanation, tools: Collection[str], *, text: bool
) -> dict[str, object]:
    """Return the JSON document. `tools`: the names that may be shown."""
    facts, status = asdict(history), asdict(told)
    envelope = facts["message"].pop("envelope")
    del facts["calls_until"]  # a limit of the whole installation
    for call in facts["calls"]:
        # It is the turn's, or that of one which was replaced since: the key has never been shown.
        del call["conversation_id"]
    for tool in facts["tools"]:
        tool["name"] = _tool(tool["name"], tools)
    if history.reply is not None and not text:
        del facts["reply"]["text"]
    return {
        "now": facts.pop("now"),
        # Scripts have known the status as `fate` since the first version.
        "where": {"fate": status.pop("status"), **status},
        "envelope": envelope_facts(envelope, text=text),
        "unknown_fields": unknown_fields(envelope),
        "turn_is_before_it": history.is_behind,
        **facts,
    }


def envelope_facts(envelope: Mapping[str, Any], *, text: bool) -> dict[str, object]:
    """Return the facts of an envelope that are neither texts nor addresses."""
    facts: dict[str, object] = {
        one: datetime.fromisoformat(envelope[one]) if one.endswith("_at") else envelope[one]
        for one in _AS_THEY_ARE
        if envelope.get(one)
    }
    asked = envelope.get("signals")
    signals = asked if isinstance(asked, list) else []
    known = [one for one in signals if one in SIGNALS]
    facts["text_bytes"] = len(str(envelope.get("text", "")).encode())
    facts |= {"signals": known} if known else {}
    facts |= {"other_signals": len(signals) - len(known)} if len(signals) > len(known) else {}
    for name in ("attachments", "metadata"):
        held = envelope.get(name)
        facts |= {name: len(held)} if isinstance(held, list | dict) and held else {}
    return facts | ({"text": envelope.get("text")} if text else {})


def lines_of(
    history: MessageHistory, told: Explanation, tools: Collection[str], *, text: bool
) -> Iterator[str]:
    """Yield the lines for people: the current state first, then the events."""
    message, now = history.message, history.now
    outcome = f" ({message.outcome})" if message.outcome not in {None, message.state} else ""
    yield (
        f"message {message.id} of channel user {history.user.id} on {message.channel},"
        f" agent {message.agent}: {message.state}{outcome},"
        f" accepted {moment(message.accepted_at, now)}"
    )
    since = f", since {moment(told.since, now)}" if told.since else ""
    until = f", until {moment(told.until, now)}" if told.until and told.until > now else ""
    if told.until and told.until <= now and not told.since:
        until = f", due since {moment(told.until, now)}"
    yield f"now    {told.what}{since}{until}"
    yield f"next   {told.then or 'nothing by itself'}"
    yield from (f"try    {command}" for command in told.commands)
    yield ""
    for at, what in timeline(history):
        after_s = (at - message.accepted_at).total_seconds()
        yield f"{clock(at, now)}  {'-' if after_s < 0 else '+'}{span(after_s):<8}  {what}"
    yield from _notes(history, tools, text=text)


def several(found: Sequence[Found]) -> CommandError:
    """List several messages of one id, to choose one of them."""
    numbers = ", ".join(
        f"{one.id} ({one.channel}, user {one.user_id}, {one.accepted_at:%Y-%m-%d %H:%M}Z)"
        for one in found
    )
    return CommandError(f"several messages have this id: choose one of {numbers}")


def print_not_accepted(
    inbox: Sequence[InInbox], refused: Sequence[RefusedEnvelope], *, as_json: bool
) -> None:
    """Print where else an id was found: rows of the inbox, and dead letters."""
    if as_json:
        letters = [asdict(one) for one in refused]
        for letter in letters:
            # The bytes hold texts of the sender; kind and time of resolution have no key here.
            del letter["raw"], letter["kind"], letter["resolved_at"]
        print_json({"inbox": [asdict(one) for one in inbox], "dead_letters": letters})
        return
    for waiting in inbox:
        at = moment(waiting.created_at, waiting.now)
        until = waiting.not_before
        why = (
            "no worker has accepted it yet"
            if until is None or until <= waiting.now
            else f"it waits for its not_before, {moment(until, waiting.now)}"
        )
        warn(f"row {waiting.id} of inbox has it, since {at}: {why}")
    for one in refused:
        over = f", {one.resolution}" if one.resolution else ""
        warn(
            f"dead letter {one.id} has it{over}: {one.reason}, {one.detail}"
            f" (worker dead-letters show {one.id})"
        )


def _notes(history: MessageHistory, tools: Collection[str], *, text: bool) -> Iterator[str]:
    message = history.message
    yield ""
    yield f"its channel's id   {message.message_id}"
    if message.trace_id is not None:
        yield f"trace              {message.trace_id}"
    shown = envelope_facts(message.envelope, text=text)
    yield f"envelope           {', '.join(f'{name} {value}' for name, value in shown.items())}"
    for one in unknown_fields(message.envelope):
        meant = f": is {one['meant']} meant?" if one["meant"] else ""
        yield f"unknown field      {one['name']}{meant}"
    if message.conflicts:
        yield f"other body         came {message.conflicts} times with this id; the first stands"
    if history.turn is not None:
        yield f"turn               {_turn(history.turn)}"
    for tool in history.tools:
        took = (
            f", {span((tool.finished_at - tool.started_at).total_seconds())}"
            if tool.finished_at
            else ""
        )
        yield f"tool, round {tool.round}      {_tool(tool.name, tools)}: {tool.state}{took}"
    if text and history.reply is not None:
        yield f"reply              {history.reply.text}"


def _turn(turn: TurnSummary) -> str:
    where = f", Telnyx conversation {turn.telnyx_conversation_id or 'not known yet'}"
    conversation = where if turn.conversation_id else ", no conversation"
    landed = {True: "in it", False: "not in it", None: "not known to be in it"}[turn.landed]
    ended = f" ({landed})" if turn.conversation_id and turn.finished_at else ""
    return f"{turn.id}, {turn.kind}, agent version {turn.agent_version}{conversation}{ended}"


def _tool(name: str, tools: Collection[str]) -> str:
    return name if name in tools else _NO_TOOL
