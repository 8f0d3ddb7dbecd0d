"""Order of acceptance has one meaning: the order in which messages got the lock of their user."""

from concurrent.futures import ThreadPoolExecutor

import psycopg

from tests.support.world import USER, World

MESSAGES = 600
THREADS = 12


def test_messages_without_a_time_of_their_own_sort_as_they_were_accepted(world: World) -> None:
    mike = world.worker("[agents.default]\nmax_turns = 300\n")
    mike.accept_only(world.envelope("first"))
    envelopes = [world.envelope(f"number {number}") for number in range(MESSAGES)]
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(mike.accept_only, envelopes))
    rows = world.database.rows("SELECT seq FROM messages ORDER BY order_at, seq")
    assert [row["seq"] for row in rows] == list(range(1, MESSAGES + 2))


def test_who_came_first_and_was_locked_out_sorts_by_the_lock(world: World) -> None:
    """The statement of the first is there before that of the second, and has to wait."""
    mike = world.worker()
    mike.accept_only(world.envelope("first"))
    with psycopg.connect(world.database.url) as other:
        other.execute("SELECT FROM channel_users WHERE address = %s FOR UPDATE", (USER,))
        with ThreadPoolExecutor(1) as pool:
            waits = pool.submit(mike.accept_only, world.envelope("third"))
            blocked = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            while not world.database.rows(blocked):
                pass
            other.execute(
                "INSERT INTO messages (channel_user_id, message_id, seq, order_at, agent, envelope,"
                " accepted_at, state) SELECT id, 'second', next_seq, service_clock(),"
                ' agent, \'{"text": "second"}\','
                " service_now(), 'pending' FROM channel_users"
            )
            other.execute("UPDATE channel_users SET next_seq = next_seq + 1")
            other.commit()
            waits.result()
    rows = world.database.rows("SELECT envelope->>'text' AS t FROM messages ORDER BY order_at, seq")
    assert [row["t"] for row in rows] == ["first", "second", "third"]
