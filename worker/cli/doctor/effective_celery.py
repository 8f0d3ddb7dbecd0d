"""Prints the settings that `celery -A worker` would have here, as one line of JSON.

A program of its own: the app is built at import, from the environment, and cannot be built again.
So an override (CELERY_RESULT_BACKEND, CELERY_BROKER_URL, another default) is seen.
"""

import json
import sys
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Effective:
    """The settings of Celery that the service depends on; without any address."""

    visibility_timeout_s: float
    stores_results: bool
    ours_is_read: bool
    """Whether workers take messages from the broker of BROKER_URL."""
    ours_is_written: bool
    """Whether tasks are published there."""


def effective() -> Effective:
    """Build the app and read its settings. Raises SystemExit if ours are wrong."""
    from worker.celery import app  # noqa: PLC0415 - see above
    from worker.config.settings import load_settings  # noqa: PLC0415

    conf, ours = app.conf, load_settings().broker_url
    return Effective(
        visibility_timeout_s=float(conf.broker_transport_options.get("visibility_timeout", 3600)),
        stores_results=bool(conf.result_backend) and conf.result_backend != "disabled",
        ours_is_read=conf.broker_read_url == ours,
        ours_is_written=conf.broker_write_url == ours,
    )


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(effective())))
