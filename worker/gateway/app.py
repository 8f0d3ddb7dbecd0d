"""The gateway's routes."""

import asyncio
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from worker.gateway.messages import Messages
from worker.gateway.telemetry import endpoint
from worker.gateway.webhooks import TelnyxWebhooks


def build_app(
    webhooks: TelnyxWebhooks, messages: Messages | None, away: Callable[[], list[str]]
) -> Starlette:
    """Build the application. `messages`: None = nobody may call it.

    `away` returns the servers that do not answer, of Postgres and the broker; one is enough.
    """

    async def live(_: Request) -> Response:
        return JSONResponse({"live": True})

    async def ready(_: Request) -> Response:
        missing = await asyncio.to_thread(away)
        is_ready = len(missing) < 2  # noqa: PLR2004 - there are two
        return JSONResponse({"ready": is_ready, "away": missing}, 200 if is_ready else 503)

    webhook = endpoint("telnyx", webhooks)
    routes = [
        Route("/telnyx/messaging", webhook, methods=["POST"]),
        Route("/telnyx/messaging/{key}", webhook, methods=["POST"]),
        Route("/health/live", live),
        Route("/health/ready", ready),
    ]
    if messages is not None:
        routes += [
            Route("/messages", endpoint("messages", messages.post), methods=["POST"]),
            Route("/messages/{id}", endpoint("message", messages.get), methods=["GET"]),
        ]
    return Starlette(routes=routes)
