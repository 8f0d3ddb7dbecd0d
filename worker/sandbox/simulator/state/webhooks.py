"""Events on their way to a receiver: signed, tried three times at each of two URLs, then given up.

    attempt ──200 within 2 s──▶ delivered
       │ anything else
       └──▶ wait, again ──3 times──▶ the failover URL, 3 times ──▶ lost

Bounded: limits on waiting and on running deliveries; none outlives the simulator.
"""

import asyncio
import base64
import hashlib
import ipaddress
import json
import time
from collections.abc import Sequence
from http import HTTPStatus

import aiohttp
from nacl.signing import SigningKey
from yarl import URL

from worker.sandbox.simulator.behaviour.config import SimulatorConfig
from worker.sandbox.simulator.record.events import Outcome, WebhookAttempted
from worker.sandbox.simulator.record.log import EventLog
from worker.sandbox.simulator.record.sms import Signing
from worker.sandbox.simulator.record.values import Json

_AT_ONCE = 50
_WAITING = 2_000
_HOUR_S = 3_600


class Webhooks:
    """Delivers events. Only on the simulator's event loop, but for `public_key`."""

    def __init__(self, log: EventLog, seed: int) -> None:
        self._log = log
        self._key = SigningKey(hashlib.sha256(f"webhooks {seed}".encode()).digest())
        self._foreign_key = SigningKey(hashlib.sha256(f"forged {seed}".encode()).digest())
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._session: aiohttp.ClientSession | None = None
        self._waiting = 0

    @property
    def public_key(self) -> str:
        """Base64 of the 32 bytes that signatures are checked with."""
        return base64.b64encode(self._key.verify_key.encode()).decode()

    async def deliver(
        self,
        event: Json,
        urls: Sequence[str | None],
        config: SimulatorConfig,
        *,
        signing: Signing = "good",
    ) -> None:
        """Deliver one event once, or give it up. `urls`: the URL and its failover."""
        if self._waiting >= _WAITING:
            self._note(event, None, 0, "overflow")
            return
        self._waiting += 1
        try:
            async with self._slots:
                await self._tried(event, [url for url in urls if url], config, signing)
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """Hang up."""
        if self._session is not None:
            await self._session.close()

    async def _tried(
        self, event: Json, urls: Sequence[str], config: SimulatorConfig, signing: Signing
    ) -> None:
        number = 0
        for url in urls:
            if not (config.webhook_remote or _is_here(url)):
                self._note(event, url, number, "not_local")
                continue
            for turn in range(config.webhook_attempts):
                if turn:
                    await asyncio.sleep(config.webhook_backoff_s * 2 ** (turn - 1))
                number += 1
                raw = _body(event, url, number)
                status = await self._status(url, raw, self._headers(raw, signing), config)
                succeeded = _succeeded(status, config)
                self._note(event, url, number, "delivered" if succeeded else "failed", status)
                if succeeded:
                    return

    async def _status(
        self, url: str, raw: bytes, headers: dict[str, str], config: SimulatorConfig
    ) -> int | None:
        """None: no answer in time."""
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))
        timeout = aiohttp.ClientTimeout(total=config.webhook_timeout_s)
        try:
            async with self._session.post(
                url, data=raw, headers=headers, timeout=timeout, allow_redirects=False
            ) as answer:
                return answer.status
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return None

    def _headers(self, raw: bytes, signing: Signing) -> dict[str, str]:
        at = str(int(time.time()) - (_HOUR_S if signing == "old" else 0))
        key = self._foreign_key if signing == "forged" else self._key
        signature = key.sign(at.encode() + b"|" + raw).signature
        return {
            "content-type": "application/json",
            "user-agent": "telnyx-webhooks",
            "telnyx-timestamp": at,
            "telnyx-signature-ed25519": base64.b64encode(signature).decode(),
        }

    def _note(
        self,
        event: Json,
        url: str | None,
        attempt: int,
        outcome: Outcome,
        status: int | None = None,
    ) -> None:
        self._log.append(
            WebhookAttempted(
                event_id=event["id"],
                event_type=event["event_type"],
                url=url,
                attempt=attempt,
                outcome=outcome,
                status=status,
            )
        )


def _succeeded(status: int | None, config: SimulatorConfig) -> bool:
    if status is None or config.webhook_success == "200":
        return status == HTTPStatus.OK
    return status // 100 == HTTPStatus.OK // 100


def _body(event: Json, url: str, attempt: int) -> bytes:
    meta = {"attempt": attempt, "delivered_to": url}
    return json.dumps({"data": event, "meta": meta}, ensure_ascii=False).encode()


def _is_here(url: str) -> bool:
    try:
        host = URL(url).host or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
