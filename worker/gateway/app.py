"""The gateway's routes."""

from collections.abc import Callable, Mapping

from starlette.applications import Starlette
from starlette.routing import Route

from worker.gateway.health import Ready, live
from worker.gateway.messages import Messages
from worker.gateway.telemetry import endpoint
from worker.gateway.webhooks import TelnyxWebhooks


def build_app(
    webhooks: TelnyxWebhooks, messages: Messages | None, checks: Mapping[str, Callable[[], object]]
) -> Starlette:
    """Build the application. `messages`: None = nobody may call it. `checks`: see `Ready`."""
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
    return Starlette(routes=routes)
