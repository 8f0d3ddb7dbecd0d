"""Runs the tools that the model asked for; the end of each is committed at once."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import partial
from uuid import UUID, uuid5

from worker.domain.states import ToolCallState
from worker.domain.tools import ToolRequest, ToolResult
from worker.domain.turns.claim import Claimed
from worker.domain.turns.records import ToolRecord
from worker.handlers.telemetry.turns import record_elsewhere, record_tool_ran, tool_span
from worker.net.clock import boottime
from worker.net.elsewhere import ELSEWHERE
from worker.observability import traces
from worker.observability.logs import log
from worker.store.turns.turns import TurnStore
from worker.tools.tool import Tool

MAX_PARALLEL = 8
"""Tools of one turn that run at once; the others wait."""

NO_SUCH_TOOL = ToolResult(
    state="failed", output="error: there is no such tool", reason="no such tool"
)
LEFT_BEHIND = ToolResult(
    state="unknown",
    output="error: this was interrupted, and it is not known whether it happened; "
    "it was not tried again",
    reason="its worker died",
)
RAISED = ToolResult(
    state="unknown",
    output="error: the tool failed, and it is not known whether it happened",
    reason="raised",
)


@dataclass(frozen=True, kw_only=True)
class RunTools:
    """Runs the tools without an output: once, or again if the tool takes the idempotency key."""

    tools: Mapping[str, Tool]
    turns: TurnStore
    namespace: UUID

    def __call__(self, claimed: Claimed) -> Claimed:
        """Run them and return the claim with their outputs.

        Raises `StaleLeaseError` and `DatabaseAwayError`; the failure of a tool is an output.
        """
        calls = claimed.turn.tool_calls
        unfinished = [one for one in calls if one.state is ToolCallState.STARTED]
        if not unfinished:
            return claimed
        started = boottime()
        run = partial(self._run, claimed, self.turns.newest_metadata(claimed.turn.id))
        if len(unfinished) == 1:
            with ELSEWHERE:
                finished = [run(unfinished[0])]
        else:
            # Log fields and the current span are in this thread's context; a pool has its own.
            contexts = [copy_context() for _ in unfinished]
            with ELSEWHERE, ThreadPoolExecutor(min(len(unfinished), MAX_PARALLEL)) as pool:
                finished = list(pool.map(lambda own, one: own.run(run, one), contexts, unfinished))
        record_elsewhere(boottime() - started)
        ended = {(one.round, one.call_id): one for one in finished}
        calls = tuple(ended.get((one.round, one.call_id), one) for one in calls)
        return replace(claimed, turn=replace(claimed.turn, tool_calls=calls))

    def _run(self, claimed: Claimed, metadata: Mapping[str, str], record: ToolRecord) -> ToolRecord:
        tool = self.tools.get(record.name) if record.name in claimed.tools else None
        configured = tool is not None
        with tool_span(record, configured=configured):
            result = self._result(claimed, record, tool, metadata)
            self.turns.finish_tool(claimed.lease, record, result)
            record_tool_ran(record, result, configured=configured)
        return replace(record, state=ToolCallState(result.state), output=result.output)

    def _result(
        self,
        claimed: Claimed,
        record: ToolRecord,
        tool: Tool | None,
        metadata: Mapping[str, str],
    ) -> ToolResult:
        if tool is None:
            return NO_SUCH_TOOL
        # Another token: an earlier worker started it, and may have died before or after its effect.
        if record.token != claimed.lease.token and not tool.takes_key:
            return LEFT_BEHIND
        request = ToolRequest(
            name=record.name,
            arguments=record.arguments,
            key=uuid5(self.namespace, f"tool {record.turn_id} {record.round} {record.call_id}"),
            who=claimed.who,
            metadata=metadata,
            traceparent=traces.current_traceparent(),
        )
        try:
            return tool.run(request)
        # Only the type: the text of an exception may quote the arguments.
        except Exception as error:  # noqa: BLE001 - a defect of a tool must not stop the turn
            log.error("tool.raised", turn=record.turn_id, error=type(error).__name__)
            return RAISED
