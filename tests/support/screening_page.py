"""Writes docs/reference/screening.md from the rules and keywords.

python -m tests.support.screening_page     write the page again; `make reference` does, too
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from worker.domain.screening.keywords import HELP, START, STOP
from worker.domain.screening.mail.rules import RULES as MAIL_RULES
from worker.domain.screening.rules import RULES, SIGNALS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "screening.md"
ABOUT = """\
# Screening

On channels of kind `telephone`, and in mails, some messages are recognised without a model. They
are stored with their outcome and not answered, except by the fixed texts of
[`[channels.NAME.screening]`](settings.md#channelsnamescreening). The tables are generated from the
code by `make reference`. To see what a message would be taken for, run `worker channels try FILE`.

A text is compared without case, accents, punctuation, emoji, invisible characters and styled
letters: `stop`, `Stop!!` and `S T O P` are one word. A keyword counts only as the whole message:
"stop by at five?" is a question.

## Signals

The envelope's `signals` come first, on every channel. The gateway sets them from what Telnyx says;
`group` does not apply if `groups` is set in
[`[channels.NAME.telnyx]`](settings.md#channelsnametelnyx). The outcome has the signal's name.
"""
RULES_ABOUT = """
## Rules

In this order; the first that fits decides. Before them, the outcome is `own_number` if the sender
is one of your own numbers.
"""
MAIL_ABOUT = """
## Mails

Hard rules come first, and then the first that fits decides. A mail that a hard rule recognises is
never answered, and its sender does not become a channel user. One that a soft rule recognises is
stored with its outcome. A rule with "with another" counts only if a rule of another number fits as
well. The numbers are those of the sources' list. A mail without a question has an outcome, too:
`calendar`, `encrypted`, `empty`, or `opt_out` if its first 500 characters ask for no more mails.
"""
KEYWORDS_ABOUT = """
## Keywords

English always counts, another language if it is one of the channel's `languages`. Words for stop
with a typo count as well, unless that is another word.
"""


def page() -> str:
    """Return the page."""
    signals = ([f"`{name}`", _consent(change)] for name, change in SIGNALS.items())
    rules = (
        [f"`{one.name}`", _what(one.fits), f"`{one.outcome}`", _consent(one.consent), one.source]
        for one in RULES
    )
    mails = (
        [
            f"`{one.name}`",
            f"{one.number}{'' if one.alone else ', with another'}",
            *(one.tier, _what(one.fits), f"`{one.outcome}`", one.source),
        ]
        for one in MAIL_RULES
    )
    languages = sorted({*STOP, *START, *HELP}, key=lambda one: (one != "en", one))
    keywords = ([f"`{one}`", *(of.get(one, "") for of in (STOP, START, HELP))] for one in languages)
    return (
        ABOUT
        + _table(["signal", "changes"], signals)
        + RULES_ABOUT
        + _table(["rule", "recognises", "outcome", "changes", "source"], rules)
        + MAIL_ABOUT
        + _table(["rule", "number", "tier", "recognises", "outcome", "source"], mails)
        + KEYWORDS_ABOUT
        + _table(["language", "stop", "start", "help"], keywords)
    )


def _what(rule: object) -> str:
    text = str(rule.__doc__).removesuffix(".")
    return text[:1].lower() + text[1:]


def _consent(change: str | None) -> str:
    names: Mapping[str | None, str] = {"stop": "opts out", "start": "opts in", None: ""}
    return names[change]


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n" + "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


if __name__ == "__main__":
    PAGE.write_text(page())
