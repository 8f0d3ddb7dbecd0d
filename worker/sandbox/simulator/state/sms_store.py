"""The text messages and who has opted out: like the threads, changed only by logged events."""

from datetime import UTC, datetime

from worker.sandbox.simulator.record.events import Event, OptOutChanged, SmsStored
from worker.sandbox.simulator.record.log import EventLog
from worker.sandbox.simulator.record.sms import Sms


class SmsStore:
    """Rebuilt from an old log. Events that were on their way when it ended are not sent again."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._messages: dict[str, Sms] = {}
        self._opted_out: dict[str, OptOutChanged] = {}
        for entry in log.entries():
            self._apply(entry.event)

    def messages(self) -> tuple[Sms, ...]:
        """All of them, in the order of their first storing."""
        return tuple(self._messages.values())

    def message(self, sms_id: str) -> Sms | None:
        """None: never there."""
        return self._messages.get(sms_id)

    def put(self, request: int | None, sms: Sms) -> None:
        """Store a message, or its new status."""
        self._record(SmsStored(request=request, sms=sms))

    def is_opted_out(self, number: str) -> bool:
        """Whether the owner of this number sent STOP and no START since."""
        return number in self._opted_out

    def opt_outs(self) -> tuple[OptOutChanged, ...]:
        """Return who is blocked, in the order of their opting out."""
        return tuple(self._opted_out.values())

    def set_opted_out(
        self, number: str, *, opted_out: bool, ours: str = "", keyword: str = ""
    ) -> None:
        """Block a number, or no longer."""
        self._record(
            OptOutChanged(
                number=number,
                opted_out=opted_out,
                ours=ours,
                keyword=keyword,
                at=datetime.now(UTC),
            )
        )

    def _record(self, event: Event) -> None:
        self._log.append(event)
        self._apply(event)

    def _apply(self, event: Event) -> None:
        match event:
            case SmsStored(sms=sms):
                self._messages[sms.id] = sms
            case OptOutChanged(number=number, opted_out=True):
                self._opted_out.pop(number, None)
                self._opted_out[number] = event
            case OptOutChanged(number=number):
                self._opted_out.pop(number, None)
            case _:
                pass
