"""`POST /telnyx/messaging[/KEY]`: what Telnyx tells, stored before it is answered."""

from dataclasses import dataclass
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response

from message_worker_client.envelope.wire import MAX_BODY_BYTES
from worker.channels.sms.events import event_id
from worker.gateway.endpoint import RefusedError, read_body, read_document
from worker.gateway.signature import FORGED, TelnyxKeys
from worker.gateway.storage import Storage, Task
from worker.handlers.intake.take_event import InboxEntry, TakeEvent
from worker.queue.broker import EVENT


@dataclass(frozen=True, kw_only=True)
class TelnyxWebhooks:
    """The endpoint. KEY is the idempotency key of the delivery that an event is about."""

    keys: TelnyxKeys
    take: TakeEvent
    storage: Storage

    async def __call__(self, request: Request) -> Response:
        """Store one event."""
        body = await read_body(request, limit=MAX_BODY_BYTES)
        fault = self.keys.fault(request.headers, body)
        if fault == FORGED and await self.keys.replaced():
            fault = self.keys.fault(request.headers, body)
        if fault is not None:
            raise RefusedError(401, "telnyx-signature-ed25519", fault)
        document = read_document(body)
        request.scope["ids"]["telnyx_event"] = event_id(document)
        key = request.path_params.get("key")
        work = self.take.read(document, key)
        if work is not None:
            task_id = str(work.id if isinstance(work, InboxEntry) else uuid4())
            request.scope["ids"]["task"] = task_id
            task = Task(EVENT, task_id, {"event": document, "key": key})
            await self.storage.store(work, task)
        # Exactly 200: for Telnyx any other status, 2xx or not, is a failure.
        return Response(status_code=200)
