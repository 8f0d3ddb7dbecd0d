# ruff: noqa: PLC0415 - heavy imports wait until the command runs, so that --help is quick
"""`worker gateway`: the process that Telnyx's webhooks and producers' messages arrive at."""

import os
from typing import Annotated

import typer

from worker.cli.console import print_line
from worker.cli.errors import CommandError
from worker.cli.options import Host, Port

_SharePort = Annotated[
    bool, typer.Option("--share-port", help="Several processes of this machine use the port.")
]


def gateway(*, host: Host = "127.0.0.1", port: Port = 8080, share_port: _SharePort = False) -> None:
    """Take Telnyx's webhooks, and messages of producers by HTTP. SIGTERM stops it.

    Run any number of them, with --share-port on one port too, behind whatever ends TLS. Each event
    is stored before it is answered: in Postgres, or on the broker's queue while Postgres is away.
    """
    try:
        from worker.bootstrap.gateway import build_gateway
        from worker.gateway.serve import listen, serve
    except ModuleNotFoundError as error:
        raise CommandError(f"no {error.name}: install message-worker[gateway]") from None
    from worker.config.settings import settings_for
    from worker.observability.logs import configure_logging, log
    from worker.queue.lifecycle import on_sighup

    # The API key only fetches the public key.
    key = () if os.environ.get("TELNYX_PUBLIC_KEY") else ("telnyx_api_key",)
    settings = settings_for("database_url", "broker_url", "namespace", *key)
    configure_logging(settings.log_level)
    built = build_gateway(settings)
    try:
        on_sighup(built.reload_agents)
        listening = listen(host, port, share=share_port)
        built.start_telemetry()
        port = listening.getsockname()[1]
        print_line(f"http://{host}:{port}")
        log.info("gateway.started", port=port)
        serve(built.app, listening)
    except OSError as error:
        raise CommandError(f"port {port} on {host}: {error.strerror}") from None
    finally:
        built.close()
    log.info("gateway.stopped")
