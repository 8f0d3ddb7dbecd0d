"""Tools of the service itself: a policy offers them to a model, no name in the agents file."""

from collections.abc import Mapping
from typing import Any, Final

from worker.domain.people.drafts import ASK_FOR_REVIEW
from worker.domain.tools import ToolRequest, ToolResult, tool_item
from worker.tools.tool import Tool, done


class AskForReview:
    """The model asks that a person reads its answer first; the row of the call is the record."""

    takes_key: Final = True
    item: Final[Mapping[str, Any]] = tool_item(
        ASK_FOR_REVIEW,
        "Ask a person of our staff to read your answer before it is sent. Use it if you are not"
        " sure that the answer is right. Call it before you answer, then answer as usual.",
        {
            "type": "object",
            "properties": {
                "reason": {"type": "string", "description": "Why, for our staff, in one sentence."}
            },
            "required": ["reason"],
        },
    )

    def run(self, _: ToolRequest) -> ToolResult:
        """Tell the model to go on."""
        return done("A person will read your answer before it is sent. Write it now.")


BUILT_IN: Final[dict[str, Tool]] = {ASK_FOR_REVIEW: AskForReview()}
