"""Access tokens of OAuth2, printed by a command of the operator."""

import shlex
import subprocess


class TokenError(Exception):
    """There is no token. Its text shows neither the command nor what it has printed."""


def access_token(command: str, *, timeout_s: float) -> str:
    """Run the command, without a shell, and return what it prints. Raises `TokenError`."""
    try:
        done = subprocess.run(  # noqa: S603 - the operator's own command
            shlex.split(command), capture_output=True, timeout=timeout_s, check=False
        )
        token = done.stdout.decode("ascii").strip()
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise TokenError(f"token command: {type(error).__name__}") from None
    if done.returncode or not token:
        raise TokenError(f"token command: exit {done.returncode}, {len(token)} characters")
    return token


def xoauth2(user: str, token: str) -> str:
    """Return the answer of the SASL mechanism XOAUTH2."""
    return f"user={user}\1auth=Bearer {token}\1\1"
