"""The envelope: its definition, and how it travels.

A name of the definition is imported when it is used: commands and connections take constants from
`wire` alone, and building the model would be half of what some of them do.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from message_worker_client.envelope.model import (
        MAX_KEY_BYTES,
        MAX_METADATA_BYTES,
        TIME,
        VERSION,
        Envelope,
        EnvelopeAttachment,
        EnvelopeError,
        parse_envelope,
        read_envelope,
        schema,
    )

_MODEL: Final = "message_worker_client.envelope.model"

__all__ = [
    "MAX_KEY_BYTES",
    "MAX_METADATA_BYTES",
    "TIME",
    "VERSION",
    "Envelope",
    "EnvelopeAttachment",
    "EnvelopeError",
    "parse_envelope",
    "read_envelope",
    "schema",
]


def __getattr__(name: str) -> object:
    """Import the definition when it is used."""
    if name in __all__:
        return getattr(import_module(_MODEL), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
