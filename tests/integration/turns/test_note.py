"""What the model is told before the messages of a turn: once, and whatever way the turn opens."""

from tests.support.world import World

NOTE = "[Your previous reply was not sent.]"


def test_a_note_goes_before_the_next_message_and_only_there(world: World) -> None:
    worker = world.worker()
    worker.receive(world.envelope("hello"))
    world.database.run("UPDATE channel_users SET note = %s", NOTE)
    worker.receive(world.envelope("are you there?"))
    worker.answer()
    worker.receive(world.envelope("good"))
    worker.answer()
    sent = world.database.rows("SELECT input_text FROM turns ORDER BY id")
    assert [one["input_text"] for one in sent] == ["hello", f"{NOTE}\nare you there?", "good"]
    assert world.database.value("SELECT note FROM channel_users") is None


def test_a_note_waits_while_a_person_has_taken_over(world: World) -> None:
    worker = world.worker()
    worker.receive(world.envelope("hello"))
    user = world.database.value("SELECT id FROM channel_users")
    world.database.run("UPDATE channel_users SET note = %s", NOTE)
    worker.operator.set_paused(user, paused=True)
    worker.receive(world.envelope("for your staff"))
    worker.answer()
    assert world.database.value("SELECT note FROM channel_users") == NOTE
    worker.operator.set_paused(user, paused=False)
    worker.receive(world.envelope("for the model"))
    worker.answer()
    sent = world.database.rows("SELECT input_text FROM turns ORDER BY id")
    assert [one["input_text"] for one in sent[1:]] == ["for your staff", f"{NOTE}\nfor the model"]


def test_a_draft_is_superseded_once_its_person_has_written_again(world: World) -> None:
    worker = world.worker()
    worker.receive(world.envelope("hello"))
    world.database.run("UPDATE deliveries SET state = 'held', finished_at = NULL")
    world.database.run("UPDATE channel_users SET note = %s", NOTE)
    worker.receive(world.envelope("are you there?"))
    worker.answer()
    states = world.database.rows("SELECT state FROM deliveries ORDER BY id")
    assert states[0]["state"] == "superseded"
    assert len(states) == 2
