"""The gateway's routes."""

from collections.abc import Callable, Mapping

from starlette.applications import Starlette
from starlette.routing import Route

from worker.gateway.health import Ready, live
from worker.gateway.mails import Mails
from worker.gateway.messages import Messages
from worker.gateway.telemetry import endpoint
from worker.gateway.webhooks import TelnyxWebhooks


def build_app(
    webhooks: TelnyxWebhooks,
    messages: Messages | None,
    mails: Mails | None,
    checks: Mapping[str, Callable[[], object]],
) -> Starlette:
    """Build it. `messages`, `mails`: None = nobody may send them. `checks`: see `Ready`."""
    webhook = endpoint("telnyx", webhooks)
    routes = [
        Route("/telnyx/messaging", webhook, methods=["POST"]),
        Route("/telnyx/messaging/{key}", webhook, methods=["POST"]),
        Route("/health/live", live),
        Route("/health/ready", Ready(checks).answer),
    ]
    if messages is not None:
        routes += [
            Route("/messages", endpoint("messages", messages.post), methods=["POST"]),
            Route("/messages/{id}", endpoint("message", messages.get), methods=["GET"]),
        ]
    if mails is not None:
        routes.append(Route("/email", endpoint("email", mails.post), methods=["POST"]))
    return Starlette(routes=routes)
