"""The interface of a tool: its description for the model, and one method."""

from typing import Protocol

from worker.domain.tools import ToolRequest, ToolResult, ToolSpec


class Tool(Protocol):
    """A function that a model may ask for. One instance serves all threads."""

    @property
    def spec(self) -> ToolSpec:
        """The description that the model gets."""

    @property
    def takes_key(self) -> bool:
        """Whether a repetition under the same key does nothing; else it is run at most once."""

    @property
    def timeout_s(self) -> float:
        """The longest that one run takes."""

    def run(self, request: ToolRequest) -> ToolResult:
        """Run it within `timeout_s`; never raises for the model, the tool or the network."""
