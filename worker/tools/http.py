"""A tool behind a URL: a signed POST, repeated under one key where the tool honours it.

    POST ──▶ verdict ──▶ done | failed
      ▲ └──▶ none: key honoured, time and tries left? ──▶ no ──▶ unknown, or failed
      └─── wait ◀─── yes ───┘                                    where nothing has happened

Nothing is sent for arguments that are no JSON object. What an answer means is in `verdict`.
"""

import json
import ssl
import time
from collections.abc import Sequence
from typing import Final

import httpx

from worker.domain.tools import MAX_OUTPUT_BYTES, ToolConfig, ToolRequest, ToolResult, ToolSpec
from worker.net.clock import boottime
from worker.net.post_once import Answer, Endpoint, Silence
from worker.net.signing import Signer
from worker.tools.results import BAD_ARGUMENTS, failed, unknown
from worker.tools.verdict import NoVerdict, judge

VERSION: Final = 1
"""Of the request's body."""

WAITS_S: Final = (0.2, 0.8)
"""Before the second and the third try."""


class HttpTool:
    """One endpoint of the operator's. Safe to share."""

    def __init__(
        self,
        config: ToolConfig,
        url: httpx.URL,
        signer: Signer,
        tls: ssl.SSLContext,
        *,
        waits_s: Sequence[float] = WAITS_S,
    ) -> None:
        self._endpoint = Endpoint(url, tls, max_body_bytes=MAX_OUTPUT_BYTES)
        self._signer = signer
        self._waits_s = tuple(waits_s) if config.honours_key else ()
        self.spec = ToolSpec(
            name=config.name,
            description=config.description,
            parameters=config.parameters or {},
        )
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
        open_ends: list[NoVerdict] = []
        for tries_left in range(len(self._waits_s), -1, -1):
            outcome = self._try(body, request, finish_by, tries_left)
            verdict = judge(outcome, takes_key=self.takes_key)
            if isinstance(verdict, ToolResult):
                return verdict
            open_ends.append(verdict)
            if not tries_left:
                break
            if not _pause(max(self._waits_s[-tries_left], verdict.wait_s), finish_by):
                break
        return _without_verdict(open_ends)

    def _try(
        self, body: str, request: ToolRequest, finish_by: float, tries_left: int
    ) -> Answer | Silence:
        """Send once. A dead address costs a share of the time; a slow server may have all of it."""
        now, key = boottime(), str(request.key)
        trace = {"traceparent": request.traceparent} if request.traceparent else {}
        return self._endpoint.post(
            body.encode("ascii"),
            {"Idempotency-Key": key, **self._signer.headers(key, body), **trace},
            connect_by=now + (finish_by - now) / (tries_left + 1),
            finish_by=finish_by,
        )


def _body(request: ToolRequest) -> str | None:
    """Build the body, in ASCII; None when the arguments (blank = none) are no JSON object."""
    who = request.who
    try:
        arguments = json.loads(request.arguments.strip() or "{}")
        if not isinstance(arguments, dict):
            return None
        document = {
            "version": VERSION,
            "tool": request.name,
            "arguments": arguments,
            "channel": who.channel,
            "recipient": who.recipient,
            "user": who.address,
            "thread": who.thread,
            "metadata": dict(request.metadata),
        }
        return json.dumps(document, separators=(",", ":"), allow_nan=False)
    except (ValueError, RecursionError):  # NaN, numbers without end, brackets without end
        return None


def _pause(wait_s: float, finish_by: float) -> bool:
    """Wait, unless nothing would be left afterwards."""
    if boottime() + wait_s >= finish_by:
        return False
    time.sleep(wait_s)
    return True


def _without_verdict(open_ends: Sequence[NoVerdict]) -> ToolResult:
    for end in open_ends:
        if end.may_have_happened:
            return unknown(reason=end.reason)
    reason = open_ends[-1].reason
    return failed(f"error: the tool did not take the call ({reason}); not done", reason=reason)
