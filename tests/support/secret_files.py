"""Settings for tests: secrets in variables or in files."""

from pathlib import Path

GIVEN = {
    "DATABASE_URL": "postgresql://worker:canary@db/worker",
    "LISTEN_DATABASE_URL": "postgresql://worker:canary@direct/worker",
    "BROKER_URL": "redis://:canary@redis:6379/0",
    "TELNYX_API_KEY": "KEYcanary",
    "GATEWAY_TOKEN": "canary",
    "GATEWAY_SECRET": "whsec_canary",
    "CONSOLE_TOKENS": "anna:canary-canary-canary",
    "SMTP_URL": "smtps://worker:canary@mail",
    "IMAP_URL": "imaps://worker:canary@mail/INBOX",
}


OTHERS = {"NAMESPACE": "6f1d4a52-6f0f-4f0e-8a43-2f9f5f1f9b11", "SANDBOX_DIR": "/nonexistent"}


def in_files(folder: Path, *names: str, end: str = "\n") -> dict[str, str]:
    """GIVEN, with these in files instead."""
    env = dict(GIVEN)
    for name in names:
        (folder / name).write_text(env.pop(name) + end, newline="")
        env[f"{name}_FILE"] = str(folder / name)
    return env
