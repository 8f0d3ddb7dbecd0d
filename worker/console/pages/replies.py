"""Drafts: read one, let it go out as it is or changed, or let nothing go out."""

from collections.abc import Callable

from starlette.responses import Response

from worker.console.desk import Desk
from worker.console.visit import Visit, go_to
from worker.domain.ids import ReplyId
from worker.handlers.operators.drafts import AlreadyDecidedError


def show(desk: Desk, visit: Visit) -> Response:
    """Show what the person wrote, what would go out, and why it waits."""
    draft = desk.drafts.show(ReplyId(visit.subject))
    return visit.show("draft.html", draft=draft, names=desk.threads.named([draft.user]))


def approve(desk: Desk, visit: Visit) -> Response:
    """Let it go out as it is."""
    return _decided(visit, "approved", lambda one: desk.drafts.approve(one, by=visit.who))


def edit(desk: Desk, visit: Visit) -> Response:
    """Let another text go out; one that nobody has changed is approved."""
    text = visit.given("text")
    if text == desk.drafts.show(ReplyId(visit.subject)).text.strip():
        return approve(desk, visit)
    return _decided(visit, "edited", lambda one: desk.drafts.edit(one, text, by=visit.who))


def reject(desk: Desk, visit: Visit) -> Response:
    """Let nothing go out."""
    return _decided(visit, "rejected", lambda one: desk.drafts.reject(one, by=visit.who))


def _decided(visit: Visit, done: str, decide: Callable[[ReplyId], object]) -> Response:
    try:
        decide(ReplyId(visit.subject))
    except AlreadyDecidedError:
        return go_to(f"/replies/{visit.subject}?done=too_late")
    return go_to(f"/?done={done}")
