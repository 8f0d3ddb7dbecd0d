"""The words of a task's result, and which of them Flower shows in red."""

import pytest

from worker.domain.states import ended_as, has_failed


@pytest.mark.parametrize(
    ("state", "outcome", "words"),
    [
        ("answered", "answered", "answered"),
        ("answered", "fallback", "answered fallback"),
        ("skipped", "opt_out", "skipped opt_out"),
        ("dead", "no_answer", "dead no_answer"),
    ],
)
def test_an_end_is_told_once_if_state_and_outcome_agree(
    state: str, outcome: str, words: str
) -> None:
    assert ended_as(state, outcome) == words


@pytest.mark.parametrize(
    ("result", "failed"),
    [
        ("refused not_json", True),
        ("dead refused message=3 turn=2", True),
        ("answered turn=2, dead gave_up turn=3", True),
        ("sent delivery=1, failed delivery=2", True),
        ("answered message=3 turn=2", False),
        ("skipped dead_end message=3", False),
        ("None", False),
    ],
)
def test_only_a_dead_letter_makes_a_task_fail(result: str, failed: bool) -> None:
    assert has_failed(result) is failed
