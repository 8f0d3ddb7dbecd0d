"""Replays dead letters: the use case behind `worker dead-letters replay`."""

from collections.abc import Callable, Mapping
from typing import Final

from message_worker_client.envelope import EnvelopeError
from worker.domain.errors import PermanentError, WorkerError, named
from worker.domain.ids import DeadLetterId
from worker.domain.reasons import DeadLetterReason
from worker.domain.routing import Routing
from worker.domain.states import Resolution
from worker.handlers.intake.accept import commit
from worker.handlers.intake.route import parse_and_route
from worker.handlers.intake.take_event import TakeEvent
from worker.observability.logs import log
from worker.queue.unwrap import envelope_in, event_in
from worker.store.dead_letters import DeadLetter, DeadLetterStore
from worker.store.intake.mailboxes import QUEUE as MAILBOX
from worker.store.intake.messages import MessageStore


class NotReplayableError(PermanentError):
    """The bytes are still not a valid envelope, or the dead letter is closed."""


_WRONG_NAMES: Final = frozenset({DeadLetterReason.UNKNOWN_AGENT, DeadLetterReason.UNKNOWN_ROUTE})


def replay(
    letter_id: DeadLetterId,
    names: Mapping[str, str],
    *,
    letters: DeadLetterStore,
    messages: MessageStore,
    take_event: TakeEvent,
    take_mail: Callable[[bytes], object],
    routing: Routing,
) -> None:
    """Replay one dead letter; two replays at the same time have the effect of one.

    `names`: `agent` and `reply_to` that take the place of the sender's, if one was wrong. Raises
    `NotReplayableError`, which names the fault.
    """
    letter = letters.get(letter_id)
    if letter is None:
        raise NotReplayableError(f"there is no dead letter {letter_id}")
    if letter.resolution is not None:
        raise NotReplayableError(f"dead letter {letter_id} was {letter.resolution} already")
    if names and letter.reason not in _WRONG_NAMES:
        raise NotReplayableError(
            f"its reason is {letter.reason}: only an unknown agent or route can be replaced"
        )
    if letter.raw is not None:
        # Accepting twice is harmless, losing it is not: so accept first, then mark.
        if letter.queue == MAILBOX:
            _take(letter.reason, letter.raw, take_mail)
        elif (event := event_in(letter.raw)) is not None:
            take_event(*event)
        else:
            _accept(letter, names, messages, routing)
        letters.resolve(letter.id, Resolution.REPLAYED)
    elif not letters.revive(letter):
        raise NotReplayableError(f"somebody has just dealt with dead letter {letter_id}")
    log.info("dead_letter.replayed", letter=letter_id, reason=letter.reason)


def _take(reason: str, raw: bytes, take_mail: Callable[[bytes], object]) -> None:
    if reason == DeadLetterReason.TOO_LARGE or not raw:
        raise NotReplayableError("its mail is only in the mailbox: read it there, then dismiss it")
    try:
        take_mail(raw)
    except WorkerError:
        raise
    except Exception as error:  # noqa: BLE001 - its text may quote the mail
        raise NotReplayableError(f"its mail cannot be taken: {named(error)}") from None


def _accept(
    letter: DeadLetter, names: Mapping[str, str], messages: MessageStore, routing: Routing
) -> None:
    try:
        document = {**envelope_in(letter.raw or b""), **names}
        task_id = None if letter.task_id is None else str(letter.task_id)
        message = parse_and_route(document, routing, task_id=task_id)
        commit(messages, message, starts_itself=False)
    except (EnvelopeError, LookupError) as error:
        raise NotReplayableError(str(error)) from None
