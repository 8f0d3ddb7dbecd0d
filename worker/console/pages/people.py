"""People: find one, read their thread, take over, write, opt them out or in."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from uuid import UUID, uuid4

from starlette.responses import Response

from worker.console.desk import Desk
from worker.console.visit import Visit, go_to, missing
from worker.domain.ids import ChannelUserId
from worker.handlers.operators.consents import NotInFormError
from worker.handlers.operators.take_user import NotPossibleError
from worker.store.operators.drafts import reason_in
from worker.store.reports.threads import LISTED, PAGE
from worker.store.sql import Row


def list_recent(desk: Desk, visit: Visit) -> Response:
    """Show who has written last."""
    return _list(desk, visit, desk.recent.users(limit=LISTED), found=False)


def find(desk: Desk, visit: Visit) -> Response:
    """Find people by a number of ours, by CHANNEL:ADDRESS, or by an address on any channel.

    With POST: an address in a link would be in the browser's history and in a proxy's log.
    """
    asked = visit.given("find")
    if asked.isascii() and asked.isdecimal():
        ids = desk.users.find(user_id=min(int(asked), 2**63 - 1))
    else:
        channel, colon, address = asked.partition(":")
        ids = desk.users.find(channel=channel, address=address) if colon else ()
        ids = ids or desk.users.find(address=asked)
    if len(ids) == 1:
        return go_to(f"/people/{ids[0]}")
    return _list(desk, visit, desk.recent.users(ids, limit=LISTED) if ids else (), found=True)


def _list(desk: Desk, visit: Visit, people: Sequence[Row], *, found: bool) -> Response:
    names = desk.threads.named([one.id for one in people])
    return visit.show("people.html", people=people, names=names, found=found)


def show(desk: Desk, visit: Visit) -> Response:
    """Show somebody's thread, and what can be done."""
    person = _person(desk, visit)
    before = None
    with suppress(ValueError):
        before = datetime.fromisoformat(visit.query.get("before", ""))
    if before is not None and before.tzinfo is None:
        before = None
    entries = desk.threads.entries(ChannelUserId(person.id), before=before)
    try:
        consents = desk.consents.store.history(desk.consents.person(person.channel, person.address))
    except NotInFormError:  # the configuration of the channel has changed since they wrote
        consents = ()
    return visit.show(
        "person.html",
        person=person,
        reason=reason_in(person.asked),
        entries=entries,
        older=entries[0].at.isoformat() if len(entries) >= PAGE else None,
        before=before,
        consents=consents,
        opted_out=bool(consents) and consents[-1].stopped,
        key=uuid4(),
    )


def set_paused(desk: Desk, visit: Visit, *, paused: bool) -> Response:
    """Take over, or hand back to the model."""
    person = _person(desk, visit)
    desk.set_paused(ChannelUserId(person.id), paused=paused)
    return _back(visit, "paused" if paused else "resumed")


def say(desk: Desk, visit: Visit) -> Response:
    """Write to them. The key of the form sees to it that a form sent twice is said once."""
    person = _person(desk, visit)
    try:
        key = UUID(visit.form.get("key", ""))
    except ValueError:
        raise NotPossibleError("this form is not whole: load the page again") from None
    desk.say(ChannelUserId(person.id), visit.given("text"), key=key)
    return _back(visit, "said")


def set_consent(desk: Desk, visit: Visit, *, stopped: bool) -> Response:
    """Record that they do not want to be written to, or that they want to be again."""
    person = _person(desk, visit)
    who = desk.consents.person(person.channel, person.address)
    turned = desk.consents.set(who, stopped=stopped)
    if turned.after != stopped:
        raise NotPossibleError(
            "Telnyx blocks this person, and only their own START to your number ends that"
        )
    return _back(visit, "opted_out" if stopped else "opted_in")


def _person(desk: Desk, visit: Visit) -> Row:
    """Return the person of the address. Raises `RefusedError`."""
    person = desk.threads.person(ChannelUserId(visit.subject))
    if person is None:
        raise missing("person")
    return person


def _back(visit: Visit, done: str) -> Response:
    return go_to(f"/people/{visit.subject}?done={done}#write")
