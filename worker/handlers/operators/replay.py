"""Give dead letters another chance."""

from dataclasses import dataclass

from worker.domain.errors import PermanentError
from worker.domain.ids import DeadLetterId
from worker.envelope import EnvelopeError
from worker.handlers.intake.accept import AcceptEnvelope, parse_and_route
from worker.observability.logs import log
from worker.queue.unwrap import layers
from worker.store.dead_letters import DeadLetter, DeadLetterStore


class NotReplayableError(PermanentError):
    """The bytes still are no valid envelope, or somebody has dealt with the dead letter."""


@dataclass(frozen=True, kw_only=True)
class Replay:
    """Gives a dead letter another chance; two at the same moment answer once."""

    letters: DeadLetterStore
    accept: AcceptEnvelope

    def __call__(self, letter_id: DeadLetterId) -> None:
        """Replay one dead letter. Raises `NotReplayableError` with what is still wrong."""
        letter = self.letters.get(letter_id)
        if letter is None:
            raise NotReplayableError(f"there is no dead letter {letter_id}")
        if letter.resolution is not None:
            raise NotReplayableError(f"dead letter {letter_id} was {letter.resolution} already")
        if letter.raw is None:
            if not self.letters.revive(letter):
                raise NotReplayableError(f"somebody has just dealt with dead letter {letter_id}")
        else:
            self._accept(letter, letter.raw)
        log.info("dead_letter.replayed", letter=letter_id, reason=letter.reason)

    def _accept(self, letter: DeadLetter, raw: bytes) -> None:
        # Accepting twice is harmless, losing it is not: so accept first, and mark then.
        try:
            message = parse_and_route(envelope_in(raw), self.accept.routing)
            self.accept.commit(message, starts_itself=False)
        except EnvelopeError as error:
            raise NotReplayableError(str(error)) from None
        self.letters.mark_replayed(letter.id)


def envelope_in(raw: bytes) -> object:
    """Find the envelope in what was kept, however it is wrapped.

    One of which even the version is missing is what lies innermost. Raises `NotReplayableError`.
    """
    found: object = None
    for depth, (_, document) in enumerate(layers(raw)):
        if isinstance(document, dict) and "version" in document:
            return document
        found = document if depth else None
    if not isinstance(found, dict):
        raise NotReplayableError("there is no envelope in its bytes")
    return found
