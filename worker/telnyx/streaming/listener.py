"""The events of one streamed response, one after the other, until one of them is the verdict."""

from collections.abc import Callable, Mapping

from worker.domain.turns.calls import CallOutcome, Done, Unknown
from worker.net.answer import Answer, IncompleteAnswerError
from worker.observability.logs import log
from worker.telnyx.answers.answer import (
    MAX_ANSWER_BYTES,
    is_telnyx_error,
    parse_json,
    request_id,
    slug,
    telnyx_code,
)
from worker.telnyx.answers.classify import judge_response
from worker.telnyx.streaming.sse import Event

_DELTA = "response.output_text.delta"
_ITEM = "response.output_item.done"
_TERMINAL = frozenset({"response.completed", "response.incomplete", "response.failed"})


class Listener:
    """Reads one stream: passes its text on, keeps its items, judges its end."""

    def __init__(
        self, head: Answer, on_text: Callable[[str], None] | None, *, heard: Callable[[], None]
    ) -> None:
        """`heard` is called after each event of the response."""
        self._head = head
        self._on_text = on_text
        self._heard = heard
        self._heard_text = False
        self._items: dict[int, dict[str, object]] = {}
        self._items_bytes = 0

    def take(self, event: Event) -> CallOutcome | None:
        """Process one event; None: the stream goes on."""
        if event.data.strip() == "[DONE]":
            return self.unknown("stream ended without a verdict")
        value = parse_json(event.data)
        document = value if isinstance(value, dict) else {}
        kind = _kind(event, document)
        if kind in _TERMINAL:
            return self._judge(kind, document)
        if kind == "error":
            code = _error_code(document)
            return self.unknown(f"stream error {code}" if code else "stream error")
        if kind == _DELTA:
            self._pass_on(document.get("delta"))
        if kind == _ITEM:
            self._keep(document, len(event.data))
        if kind.startswith("response."):
            self._heard()
        return None

    def _pass_on(self, delta: object) -> None:
        if not isinstance(delta, str) or not delta:
            return
        self._heard_text = True
        if self._on_text is None:
            return
        try:
            self._on_text(delta)
        except Exception as error:  # noqa: BLE001 a live display must not cost the answer
            self._on_text = None
            log.error("stream.on_text_failed", error=type(error).__name__)

    def _keep(self, document: Mapping[str, object], size: int) -> None:
        index, item = document.get("output_index"), document.get("item")
        if not isinstance(item, dict):
            return
        self._items_bytes += size
        if self._items_bytes > MAX_ANSWER_BYTES:
            raise IncompleteAnswerError(f"output larger than {MAX_ANSWER_BYTES} bytes")
        # Items may end in another order than the one in which they belong.
        self._items[index if isinstance(index, int) else len(self._items)] = item

    def _judge(self, kind: str, document: Mapping[str, object]) -> Done | Unknown:
        sent = document.get("response")
        if not isinstance(sent, dict):
            return judge_response(self._head, {})
        response = {**sent}
        if not isinstance(sent.get("status"), str):
            response["status"] = kind.removeprefix("response.")
        if not sent.get("output") and response["status"] != "failed":
            # Some servers do not repeat in the last event what they streamed before.
            response["output"] = [item for _, item in sorted(self._items.items())]
            if self._heard_text and not self._items:
                return self.unknown("stream without its output")
        return judge_response(self._head, response)

    def unknown(self, reason: str) -> Unknown:
        """Return that there is no verdict; `reason` is a short text of ours."""
        head = self._head
        return Unknown(reason=reason, status=head.status, request_id=request_id(head))


def _kind(event: Event, document: Mapping[str, object]) -> str:
    """Return an event's type: from its JSON, else its field; any that holds an error is one."""
    typed = document.get("type")
    kind = typed if isinstance(typed, str) else event.name
    if kind.startswith("response."):
        return kind
    is_error = event.name == "error" or document.get("error") or is_telnyx_error(document)
    return "error" if is_error else kind


def _error_code(document: Mapping[str, object]) -> str | None:
    code = document.get("code")
    return slug(str(code)) if code is not None else telnyx_code(document)
