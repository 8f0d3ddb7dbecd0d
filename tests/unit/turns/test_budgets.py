"""What is left of a budget, and what an agents file may say of one."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from worker.config.agents_file import load_agents
from worker.domain.errors import SettingsError
from worker.domain.ids import ChannelUserId, MessageRowId
from worker.domain.messages import ChannelAddress, PendingMessage
from worker.domain.routing import Budget
from worker.domain.turns.budgets import Used, capacity, within
from worker.domain.turns.next_step import Release, Send
from worker.domain.turns.records import Lease, Snapshot

USED = Used(user_messages=5, user_tokens=500, messages=50, tokens=5000, told=False)
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("budget", "left"),
    [
        (Budget(messages_per_user=8), 3),
        (Budget(messages_per_user=5), 0),
        (Budget(messages_per_user=4), 0),
        (Budget(messages_per_user=500), 20),
        (Budget(tokens_per_user=501), 20),
        (Budget(tokens_per_user=500), 0),
        (Budget(messages=52), 2),
        (Budget(messages=50), 0),
        (Budget(tokens=5001), 20),
        (Budget(tokens=5000), 0),
        (Budget(messages_per_user=9, messages=52), 2),
        (Budget(messages_per_user=9, tokens=5000), 0),
    ],
)
def test_the_tightest_budget_says_how_many_messages_are_left(budget: Budget, left: int) -> None:
    assert capacity(budget, USED) == left


def snapshot_with(waiting: int) -> tuple[Snapshot, Send]:
    pending = tuple(
        PendingMessage(id=MessageRowId(number), agent="a", text="x") for number in range(waiting)
    )
    snapshot = Snapshot(
        lease=Lease(user_id=ChannelUserId(1), token=1),
        who=ChannelAddress(channel="web", recipient="", address="a", thread=""),
        now=NOW,
        turn=None,
        pending=pending,
        conversation=None,
        gates={},
    )
    return snapshot, Send(agent="a", batch=pending[1:20], expired=(pending[0].id,))


def test_a_turn_takes_what_is_left_and_what_is_beyond_ends_when_nothing_is() -> None:
    snapshot, step = snapshot_with(10)

    taken = within(snapshot, step, 4)
    assert isinstance(taken, Send)
    assert [one.id for one in taken.batch] == [1, 2, 3, 4]
    assert taken.expired == (0,)
    ended = within(snapshot, step, 0)
    assert ended == Release(due_at=None, expired=(0,), over_budget=tuple(range(1, 10)))


def test_whoever_has_more_waiting_than_a_turn_takes_is_looked_at_again_at_once() -> None:
    snapshot, step = snapshot_with(21)

    ended = within(snapshot, step, 0)
    assert isinstance(ended, Release)
    assert ended.due_at == NOW


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ("[agents.a.budget]\nmessages = 0", "agents.a.budget.messages: Input should be greater"),
        ("[agents.a.budget]\ntokens = 'x'", "agents.a.budget.tokens: Input should be a valid int"),
        ("[agents.a.budget]\ntokens_per_day = 3", "agents.a.budget.tokens_per_day: no such key"),
        (
            "[agents.a.budget]\ntext = 'no'",
            "agents.a.budget: give one of mess",
        ),
        ("[agents.a.budget]\ntokens = 1\ntext = ''", "agents.a.budget.text: String should have"),
        ("[limits]\ncalls_per_second = 0", "limits.calls_per_second: Input should be greater"),
        ("[limits]\ncalls_per_second = inf", "limits.calls_per_second: Input should be a finite"),
        ("[limits]\ncalls = 3", "limits.calls: no such key"),
        ('tools = ["cancel"]', "agents.a.tools: there is no [tools.cancel]"),
    ],
)
def test_a_wrong_budget_or_limit_stops_the_start_and_is_named(
    written: str, complaint: str, tmp_path: Path
) -> None:
    file = tmp_path / "agents.toml"
    file.write_text(f"default_agent = 'a'\n[agents.a]\n{written}\n")
    with pytest.raises(SettingsError) as raised:
        load_agents(file)
    assert complaint in str(raised.value)


def test_budget_and_rate_are_read_and_change_no_agents_version(tmp_path: Path) -> None:
    plain, limited = tmp_path / "plain.toml", tmp_path / "limited.toml"
    plain.write_text("[agents.default]\n")
    limited.write_text(
        "[limits]\ncalls_per_second = 20\n[agents.default.budget]\ntokens_per_user = 9\n"
        "text = 'x'\n"
    )

    before, after = load_agents(plain)[0], load_agents(limited)[0]
    assert (before.calls_per_second, after.calls_per_second) == (None, 20)
    assert before.agent("default").budget is None
    assert after.agent("default").budget == Budget(tokens_per_user=9, text="x")
    assert after.agent("default").version == before.agent("default").version
