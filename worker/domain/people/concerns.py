"""Recognises messages that a person should see at once: threats of harm, and minors.

English only. The rules prefer to miss one: the model can hand over by itself.
"""

import re
from typing import Final

from worker.domain.text.folding import Folded

# Of folded text: no case, no accents, no apostrophes. Each alternative has a bounded length.
_I_WILL: Final = (
    r"\bi(?:m|ll|d| am| will| would| want to| wanna| have to| need to| might| could| should)?"
    r"(?: (?:just|really|going to|gonna|about to|planning to|thinking of|want to|ready to)){0,3}"
)
_PERSON: Final = (
    r"(?:you|u|ya|him|her|them|everyone|everybody|someone|somebody|yall|all of you"
    r"|(?:my|your|his|her|the) (?:wife|husband|mother|mom|father|dad|kids?|children|family|boss"
    r"|boyfriend|girlfriend|ex|neighbou?r|staff|people|driver|employees?|manager))"
)
_JOKING: Final = (
    r"(?! (?:laughing|lol|haha|of|for|to|working|lifting|trying|hard|my hair"
    r"|an? (?:slice|piece))\b)"
)
_NO_MORE: Final = r"(?:$|[.!?]| any ?more(?:$|[.!?,]))"
# Ends of such a sentence: `i have a bomb calorimeter` goes on in another way.
_STOPS: Final = r"(?=$|[.!?,]| (?:and|so|but|can|in|at|on|right|now)\b)"
_THREAT: Final = re.compile(
    "|".join(
        (
            _I_WILL + r" (?:kill|hurt|harm|hang|shoot|cut)(?:ing)? myself" + _JOKING,
            _I_WILL
            + r" (?:end|take|ending|taking) my (?:own )?life"
            + r"\b(?! (?:insurance|policy|savings|partner|story|time)\b)",
            r"\bi (?:dont|do not) (?:want to|wanna) (?:live|be alive)" + _NO_MORE,
            r"\bi (?:just |really )?(?:want to|wanna) die" + _JOKING + r"(?=$|[.!?, ])",
            r"\bi wish i (?:was|were) dead\b(?! (?:wrong|sure|certain|serious)\b)",
            r"\bi ?a?m (?:feeling )?suicidal\b|\bi (?:feel|am feeling) suicidal\b",
            _I_WILL + r" commit suicide\b",
            _I_WILL
            + r" (?:kill|shoot|stab|murder|strangle|beat up) "
            + _PERSON
            + r"(?=$|[.!?,]| (?:all|both|if|when|and|tonight|today|tomorrow|now|for|with|one)\b)",
            _I_WILL + r" (?:blow up|burn down|bomb|shoot up) (?:you|"
            r"(?:your|the|this|that) (?:whole |entire )?"
            r"(?:place|store|shop|school|office|building|house|church|station|bank))\b",
            r"\bi know where (?:you|u) live\b(?! (?:chat|stream|now)\w*)",
            r"\bthere is a bomb (?:in|at|on)\b",
            r"\bi (?:have|put|planted) a bomb" + _STOPS,
        )
    )
)
_AGE: Final = r"(?:[5-9]|1[0-7])"
_MINOR: Final = re.compile(
    "|".join(
        (
            rf"\bi ?a?m (?:only |just |actually )?{_AGE} ?(?:years? old|yrs? old|yo|y/o)\b(?! as)",
            rf"^(?:hi,? |hello,? |hey,? |but |and )?i ?a?m (?:only |just )?{_AGE}[.!]*$",
            rf"\bi ?a?m only {_AGE}(?=$|[.!?])",
            rf"\bi ?a?m an? {_AGE} year old (?:girl|boy|kid|child|student)\b",
            r"\bi ?a?m (?:still )?a minor\b(?! (?:league|shareholder|player|character|in)\b)",
            r"\bi ?a?m (?:still )?under ?age\b",
            r"\bi ?a?m (?:still )?(?:under 18|not (?:yet )?18)" + _STOPS,
            r"\bi ?a?m not 18 yet\b",
            r"\bi ?a?m (?:still )?in (?:the )?"
            r"(?:[1-9](?:th|st|nd|rd) grade|(?:middle|elementary) school)" + _STOPS,
        )
    )
)


def is_threat(text: Folded) -> bool:
    """Return whether somebody threatens to harm themselves or others."""
    return _THREAT.search(text.flat) is not None


def is_minor(text: Folded) -> bool:
    """Return whether the writer says that they are under 18."""
    return _MINOR.search(text.flat) is not None
