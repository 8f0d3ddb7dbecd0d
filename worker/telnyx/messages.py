"""The messaging API: one call, one answer, no retry."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus

from worker.domain.errors import RetryableError
from worker.domain.sms.answers import SendAnswer
from worker.net.answer import Answer
from worker.net.window import CallWindow
from worker.telnyx.answers.answer import pause_s, read_object, read_whole, slug, telnyx_code
from worker.telnyx.answers.classify import fault_of
from worker.telnyx.answers.rows import PAGE_SIZE, rows_of, time_of, total_of
from worker.telnyx.http.connection_per_thread import ConnectionPerThread

_MAX_PAGES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class OptOut:
    """Somebody to whom Telnyx sends nothing from a number of ours."""

    address: str
    recipient: str
    since: datetime | None


class Messages:
    """`TelnyxClient.messages`."""

    def __init__(self, http: ConnectionPerThread) -> None:
        self._http = http

    def send(self, path: str, body: bytes, key: str | None, window: CallWindow) -> SendAnswer:
        """POST the body as it is. `key`: a repetition with the same body does nothing.

        Raises IncompleteAnswerError; Telnyx saw nothing unless `window.wrote`.
        """
        answer = self._http.post_once(path, body, window, read_whole, idempotency_key=key)
        return _read(answer)

    def opt_outs(self) -> Iterator[OptOut]:
        """Yield the people whom Telnyx blocks because they opted out. Raises WorkerError."""
        what, last, seen = "list opt-outs", None, 0
        for number in range(1, _MAX_PAGES + 1):
            path = f"/messaging_optouts?page%5Bsize%5D={PAGE_SIZE}&page%5Bnumber%5D={number}"
            answer = self._http.call(what, "GET", path)
            rows = rows_of(what, answer)
            # The same page again: the server ignores page numbers.
            if not rows or rows == last:
                return
            yield from filter(None, map(_opt_out, rows))
            last, seen = rows, seen + len(rows)
            if seen == total_of(answer):
                return
        raise RetryableError(f"{what}: more than {_MAX_PAGES} pages")


def _opt_out(row: Mapping[str, object]) -> OptOut | None:
    # Named as in a message of ours: `to` is the person.
    to, ours = row.get("to"), row.get("from")
    if not isinstance(to, str):
        return None
    recipient = ours if isinstance(ours, str) else ""
    return OptOut(address=to, recipient=recipient, since=time_of(row.get("created_at")))


def _read(answer: Answer) -> SendAnswer:
    document = read_object(answer.body)
    if answer.status // 100 != HTTPStatus.OK // 100:
        return SendAnswer(
            status=answer.status,
            fault=fault_of(answer, document),
            code=telnyx_code(document),
            pause_s=pause_s(answer, datetime.now(UTC)),
        )
    data = (document or {}).get("data")
    taken = data if isinstance(data, dict) else {}
    parts = taken.get("parts")
    return SendAnswer(
        status=answer.status,
        message_id=slug(taken.get("id")),
        suppressed=bool((document or {}).get("suppressed")),
        parts=parts if isinstance(parts, int) and 0 < parts < 100 else None,  # noqa: PLR2004
    )
