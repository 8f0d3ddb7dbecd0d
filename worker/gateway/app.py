"""The gateway's routes."""

from collections.abc import Callable, Mapping

from starlette.applications import Starlette
from starlette.routing import Route

from worker.gateway.endpoint import endpoint
from worker.gateway.health import Ready, live
from worker.gateway.mails import Mails
from worker.gateway.messages import Messages
from worker.gateway.replies import Replies
from worker.gateway.webhooks import TelnyxWebhooks


def build_app(
    webhooks: TelnyxWebhooks,
    for_callers: tuple[Messages, Mails, Replies] | None,
    checks: Mapping[str, Callable[[], object]],
) -> Starlette:
    """Build it. `for_callers`: None = nobody may call. `checks`: see `Ready`."""
    webhook = endpoint("telnyx", webhooks)
    routes = [
        Route("/telnyx/messaging", webhook, methods=["POST"]),
        Route("/telnyx/messaging/{key}", webhook, methods=["POST"]),
        Route("/health/live", live),
        Route("/health/ready", Ready(checks).answer),
    ]
    if for_callers is not None:
        messages, mails, replies = for_callers
        routes += [
            Route("/messages", endpoint("messages", messages.post), methods=["POST"]),
            Route("/messages/{id}", endpoint("message", messages.get), methods=["GET"]),
            Route("/replies", endpoint("replies", replies.list), methods=["GET"]),
            Route("/replies/{id}", endpoint("reply", replies.get), methods=["GET"]),
            Route("/replies/{id}/{verb}", endpoint("decision", replies.post), methods=["POST"]),
            Route("/email", endpoint("email", mails.post), methods=["POST"]),
        ]
    return Starlette(routes=routes)
