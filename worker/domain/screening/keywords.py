"""Keywords: whole messages of one or two words, and their typos."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Final

from worker.domain.text.folding import fold

STOP: Final[Mapping[str, str]] = {
    "en": "stop, stopall, stop all, unsubscribe, cancel, end, quit, revoke, remove, optout"
    ", opt out",
    "ar": "إيقاف",
    "da": "stop, afmeld",
    "de": "stopp, abmelden, abbestellen",
    "es": "alto, parar, baja, cancelar, detener",
    "fr": "arret, arrêter, désabonner",
    "hi": "रोकें",
    "it": "ferma, cancella",
    "ja": "停止, 配信停止",
    "ko": "수신거부, 수신 거부",
    "nl": "afmelden",
    "no": "stopp, avslutt, avmeld",
    "pl": "wypisz",
    "pt": "parar, sair, cancelar",
    "ru": "стоп, отписаться",
    "sv": "stopp, avsluta",
    "tl": "itigil",
    "tr": "dur, iptal",
    "vi": "hủy",
    "zh": "退订, 退訂, 停止, td, t",
}
START: Final[Mapping[str, str]] = {"en": "start, unstop", "es": "inicio", "fr": "début"}
HELP: Final[Mapping[str, str]] = {
    "en": "help, info",
    "de": "hilfe",
    "es": "ayuda",
    "fr": "aide",
    "it": "aiuto",
    "nl": "hulp",
    "pl": "pomoc",
    "pt": "ajuda",
    "sv": "hjälp",
}
STOP_EMOJI: Final = frozenset("🛑✋🚫🔕🖕")
_TONES: Final = frozenset(map(chr, range(0x1F3FB, 0x1F400)))
_SHORTEST: Final = 6
"""Letters from which a keyword may have a typo; shorter ones are too close to other words."""
_WITH_TYPOS: Final = frozenset({"stop", "quit", "stopp"})
"""Short keywords of which each typo was looked at."""
_ALIKE: Final = (
    "top sop sto step stip shop slop stoop stow atop spot strop quot quiet quite suit quid quip"
    " quiz squit anmelden wpisz cancer"
)
_REAL_WORDS: Final = frozenset(_ALIKE.split())
"""Words that look like a typo of a keyword."""
_ROWS: Final = ("1234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm")


def is_stop_emoji(text: str) -> bool:
    """Whether a folded text consists of emoji that say stop, and of nothing else."""
    if text.isascii():
        return False
    shown = {one for one in text if not one.isspace()} - _TONES
    return bool(shown) and shown <= STOP_EMOJI


@cache
def words_of(table: str, languages: tuple[str, ...]) -> frozenset[str]:
    """Return the folded keywords of these languages and of English; of STOP with their typos."""
    keywords = {"stop": STOP, "start": START, "help": HELP}[table]
    words = {
        fold(word.strip())
        for language in ("en", *languages)
        for word in keywords.get(language, "").split(",")
    }
    words.discard("")
    if table != "stop":
        return frozenset(words)
    long = (word for word in words if len(word) >= _SHORTEST or word in _WITH_TYPOS)
    typos = {typo for word in long if word.isascii() for typo in typos_of(word)}
    return frozenset(words | (typos - _REAL_WORDS))


def typos_of(word: str) -> Iterator[str]:
    """Yield the word with one letter left out, doubled, swapped, or that of a neighbouring key."""
    for at, letter in enumerate(word):
        before, after = word[:at], word[at + 1 :]
        yield before + after
        yield before + letter * 2 + after
        if after:
            yield before + after[0] + letter + after[1:]
        for near in _neighbours(letter):
            yield before + near + after


@cache
def _neighbours(letter: str) -> str:
    """Return the letters of the keys around one, on a QWERTY keyboard."""
    for above, row in enumerate(_ROWS):
        at = row.find(letter)
        if at >= 0:
            rows = _ROWS[max(0, above - 1) : above + 2]
            return "".join(one[max(0, at - 1) : at + 2] for one in rows).replace(letter, "")
    return ""
