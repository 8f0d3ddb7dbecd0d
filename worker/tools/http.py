"""A tool behind a URL: a signed POST, repeated under one key if the tool honours it.

    POST ──▶ verdict ──▶ done | failed
      ▲ └──▶ none: key honoured, time and tries left? ──▶ no ──▶ unknown, or failed
      └─── wait ◀─── yes ───┘                                    if nothing has happened

    TAKEN                                   done
    GONE, REFUSED                           failed: the tool refused
    LATER, no answer before a byte          no verdict yet; nothing has happened
    OPEN, no answer after a byte            no verdict yet; it may have happened
    BUSY if the tool honours its key        the same: that key is still at work over there
    BUSY otherwise                          failed: the tool refused

The first word is `EndpointStatus`'s. Nothing is sent for arguments that are no JSON object.
"""

import codecs
import json
import math
import ssl
import time
from collections.abc import Sequence
from typing import Final, TypeAlias

import httpx

from worker.domain.tools import MAX_OUTPUT_BYTES, ToolConfig, ToolRequest, ToolResult, tool_item
from worker.net.answer import Answer, IncompleteAnswerError, parse_retry_after
from worker.net.clock import boottime
from worker.net.post_once import Endpoint, EndpointStatus, endpoint_status
from worker.net.proxy import Proxy
from worker.net.signing import Signer
from worker.net.window import CallWindow
from worker.tools.tool import BAD_ARGUMENTS, done, failed, unknown

VERSION: Final = 1
"""Version of the request's body."""

WAITS_S: Final = (0.2, 0.8)
"""Before the second and the third try."""

_Judged: TypeAlias = tuple[ToolResult, float | None]
"""A result, and the pause that the other side asked for before another try; None = a verdict."""


class HttpTool:
    """One endpoint of the operator. Safe to share."""

    def __init__(
        self,
        config: ToolConfig,
        url: httpx.URL,
        signer: Signer,
        tls: ssl.SSLContext,
        *,
        proxy: Proxy | None = None,
        waits_s: Sequence[float] = WAITS_S,
    ) -> None:
        self._endpoint = Endpoint(url, tls, max_body_bytes=MAX_OUTPUT_BYTES, proxy=proxy)
        self._signer = signer
        # Without a key that the tool honours, a second try could do the thing twice.
        self._waits_s = tuple(waits_s) if config.honours_key else ()
        self.item = tool_item(config.name, config.description, config.parameters or {})
        self.takes_key = config.honours_key
        self.timeout_s = config.timeout_s

    def run(self, request: ToolRequest) -> ToolResult:
        """POST it, and again as long as there is no verdict, time is left and the key allows."""
        finish_by = boottime() + self.timeout_s
        body = _body(request)
        if body is None:
            return failed(
                "error: the tool was not run: the arguments are not a JSON object",
                reason=BAD_ARGUMENTS,
            )
        unclear: ToolResult | None = None
        waits_s = [*self._waits_s, math.inf]
        while True:
            result, asked_s = self._try(body, request, finish_by, tries_left=len(waits_s) - 1)
            if asked_s is None:
                return result
            # One try that may have happened decides: a later refusal takes nothing back.
            if unclear is None or unclear.state == "failed":
                unclear = result
            pause_s = max(waits_s.pop(0), asked_s)
            # Nothing would be left after the pause.
            if boottime() + pause_s >= finish_by:
                return unclear
            time.sleep(pause_s)

    def _try(self, body: str, request: ToolRequest, finish_by: float, tries_left: int) -> _Judged:
        """Send once. A dead address costs a share of the time; a slow server may have all of it."""
        now, key = boottime(), str(request.key)
        trace = {"traceparent": request.traceparent} if request.traceparent else {}
        headers = {"Idempotency-Key": key, **self._signer.headers(key, body), **trace}
        send_by = now + (finish_by - now) / (tries_left + 1)
        window = CallWindow(send_by=send_by, finish_by=finish_by)
        try:
            answer = self._endpoint.post(body.encode("ascii"), headers, window)
        except IncompleteAnswerError as error:
            return _no_verdict(str(error), may_have_happened=window.wrote), 0.0
        return _judge(answer, takes_key=self.takes_key)


def _body(request: ToolRequest) -> str | None:
    """Build the body, in ASCII; None if the arguments (blank = none) are no JSON object."""
    try:
        arguments = json.loads(request.arguments.strip() or "{}")
        if not isinstance(arguments, dict):
            return None
        document = {
            "version": VERSION,
            "tool": request.name,
            "arguments": arguments,
            **request.who.as_producers_name_it(),
            "metadata": dict(request.metadata),
        }
        return json.dumps(document, separators=(",", ":"), allow_nan=False)
    except (ValueError, RecursionError):  # NaN, numbers without end, brackets without end
        return None


def _no_verdict(reason: str, *, may_have_happened: bool) -> ToolResult:
    if may_have_happened:
        return unknown(reason=reason)
    return failed(f"error: the tool did not take the call ({reason}); not done", reason=reason)


def _judge(answer: Answer, *, takes_key: bool) -> _Judged:
    status, reason = endpoint_status(answer.status), f"status {answer.status}"
    if status is EndpointStatus.TAKEN:
        return _done(answer.body), None
    still_at_work = status is EndpointStatus.BUSY and takes_key
    if status in {EndpointStatus.LATER, EndpointStatus.OPEN} or still_at_work:
        happened = status is not EndpointStatus.LATER
        asked_s = parse_retry_after(answer.headers, None) or 0.0
        return _no_verdict(reason, may_have_happened=happened), asked_s
    error = _error_in(answer.body)
    text = f"error: the tool refused: {reason}" + (f": {error}" if error else "")
    return failed(text, reason=reason), None


def _done(body: bytes) -> ToolResult:
    cut = len(body) > MAX_OUTPUT_BYTES
    try:
        # Half a character at the end of a cut body is left out.
        text = codecs.getincrementaldecoder("utf-8")().decode(body, final=not cut)
    except UnicodeDecodeError:
        text = "The tool ran. Its answer is not text and cannot be shown."
        return done(text, reason="not UTF-8")
    return done(text, cut=cut)


def _error_in(body: bytes) -> str:
    """Return the text under `error` in a JSON body, else an empty one."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    error = document.get("error") if isinstance(document, dict) else None
    return error if isinstance(error, str) else ""
