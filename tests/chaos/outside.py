"""People with a telephone or a mail program, and machines that write mails, too.

What they write comes to the gateway: by Telnyx, or by a mail server. Both bring it again until the
answer is 200, and sometimes although it was.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx

from tests.chaos.mix import OUR_MAIL, OUR_NUMBER
from tests.chaos.producer import Producer
from tests.support.mails import mail_of
from tests.support.telnyx_events import event, inbound, signed

TOKEN = "gateway-token"
_TIMEOUT_S = 2.0  # Telnyx's


@dataclass
class Outside(Producer):
    """The one thread that calls `step` has no other work: the gateway may keep it waiting."""

    gateway_port: int = 0
    machines: int = 0
    """Mails of machines that were taken."""
    _client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=_TIMEOUT_S))

    def close(self) -> None:
        self._client.close()

    def _publish(self, envelopes: Sequence[dict[str, object]]) -> int:
        confirmed = 0
        while confirmed < len(envelopes) and self._bring(envelopes[confirmed]):
            confirmed += 1
        self.publishes += confirmed
        return confirmed

    def _bring(self, envelope: dict[str, object]) -> bool:
        text, user, name = (str(envelope[key]) for key in ("text", "user", "message_id"))
        if envelope["channel"] == "sms":
            return self._text_message(text, user, name)
        # All mails of a person answer their first one.
        first = name.rpartition("-")[0] + "-1@x.example>"
        return self._mail(text, user, name, In_Reply_To="" if name == first else first)

    def _send_bad(self) -> None:
        """An automatic mail, which nobody may answer."""
        self.bad += 1
        name, user = f"<auto-{self.bad}@x.example>", f"auto{self.bad}@x.example"
        self.machines += self._mail("I am away.", user, name, Auto_Submitted="auto-replied")

    def _text_message(self, text: str, user: str, name: str) -> bool:
        people = {"from": {"phone_number": user}, "to": [{"phone_number": OUR_NUMBER}]}
        document = event("message.received", inbound(id=name, text=text, **people))
        body = json.dumps(document).encode()
        return self._post("/telnyx/messaging", body, signed(body))

    def _mail(self, text: str, user: str, name: str, **more: str) -> bool:
        raw = mail_of(
            text, sender=user, to=OUR_MAIL, subject=f"Re: {user}", message_id=name, **more
        )
        envelope = {"x-envelope-from": user, "x-envelope-to": OUR_MAIL}
        return self._post("/email", raw, {"authorization": f"Bearer {TOKEN}", **envelope})

    def _post(self, path: str, body: bytes, headers: dict[str, str]) -> bool:
        try:
            url = f"http://127.0.0.1:{self.gateway_port}{path}"
            answer = self._client.post(url, content=body, headers=headers)
        except httpx.HTTPError:
            return False
        return answer.status_code == httpx.codes.OK
