"""Recognises opt-outs in a person's own words; the phrases of each language are in a file.

A phrase fits from where a sentence may begin to where it may end: `we sold it so |please stop
texting us| or I call`. What is said before must not tell what somebody else said or does.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from itertools import groupby
from typing import Final, NamedTuple, Self

from worker.domain.screening.keywords import typos_of
from worker.domain.text.folding import Clause, fold

_WORDS: Final = (
    "please pls plz plss pleas plase plese kindly just asap right away seriously bro dude man mate"
    " hi hello hey yo ok okay okey thanks thankyou thx ty sorry dear now already ever really"
    " immediately well guys sir oh madam maam hun honey darling fucking fuckin freaking effing damn"
    " bloody ffs omg lol jesus christ simply honestly folks bruh bud buddy pal jeez geez ugh smh uh"
    " um bye comma period fr ngl tbh rn thnx tks lmao tf homie fam bruv sis boo sweetie"
    " bitte danke hallo sofort hiermit svp stp bonjour merci gracias hola favor por obrigado"
    " obrigada oi grazie ciao salve favore per cortesia dank alstublieft aub graag hoi prosze"
    " dziekuje tack snalla hej tak vennligst takk lutfen artik merhaba пожалуйста спасибо"
    " здравствуйте po na nga xin senor senora ya oiga oigan oye alsjeblieft endlich herr"
    " desole desolee"
)
_POLITE: Final = frozenset(fold(_WORDS).split())
"""Words that change nothing about what is asked for."""
_STRETCHED: Final = 3
"""So often no language repeats a letter."""
_REAL_WORDS: Final = frozenset({"testing", "ending", "removed", "receiver", "deleted", "contract"})
"""Words that look like a typo of another."""
_NOISE: Final = re.compile(" the (?:hell|fuck|heck)(?= )")
_KINDS: Final = ("clear", "firm", "alone", "beside", "doubt", "other")
"""Of sentences; the first that fits in one of the languages counts."""
_CONTINUED: Final = re.compile(r"\n {5}(?: (?=\||\(\?: ))?")


@cache
def phrases(language: str) -> Mapping[str, tuple[str, ...]]:
    """Return the patterns of a language by their heading, such as `clear`."""
    path = files("worker.domain.screening").joinpath(f"phrases/{language}.txt")
    if not path.is_file():
        return {}
    names: dict[str, str] = {}
    found: dict[str, tuple[str, ...]] = {}
    heading = ""
    for line in _CONTINUED.sub("", path.read_text("utf-8")).splitlines():
        for name, meant in names.items():
            line = line.replace(f"<{name}>", meant)  # noqa: PLW2901
        if line.startswith("let "):
            _, name, meant = line.split(" ", 2)
            names[name] = meant
        elif line.startswith("["):
            heading = line.strip("[]")
        elif line and not line.startswith("#"):
            found[heading] = (*found.get(heading, ()), fold(line))
    return found


class _Language(NamedTuple):
    """The phrases of a language."""

    words: Mapping[str, str]
    """Words, and those that stand for them in the patterns."""
    anywhere: re.Pattern[str]
    """It counts whatever else the message says."""
    clear: re.Pattern[str]
    """So does this, where a sentence begins."""
    firm: re.Pattern[str]
    """So does a sentence of this, unless there are questions and doubts."""
    alone: re.Pattern[str]
    """It may mean something else next to other sentences."""
    beside: re.Pattern[str]
    """It says nothing else, next to one of `alone`, in the same sentence or another."""
    topic: re.Pattern[str]
    """Another sentence that is about messages, too."""
    doubt: re.Pattern[str]
    """Another sentence which may turn the meaning of one of `firm`."""
    reported: re.Pattern[str]
    """Words before a beginning that make it somebody else's."""
    request: re.Pattern[str]
    """A question that asks for it; any other question is about something."""
    joints: frozenset[str]
    """A sentence may begin after these words."""

    @classmethod
    def of(cls, name: str) -> Self:
        """Read the phrases of a language; of an unknown one there are none."""
        found = phrases(name)
        of = {
            kind: f"(?:{'|'.join(found.get(kind, ('(?!)',)))})"
            for kind in ("frames", "after", "complete", "limits", *cls._fields)
        }
        begin = f"(?:{of['frames']} ){{0,3}}"
        end = f"(?:(?=$| {of['after']}(?: |$))|{of['complete']}(?! {of['limits']}(?: |$)))"
        rows = [line.partition(":") for line in found.get("words", ())]
        meant = {word: first for first, _, others in rows for word in others.split()}
        typos = {
            typo: meant.get(word, word)
            for word in found.get("typos", ())
            for typo in typos_of(word)
            if typo not in _REAL_WORDS
        }
        return cls(
            words=typos | meant,
            anywhere=re.compile(begin + of["anywhere"] + end),
            clear=re.compile(begin + of["clear"] + end),
            firm=re.compile(f"{begin}{of['firm']}(?: {of['beside']}){{0,2}}"),
            alone=re.compile(f"{begin}{of['alone']}(?: {of['beside']}){{0,2}}"),
            beside=re.compile(f"(?:{of['beside']}(?: |$)(?:{of['joints']} )?){{1,3}}"),
            topic=re.compile(of["topic"]),
            doubt=re.compile(of["doubt"]),
            reported=re.compile(f"(?:^| ){of['reported']}(?: |$)"),
            request=re.compile(of["request"]),
            joints=frozenset(found.get("joints", ())),
        )

    def kind(self, words: Sequence[str]) -> str:
        """Return which of the patterns fits, or `other`."""
        said = " ".join(self.words.get(word, word) for word in words if word not in _POLITE)
        at, before, found = 0, "", ""
        for word in words:
            if word not in _POLITE:
                if self.anywhere.match(said, at) and self._may_begin(said, at, before, here=True):
                    return "clear"
                joined = before in self.joints or before in _POLITE
                if self.clear.match(said, at) and self._may_begin(said, at, before, here=joined):
                    return "clear"
                if not found and self._may_begin(said, at, before, here=False):
                    kinds = {"firm": self.firm, "alone": self.alone}
                    found = next((k for k in kinds if kinds[k].fullmatch(said, at)), "")
                at += len(self.words.get(word, word)) + 1
            before = word
        if not found and (self._is_beside(said) or self.topic.fullmatch(said)):
            found = "beside"
        return found or ("doubt" if self.doubt.fullmatch(said) else "other")

    def _may_begin(self, said: str, at: int, before: str, *, here: bool) -> bool:
        """Whether a sentence may begin at `at`; `here`: after other words, too."""
        left = said[:at].removesuffix(f"{before} ") if before in self.joints else said[:at]
        with_word = said[: at + said[at:].find(" ")] if " " in said[at:] else said
        return self._is_beside(left) or (here and not self.reported.search(with_word))

    def _is_beside(self, said: str) -> bool:
        return not said or self.beside.fullmatch(said) is not None


