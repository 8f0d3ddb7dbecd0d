"""How the subjects of out-of-office replies and bounces begin, in a dozen languages.

A clear one is hardly a person's. A vague one may be: parcels are undelivered, too, and pupils
absent. All are compared in lower case.
"""

import re
from collections.abc import Iterable
from typing import Final

_AUTOMATIC: Final = (
    # English
    r"\[?auto(?:mat(?:ic|ed))?[- ]?(?:reply|response|responder)\b\]?\s*(?:[:\]\-]|$)",
    r"(?:auto|automatic )?out[- ]of[- ](?:the[- ])?office\b\s*(?:[:\[(]|auto|reply|response|$)",
    r"ooo\s*:",
    r"(?:vacation|holiday|away) (?:reply|message|response|responder|notice|notification)\b",
    # German, Dutch
    r"abwesenheits(?:notiz|nachricht|mitteilung|assistent)|automatische (?:antwort|abwesenheit)",
    r"afwezigheids(?:bericht|melding|assistent)|automatisch (?:antwoord|bericht)\b",
    # French, Spanish, Portuguese, Italian
    r"r[eé]ponse automatique|absence du bureau|(?:message|notification) d.absence",
    r"respuesta autom[aá]tica|fuera de (?:la )?oficina\s*(?::|$)",
    r"resposta autom[aá]tica|fora do escrit[oó]rio\s*(?::|$)|aus[eê]ncia tempor[aá]ria\s*(?::|$)",
    r"risposta automatica|fuori (?:sede|ufficio)\s*(?::|$)|assenza dall.ufficio",
    # Polish, Swedish, Danish, Norwegian, Finnish
    r"autoodpowied[zź]|automatyczna odpowied[zź]|odpowied[zź] automatyczna|poza biurem\s*(?::|$)",
    r"autosvar|auto(?:matisk)?t? svar\b|automatisk svar|fr[aå]nvaromeddelande",
    r"automaattinen vastaus",
    # Russian, Chinese, Japanese, Korean, Turkish
    r"автоответ|автоматический ответ|自动(?:回复|答复)|自動(?:返信|回覆|応答)|자동 ?(?:회신|응답)",
    r"otomatik (?:yan.t|cevap)|i.yeri d...nda\s*(?::|$)",
)
_BOUNCE: Final = (
    r"undeliverable\s*:|undeliver(?:ed|able) (?:e-?mail|message)|undelivered mail returned",
    r"(?:e-?)?mail delivery (?:fail(?:ure|ed)|error|problem|report|notification|status)",
    r"(?:e-?)?mail delivery (?:sub)?system",
    r"delivery (?:status|failure|failed) notification|delivery notification: delivery has",
    r"(?:mail )?delivery failure \(",
    r"(?:message|e?-?mail) (?:delivery |)(?:failure|undeliver|not delivered)",
    r"(?:your )?(?:message|e-?mail|mail) (?:could not be|cannot be|was not|has not been) delivered",
    r"failure notice|failure notification|failed mail\b|non-?deliver(?:y|able)",
    r"returned (?:e-?)?mail\s*[:(]",
    r"(?:returned|rejected) message\s*:|delayed mail",
    r"warning: (?:could not send|message (?:still|delayed))",
    r"mail (?:system )?error\b|mail failure|mail rejected|permanent delivery failure",
    r"unable to deliver (?:your )?mail",
    r"unzustellbar\s*:|nicht zustellbar\s*:|benachrichti?g?ung zum .{1,3}bermittlungsstatus",
    r"non remis\s*:",
    r"[eé]chec de (?:la )?(?:remise|distribution) (?:du|d.un|de votre) (?:message|mail|courrier)",
    r"no se puede entregar\s*:|falha na entrega (?:de|da) (?:mensagem|e-?mail)",
    r"não é possível entregar\s*:",
    r"mancata consegna (?:del messaggio|della mail)|non recapitabile\s*:|onbestelbaar\s*:",
    r"niet bezorgd\s*:",
    r"niedostarczon[ea] (?:wiadomo|poczt)|недоставленное сообщение|не доставлено\s*:|退信|系统退信",
    r"送信エラー",
    r"complaint about message from|abuse report|feedback loop report|loop alert",
    r"considered unsolicited bulk",
)
_VAGUE: Final = (
    r"undeliver|undelivered",
    r"delivery (?:failure|failed|has failed|error|problem|report|status|notification)",
    r"returned (?:e-?mail|mail|message|to sender)|(?:message|mail) rejected",
    r"rejected (?:mail|message)",
    r"user unknown|address(?:ee)? unknown|unable to deliver|there was an error sending|warning:",
    r"(?:complaint about|abuse|feedback)\b|delivery unsuccessful|message (?:status|delayed)",
    r"zustell|unzustellbar|nicht zustellbar|.bermittlungs|non remis|[eé]chec|no entregado",
    r"error de entrega",
    r"(?:mensaje|correo) devuelto|n[aã]o entregue|falha na entrega|mancata consegna|недоставлен",
    r"配信|不在|부재|退回|out of office|away|vacation|holiday|abwesen|afwezig|niet aanwezig",
    r"absen|ausen|ausên|assen|fr[aå]nv|fravær|poissa|отпуск|нет на месте|urlop|ferie|urlaub",
    r"fuera de|fora d|fuori|auto[- :]",
)
_TAG: Final = re.compile(r"(?:\s*\[[^\[\]]{1,40}\])?[\s*]{0,5}")


def _compiled(patterns: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(patterns))


_CLEAR: Final = (("auto_reply", _compiled(_AUTOMATIC)), ("bounce", _compiled(_BOUNCE)))
_EITHER: Final = (*_CLEAR, ("auto_reply", _compiled(_VAGUE)))


def clear_kind(subject: str) -> str | None:
    """Return the outcome that a subject stands for; None = an ordinary subject."""
    return _kind(subject, _CLEAR)


def vague_kind(subject: str) -> str | None:
    """Return the outcome that it may stand for, if there is another sign of a machine."""
    return _kind(subject, _EITHER)


def _kind(subject: str, table: Iterable[tuple[str, re.Pattern[str]]]) -> str | None:
    subject = subject.lower()
    tag = _TAG.match(subject)
    starts = {0, tag.end() if tag else 0}
    return next(
        (kind for kind, pattern in table if any(pattern.match(subject, at) for at in starts)), None
    )
