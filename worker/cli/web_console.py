# ruff: noqa: PLC0415 - heavy imports wait until the command runs, so that --help is quick
"""`worker console`: the process with the pages that staff work with."""

from worker.cli.console import print_line
from worker.cli.errors import CommandError
from worker.cli.options import Host, Port


def console(*, host: Host = "127.0.0.1", port: Port = 8090) -> None:
    """Show staff what waits, threads, drafts and dead letters, and let them act. SIGTERM stops it.

    It shows what people wrote: put something that ends TLS before it, and let only staff reach it.
    Each view and each action is recorded in the table audits.
    """
    try:
        from worker.bootstrap.console import build_console
        from worker.gateway.serve import listen, serve
    except ModuleNotFoundError as error:
        raise CommandError(f"no {error.name}: install message-worker[console]") from None
    from worker.config.settings import settings_for
    from worker.observability.logs import configure_logging, log

    settings = settings_for("database_url", "telnyx_api_key", "namespace")
    configure_logging(settings.log_level)
    built = build_console(settings)
    try:
        built.check_schema()
        listening = listen(host, port, share=False)
        port = listening.getsockname()[1]
        print_line(f"http://{host}:{port}")
        log.info("console.started", port=port)
        serve(built.app, listening)
    except OSError as error:
        raise CommandError(f"port {port} on {host}: {error.strerror}") from None
    finally:
        built.close()
    log.info("console.stopped")