def _unstretched(text: str) -> str:
    """Return `stop` for `stoppp`."""
    runs = ((one, len(list(run))) for one, run in groupby(text))
    return "".join(one * (times if times < _STRETCHED else 1) for one, times in runs)


_language: Final = cache(_Language.of)


def read_phrases(languages: tuple[str, ...]) -> None:
    """Read and compile what `is_revocation` needs; it would do so at the first message."""
    for name in ("en", *languages):
        _language(name)


def is_revocation(clauses: Iterable[Clause], languages: tuple[str, ...]) -> bool:
    """Whether a person asks for no further messages, in one of these languages or in English."""
    spoken = [_language(name) for name in ("en", *languages)]
    seen = Counter[str]()
    for clause in clauses:
        text = _NOISE.sub("", _unstretched(" ".join(clause.words)).replace("thank you", "thanks"))
        kinds = {one.kind(text.split()) for one in spoken}
        is_asking = clause.end == "?" and not any(one.request.fullmatch(text) for one in spoken)
        if is_asking or clause.quoted:
            kinds = kinds & {"beside"} or {"doubt"}
        seen[next(kind for kind in _KINDS if kind in kinds)] += 1
    if seen["clear"]:
        return True
    if seen["firm"] and not seen["doubt"]:
        return True
    return seen["firm"] + seen["alone"] > 0 and not (seen["doubt"] or seen["other"])
