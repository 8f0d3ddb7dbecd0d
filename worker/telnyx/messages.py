"""The messaging API: one POST, one answer, no retry."""

from datetime import UTC, datetime
from http import HTTPStatus

from worker.domain.sms.answers import SendAnswer
from worker.net.answer import Answer
from worker.net.window import CallWindow
from worker.telnyx.answers.answer import pause_s, read_object, read_whole, slug, telnyx_code
from worker.telnyx.answers.classify import fault_of
from worker.telnyx.http.connection_per_thread import ConnectionPerThread


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
        parts=parts if isinstance(parts, int) and 0 < parts < 100 else None,  # noqa: PLR2004
    )
