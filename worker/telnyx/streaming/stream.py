"""A streamed answer of the Responses endpoint: whether it is a stream, and how it is read.

    response.completed, .incomplete, .failed    -> as `classify` judges the response in it
    error                                       -> Unknown: the request may have been stored
    an end of the stream before one of these    -> Unknown
    JSON in place of a stream, or not a 2xx     -> as an answer that was not streamed

Every byte is a sign of life, those of comments, pings and parts of an event as well: a model that
thinks for long sends nothing else. The overall deadline of the call ends a server that goes on.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from http import HTTPStatus
from itertools import chain
from typing import TypeAlias

from worker.domain.turns.calls import CallOutcome, Done, Unknown
from worker.domain.turns.visible_text import VisibleStream
from worker.net.answer import Answer, IncompleteAnswerError
from worker.net.connection import ENDED_EARLY
from worker.net.window import CallWindow
from worker.telnyx.answers.answer import (
    MAX_ANSWER_BYTES,
    at_most,
    is_telnyx_error,
    parse_json,
    read_whole,
    request_id,
    slug,
    telnyx_code,
)
from worker.telnyx.answers.classify import classify, judge_response
from worker.telnyx.streaming.sse import Event, EventDecoder

OnText: TypeAlias = Callable[[str | None], None]
"""Takes the next piece of the visible text; None = the pieces so far were thoughts."""

MAX_STREAM_BYTES = 8 * MAX_ANSWER_BYTES
"""A stream sends a text about five times, in pieces with names of their own. In memory are never
more than one event and the finished items, each at most MAX_ANSWER_BYTES."""

LAST_BYTES_S = 0.1
"""The wait for the proper end of the body after the verdict, to keep the connection."""

_BOM = b"\xef\xbb\xbf"
_SNIFFED_BYTES = 1024
_MAX_TEXTS = 64
"""Output items of one answer whose text is shown while it comes."""
_DELTA = "response.output_text.delta"
_ITEM = "response.output_item.done"
_TERMINAL = frozenset({"response.completed", "response.incomplete", "response.failed"})


def read_plain(head: Answer, parts: Iterator[bytes]) -> CallOutcome:
    """Read and judge an answer that is not streamed. Raises IncompleteAnswerError."""
    return classify(read_whole(head, parts), now=datetime.now(UTC))


def read_streamed(
    head: Answer,
    parts: Iterator[bytes],
    *,
    window: CallWindow,
    idle_s: float | None,
    on_text: OnText | None,
) -> CallOutcome:
    """Read and judge the answer to a request for a stream.

    Raises IncompleteAnswerError for one that is not streamed. `idle_s`: the longest silence; None =
    the window alone ends it.
    """
    if head.status // 100 != HTTPStatus.OK // 100 or _is_json(head):
        return read_plain(head, parts)
    silence_s = math.inf if idle_s is None else idle_s
    window.expect_within(silence_s)
    listener = Listener(head, on_text, heard=lambda: window.expect_within(silence_s))
    try:
        opening = _read_opening(parts, listener.heard)
    except IncompleteAnswerError as error:
        return listener.unknown(str(error))
    parts = chain([opening], parts)
    # Some gateways answer with plain JSON under the content type of a stream.
    if opening.removeprefix(_BOM).lstrip().startswith(b"{"):
        window.expect_within(math.inf)
        return read_plain(head, parts)
    return _listen(listener, at_most(MAX_STREAM_BYTES, parts), window)


def _is_json(head: Answer) -> bool:
    media_type = head.headers.get("content-type", "").partition(";")[0].strip().lower()
    return media_type == "application/json"


def _read_opening(parts: Iterator[bytes], heard: Callable[[], None]) -> bytes:
    """Read until a byte that is no white space; empty: there was no body."""
    opening = b""
    for part in parts:
        heard()
        opening += part
        text = opening.removeprefix(_BOM).lstrip()
        # The byte order mark may itself come in pieces.
        if (text and not _BOM.startswith(text)) or len(opening) > _SNIFFED_BYTES:
            break
    return opening


class Listener:
    """Reads one stream: passes its text on, keeps its items, judges its end."""

    def __init__(self, head: Answer, on_text: OnText | None, *, heard: Callable[[], None]) -> None:
        """`heard` is to be called for each part of the body."""
        self._head = head
        self._on_text = on_text
        self.heard = heard
        self._visible: defaultdict[object, VisibleStream] = defaultdict(VisibleStream)
        """By the output item that a text belongs to."""
        self._heard_text = False
        self._items: dict[int, dict[str, object]] = {}
        self._items_bytes = 0

    def take(self, event: Event) -> CallOutcome | None:
        """Process one event; None: the stream goes on."""
        if event.data.strip() == "[DONE]":
            return self.unknown("stream ended without a verdict")
        value = parse_json(event.data)
        document = value if isinstance(value, dict) else {}
        kind = _kind(event, document)
        if kind in _TERMINAL:
            return self._judge(kind, document)
        if kind == "error":
            code = document.get("code")
            code = telnyx_code(document) if code is None else slug(str(code))
            return self.unknown(f"stream error {code}" if code else "stream error")
        if kind == _DELTA:
            self._pass_on(document.get("delta"), str(document.get("output_index")))
        if kind == _ITEM:
            self._keep(document, len(event.data))
        return None

    def _pass_on(self, delta: object, item: str) -> None:
        if not isinstance(delta, str) or not delta:
            return
        self._heard_text = True
        if self._on_text is None:
            return
        if item not in self._visible and len(self._visible) >= _MAX_TEXTS:
            return
        shown = self._visible[item].feed(delta)
        if shown == "":
            return
        try:
            self._on_text(shown)
        except Exception as error:  # noqa: BLE001 a live display must not cost the answer
            self._on_text = None
            from worker.observability.logs import log  # noqa: PLC0415 - see `traces`

            log.error("stream.on_text_failed", error=type(error).__name__)

    def _keep(self, document: Mapping[str, object], size: int) -> None:
        index, item = document.get("output_index"), document.get("item")
        if not isinstance(item, dict):
            return
        self._items_bytes += size
        if self._items_bytes > MAX_ANSWER_BYTES:
            raise IncompleteAnswerError(f"output larger than {MAX_ANSWER_BYTES} bytes")
        # Items may end in another order than the one in which they belong.
        self._items[index if isinstance(index, int) else len(self._items)] = item

    def _judge(self, kind: str, document: Mapping[str, object]) -> Done | Unknown:
        sent = document.get("response")
        if not isinstance(sent, dict):
            return judge_response(self._head, {})
        response = {**sent}
        if not isinstance(sent.get("status"), str):
            response["status"] = kind.removeprefix("response.")
        if not sent.get("output") and response["status"] != "failed":
            # Some servers do not repeat in the last event what they streamed before.
            response["output"] = [item for _, item in sorted(self._items.items())]
            if self._heard_text and not self._items:
                return self.unknown("stream without its output")
        return judge_response(self._head, response)

    def unknown(self, reason: str) -> Unknown:
        """Return that there is no verdict; `reason` is a short text of ours."""
        head = self._head
        return Unknown(reason=reason, status=head.status, request_id=request_id(head))


def _listen(listener: Listener, parts: Iterator[bytes], window: CallWindow) -> CallOutcome:
    decoder = EventDecoder(MAX_ANSWER_BYTES)
    try:
        for part in parts:
            listener.heard()
            for event in decoder.feed(part):
                outcome = listener.take(event)
                if outcome is not None:
                    _let_end(parts, window)
                    return outcome
    except IncompleteAnswerError as error:
        cut = str(error) == ENDED_EARLY and decoder.inside is not None
        return listener.unknown(f"stream cut within {decoder.inside}" if cut else str(error))
    place = "without a verdict" if decoder.inside is None else f"within {decoder.inside}"
    return listener.unknown(f"stream ended {place}")


def _let_end(parts: Iterator[bytes], window: CallWindow) -> None:
    """Read the rest, if it comes at once: the verdict is known, so its content is ignored."""
    window.expect_within(LAST_BYTES_S)
    with suppress(IncompleteAnswerError):
        for _ in parts:
            pass


def _kind(event: Event, document: Mapping[str, object]) -> str:
    """Return an event's type: from its JSON, else its field; any that holds an error is one."""
    typed = document.get("type")
    kind = typed if isinstance(typed, str) else event.name
    if kind.startswith("response."):
        return kind
    is_error = event.name == "error" or document.get("error") or is_telnyx_error(document)
    return "error" if is_error else kind
