"""When a conversation is handed over to our staff, and what the model and the staff are told."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any, Final

from worker.domain.ids import ChannelUserId
from worker.domain.messages import ChannelAddress
from worker.domain.people.concerns import is_minor, is_threat
from worker.domain.people.policies import HandOver, HandOverTrigger
from worker.domain.text.folding import Folded
from worker.domain.tools import tool_item


class HandOverReason(StrEnum):
    """What handed a conversation over."""

    MODEL = "model"
    PERSON = "person"
    """They have asked for it."""
    THREAT = "threat"
    MINOR = "minor"
    REFUSAL = "refusal"
    FAILED_TURNS = "failed_turns"


TOOL_NAME: Final = "hand_over"
TOOL: Final[dict[str, Any]] = tool_item(
    TOOL_NAME,
    "Hands this conversation over to a person of our staff, who answers from then on. Use it if"
    " you cannot help, or if the person asks for a human. Do not call it together with others.",
    {
        "type": "object",
        "properties": {"reason": {"type": "string", "description": "For our staff: why."}},
        "required": ["reason"],
    },
)
OUTPUT: Final = "Our staff has taken over."
RESUMED: Final = (
    "[Our staff took over this conversation, has dealt with it, and has handed it back to you."
    " Do not hand it over again for the earlier reason.]"
)
"""What the model is told at the next turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOverNotice:
    """What our staff is told of one hand-over."""

    id: int
    reason: HandOverReason
    user_id: ChannelUserId
    who: ChannelAddress
    link: str | None = None
    """Their page in the console; None = it is not known where the console is."""


@cache
def _phrases(words: tuple[str, ...]) -> frozenset[str]:
    """Return the folded words; each message is compared with them."""
    return frozenset(Folded(word).phrase for word in words) - {""}


def wanted_by(texts: Sequence[str], policy: HandOver) -> HandOverReason | None:
    """Return why one of these messages goes to our staff; None = the model answers them."""
    for text in texts:
        folded = Folded(text)
        phrase = folded.phrase.removeprefix("please ").removesuffix(" please")
        if phrase in _phrases(policy.words):
            return HandOverReason.PERSON
        if HandOverTrigger.THREAT in policy.on and is_threat(folded):
            return HandOverReason.THREAT
        if HandOverTrigger.MINOR in policy.on and is_minor(folded):
            return HandOverReason.MINOR
    return None
