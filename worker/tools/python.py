"""A tool that is a Python function.

    arguments fit the signature? ── no ──▶ failed, with the field for the model
       └── yes ──▶ runs in a thread ──▶ returns ──▶ done
                                   ├──▶ raises ──▶ failed
                                   └──▶ not within timeout_s ──▶ unknown; the thread goes on

Of an exception only the type's name leaves this module: its text may hold what a person wrote.
"""

import inspect
from collections.abc import Callable

from pydantic_core import to_json

from worker.domain.tools import ToolConfig, ToolRequest, ToolResult, ToolSpec
from worker.tools.context import ToolContext, ToolError
from worker.tools.results import BAD_ARGUMENTS, done, failed, unknown
from worker.tools.signature import ArgumentsError, Signature
from worker.tools.threads import Threads


class PythonTool:
    """One function of the operator's. Safe to share, as far as the function is."""

    def __init__(self, config: ToolConfig, function: Callable[..., object]) -> None:
        """Read the signature once. SignatureError: it cannot be a tool."""
        self._signature = Signature(function)
        self._function = function
        self._threads = Threads(config.name)
        self.spec = ToolSpec(
            name=config.name,
            description=config.description or inspect.getdoc(function) or "",
            parameters=config.parameters or self._signature.schema,
        )
        self.takes_key = config.honours_key
        self.timeout_s = config.timeout_s

    def run(self, request: ToolRequest) -> ToolResult:
        """Run it in a thread of its own, whatever it does."""
        result = self._threads.run(lambda: self._outcome(request), self.timeout_s)
        if result == "busy":
            return failed("error: the tool is busy; not done", reason="busy")
        if result == "late":
            # The thread goes on and may still do the thing.
            return unknown(reason="timeout")
        return result

    def _outcome(self, request: ToolRequest) -> ToolResult:
        try:
            arguments = self._signature.bind(request.arguments, ToolContext.of(request))
            value = self._function(**arguments)
        except ArgumentsError as error:
            return failed(f"error: the tool was not run: {error}", reason=BAD_ARGUMENTS)
        except ToolError as error:
            return failed(str(error), reason="ToolError")
        except BaseException as error:  # noqa: BLE001 even sys.exit() must end the tool alone
            return failed("error: the tool failed", reason=type(error).__name__)
        return _shown(value)


def _shown(value: object) -> ToolResult:
    if isinstance(value, str):
        return done(value)
    try:
        return done(to_json(value).decode())
    except BaseException as error:  # noqa: BLE001 a value's own serializer may raise anything
        reason = f"result: {type(error).__name__}"
        return failed("error: the tool ran, but its result cannot be shown", reason=reason)
