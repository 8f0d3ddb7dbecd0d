"""Drafts in the console: what is decided there, by whom, and when it is too late."""

import html
from collections.abc import Iterator

import pytest

from tests.support.asgi import Asgi
from tests.support.console import Visitor, fields_of, running_console
from tests.support.world import USER, HandDrivenWorker, World
from worker.sandbox.simulator import Script

pytestmark = pytest.mark.simulator(show_prefix=False)
AGENTS = '[agents.default]\napprove = "all"\n'


@pytest.fixture
def app(world: World) -> Iterator[Asgi]:
    with running_console(world, AGENTS) as app:
        yield app


@pytest.fixture
def worker(world: World) -> HandDrivenWorker:
    worker = world.worker(AGENTS)
    world.simulator.script(Script(text="refund", reply="You get <b>100</b> dollars."))
    worker.receive(world.envelope("Where is my refund?"))
    worker.answer()
    return worker


def text(visitor: Visitor, path: str) -> str:
    answer = visitor.get(path)
    assert answer.status == 200, answer.body
    return html.unescape(answer.body.decode())


def deliveries(world: World) -> list[str]:
    rows = world.database.rows(
        "SELECT r.text, d.state, d.reviewed_by FROM deliveries d JOIN replies r"
        " ON r.id = d.reply_id ORDER BY d.id"
    )
    return [f"{row['state']} by {row['reviewed_by']}: {row['text']}" for row in rows]


def test_a_draft_is_read_and_approved(
    world: World, worker: HandDrivenWorker, anna: Visitor
) -> None:
    first = text(anna, "/")
    assert "/replies/1" in first
    assert USER in first
    assert "/replies/1" in text(anna, "/people/1")
    shown = text(anna, "/replies/1")
    assert "Where is my refund?" in shown
    assert "You get <b>100</b> dollars." in shown
    assert "<b>" not in anna.get("/replies/1").body.decode()
    done = anna.submit("/replies/1", "/replies/1/edit", text="You get <b>100</b> dollars.")
    assert done.headers["location"] == "/?done=approved"
    assert "The draft goes out." in text(anna, "/?done=approved")
    assert deliveries(world) == ["sent by anna: You get <b>100</b> dollars."]
    audits = world.database.rows("SELECT * FROM audits WHERE starts_with(action, 'reply')")
    assert [row["action"] for row in audits] == ["reply"] * 3 + ["reply.edit"]
    assert {(row["channel_user_id"], row["subject_id"]) for row in audits} == {(1, 1)}


def test_a_draft_is_changed(world: World, worker: HandDrivenWorker, anna: Visitor) -> None:
    done = anna.submit("/replies/1", "/replies/1/edit", text="I look into it.\r\nAnna")
    assert done.headers["location"] == "/?done=edited"
    assert deliveries(world) == ["sent by anna: I look into it.\nAnna"]
    shown = text(anna, "/replies/1")
    assert "edited by anna" in shown
    assert "You get <b>100</b> dollars." in shown
    assert "The agent, edited by our staff" in text(anna, "/people/1")


def test_a_draft_is_rejected(world: World, worker: HandDrivenWorker, anna: Visitor) -> None:
    assert anna.submit("/replies/1", "/replies/1/reject").headers["location"] == "/?done=rejected"
    assert deliveries(world) == ["rejected by anna: You get <b>100</b> dollars."]
    assert "Nothing. The model answers everybody." in text(anna, "/")


def test_who_decides_second_is_told_who_was_first(
    world: World, worker: HandDrivenWorker, app: Asgi, anna: Visitor
) -> None:
    ben = Visitor(app=app)
    ben.log_in("ben")
    forms = [visitor.get("/replies/1") for visitor in (anna, ben)]
    assert [one.status for one in forms] == [200, 200]
    assert anna.submit("/replies/1", "/replies/1/reject").status == 303
    late = ben.post("/replies/1/edit", {"csrf": csrf_of(ben), "text": "Mine."})
    assert late.headers["location"] == "/replies/1?done=too_late"
    shown = text(ben, "/replies/1?done=too_late")
    assert "Somebody has decided before you" in shown
    assert "rejected by anna" in shown
    assert deliveries(world) == ["rejected by anna: You get <b>100</b> dollars."]


def csrf_of(visitor: Visitor) -> str:
    return fields_of(visitor.get("/"), "/logout")["csrf"]


def test_a_draft_that_newer_messages_overtook_is_shown_and_cannot_go_out(
    world: World, worker: HandDrivenWorker, anna: Visitor
) -> None:
    worker.accept_only(world.envelope("Never mind, it has come."))
    shown = text(anna, "/replies/1")
    assert "1 newer message came: this cannot go out any more" in shown
    assert "What goes out" not in shown
    refused = anna.post("/replies/1/approve", {"csrf": csrf_of(anna)})
    assert refused.status == 422
    assert "ewer messages have come" in refused.body.decode()
    assert deliveries(world) == ["held by None: You get <b>100</b> dollars."]


def test_a_draft_that_is_none_is_not_found(worker: HandDrivenWorker, anna: Visitor) -> None:
    assert anna.get("/replies/7").status == 404
    assert anna.post("/replies/7/approve", {"csrf": csrf_of(anna)}).status == 404
    assert anna.post("/replies/7/edit", {"csrf": csrf_of(anna), "text": "x"}).status == 404
