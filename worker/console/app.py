"""The console's routes."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from worker.console.desk import Desk
from worker.console.guard import Guard, guarded
from worker.console.pages import letters, messages, people, replies, waiting
from worker.console.rendering import FILES
from worker.console.visit import Visit
from worker.gateway.health import Ready, live
from worker.store.operators.audits import Subject

_Work = Callable[[Desk, Visit], Response]
_PAGES: Final[tuple[tuple[str, str, _Work, Subject], ...]] = (
    ("/", "waiting", waiting.show, Subject.NOTHING),
    ("/people", "people", people.list_recent, Subject.NOTHING),
    ("/people/{id:int}", "person", people.show, Subject.PERSON),
    ("/messages/{id:int}", "message", messages.show, Subject.MESSAGE),
    ("/replies/{id:int}", "reply", replies.show, Subject.REPLY),
    ("/dead-letters", "dead_letters", letters.list_all, Subject.NOTHING),
    ("/dead-letters/{id:int}", "dead_letter", letters.show, Subject.DEAD_LETTER),
)
_PAUSE, _RESUME = (partial(people.set_paused, paused=paused) for paused in (True, False))
_OPT_OUT, _OPT_IN = (partial(people.set_consent, stopped=stopped) for stopped in (True, False))
_ACTIONS: Final[tuple[tuple[str, str, _Work, Subject], ...]] = (
    ("/people", "people.find", people.find, Subject.NOTHING),
    ("/people/{id:int}/pause", "person.pause", _PAUSE, Subject.PERSON),
    ("/people/{id:int}/resume", "person.resume", _RESUME, Subject.PERSON),
    ("/people/{id:int}/say", "person.say", people.say, Subject.PERSON),
    ("/people/{id:int}/opt-out", "person.opt_out", _OPT_OUT, Subject.PERSON),
    ("/people/{id:int}/opt-in", "person.opt_in", _OPT_IN, Subject.PERSON),
    ("/replies/{id:int}/approve", "reply.approve", replies.approve, Subject.REPLY),
    ("/replies/{id:int}/edit", "reply.edit", replies.edit, Subject.REPLY),
    ("/replies/{id:int}/reject", "reply.reject", replies.reject, Subject.REPLY),
    ("/dead-letters/{id:int}/replay", "dead_letter.replay", letters.replay, Subject.DEAD_LETTER),
    ("/dead-letters/{id:int}/dismiss", "dead_letter.dismiss", letters.dismiss, Subject.DEAD_LETTER),
)


def build_app(guard: Guard, desk: Desk, checks: Mapping[str, Callable[[], object]]) -> Starlette:
    """Build it. `checks`: see `Ready`."""
    routes = [
        Route("/login", guarded("login", guard.show_login), methods=["GET"]),
        Route("/login", guarded("login", guard.log_in), methods=["POST"]),
        Route("/logout", guard.page("logout", guard.log_out), methods=["POST"]),
        Route("/static/{name}", _file, methods=["GET"]),
        Route("/health/live", live),
        Route("/health/ready", Ready(checks).answer),
    ]
    for method, table in (("GET", _PAGES), ("POST", _ACTIONS)):
        routes += [
            Route(path, guard.page(action, partial(work, desk), kind), methods=[method])
            for path, action, work, kind in table
        ]
    return Starlette(routes=routes)


async def _file(request: Request) -> Response:
    """Answer with a file of ours; its address changes with it."""
    found = FILES.get(request.path_params["name"])
    if found is None:
        return Response(status_code=404)
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    headers["X-Content-Type-Options"] = "nosniff"
    return Response(found[1], media_type=found[0], headers=headers)
