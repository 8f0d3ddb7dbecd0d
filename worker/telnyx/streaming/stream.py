"""A streamed answer of the Responses endpoint: whether it is a stream, and how it is read.

    response.completed, .incomplete, .failed    -> as `classify` judges the response in it
    error                                       -> Unknown: the request may have been stored
    an end of the stream before one of these    -> Unknown
    JSON in place of a stream, or not a 2xx     -> as an answer that was not streamed

A stream is silent from its head, or from its last event of type `response.*`, on. Comments, pings
and parts of an event do not end a silence: a server that sends only those answers nobody.
"""

import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http import HTTPStatus
from itertools import chain

from worker.domain.turns.calls import CallOutcome
from worker.net.answer import Answer, IncompleteAnswerError
from worker.net.connection import ENDED_EARLY
from worker.net.window import CallWindow
from worker.telnyx.answers.answer import MAX_ANSWER_BYTES, at_most, read_whole
from worker.telnyx.answers.classify import classify
from worker.telnyx.streaming.listener import Listener
from worker.telnyx.streaming.sse import EventDecoder

MAX_STREAM_BYTES = 8 * MAX_ANSWER_BYTES
"""A stream sends a text about five times, in pieces with names of their own. In memory are never
more than one event and the finished items, each at most MAX_ANSWER_BYTES."""

LAST_BYTES_S = 0.1
"""The wait for the proper end of the body after the verdict, to keep the connection."""

_BOM = b"\xef\xbb\xbf"
_SNIFFED_BYTES = 1024


def read_plain(head: Answer, parts: Iterator[bytes]) -> CallOutcome:
    """Read and judge an answer that is not streamed. Raises IncompleteAnswerError."""
    return classify(read_whole(head, parts), now=datetime.now(UTC))


def read_streamed(
    head: Answer,
    parts: Iterator[bytes],
    *,
    window: CallWindow,
    idle_s: float | None,
    on_text: Callable[[str], None] | None,
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
        opening = _read_opening(parts)
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


def _read_opening(parts: Iterator[bytes]) -> bytes:
    """Read until a byte that is no white space; empty: there was no body."""
    opening = b""
    for part in parts:
        opening += part
        text = opening.removeprefix(_BOM).lstrip()
        # The byte order mark may itself come in pieces.
        if (text and not _BOM.startswith(text)) or len(opening) > _SNIFFED_BYTES:
            break
    return opening


def _listen(listener: Listener, parts: Iterator[bytes], window: CallWindow) -> CallOutcome:
    decoder = EventDecoder(MAX_ANSWER_BYTES)
    try:
        for part in parts:
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
    try:
        for _ in parts:
            pass
    except IncompleteAnswerError:
        pass
