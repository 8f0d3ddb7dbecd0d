"""What the console's pages show and do, on real Postgres and the simulator."""

import html

import pytest

from tests.support.asgi import Asgi
from tests.support.console import Visitor, fields_of
from tests.support.world import USER, HandDrivenWorker, World
from worker.sandbox.simulator import Script

MARKUP = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


@pytest.fixture
def worker(world: World) -> HandDrivenWorker:
    return world.worker()


def text(visitor: Visitor, path: str) -> str:
    answer = visitor.get(path)
    assert answer.status == 200, answer.body
    return html.unescape(answer.body.decode())


def test_a_thread_has_what_they_wrote_and_what_they_got(
    world: World, worker: HandDrivenWorker, anna: Visitor
) -> None:
    world.simulator.script(Script(text="close", reply="Open till six."))
    worker.receive(world.envelope("When do you close?"))
    worker.answer()
    shown = text(anna, "/people/1")
    assert USER in shown
    assert shown.index("When do you close?") < shown.index("Open till six.")
    assert "The agent default" in shown
    life = text(anna, "/messages/1")
    assert "turn 1 opened" in life
    assert "When do you close?" in life
    assert "Open till six." in life
    seen = world.database.rows("SELECT action, channel_user_id, subject_id FROM audits")
    assert [tuple(row.values()) for row in seen] == [
        ("login", None, None),
        ("person", 1, None),
        ("message", 1, 1),
    ]


def test_what_people_write_is_text_and_never_markup(
    world: World, worker: HandDrivenWorker, anna: Visitor
) -> None:
    world.simulator.script(Script(text="alert", reply=MARKUP))
    worker.receive(world.envelope(MARKUP, user=MARKUP[:60], recipient=MARKUP, thread=MARKUP))
    worker.answer()
    anna.submit("/people/1", "/people/1/say", text=MARKUP)
    for path in ("/", "/people", "/people/1", "/messages/1"):
        page = anna.get(path).body.decode()
        assert "<script" not in page
        assert "<img" not in page
        assert "onerror=alert(2)>" not in page
    assert html.escape(MARKUP, quote=False)[:25] in anna.get("/people/1").body.decode()


def test_staff_take_over_write_and_hand_back(
    world: World, worker: HandDrivenWorker, anna: Visitor
) -> None:
    worker.receive(world.envelope("I want a human"))
    worker.answer()
    assert anna.submit("/people/1", "/people/1/pause").status == 303
    assert "a person has taken over" in text(anna, "/")
    answer = anna.submit("/people/1", "/people/1/say", text="Anna here.\r\nHow can I help?")
    assert answer.headers["location"] == "/people/1?done=said#write"
    worker.answer()
    assert world.replies()[-1]["text"] == "Anna here.\nHow can I help?"
    assert "Our staff" in text(anna, "/people/1")
    worker.receive(world.envelope("Thanks"))
    worker.answer()
    assert world.messages()[-1]["outcome"] == "human"
    anna.submit("/people/1", "/people/1/resume")
    assert "Nothing. The model answers everybody." in text(anna, "/")
    actions = world.database.rows("SELECT action FROM audits WHERE starts_with(action, 'person.')")
    assert [row["action"] for row in actions] == ["person.pause", "person.say", "person.resume"]


def test_who_asked_for_a_person_waits_until_somebody_hands_back(
    world: World, anna: Visitor
) -> None:
    config = '[agents.default.hand_over]\nnotify = "desk"\n[routes.desk.delivery]\n'
    worker = world.worker(config + 'task = "desk.told"\nqueue = "desk"\n')
    worker.receive(world.envelope("HUMAN"))
    worker.answer()
    shown = text(anna, "/")
    assert "Handed over to you (1)" in shown
    assert "they asked for a person" in shown
    assert "they asked for a person" in text(anna, "/people/1")
    anna.submit("/people/1", "/people/1/resume")
    assert world.database.value("SELECT ended_at FROM hand_overs") is not None
    assert "Nothing. The model answers everybody." in text(anna, "/")


def test_a_form_that_is_sent_twice_is_said_once(
    world: World, worker: HandDrivenWorker, anna: Visitor
) -> None:
    worker.receive(world.envelope("hello"))
    worker.answer()
    fields = fields_of(anna.get("/people/1"), "/people/1/say") | {"text": "Hi, Anna here."}
    assert [anna.post("/people/1/say", fields).status for _ in range(2)] == [303, 303]
    worker.answer()
    assert [one["text"] for one in world.replies()].count("Hi, Anna here.") == 1


def test_a_text_that_could_not_be_said_is_shown_again(
    world: World, worker: HandDrivenWorker, anna: Visitor
) -> None:
    worker.accept_only(world.envelope("hello"))
    anna.submit("/people/1", "/people/1/opt-out")
    answer = anna.post(
        "/people/1/say",
        {**_csrf(anna), "key": "7c1e1e9a-52f4-4a63-9f0e-0d7f6a1b2c3d", "text": "A long answer."},
    )
    assert answer.status == 422
    assert "opted out" in answer.body.decode()
    assert "A long answer." in answer.body.decode()


