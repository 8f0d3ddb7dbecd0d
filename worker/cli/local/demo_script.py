"""The messages that the demo's people write."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4

from worker.envelope import VERSION

SHOP_NUMBER = "+13125550100"
SHOP_MAILBOX = "help@example.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptLine:
    """One message of the script."""

    channel: str
    recipient: str
    user: str
    text: str
    again: bool = False
    """Send it a second time with the same `message_id`: that must change nothing."""
    after_reply: bool = False
    """Wait for the reply to this person's earlier messages."""
    pause_s: float = 0.05
    """Pause until the next message goes out."""

    def envelope(self, sent_at: datetime) -> dict[str, object]:
        """Return the envelope that a producer sends, with a fresh `message_id`."""
        return {
            "version": VERSION,
            "channel": self.channel,
            "recipient": self.recipient,
            "user": self.user,
            "message_id": f"demo-{uuid4()}",
            "text": self.text,
            "sent_at": sent_at.isoformat(),
        }


def _sms(
    user: str, text: str, *, again: bool = False, after_reply: bool = False, pause_s: float = 0.05
) -> ScriptLine:
    return ScriptLine(
        channel="sms",
        recipient=SHOP_NUMBER,
        user=user,
        text=text,
        again=again,
        after_reply=after_reply,
        pause_s=pause_s,
    )


def _mail(user: str, text: str, *, after_reply: bool = False) -> ScriptLine:
    return ScriptLine(
        channel="email", recipient=SHOP_MAILBOX, user=user, text=text, after_reply=after_reply
    )


ANN, BEN, CAROL = "+13125550101", "+13125550102", "+13125550103"
SCRIPT = (
    _sms(ANN, "Hi, are you open today?"),
    _mail("dora@example.com", "Where is my order 4711?"),
    _sms(BEN, "Do you deliver to Evanston?", again=True),
    # A burst: four messages as fast as thumbs go. They wait for each other and share one reply.
    _sms(CAROL, "Hey", pause_s=0.02),
    _sms(CAROL, "one more thing", pause_s=0.02),
    _sms(CAROL, "about my booking", pause_s=0.02),
    _sms(CAROL, "can I move it to Friday?", pause_s=0.02),
    _mail("emil@example.com", "Please send me the invoice for May."),
    _sms(ANN, "And tomorrow?", after_reply=True),
    _mail("dora@example.com", "It should have come on Monday.", after_reply=True),
)
BURST_OF = CAROL


def sent_at(began_at: datetime, place: int) -> datetime:
    """Return the time on the message at this place of the script; it keeps them in order."""
    return began_at + timedelta(milliseconds=place)
