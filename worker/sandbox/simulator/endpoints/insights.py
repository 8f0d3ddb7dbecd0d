"""The insights of conversations: there are none, in the documented shapes."""

from worker.sandbox.simulator.endpoints.answers import Answer, ok, refusal
from worker.sandbox.simulator.endpoints.conversations import lookup
from worker.sandbox.simulator.state.state import Exchange, State

_PAGE = {"total_pages": 0, "total_results": 0, "page_number": 1, "page_size": 20}


def show(state: State, exchange: Exchange) -> Answer:
    """GET of a list of insights, of templates, of groups, or of their counts."""
    if exchange.conversation_id is not None:
        found = lookup(state, exchange)
        if isinstance(found, Answer):
            return found
    path = exchange.path.partition("?")[0]
    if path.endswith("/aggregates"):
        return ok({"data": []})
    if path.endswith(("insights", "insight-groups")):
        return ok({"data": [], "meta": _PAGE})
    return refusal(404, "Insight Not Found", shape=state.config.ai_error_shape)
