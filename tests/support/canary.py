"""Canaries: words that stand for what people write and for what is secret, and finding them again.

Each place gets a word of its own, so that one that is found says where it came from. All begin with
that of the raw entries in tests/fixtures/redis_entries.
"""

import base64
import re
from collections.abc import Iterator
from typing import Any

from redis import Redis

from tests.support.fleet import TIMING
from tests.support.intake_worker import CANARY

NUMBER = "+4915550147739"
"""Where only a telephone number will do."""
_BASE64 = [base64.b64encode(b" " * n + CANARY.encode()).decode()[4:14] for n in range(3)]
_SHOWN = re.compile(f"(?i:{CANARY}|{NUMBER[1:]})|" + "|".join(map(re.escape, _BASE64)))


def word(name: str) -> str:
    """Give a place's own word."""
    return f"{CANARY}-{name}"


def shown(text: str) -> list[str]:
    """Give each canary that shows, in plain or in base64, with a little of what is around it."""
    return [text[max(0, at.start() - 80) : at.end() + 40] for at in _SHOWN.finditer(text)]


def envelope(name: str, **changes: object) -> dict[str, object]:
    """Make one with a canary in every field that takes one."""
    return {
        "version": 1,
        "channel": "web",
        "user": word(f"{name}-user"),
        "recipient": word("recipient"),
        "thread": word("thread"),
        "message_id": word(f"{name}-message-id"),
        "text": word(f"{name}-text"),
        "signals": [word("signal")],
        "metadata": {word("metadata-key"): word("metadata-value")},
        "attachments": [
            {
                "content_type": "image/png",
                "url": f"http://127.0.0.1:1/{word('attachment-url')}",
                "name": word("attachment-name"),
                word("attachment-field"): 1,
            }
        ],
        word("unknown-field"): {word("unknown-key"): word("unknown-value")},
        **changes,
    }


def invalid() -> Iterator[dict[str, object]]:
    """Make an envelope wrong in one field after the other, with the canary as the wrong value."""
    wrong: dict[str, Any] = {
        "version": word("version"),
        "channel": word("CHANNEL"),
        "agent": word("agent"),
        "reply_to": word("reply-to"),
        "sent_at": word("sent-at"),
        "expires_at": [word("expires-at")],
        "signals": word("signals"),
        "metadata": {word("number"): 7},
        "attachments": [{"content_type": "image/png", "url": word("no-url")}],
        "user": {word("user"): 1},
        "text": [word("text")],
    }
    for number, (field, value) in enumerate(wrong.items()):
        yield envelope(f"invalid-{number}", **{field: value})
    yield envelope("invalid-phone", channel="phone", user=word("no-number"))
    yield envelope("invalid-mail", channel="mail", user=word("no-mail"))


def agents_file(*, hook: str, tool: str) -> str:
    """Give a configuration with every way in and out; what is secret in it is a canary, too."""
    return f"""
[agents.default]
call_timeout_s = 3.0
instructions = "{word("instructions")}"
fallback_text = "{word("fallback")}"
tools = ["notes", "explode"]
[agents.live]
stream = true
call_timeout_s = 3.0
[agents.checked]
call_timeout_s = 3.0
approve = "all"
[agents.checked.hand_over]
notify = "desk"
text = "{word("handed-over")}"
[routes.desk.delivery]
task = "desk.told"
queue = "desk"
[tools.notes]
description = "{word("description")}"
url = "{tool}/{word("tool-path")}?token={word("tool-token")}"
secret_env = "CANARY_SECRET"
parameters = {{ type = "object" }}
[tools.explode]
function = "tests.support.toolbox:explode"
honours_key = true
[channels.live]
agent = "live"
[channels.phone]
kind = "telephone"
[channels.mail]
kind = "email"
[channels.crm.delivery]
task = "crm.take_reply"
queue = "crm"
[channels.web.delivery]
url = "{hook}/{word("hook-path")}?token={word("hook-token")}"
secret_env = "CANARY_SECRET"
allow_private = true
{TIMING}"""


def names_in(redis: Redis) -> str:
    """Give the names of all keys, and what is in hashes, sets and sorted sets a name as well."""
    names: list[bytes] = []
    for key in redis.scan_iter():
        names.append(key)
        match redis.type(key):
            case b"hash":
                names += redis.hkeys(key)
            case b"set":
                names += redis.smembers(key)
            case b"zset":
                names += redis.zrange(key, 0, -1)
    return "\n".join(name.decode(errors="replace") for name in names)
