"""How people are told that an AI writes to them.

The sentence is the service's, never the model's: EU Regulation 2024/1689 (AI Act), Art. 50(1), asks
for it at the latest at the first interaction. All texts fit into GSM-7, so that they do not double
the parts of a text message.
"""

from collections.abc import Mapping
from typing import Final

from worker.domain.people.policies import Disclosure, HandOver

_TEXTS: Final[Mapping[str, tuple[str, str]]] = {
    "de": ("Hier antwortet ein KI-Assistent.", "{} schreiben, um einen Menschen zu erreichen."),
    "en": ("You are writing with an AI assistant.", "Reply {} to reach a person."),
    "es": ("Le responde un asistente de IA.", "Escriba {} para hablar con una persona."),
    "fr": ("Un assistant IA vous répond.", "Répondez {} pour joindre une personne."),
    "it": ("Le risponde un assistente IA.", "Scriva {} per parlare con una persona."),
    "nl": ("U schrijft met een AI-assistent.", "Antwoord {} voor een medewerker."),
    "pt": ("Responde-lhe um assistente de IA.", "Escreva {} para falar com uma pessoa."),
}
LANGUAGES: Final = frozenset(_TEXTS)
"""Those with a default text; others need a text of their own."""


def disclosure_text(disclosure: Disclosure, hand_over: HandOver | None) -> str:
    """Return the sentence; the default one offers the first word that reaches a person."""
    if disclosure.text is not None:
        return disclosure.text
    told, offer = _TEXTS[disclosure.language]
    if hand_over is None or not hand_over.words:
        return told
    return f"{told} {offer.format(hand_over.words[0])}"


def before(text: str, disclosure: str | None) -> str:
    """Return a text message with the sentence before it; None = there is none, as for `below`."""
    return text if disclosure is None else f"{disclosure}\n{text}"


def below(text: str, disclosure: str | None) -> str:
    """Return the text of a mail with the sentence below it.

    It is below the mark of a signature (RFC 3676, 4.3), which clients leave out of an answer.
    """
    return text if disclosure is None else f"{text}\n\n-- \n{disclosure}"


def sender_name(name: str) -> str:
    """Return the name that a mail of the AI shows as its sender."""
    if "ai assistant" in name.lower():
        return name
    return f"{name} (AI assistant)" if name else "AI assistant"
