"""Reactions and machines: what phones and programs write, in whatever language they are set to.

All patterns fit the folded text on one line, without apostrophes.
"""

import re
from typing import Final

from worker.domain.text.folding import fold

_OPEN: Final = '["\u201c\u201e\u201d\u00ab]'
_CLOSE: Final = '["\u201c\u201d\u00bb]'
_REACTED: Final = (
    "loved|liked|disliked|laughed at|emphasi[sz]ed|questioned|reacted [^\\w\\s]{1,12} to"
    "|removed an? (?:heart|like|dislike|laugh|exclamation|question mark|[^\\w\\s]{1,12}) from"
    "|(?:na pas )?(?:a )?(?:aime|adore)|a ri de|a insiste sur|a reagi [^\\w\\s]{1,12} a"
    "|le gusto|no le gusto|le encanto|se rio de|reacciono con [^\\w\\s]{1,12} a"
    "|gefallt|gefiel|liebt|liebte|lacht uber|lachte uber|ha messo mi piace a|ha adorato|ha riso di"
    "|gostou de|nao gostou de|amou|riu de|adorou|gillade|alskade|skrattade at|vond|vindt"
)
_IMAGE: Final = (
    "(?:an? (?:image|photo|movie|video|attachment|audio message|sticker)|(?:une?|um|uma|una|un|ein)"
    " (?:image|photo|video|imagem|imagen|foto|bild|immagine|piece jointe))"
)
REACTION: Final = re.compile(
    f"(?:{_REACTED}) (?:{_OPEN}.*{_CLOSE}|{_IMAGE})|[^\\w\\s]{{1,12}} to {_OPEN}.*{_CLOSE}"
    f"|hat mit [^\\w\\s]{{1,12}} auf {_OPEN}.*{_CLOSE} reagiert"
    f"|(?:vond|vindt) {_OPEN}.*{_CLOSE} \\w{{1,12}}"
)
_TO_END: Final = "(?:end|quit|stop|cancel|opt ?-?out|opt-out|unsub\\w{0,9}|remove)"
FOOTER: Final = re.compile(
    "\\b(?:reply|text|txt|send|msg)(?:ing)? (?:with )?stop"
    "(?=\\W*$|[.,!;)]|\\W(?:to|2|for|at|in|on)\\b)"
    f"|\\bstop ?(?:to|2) ?(?:{_TO_END}|\\d{{4}})|\\b{_TO_END}\\W{{1,3}}(?:reply|text|txt|send)\\b"
    "(?! (?:sms|messages|notif|alert|updates|me\\b|us\\b|texts))"
    "|\\bms(?:g|gs|sg) ?(?:&|and|n|\\+) ?data rates\\b|\\bmessage and data rates\\b"
    "|\\bstop (?:au|sms)(?: au)? \\d{5}\\b|\\bstop at any time\\b"
)
"""The last line of advertising, which says how to end it."""
AUTO_REPLY: Final = re.compile(
    "\\W{0,3}(?:im driving with (?:focus|do not disturb)"
    "|im not receiving notifications\\W{1,3}if this"
    "|i have notifications silenced\\W*$|(?:sorry\\W{1,3})?i cant talk right now\\W*$"
    "|im driving right now\\W{1,5}ill (?:get back|call|text|see)"
    "|auto(?:mat(?:ic|ed))?[- ]?(?:reply|response|responder)\\]? ?\\W{0,3}(?<=[:\\]-])"
    "|\\[auto"
    "|i(?: a)?m (?:currently )?(?:out of (?:the )?office|away from (?:the|my) \\w{1,10})"
    " (?:and|until|with)"
    "|out of (?:the )?office ?[:-]|network msg\\b|free ?msg\\b"
    "|this (?:phone|number|line|mailbox|inbox|device)(?: number)? "
    "(?:cannot|can not|cant|does not|doesnt|is not|isnt|is no longer) (?:able to )?"
    "(?:receive|accept|monitored|support|in service)"
    "|you(?: have|ve) (?:successfully )?been (?:unsubscribed|opted out|removed)"
    "|(?:please )?do not (?:reply|respond) to this "
    "|(?:dies|das) ist eine automati(?:sche|sierte) |automatische (?:antwort|nachricht) ?:"
    "|ich kann gerade nicht sprechen\\W*$|ich fahre gerade(?: auto)? und habe "
    "|ceci est un message automati|reponse automatique ?:|este es un mensaje automati"
    "|respuesta automatica ?:|esta e uma mensagem automati|resposta automatica ?:"
    "|questo e un messaggio automati|risposta automatica ?:|dit is een automati"
    "|automatisch (?:antwoord|bericht) ?:)"
)
"""Fits at the start of the text."""
AUTO_ANYWHERE: Final = re.compile(
    "\\bthis is an auto(?:-?generated|mated|matic) (?:message|reply|response|text|notification)\\b"
    "|\\bmessage blocking is active\\b|\\bplease do not reply\\W*$"
)
_DIGITS: Final = "(?:[a-z]-)?(?:\\d{3}[ -]\\d{3}|\\d{4,8})\\b"
_YOUR: Final = "(?:your|ihr|dein|euer|votre|ton|su|tu|seu|il tuo|il suo|uw|je|twoj|ваш|твой)"
_CODE: Final = "(?:\\w{0,20}code|codigo|codice|\\w{0,12}kod|код|otp|pin|passcode|password)"
_BRAND: Final = "(?:<?#>? )?(?:[^:\\d]{1,30}: )?"
ONE_TIME_CODE: Final = re.compile(
    f"{_BRAND}{_YOUR} [^\\d?]{{0,40}}{_CODE}\\b[^\\d?]{{0,30}}{_DIGITS}"
    f"|{_BRAND}{_DIGITS} (?:is|ist|est|es|e) {_YOUR} [^?]{{0,40}}{_CODE}\\b"
    f"|{_BRAND}use {_DIGITS} as your [^?]{{0,30}}{_CODE}\\b"
    "|(?:<?#>? )?(?:[\\w.]{1,20} )?(?:otp|(?:verification |security |login )code|passcode|код)\\b"
    f"[^\\d?]{{0,30}}{_DIGITS}|dogrulama kodunuz\\W{{0,3}}{_DIGITS}"
    f"|.{{0,20}}验证码\\D{{0,6}}{_DIGITS}"
)
"""Fits at the start of the text."""
_WORDS: Final = (
    "i im ive my me mine says said why ich mein meine mon ma mi meu minha mijn moj мой я"
)
PERSON: Final = frozenset(fold(_WORDS).split())
"""Words of people, which machines that write to everybody do not use."""
