"""Signatures as Standard Webhooks specifies them: the one place with keys and their library."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from standardwebhooks import Webhook

MIN_KEY_BYTES = 24
"""Standard Webhooks, "Signature scheme": a key has 24 to 64 bytes."""


class SecretError(ValueError):
    """There is no key to sign with; `str()` names the setting, the fault and the fix."""


class Signer:
    """Signs with one key, or with several while they are rotated. Safe to share."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._webhooks = [Webhook(key) for key in keys]

    @classmethod
    def of(cls, *secrets: str) -> Self:
        """Read `whsec_` and base64, or base64 alone. Raises ValueError, which names the fix."""
        return cls([_key_of(secret) for secret in secrets])

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


def signer_from(
    *, variables: Sequence[str] = (), files: Sequence[Path] = (), environ: Mapping[str, str]
) -> Signer:
    """Read the keys of the settings `secret_env` and `secret_file`. Raises `SecretError`."""
    if not variables and not files:
        raise SecretError("secret_env: missing: a url needs a key to sign with")
    secrets = [("secret_env", _from_environ(name, environ)) for name in variables]
    secrets += [("secret_file", _from_file(file)) for file in files]
    for setting, secret in secrets:
        try:
            _key_of(secret)
        except ValueError as error:
            raise SecretError(f"{setting}: {error}") from None
    return Signer.of(*(secret for _, secret in secrets))


def _from_environ(name: str, environ: Mapping[str, str]) -> str:
    secret = environ.get(name, "")
    if not secret:
        raise SecretError(f"secret_env: {name} is not set: set it")
    return secret


def _from_file(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        fault = f"{file} cannot be read ({type(error).__name__})"
        raise SecretError(f"secret_file: {fault}") from None


def _key_of(secret: str) -> bytes:
    # Strictly: the library would read any text as base64 and skip all other characters.
    fix = f"give whsec_ and the base64 of at least {MIN_KEY_BYTES} random bytes"
    encoded = secret.strip().removeprefix("whsec_").rstrip("=")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"the key is not base64: {fix}") from None
    if len(key) < MIN_KEY_BYTES:
        raise ValueError(f"the key has {len(key)} bytes: {fix}")
    return key
