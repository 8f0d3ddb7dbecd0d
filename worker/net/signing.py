"""Signatures as Standard Webhooks specifies them: the one place with keys and their library."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from standardwebhooks import Webhook

MIN_KEY_BYTES = 24
"""Standard Webhooks, "Signature scheme": a key has 24 to 64 bytes."""


class Signer:
    """Signs with one key, or with several while they are rotated. Safe to share."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._webhooks = [Webhook(key) for key in keys]

    def headers(self, message_id: str, body: str) -> dict[str, str]:
        """Sign now. Receivers refuse a signature some minutes old, so each try needs its own."""
        # In UTC: the library drops the offset.
        now = datetime.now(UTC)
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(
                webhook.sign(message_id, now, body) for webhook in self._webhooks
            ),
        }

    def has_signed(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Return whether one of the keys signed this, within five minutes of now."""
        names = ("webhook-id", "webhook-timestamp", "webhook-signature")
        given = {name: headers.get(name, "") for name in names}
        for webhook in self._webhooks:
            # Of a broken header or body it raises what it comes across.
            with suppress(Exception):
                webhook.verify(body, given, json_parse=False)
                return True
        return False


def signer_of(secrets: Iterable[str], place: str) -> Signer:
    """Take keys: base64, with or without whsec_. Raises ValueError, which names `place`."""
    return Signer([_key_of(secret, place) for secret in secrets])


def signer_from(
    *, variables: Sequence[str] = (), files: Sequence[Path] = (), environ: Mapping[str, str]
) -> Signer:
    """Read the keys of the settings `secret_env` and `secret_file`: base64, with or without whsec_.

    Raises ValueError, which names the setting, the fault and the fix.
    """
    keys = []
    for name in variables:
        if not (secret := environ.get(name, "").strip()):
            raise ValueError(f"secret_env: {name} is not set: set it")
        keys.append(_key_of(secret, f"secret_env: {name}"))
    for file in files:
        try:
            secret = file.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            fault = f"{file} cannot be read ({type(error).__name__})"
            raise ValueError(f"secret_file: {fault}") from None
        keys.append(_key_of(secret, f"secret_file: {file}"))
    return Signer(keys)


def _key_of(secret: str, place: str) -> bytes:
    # Strictly: the library would read any text as base64 and skip all other characters.
    fix = f"give whsec_ and the base64 of at least {MIN_KEY_BYTES} random bytes"
    encoded = secret.strip().removeprefix("whsec_").rstrip("=")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except ValueError:
        raise ValueError(f"{place}: the key is not base64: {fix}") from None
    if len(key) < MIN_KEY_BYTES:
        raise ValueError(f"{place}: the key has {len(key)} bytes: {fix}")
    return key
