"""The life of one message, as `worker why` tells it, with its texts."""

from starlette.responses import Response

from worker.console.desk import Desk
from worker.console.visit import Visit, missing
from worker.domain.ids import MessageRowId
from worker.domain.reports.timeline import timeline


def show(desk: Desk, visit: Visit) -> Response:
    """Show where it is, what comes next, and what was before."""
    history = desk.messages.read(MessageRowId(visit.subject))
    if history is None:
        raise missing("message")
    tools = [
        (one, one.name if one.name in desk.tools else "a tool that is none of ours")
        for one in history.tools
    ]
    return visit.show(
        "message.html",
        history=history,
        text=history.message.envelope.get("text"),
        told=desk.explain(history),
        events=timeline(history),
        tools=tools,
    )
