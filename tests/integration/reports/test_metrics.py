"""What a real worker and `worker metrics` show, and what they never show."""

from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.watched import CANARY, Watched, scraped, watched
from worker.bootstrap.reports import open_database
from worker.cli.inspect.metrics import parts_of
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.redis import EmbeddedRedis
from worker.store.reports.gauges import GaugeStore


@pytest.fixture(scope="module")
def seen(shared_postgres: EmbeddedPostgres, shared_redis: EmbeddedRedis) -> Iterator[Watched]:
    with watched(shared_postgres, shared_redis) as running:
        yield running


def values(text: str) -> dict[str, float]:
    """Each series with its value: `name{label="value"}`."""
    return {
        sample.name + "".join(f" {name}={value}" for name, value in sample.labels.items()): (
            sample.value
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_worker_counts_what_it_did(seen: Watched) -> None:
    shown = values(scraped(seen.target))
    assert shown["worker_messages_accepted_total result=fresh"] == 6
    assert shown["worker_envelopes_refused_total reason=envelope_invalid"] == 1
    posts = "worker_telnyx_posts_total agent=default"
    assert shown[f"{posts} outcome=Done status=200"] == 4, "one more for the tool's output"
    assert shown[f"{posts} outcome=Refused status=429"] == 1
    assert shown["worker_telnyx_repeats_total agent=default"] == 1
    settled = "worker_turns_settled_total agent=default"
    assert shown[f"{settled} outcome=Done plan=Reply"] == 3
    assert shown[f"{settled} outcome=Refused plan=Later"] == 1
    assert shown["worker_tool_runs_total state=done tool=refund"] == 1
    assert shown["worker_delivery_attempts_total channel=web state=sent"] == 3
    assert shown["worker_tokens_total agent=default direction=input"] > 0
    assert shown["worker_stale_leases_total work=turn"] == 0
    assert shown["worker_hand_overs_total agent=default reason=person"] == 1
    assert shown["worker_queue_seconds_count"] == 5, "of turns, and each once"
    assert shown["worker_telnyx_seconds_count agent=default"] == 5
    assert shown["worker_own_seconds_count"] >= 4
    assert shown["worker_turn_slots state=free"] == 4


def test_the_whole_is_read_from_postgres_and_redis(seen: Watched) -> None:
    shown = values(scraped(seen.overall))
    assert shown["worker_processes_alive"] == 1
    assert shown["worker_oldest_unanswered_seconds"] == 0
    assert shown["worker_messages_last_hour outcome=answered state=answered"] == 4
    assert shown["worker_messages_last_hour outcome=human state=human"] == 1
    assert shown["worker_drafts_waiting agent=careful"] == 1
    assert shown["worker_messages_last_hour outcome=opt_out state=skipped"] == 1
    assert shown["worker_deliveries_last_hour state=sent"] == 4
    assert shown["worker_dead_letters reason=envelope_invalid"] == 1
    assert shown["worker_gates_closed"] == 1
    assert 3500 < shown["worker_gate_closed_seconds gate=agent:gone"] <= 3600
    assert shown["worker_queue_entries queue=inbound"] == 0
    own = values(scraped(seen.target))
    for direction in ("input", "output"):
        labels = f"agent=default direction={direction}"
        assert shown[f"worker_tokens_today {labels}"] == own[f"worker_tokens_total {labels}"]
    errors = {name: value for name, value in shown.items() if "scrape_error" in name}
    assert len(errors) == 14
    assert set(errors.values()) == {0}


def test_nothing_that_people_wrote_or_are_is_shown(seen: Watched) -> None:
    for target in (seen.target, seen.overall):
        assert CANARY not in scraped(target)


def test_what_waits_has_an_age_and_diverged_users_a_number_of_their_own(seen: Watched) -> None:
    ground = seen.ground
    ground.database.run(
        "WITH u AS (INSERT INTO channel_users (channel, address) VALUES ('web', 'd'), ('web', 'w'),"
        " ('web', 'e'), ('web', 'idle')"
        " RETURNING id, address), m AS (INSERT INTO messages"
        " (channel_user_id, message_id, seq, order_at, agent, envelope, accepted_at)"
        " SELECT id, 'm', 1, now(), 'default', '{}', now() - CASE address"
        " WHEN 'w' THEN interval '10 minutes' ELSE interval '3 hours' END FROM u)"
        " SELECT FROM u"
    )
    ground.database.run(
        "WITH t AS (INSERT INTO turns (channel_user_id, agent, agent_version, input_text)"
        " SELECT id, 'default', 'v', '' FROM channel_users WHERE address IN ('d', 'e') RETURNING *)"
        " UPDATE channel_users SET diverged_at = now(), due_at = now(), open_turn_id = t.id"
        " FROM t"
        " WHERE channel_users.id = t.channel_user_id"
    )

    ground.database.run(
        "INSERT INTO erasures (channel_user_id)"
        " SELECT id FROM channel_users WHERE address IN ('e', 'idle')"
    )
    with open_database(ground.database.url) as database:
        gauges = GaugeStore(database)
        samples = list(parts_of(gauges, ground.fleet.broker_url)["unanswered"]())
    shown = {(name, *labels): value for name, labels, value in samples}
    assert shown["worker_diverged_users",] == 1
    assert shown["worker_erasures_unfinished",] == 2
    assert shown["worker_messages_unanswered", "pending"] == 4
    assert 600 <= shown["worker_oldest_unanswered_seconds",] < 700


def test_a_worker_that_ends_takes_its_file_with_it_and_no_other(seen: Watched) -> None:
    assert {file.name for file in seen.files.iterdir()} > {"note.txt"}
    seen.worker.terminate()
    seen.worker.wait()
    assert [file.name for file in seen.files.iterdir()] == ["note.txt"]
