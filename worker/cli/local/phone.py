"""People's phones in the simulated phone network: they text, and see what comes to them."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

import httpx

from message_worker_client import MessageKey, Outcome
from worker.cli.errors import CommandError
from worker.cli.send.producer import OutcomeWatch
from worker.domain.states import DeliveryState

OUR_NUMBER: Final = "+13125550100"
"""Belongs to the simulated account."""
_TIMEOUT_S: Final = 5.0
_UNDONE: Final = frozenset({DeliveryState.PENDING, DeliveryState.SENDING, DeliveryState.SENT, None})


@dataclass(frozen=True, kw_only=True)
class PhoneNetwork:
    """The simulator's phones."""

    http: httpx.Client

    @classmethod
    @contextmanager
    def simulated(cls) -> Iterator[Self]:
        """Open the one that TELNYX_BASE_URL leads to. Raises `CommandError` if it is none."""
        base, key = os.environ.get("TELNYX_BASE_URL", ""), os.environ.get("TELNYX_API_KEY", "")
        if not base.startswith("http://"):
            raise CommandError(
                "phones in the terminal need the simulated Telnyx: use your own phone, or unset "
                "TELNYX_API_KEY"
            )
        with httpx.Client(
            base_url=base.removesuffix("/v2") + "/sim",
            headers={"authorization": f"Bearer {key}"},
            timeout=_TIMEOUT_S,
            trust_env=False,
        ) as http:
            yield cls(http=http)

    def text(self, sender: str, recipient: str, text: str) -> str:
        """Send a text message from a phone; return its id."""
        said = {"sender": sender, "recipient": recipient, "text": text}
        return str(self._called("POST", "/inbound", json=said)["message_id"])

    def arrived(self, number: str) -> list[tuple[str, str]]:
        """Return the ids and texts of the messages that went to a phone, oldest first."""
        rows = self._called("GET", "/sms", params={"number": number})
        return [(row["id"], row["text"]) for row in rows if row["direction"] == "outbound"]

    def _called(self, method: str, path: str, **more: Any) -> Any:  # noqa: ANN401 - JSON
        try:
            answer = self.http.request(method, path, **more)
            return answer.raise_for_status().json()
        except httpx.HTTPError as error:
            raise CommandError(
                f"the simulated Telnyx does not answer ({type(error).__name__})"
            ) from None


@dataclass(kw_only=True)
class PhoneWatch:
    """One person's messages: an answer has come when it is on the phone, or in the mailbox."""

    arrived: Callable[[], list[tuple[str, str]]]
    """Returns ids and texts of what came to the person, oldest first."""
    watch: OutcomeWatch
    _seen: set[str] = field(default_factory=set)
    _coming: dict[int, tuple[MessageKey, Outcome]] = field(default_factory=dict)
    """Turns whose reply is not on the phone yet."""

    def __post_init__(self) -> None:
        """Leave out what came before."""
        self._seen.update(one for one, _ in self.arrived())

    @property
    def open(self) -> bool:
        """Whether something may still come."""
        return bool(self.watch.open or self._coming)

    def look(self) -> list[tuple[MessageKey, Outcome]]:
        """Return what ended since the last look: with the text as the phone shows it."""
        ended = []
        for key, outcome in self.watch.look():
            if outcome.text is None or outcome.turn is None or outcome.delivery not in _UNDONE:
                text = None if outcome.delivery not in _UNDONE else outcome.text
                ended.append((key, replace(outcome, text=text)))
            else:
                self._coming.setdefault(outcome.turn, (key, outcome))
        for sms, text in self.arrived():
            if sms not in self._seen and self._coming:
                self._seen.add(sms)
                key, outcome = self._coming.pop(min(self._coming))
                ended.append((key, replace(outcome, text=text)))
        return ended
