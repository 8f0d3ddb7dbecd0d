"""One kind of input that strangers write by hand: texts on a telephone channel."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from random import Random

from tests.fuzz.answers import Judged
from tests.fuzz.harness import Kind
from tests.fuzz.mutate import damaged
from tests.support.world import World
from worker.domain.routing import ChannelPolicy, Screening
from worker.domain.screening.keywords import STOP
from worker.domain.screening.rules import RULES, screen
from worker.domain.text.folding import MAX_FOLDED

FIXTURES = Path(__file__).parents[1] / "fixtures" / "screening"
TEXTS = [
    line.rpartition("\t")[2]
    for path in sorted(FIXTURES.glob("*.tsv"))
    for line in path.read_text().splitlines()
]
PIECES = (
    *(
        "STOP",
        "s t o p ",
        "please ",
        "stop texting me",
        "?",
        ", ",
        "\n",
        "\u200b",
        "\u0301",
        "🛑",
        "\0",
    ),
    *(
        "Loved “",
        "”",
        '"',
        "your code is ",
        "123456",
        "reply stop",
        " to ",
        "a.b:",
        "((",
        "#",
        "1 ",
    ),
    *("https://", "\u3164", "\ud800", "가", "ﷺ", "\U0001f170", "İ", " - ", "my", "\u202e"),
)
TIMES = (1, 1, 1, 2, 40, 1000)
POLICY = ChannelPolicy(
    name="sms", kind="telephone", screening=Screening(languages=tuple(STOP), help_text="Call us.")
)
OUTCOMES = {rule.outcome for rule in RULES}


def _make(random: Random) -> bytes:
    pieces = (
        random.choice(TEXTS)
        if random.random() < 0.3
        else random.choice(PIECES) * random.choice(TIMES)
        for _ in range(random.randrange(1, 10))
    )
    raw = "".join(pieces).encode("utf-8", "surrogatepass")
    return damaged(raw, random, [raw]) if random.random() < 0.3 else raw


def _judge(raw: bytes) -> str:
    text = raw.decode("utf-8", "replace")
    verdict = screen(text, policy=POLICY, user="+13125550001")
    if verdict is None:
        return "answered"
    assert verdict.outcome in OUTCOMES
    assert verdict.consent is None or len(text) <= MAX_FOLDED, "only a whole text is an opt-out"
    return verdict.outcome


@contextmanager
def _opened(_: World) -> Iterator[Kind]:
    yield Judged(0.05, _make, _judge)


def screened_texts(world: World) -> AbstractContextManager[Kind]:
    """Open the kind; it needs nothing of the world."""
    return _opened(world)
