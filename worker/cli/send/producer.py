"""Sends messages and reads outcomes for commands: through the client, as any other program does."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from message_worker_client import MessageKey, Outcome, Outcomes, Producer, ProducerError
from message_worker_client.envelope import EnvelopeError
from message_worker_client.message import checked
from worker.cli.errors import CommandError, MisuseError
from worker.domain.routing import Routing
from worker.handlers.intake.route import channel_address
from worker.queue.broker import broker_name


@contextmanager
def producer(broker_url: str) -> Iterator[Producer]:
    """Open a producer. Raises `CommandError` if the broker does not take a message."""
    try:
        with Producer(broker_url=broker_url) as opened:
            yield opened
    except ProducerError as error:
        raise broker_is_away(error, broker_url) from None


def check(envelope: Mapping[str, object], routing: Routing) -> MessageKey:
    """Check an envelope as a worker does; return the key of its row.

    Raises `CommandError` that names the field at fault.
    """
    try:
        message = checked(envelope)
        who = channel_address(message.envelope, routing.channel(message.envelope.channel))
    except (ProducerError, EnvelopeError) as error:
        raise MisuseError(str(error)) from None
    return MessageKey(**who.as_producers_name_it(), message_id=message.envelope.message_id)


def broker_is_away(error: Exception, broker_url: str) -> CommandError:
    """Explain it without the URL, which holds a password."""
    # Texts of a broker's errors may quote a message; those of the client never do.
    of_client = isinstance(error, ProducerError)
    kind = str(error) if of_client else type(error.__cause__ or error).__name__
    fix = "Is it running, and is BROKER_URL right?"
    if "OutOfMemoryError" in kind:
        fix = "Its memory is full: raise maxmemory, or free some"
    return CommandError(f"{broker_name(broker_url)}: {kind}. {fix}")


class OutcomeWatch:
    """Messages that were sent and have no outcome yet."""

    def __init__(self, outcomes: Outcomes, keys: Iterable[MessageKey] = ()) -> None:
        self._outcomes = outcomes
        self.open: dict[MessageKey, None] = dict.fromkeys(keys)

    def add(self, key: MessageKey) -> None:
        """Watch one more."""
        self.open[key] = None

    def look(self) -> list[tuple[MessageKey, Outcome]]:
        """Return those that ended since the last look, in the order they were sent."""
        ended = self._outcomes.by_key(list(self.open))
        for key, _ in ended:
            del self.open[key]
        return ended


@contextmanager
def outcomes_in(database_url: str) -> Iterator[Outcomes]:
    """Open the outcomes before anything is sent. Raises `CommandError` if Postgres is away."""
    try:
        with Outcomes(database_url) as outcomes:
            outcomes.forget_refusals()
            yield outcomes
    except ProducerError as error:
        raise CommandError(f"{error}. Is it running, and is DATABASE_URL right?") from None
