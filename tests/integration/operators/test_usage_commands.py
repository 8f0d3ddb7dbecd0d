"""What Telnyx counted, by person, by day and by model."""

import pytest

from tests.support.conversations import run, told
from tests.support.world import USER, World
from worker.sandbox.simulator.behaviour.model import tokens

pytestmark = pytest.mark.simulator(reasoning=False)


def counted(world: World, conversation: str) -> tuple[int, int]:
    """What the simulator counted for a thread: read and written tokens."""
    messages = world.simulator.messages(conversation)
    answers = [at for at, one in enumerate(messages) if one.role == "assistant"]
    read = sum(tokens(messages[:at]) for at in answers)
    return read, sum(len(messages[at].text or "") // 4 + 1 for at in answers)


def test_usage_is_what_telnyx_counted_by_whatever_is_asked_for(world: World) -> None:
    mike = world.worker()
    for channel, user in (("sms", USER), ("web", "anna"), ("sms", USER)):
        mike.receive(world.envelope("how are you today?", channel=channel, user=user))
    sms, web = (counted(world, one.id) for one in world.simulator.conversations())
    world.simulator.inject("dropped")
    mike.receive(world.envelope("lost", channel="web", user="anna"))

    shown = told(world, "usage", "--by", "channel")
    assert shown["groups"] == [
        {
            "channel": "sms",
            "turns": 2,
            "calls": 2,
            "uncounted_calls": 0,
            "input_tokens": sms[0],
            "output_tokens": sms[1],
        },
        {
            "channel": "web",
            "turns": 2,
            "calls": 2,
            "uncounted_calls": 1,
            "input_tokens": web[0],
            "output_tokens": web[1],
        },
    ]
    (model,) = told(world, "usage", "--by", "model")["groups"]
    assert model["model"] == "zai-org/GLM-5.3-Flash"
    assert model["input_tokens"] == sms[0] + web[0]
    other = '[agents.default]\nmodel = "another"\n'
    (unknown,) = told(world, "usage", "--by", "model", agents=other)["groups"]
    assert unknown["model"].startswith("unknown (default, version ")
    usual = told(world, "usage")["groups"]
    assert [(one["agent"], one["channel"]) for one in usual] == [
        ("default", "sms"),
        ("default", "web"),
    ]
    assert str(sms[0]) in run(world, "usage").stdout


def test_usage_shows_what_is_used_of_todays_budgets(world: World) -> None:
    agents = (
        "default_agent = 'one'\n[agents.one.budget]\nmessages = 5\ntokens = 900\n"
        "[agents.two.budget]\ntokens = 9\n[agents.three.budget]\nmessages_per_user = 1\n"
    )
    mike = world.worker(agents)
    mike.receive(world.envelope("hello"))
    used = sum(counted(world, world.simulator.conversations()[0].id))

    assert told(world, "usage", agents=agents)["budgets"] == [
        {"agent": "one", "of": "messages", "limit": 5, "used": 1},
        {"agent": "one", "of": "tokens", "limit": 900, "used": used},
        {"agent": "two", "of": "tokens", "limit": 9, "used": 0},
    ]
    said = run(world, "usage", agents=agents).stdout
    assert "agent one has used 1 of 5 messages today, UTC" in said


def test_usage_counts_the_days_that_are_given_both_included_in_utc(world: World) -> None:
    mike = world.worker()
    for day in ("2026-03-01T23:59:59Z", "2026-03-02T00:00:00Z", "2026-03-03T00:00:00Z"):
        mike.receive(world.envelope("hello"))
        world.database.run(
            "UPDATE calls SET intent_at = %s WHERE id = (SELECT max(id) FROM calls)", day
        )
    between = ("--by", "day", "--since", "2026-03-01", "--until", "2026-03-02")
    shown = told(world, "usage", *between)
    assert [(one["day"], one["calls"]) for one in shown["groups"]] == [
        ("2026-03-01", 1),
        ("2026-03-02", 1),
    ]
    assert told(world, "usage", "--until", "2026-03-31")["since"] == "2026-03-02"
    wrong = run(world, "usage", "--since", "2026-03-02", "--until", "2026-03-01")
    assert wrong.returncode == 2
    assert "no calls from" in run(world, "usage", "--until", "2020-01-01").stdout
