"""The tools on a server of the official SDK, over stdio."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import ValidationError

from agent.errors import AgentError
from agent.redact import redact
from agent.serving.tools import NAMES, READING, Tools
from agent.serving.wording import next_step, unfit

WORDS = 400
"""Characters of what is wrong with arguments."""
INSTRUCTIONS = """\
TrueGain optimizes prompts, numbers, choices and programs under a budget, and claims only gains that were shown.
list_problems, estimate, start; then observe from the cursor until the state is finished; then result.
Your own texts: evaluate_text measures one on training rows; with compete=true it is a candidate, raced and examined
as all are. Held-out rows and scores are shown to nobody before the end, and no limit can be raised here: a higher
score that the gate did not accept is no gain, so report the status as result gives it. The exam's figures are for
the person, who sees them by `truegain show FOLDER`, with the run's folder; to search on with them would spoil the
rows for the next exam."""


class _Server(MCPServer[Any]):
    """Says in plain words what is wrong with arguments."""

    async def call_tool(self, name: str, arguments: dict[str, Any], context: Any = None) -> Any:
        tool = self._tool_manager.get_tool(name)
        known = tool.parameters.get("properties", {}) if tool is not None else {}
        if "rows" in known and "rows" not in arguments and "examples" in arguments:  # as it is called over HTTP
            arguments = {"rows" if key == "examples" else key: value for key, value in arguments.items()}
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            if not isinstance(error.__cause__, ValidationError):
                raise
            wrong = "; ".join(dict.fromkeys(unfit(item, known, arguments) for item in error.__cause__.errors()))
            takes = ", ".join(known) or "no arguments"
            raise ToolError(redact(f"{wrong[:WORDS]}. Next: {name} takes {takes}.")) from None


def server(tools: Tools) -> MCPServer[Any]:
    """A server with the tools."""
    made = _Server("truegain", instructions=INSTRUCTIONS, log_level="WARNING")
    for name in NAMES:
        reads = name in READING
        made.add_tool(
            _spoken(getattr(tools, name)),
            description=inspect.getdoc(getattr(tools, name)),
            annotations=ToolAnnotations(read_only_hint=reads, destructive_hint=name == "stop", open_world_hint=False),
        )
        tool = made._tool_manager.get_tool(name)
        assert tool is not None
        # The SDK drops arguments that a tool does not have; whoever tries `set` or a limit shall hear that it is none.
        tool.fn_metadata.arg_model.model_config["extra"] = "forbid"
        tool.fn_metadata.arg_model.model_rebuild(force=True)
        tool.parameters["additionalProperties"] = False
    return made


def _spoken(work: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """A tool whose errors say what to do next. The SDK hides the words of all others."""

    @functools.wraps(work)
    def call(*arguments: Any, **given: Any) -> dict[str, Any]:
        try:
            found: dict[str, Any] = redact(work(*arguments, **given))
        except AgentError as error:
            todo = next_step(error)
            hint = f" Next: {todo}." if todo else ""
            raise ToolError(redact(f"{error.message}.{hint}")) from None
        return found

    return call