def _csrf(visitor: Visitor) -> dict[str, str]:
    return fields_of(visitor.get("/"), "/logout")


def test_consent_is_shown_and_changed(
    world: World, worker: HandDrivenWorker, anna: Visitor
) -> None:
    worker.receive(world.envelope("hello"))
    assert "never opted out" in text(anna, "/people/1")
    anna.submit("/people/1", "/people/1/opt-out")
    assert "nobody can write to them" in text(anna, "/people/1")
    worker.receive(world.envelope("still there?"))
    assert world.messages()[-1]["outcome"] == "opted_out"
    anna.submit("/people/1", "/people/1/opt-in")
    assert "nobody can write to them" not in text(anna, "/people/1")


def test_people_are_found_by_number_and_by_address_which_stays_out_of_links(
    world: World, worker: HandDrivenWorker, anna: Visitor
) -> None:
    worker.receive(world.envelope("hello"))
    worker.receive(world.envelope("hello", user="ada"))
    worker.receive(world.envelope("hello", user="ada", thread="2"))
    shown = text(anna, "/people")
    assert USER in shown
    assert "ada" in shown
    for asked in ("1", USER, f"sms:{USER}", f" {USER} "):
        found = anna.submit("/people", "/people", find=asked)
        assert found.headers.get("location") == "/people/1", asked
    several = anna.submit("/people", "/people", find="web:ada").body.decode()
    assert "/people/2" in several
    assert "/people/3" in several
    for nobody in ("99", "nobody", "sms:x", "9" * 30, ":", "\0", "web:\0"):
        assert "Nobody." in anna.submit("/people", "/people", find=nobody).body.decode()


def test_dead_letters_are_shown_replayed_and_dismissed(
    world: World, worker: HandDrivenWorker, anna: Visitor
) -> None:
    worker.receive(world.envelope("hello", agent="nobody"))
    worker.receive(world.envelope(MARKUP, agent="nobody", user="ada"))
    assert "unknown agent" in text(anna, "/")
    assert "hello" in text(anna, "/dead-letters/1")
    assert "<script" not in anna.get("/dead-letters/2").body.decode()
    refused = anna.submit("/dead-letters/1", "/dead-letters/1/replay")
    assert refused.status == 422
    done = anna.submit("/dead-letters/1", "/dead-letters/1/replay", agent="default")
    assert done.headers["location"] == "/dead-letters?done=replayed"
    assert world.messages()[0]["text"] == "hello"
    anna.submit("/dead-letters/2", "/dead-letters/2/dismiss")
    assert "None." in text(anna, "/dead-letters?done=dismissed")
    gone = anna.post("/dead-letters/2/dismiss", _csrf(anna))
    assert gone.status == 422


def test_two_of_our_staff_at_once(
    world: World, app: Asgi, worker: HandDrivenWorker, anna: Visitor
) -> None:
    worker.receive(world.envelope("hello", agent="nobody"))
    ben = Visitor(app=app)
    ben.log_in("ben")
    answers = [one.submit("/dead-letters/1", "/dead-letters/1/dismiss") for one in (anna,)] + [
        ben.post("/dead-letters/1/dismiss", _csrf(ben))
    ]
    assert [one.status for one in answers] == [303, 422]
    assert "omebody has just dealt with" in answers[1].body.decode()
    who = world.database.rows("SELECT who FROM audits WHERE action = 'dead_letter.dismiss'")
    assert [row["who"] for row in who] == ["anna", "ben"]


def test_what_is_not_there_is_said_and_changes_nothing(anna: Visitor) -> None:
    for path in ("/people/7", "/messages/7", "/dead-letters/7", f"/people/{10**30}"):
        assert anna.get(path).status == 404, path
    fields = _csrf(anna)
    for path in ("/people/7/pause", "/people/7/opt-out", "/dead-letters/7/replay"):
        assert anna.post(path, fields).status == 404, path
    assert anna.post("/people/7/say", fields | {"text": "x" * 300_000}).status == 413
    assert anna.post("/people/7/say", fields | {"text": "\0"}).status == 404


def test_a_long_thread_is_read_page_by_page(
    world: World, worker: HandDrivenWorker, anna: Visitor
) -> None:
    worker.receive(world.envelope("hello"))
    world.database.run(
        "INSERT INTO messages (channel_user_id, message_id, seq, order_at, agent, envelope, state,"
        " outcome, accepted_at, finished_at) SELECT 1, 'old-' || n, 1000 + n, t.at, 'default',"
        " jsonb_build_object('text', 'text-' || n || '-end'), 'skipped', 'overflow', t.at, t.at"
        " FROM generate_series(1, 100) AS n,"
        " LATERAL (SELECT service_now() + n * interval '1 second' AS at) AS t"
    )
    found: list[str] = []
    path, pages = "/people/1", 0
    while path:
        page = text(anna, path)
        found += [f"text-{n}-end" for n in range(1, 101) if f"text-{n}-end" in page]
        pages += 1
        older = page.partition("?before=")[2].partition('"')[0] if ">Older<" in page else ""
        path = f"/people/1?before={older}" if older else ""
    assert pages == 3
    assert sorted(found) == sorted(f"text-{n}-end" for n in range(1, 101))
