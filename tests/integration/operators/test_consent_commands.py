"""`worker consent`: who has opted out, as operators see and change it."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Said, invoke_in
from tests.support.world import USER, World

ALIVE_S = 16
OURS = "+13125550100"
OTHER, THIRD = "+13125550002", "+13125550003"
AGENTS = '[channels.sms]\n[channels.whatsapp]\nkind = "telephone"\n'


def run(world: World, *arguments: str | Path) -> Said:
    return command(world, "consent", *arguments)


def command(world: World, *arguments: str | Path) -> Said:
    return invoke_in(world, *arguments, agents=AGENTS)


def told(world: World, *arguments: str | Path, code: int = 0) -> Any:  # noqa: ANN401 # JSON
    said = run(world, *arguments, "--json")
    assert said.returncode == code, said.stderr
    return json.loads(said.stdout)


def ledger(world: World) -> list[tuple[str | None, bool, str]]:
    rows = world.database.rows("SELECT address, stopped, source FROM consents ORDER BY id")
    return [(row["address"], row["stopped"], row["source"]) for row in rows]


def csv_file(world: World, *lines: str) -> Path:
    path = world.folder / "opt-outs.csv"
    path.write_text("\n".join(lines), encoding="utf-8-sig")
    return path


def test_an_operator_stops_and_starts_somebody(world: World) -> None:
    mike = world.worker(AGENTS)
    mike.receive(world.envelope("hello"))
    assert told(world, "stop", f"sms:{USER}") == {"stopped": True, "was_stopped": False}
    assert told(world, "stop", "1") == {"stopped": True, "was_stopped": True}
    mike.receive(world.envelope("are you there?", channel="whatsapp"))
    assert world.messages()[-1]["outcome"] == "opted_out"
    assert told(world, "start", f"whatsapp:{USER}") == {"stopped": False, "was_stopped": True}
    mike.receive(world.envelope("and now?"))
    mike.answer()
    assert world.messages()[-1]["outcome"] == "answered"
    events = world.database.rows("SELECT event FROM attempt_log WHERE channel_user_id = 1")
    assert [row["event"] for row in events] == ["consent.stopped", "consent.started"]

    shown = told(world, "show", f"sms:{USER}")
    assert [(row["stopped"], row["source"]) for row in shown] == [
        (True, "operator"), (False, "operator"),
    ]  # fmt: skip
    assert told(world, "list") == []
    assert len(told(world, "list", "--all", "--scope", "telephone")) == 1


def test_an_operator_cannot_start_whom_telnyx_blocks(world: World) -> None:
    told(world, "import", csv_file(world, "address,source", f"{USER},telnyx_keyword"))
    said = run(world, "start", f"sms:{USER}")
    assert said.returncode == 1
    assert "START" in said.stderr
    assert told(world, "list", "--addresses")[0]["address"] == USER
    assert USER not in run(world, "list").stdout


@pytest.mark.parametrize(
    ("who", "code", "words"),
    [
        ("sms:13125550001", 1, "E.164"),
        ("email:nobody", 1, "one @"),
        ("nobody", 2, "CHANNEL:ADDRESS"),
        ("99", 1, "no such channel user"),
    ],
)
def test_who_is_named_wrongly_is_not_stopped(world: World, who: str, code: int, words: str) -> None:
    said = run(world, "stop", who)
    assert (said.returncode, words in said.stderr) == (code, True), said.stderr
    assert ledger(world) == []


def test_a_wrong_line_is_named_and_stops_nothing_else(world: World) -> None:
    path = csv_file(
        world,
        "address,scope,state,source,since",
        f"{USER},,,,",
        "312-555-0002,,,,",
        f"{OTHER},telephone,gone,,",
        f"{OTHER},telephone,stopped,rumour,",
        f"{OTHER},telephone,stopped,natural,yesterday",
        ",,,,",
        "",
        "Ann@Shop.Example,email,stopped,,2026-01-01",
    )
    said = run(world, "import", path)
    assert said.returncode == 1
    for line in (
        "line 3: address: on a telephone channel give E.164",
        "line 4: state: stopped or started",
        "line 5: source: one of telnyx_keyword",
        "line 6: since: a time such as",
        "line 7: address: it is empty",
    ):
        assert line in said.stderr
    assert "0002" not in said.stderr, "values are never quoted"
    assert said.stdout == "stopped 2\n"
    assert ledger(world) == [(USER, True, "import"), ("Ann@shop.example", True, "import")]


@pytest.mark.parametrize(
    ("content", "words"), [("number\n+13125550001", "name the columns"), ("", "name the columns")]
)
def test_a_file_without_the_column_is_refused(world: World, content: str, words: str) -> None:
    said = run(world, "import", csv_file(world, content))
    assert (said.returncode, words in said.stderr) == (1, True)


def test_what_is_exported_can_be_imported_anywhere_and_twice(world: World) -> None:
    for who in (USER, OTHER, THIRD):
        told(world, "stop", f"sms:{who}")
    told(world, "start", f"sms:{OTHER}")
    out = world.folder / "all.csv"
    assert run(world, "export", "--out", out).returncode == 0
    assert run(world, "export", "--out", out).returncode == 2, "it is there already"
    header, *lines = out.read_text().splitlines()
    assert header == "address,scope,state,source,since"
    assert [line.split(",")[:4] for line in lines] == [
        [USER, "telephone", "stopped", "operator"],
        [THIRD, "telephone", "stopped", "operator"],
        [OTHER, "telephone", "started", "operator"],
    ]
    before = ledger(world)
    assert told(world, "import", out) == {"known": 3, "bad": []}
    assert ledger(world) == before

    world.database.run("DELETE FROM consents")
    assert told(world, "import", out) == {"stopped": 2, "known": 1, "bad": []}
    assert told(world, "import", out) == {"known": 3, "bad": []}
    assert ledger(world) == [(USER, True, "operator"), (THIRD, True, "operator")]
    since = world.database.value("SELECT min(created_at) FROM consents")
    assert since.isoformat() in lines[0]


def test_an_old_opt_out_does_not_stop_who_has_opted_in_since(world: World) -> None:
    told(world, "stop", f"sms:{USER}")
    told(world, "start", f"sms:{USER}")
    path = csv_file(world, "address,since", f"{USER},2020-01-01T00:00:00Z")
    assert told(world, "import", path) == {"known": 1, "bad": []}
    assert told(world, "list") == []
    assert told(world, "import", csv_file(world, "address", USER)) == {"stopped": 1, "bad": []}


def test_a_file_ends_no_opt_out_of_the_persons_own(world: World) -> None:
    told(world, "stop", f"sms:{USER}")
    path = csv_file(world, "address,state,source", f"{USER},started,telnyx_keyword")
    assert told(world, "import", path) == {"kept": 1, "bad": []}
    assert len(told(world, "list")) == 1


def test_lost_opt_outs_are_read_back_from_telnyx(world: World) -> None:
    numbers = [f"+1312555{number:04}" for number in range(130)]
    for number in numbers:
        world.simulator.block(number)
    told(world, "import", csv_file(world, "address", numbers[0]))
    assert told(world, "reconcile") == {"stopped": 129, "known": 1, "bad": []}
    assert told(world, "reconcile") == {"known": 130, "bad": []}
    rows = ledger(world)
    assert len(rows) == 131, "to the imported one Telnyx's block is added"
    assert {source for _, _, source in rows[1:]} == {"telnyx_keyword"}
    assert run(world, "start", f"sms:{numbers[0]}").returncode == 1

    world.simulator.block(numbers[5], opted_out=False)
    told(world, "reconcile")
    assert len(told(world, "list", "--limit", "500")) == 130, "a list opts nobody in"


def test_who_is_erased_stays_opted_out_and_nothing_else_is_left(
    world: World, broker_url: str
) -> None:
    world.broker_url = broker_url
    mike = world.worker(AGENTS)
    mike.receive(world.envelope("hello", recipient=OURS))
    mike.receive(world.envelope("STOP", signals=["opt_out"], recipient=OURS))
    other = told(world, "stop", f"sms:{OTHER}")
    assert other["stopped"]
    said = command(world, "export", "1")
    (entry,) = json.loads(said.stdout)["consents"]
    assert (entry["stopped"], entry["source"], entry["recipient"]) == (True, "signal", OURS)

    world.clock.advance(ALIVE_S)
    dry = json.loads(command(world, "erase", "1", "--dry-run", "--json").stdout)
    assert dry["would_be_removed"]["consent_addresses"] == 1
    said = command(world, "erase", "1", "--yes", "--json")
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout)["removed"]["consent_addresses"] == 1
    assert ledger(world) == [(None, True, "signal"), (OTHER, True, "operator")]

    mike.service.background.workers.beat()
    mike.receive(world.envelope("hello again", recipient=OURS))
    assert [row["outcome"] for row in world.messages()] == ["opted_out"]
    assert len(told(world, "show", f"sms:{USER}")) == 1
    exported = run(world, "export").stdout.splitlines()
    assert [line.split(",")[0] for line in exported[1:]] == [OTHER]
