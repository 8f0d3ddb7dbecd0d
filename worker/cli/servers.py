# ruff: noqa: PLC0415 - heavy imports wait until the command runs, so that --help is quick
"""`worker gateway` and `worker console`: the processes that answer HTTP."""

import os
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.console import print_line
from worker.cli.errors import CommandError, needs_extra
from worker.cli.options import Host, Port

if TYPE_CHECKING:
    from starlette.applications import Starlette

_SharePort = Annotated[
    bool, typer.Option("--share-port", help="Several processes of this machine use the port.")
]


def gateway(*, host: Host = "127.0.0.1", port: Port = 8080, share_port: _SharePort = False) -> None:
    """Take Telnyx's webhooks, and messages of producers by HTTP. SIGTERM stops it.

    Run any number of them, with --share-port on one port too, behind whatever ends TLS. Each event
    is stored before it is answered: in Postgres, or on the broker's queue while Postgres is away.
    """
    with needs_extra("gateway"):
        from worker.bootstrap.gateway import build_gateway
    from worker.config.settings import settings_for
    from worker.observability.logs import configure_logging
    from worker.queue.lifecycle import on_sighup

    # The API key only fetches the public key.
    key = () if os.environ.get("TELNYX_PUBLIC_KEY") else ("telnyx_api_key",)
    settings = settings_for("database_url", "broker_url", "namespace", *key)
    configure_logging(settings.log_level)
    with closing(build_gateway(settings)) as built:
        on_sighup(built.reload_agents)
        _serve("gateway", built.app, host, port, share=share_port, begin=built.start_telemetry)


def console(*, host: Host = "127.0.0.1", port: Port = 8090) -> None:
    """Show staff what waits, threads, drafts and dead letters, and let them act. SIGTERM stops it.

    It shows what people wrote: put something that ends TLS before it, and let only staff reach it.
    Each view and each action is recorded in the table audits.
    """
    with needs_extra("console"):
        from worker.bootstrap.console import build_console
    from worker.config.settings import settings_for
    from worker.observability.logs import configure_logging

    settings = settings_for("database_url", "telnyx_api_key", "namespace")
    configure_logging(settings.log_level)
    with closing(build_console(settings)) as built:
        built.check_schema()
        _serve("console", built.app, host, port)


def _serve(
    name: str,
    app: "Starlette",
    host: str,
    port: int,
    *,
    share: bool = False,
    begin: Callable[[], object] = lambda: None,
) -> None:
    """Serve until SIGTERM; call `begin` once the port is ours. `name`: of the extra, too."""
    with needs_extra(name):
        from worker.gateway.serve import listen, serve
    from worker.observability.logs import log

    try:
        listening = listen(host, port, share=share)
        begin()
        port = listening.getsockname()[1]
        print_line(f"http://{host}:{port}")
        log.info(f"{name}.started", port=port)
        serve(app, listening)
    except OSError as error:
        raise CommandError(f"port {port} on {host}: {error.strerror}") from None
    log.info(f"{name}.stopped")
