"""The life of one message as a list of events, without any text."""

from collections.abc import Iterator
from datetime import datetime

from worker.domain.reports.message_history import CallSummary, DeliverySummary, MessageHistory
from worker.domain.states import CallState


def timeline(history: MessageHistory) -> list[tuple[datetime, str]]:
    """Return the events, in the order of time."""
    late = ", though sent before what was taken already" if history.message.late else ""
    message, reply = history.message, history.reply
    rows = [(message.accepted_at, f"accepted{late}"), *_of_turn(history)]
    if reply is not None:
        rows.append((reply.created_at, f"reply written, source {reply.source}"))
    if message.finished_at is not None:
        rows.append((message.finished_at, f"message {message.state}, outcome {message.outcome}"))
    if history.delivery is not None:
        rows += _delivered(history.delivery)
    for letter in history.dead_letters:
        rows.append((letter.created_at, f"dead letter {letter.id}: {letter.reason}"))
        if letter.resolved_at is not None:
            rows.append((letter.resolved_at, f"dead letter {letter.id} was {letter.resolution}"))
    return sorted(rows, key=lambda row: row[0])


def _of_turn(history: MessageHistory) -> Iterator[tuple[datetime, str]]:
    turn = history.turn
    for event in history.events:
        facts = ", ".join(f"{name} {value}" for name, value in event.facts.items())
        yield event.at, f"{event.event}: {facts}"
    if turn is None:
        return
    other = " (another one, before it)" if history.is_behind else ""
    of = f", {turn.messages} messages" if turn.messages > 1 else ""
    yield turn.opened_at, f"turn {turn.id} opened{other}{of}"
    for call in history.calls:
        yield call.intent_at, _asked(call)
        if call.finished_at is not None:
            yield call.finished_at, _came_back(call)
    if turn.finished_at is not None:
        why = f": {turn.failure}" if turn.failure else ""
        yield turn.finished_at, f"turn {turn.id} {turn.state}{why}"


def _asked(call: CallSummary) -> str:
    round_ = f" of round {call.round}" if call.round else ""
    sent = ", with instructions" if call.instructions_sent else ""
    return f"call {call.id}: attempt {call.attempt + 1}{round_} intended{sent}"


def _came_back(call: CallSummary) -> str:
    said = [
        f"status {call.status}" if call.status else "",
        f"code {call.code}" if call.code else "",
        call.reason or "",
        f"{call.input_tokens} tokens in, {call.output_tokens} out" if call.input_tokens else "",
        f"request {call.request_id}" if call.request_id else "",
        f"response {call.response_id}" if call.response_id else "",
    ]
    state = "answered" if call.state is CallState.DONE else call.state
    return f"call {call.id}: {state}" + "".join(f", {one}" for one in said if one)


def _delivered(delivery: DeliverySummary) -> Iterator[tuple[datetime, str]]:
    if delivery.held_for is not None:
        yield delivery.created_at, f"delivery {delivery.id}: held ({delivery.held_for})"
    if delivery.first_attempt_at is not None:
        yield delivery.first_attempt_at, f"delivery {delivery.id}: first attempt"
    if delivery.finished_at is not None:
        tries = f" after {delivery.attempts} attempts" if delivery.attempts > 1 else ""
        ids = f", the channel's id {delivery.provider_id}" if delivery.provider_id else ""
        state = "kept" if delivery.is_kept else delivery.state
        yield delivery.finished_at, f"delivery {delivery.id}: {state}{tries}{ids}"
    if delivery.receipt_at is not None:
        error = f", error {delivery.receipt_error}" if delivery.receipt_error else ""
        yield delivery.receipt_at, f"delivery {delivery.id}: receipt {delivery.receipt}{error}"
