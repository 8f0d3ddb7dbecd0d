"""Parts of text messages, compared with two programs of others: `smsutil`, and the calculator of a
provider on Node.js, which also finds grapheme clusters.
"""

import json
import random
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import pytest
import smsutil

from tests.support.programs import are_installed
from worker.domain.sms.segments import GSM_BASIC, GSM_EXTENSION, UNCERTAIN, segments
from worker.domain.text.graphemes import cluster_ends

FOLDER = Path(__file__).parents[2] / "fixtures" / "sms_counter"
NUMBER = 10_000
Counted: TypeAlias = tuple[str, int, list[int]]

BASIC = sorted(GSM_BASIC - UNCERTAIN)
EXTENSION = sorted(GSM_EXTENSION - UNCERTAIN)
EMOJI = [chr(point) for point in range(0x1F600, 0x1F640)]
WIDE = [*"áíóúçãőžĐğ\u2019\u201d\u2014…日本語한국어Приветשלוםسلام", *EMOJI]
"""Each is a grapheme cluster alone: the calculator keeps clusters in one part."""
JOINED = ["\u0301", "\u200d", "\ufe0f", "\u20e3", "\U0001f3fd", "\U0001f1e9", "\U000e0067"]
JOINED += ["क", "्", "ष", "ि", "\u1100", "\u1161", "\u11a8", "각", "ำ", "\r\n", "\u200c", "🏴", "👩"]
LENGTHS = [*range(1, 30), *range(60, 80), *range(125, 165), *range(195, 205), *range(290, 330)]


def random_text(draw: random.Random) -> str:
    """Many lengths are near the end of a part."""
    length = draw.choice(LENGTHS)
    escapes, wide = draw.choice([(0, 0), (0.02, 0), (0.3, 0), (0, 0.03), (0.1, 0.1), (0, 0.9)])
    return "".join(
        draw.choice(EXTENSION if chance < escapes else WIDE if chance < escapes + wide else BASIC)
        for chance in (draw.random() for _ in range(length))
    )


@pytest.fixture(scope="module")
def calculator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sms_counter")
    for file in FOLDER.iterdir():
        shutil.copy(file, folder)
    options = ["--no-audit", "--no-fund", "--prefer-offline", "--ignore-scripts"]
    subprocess.run(["npm", "ci", *options], cwd=folder, check=True, timeout=100)
    return folder


def by_calculator(folder: Path, texts: Sequence[str]) -> list[Counted]:
    command = ["node", str(folder / "count.js")]
    answer = subprocess.run(
        command, input=json.dumps(texts), capture_output=True, text=True, check=True, timeout=60
    )
    return [(encoding, parts, ends) for encoding, parts, ends in json.loads(answer.stdout)]


def by_smsutil(text: str) -> tuple[str, int]:
    result = smsutil.split(text)
    return "GSM-7" if result.encoding == "gsm0338" else "UCS-2", len(result.parts)


def by_us(text: str) -> tuple[str, int]:
    counted = segments(text)
    return counted.encoding, counted.parts


# Without these programs the tests are not collected; in CI their absence is an error.
if are_installed("node", "npm"):

    @pytest.mark.slow
    def test_random_texts_have_the_parts_that_others_count(calculator: Path) -> None:
        draw = random.Random(18)  # noqa: S311
        texts = [random_text(draw) for _ in range(NUMBER)]
        ours = [by_us(text) for text in texts]
        assert {parts for _, parts in ours} >= {1, 2, 3, 4, 5}
        assert ours == [by_smsutil(text) for text in texts]
        assert ours == [counted[:2] for counted in by_calculator(calculator, texts)]

    KNOWN = {
        "the part ends before an escape": "a" * 152 + "€" + "a" * 152,
        "the part ends before a surrogate pair": "a" * 66 + "💩" + "a" * 66,
        "extensions in UCS-2": "\u2019" + "[]{}~^\\|€" * 7 + "a" * 6,
        "CRLF": "\r\n" * 80 + "a",
        "decomposed": "cafe\u0301" * 15,
        "flags": "🇩🇪" * 17,
    }

    @pytest.mark.parametrize("text", KNOWN.values(), ids=KNOWN)
    def test_the_hard_cases_are_counted_as_others_do(calculator: Path, text: str) -> None:
        assert by_us(text) == by_smsutil(text)
        assert by_us(text) == by_calculator(calculator, [text])[0][:2]

    def test_where_we_differ_on_purpose(calculator: Path) -> None:
        """Telnyx lists fewer letters, a short code has ASCII alone, and a carrier cuts at units."""
        for letter in UNCERTAIN:
            assert by_us(letter) == ("UCS-2", 1)
            assert by_smsutil(letter) == ("GSM-7", 1)
        assert {count[0] for count in by_calculator(calculator, sorted(UNCERTAIN))} == {"GSM-7"}
        assert segments("é", short_code=True).encoding == "UCS-2"
        flag = "a" * 65 + "🇩🇪" + "a" * 65
        assert by_us(flag) == by_smsutil(flag) == ("UCS-2", 2)
        assert by_calculator(calculator, [flag])[0][:2] == ("UCS-2", 3)

    def test_no_end_of_ours_is_inside_a_cluster_of_others(calculator: Path) -> None:
        draw = random.Random(29)  # noqa: S311
        letters = [*JOINED * 3, *EMOJI[:5], *"ab \n日é"]
        texts = ["".join(draw.choices(letters, k=12)) for _ in range(3000)]
        theirs = [ends for _, _, ends in by_calculator(calculator, texts)]
        ours = [list(cluster_ends(text)) for text in texts]
        assert [t for t, a, b in zip(texts, ours, theirs, strict=True) if not {*a} <= {*b}] == []
        assert sum(map(len, ours)) > 0.8 * sum(map(len, theirs))
