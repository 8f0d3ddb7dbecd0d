"""What the service counts while it works. Here nothing is: that is for processes without metrics.

`worker.observability.prometheus` counts. Which of the two, is decided when a process
starts.
Arguments that become labels are names of the configuration or of the code: never a text, an
address, or anything that a producer or a model may choose.
"""


class Meters:
    """One for all threads of a process; every method is called where a log line is written."""

    def accepted(self, result: str) -> None:
        """Count an envelope with a row: `fresh`, `repeated` or `conflict`."""

    def refused(self, reason: str) -> None:
        """Count an envelope that became a dead letter."""

    def waited(self, seconds: float) -> None:
        """Note how long a turn's oldest message lay between its commit and the turn's claim."""

    def posted(self, agent: str, outcome: str, *, status: int | None, seconds: float) -> None:
        """Count one POST to the Responses endpoint; `status` None = no answer came."""

    def repeated(self, agent: str) -> None:
        """Count a POST that repeats an earlier one of the same turn and round."""

    def used(self, agent: str, *, input_tokens: int, output_tokens: int) -> None:
        """Count the tokens of one call."""

    def ran_tools(self, seconds: float) -> None:
        """Note how long this thread's turn was with its tools."""

    def ran_tool(self, tool: str, state: str) -> None:
        """Count the run of one tool."""

    def conversation_failed(self, error: str) -> None:
        """Count a failure of Telnyx's conversations that made a turn wait."""

    def settled(self, agent: str, plan: str, outcome: str) -> None:
        """Count how a claim on a turn ended."""

    def worked(self, seconds: float) -> None:
        """Note how long this thread had a turn: all of it, POSTs and tools too."""

    def fenced(self, work: str) -> None:
        """Count a `turn` or `delivery` that another worker had taken over."""

    def delivered(self, channel: str, state: str) -> None:
        """Count the state after an attempt to deliver."""
