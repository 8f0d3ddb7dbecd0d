"""A receiver of our webhooks, and a channel that posts to it."""

import base64
import socket
import ssl
import threading
from dataclasses import dataclass, field
from typing import Any

import httpx
from standardwebhooks import Webhook

from tests.support.raw_server import RawServer, http, reset
from tests.support.signers import signer_of
from worker.channels.webhook import MAX_BODY_BYTES, WebhookChannel
from worker.net.post_once import Endpoint

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
DEADLINE_S = 0.4
"""Of an attempt that meets silence. Any other has `SLACK_S`: nothing but a hang lasts that long."""
SLACK_S = 5.0
"""A bound against hanging, no measurement: the machine may be busy."""


@dataclass
class Inbox:
    """A receiver as our pages ask for one: verifies, and drops a webhook-id that it has seen."""

    came: list[str] = field(default_factory=list)
    """The webhook-ids of all requests, in order."""
    kept: dict[str, dict[str, Any]] = field(default_factory=dict)
    bad: list[bytes] = field(default_factory=list)
    """Answers to give instead of taking anything, one for each request; an empty one = silence."""
    loses_answer: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def serve(self, conn: socket.socket, server: RawServer) -> None:
        raw = server.read_request(conn)
        headers, body = parts_of(raw)
        document = Webhook(SECRET).verify(body, headers)
        with self.lock:
            self.came.append(headers["webhook-id"])
            instead = self.bad.pop(0) if self.bad else None
            if instead is None:
                self.kept.setdefault(headers["webhook-id"], document)
        if instead == b"":
            server.gone.wait(30)
        elif self.loses_answer:
            reset(conn)
        else:
            conn.sendall(http(b"thanks") if instead is None else instead)

    def texts(self, **where: str) -> list[str]:
        return [
            one["text"]
            for one in self.kept.values()
            if all(one[name] == value for name, value in where.items())
        ]


def parts_of(raw: bytes) -> tuple[dict[str, str], bytes]:
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")[1:]
    return {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}, body


def channel_at(
    url: str,
    *secrets: str,
    tls: ssl.SSLContext | None = None,
    deadline_s: float = SLACK_S,
    **changes: Any,  # noqa: ANN401 any option of the endpoint
) -> WebhookChannel:
    options = {"max_body_bytes": MAX_BODY_BYTES, "whole_answer": False, **changes}
    endpoint = Endpoint(httpx.URL(url), tls, **options)
    return WebhookChannel(endpoint, signer_of(*(secrets or (SECRET,))), deadline_s)
