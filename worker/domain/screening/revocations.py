"""Recognises opt-outs in a person's own words; the phrases of each language are in a file."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from itertools import chain
from typing import Final

from worker.domain.text.folding import Clause, fold

_WORDS: Final = (
    "please pls plz kindly just asap right seriously bro dude man mate hi hello hey ok okay thanks"
    " thx sorry dear now already ever really immediately well guys sir oh bitte danke hallo sofort"
    " hiermit svp bonjour merci gracias hola favor por obrigado obrigada oi grazie ciao salve"
    " favore per cortesia dank alstublieft aub graag hoi prosze dziekuje tack snalla hej tak"
    " vennligst takk lutfen artik merhaba пожалуйста спасибо здравствуйте po na nga xin"
)
_POLITE: Final = frozenset(fold(_WORDS).split())
"""Words that change nothing about what is asked for."""
_NO_MATTER: Final = frozenset(
    fold(
        ",not interested,no,nope,who is this,whos this,i said,i dont know you,to"
        ",i did not sign up for this,i didnt sign up for this,i never signed up for this"
        ",i never signed up,new phone,i dont know who this is,nein,kein interesse"
        ",ich habe kein interesse,wer ist da,non,pas interesse,je ne suis pas interesse"
        ",qui est ce,no me interesa,quien es,nao,nao tenho interesse,quem e,no non"
        ",non mi interessa,chi e,nee,geen interesse,nie,nie jestem zainteresowany"
        ",nej,inte intresserad,nei,hayir,нет,не интересует,кто это"
    ).split(",")
)
"""Clauses beside which a phrase of `alone` still counts."""
_OTHER_PERSON: Final = re.compile(
    r"(?:this (?:is not|isnt)|i am not|im not|not|there is no(?:body named)?|no) \w{1,20}(?: here)?"
    "|nobody (?:by|of|with) that name(?: (?:is |lives )?here)?"
)
"""`I am not Bob`, beside `wrong number`."""
_REQUEST: Final = re.compile("(?:can|could|will|would) (?:you|u|i) .+")
"""A question that asks for it; any other question is about something."""


def is_revocation(clauses: Iterable[Clause], languages: tuple[str, ...]) -> bool:
    """Whether a person asks for no further messages, in one of these languages or in English."""
    clear, alone = (_compiled(kind, languages) for kind in ("clear", "alone"))
    others, asked = 0, 0
    for clause in clauses:
        said = " ".join(word for word in clause.words if word not in _POLITE)
        said = said.replace("thank you", "").strip()
        about = clause.end == "?" and not _REQUEST.match(" ".join(clause.words))
        if not (about or clause.quoted):
            if clear.fullmatch(said):
                return True
            if alone.fullmatch(said):
                asked += 1
                continue
        others += said not in _NO_MATTER and not _OTHER_PERSON.fullmatch(said)
    return asked > 0 and others == 0


@cache
def phrases() -> Mapping[str, tuple[str, ...]]:
    """Return the patterns of `phrases.txt` by their heading, such as `en clear`."""
    text = files("worker.domain.screening").joinpath("phrases.txt").read_text("utf-8")
    names: dict[str, str] = {}
    found: dict[str, tuple[str, ...]] = {}
    heading = ""
    for line in re.sub(r"\n {6}", "", text).splitlines():
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


@cache
def _compiled(kind: str, languages: tuple[str, ...]) -> re.Pattern[str]:
    spoken = dict.fromkeys(("en", *languages))
    found = (phrases().get(f"{name} {kind}", ()) for name in spoken)
    return re.compile("|".join(chain.from_iterable(found)))
