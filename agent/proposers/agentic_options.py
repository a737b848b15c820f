"""What a user may set for the proposer `agentic`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.proposers.options import check_temperature, check_whole, number, wrong
from agent.settings import ROLES
from agent.tools.base import TABLE


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may set under [proposer.options].

    Args:
        turns: Replies of the model in a conversation.
        calls: Tool calls in a conversation.
        evaluations: Measurements that tools may make in a conversation, as a share of those that are left; 0 for none.
        consults: Calls of `critic` and `second` in a conversation.
        tokens: Of a conversation, in and out; only its last turn may go beyond.
        reply: Tokens of one reply beyond what the parameters' values take.
        proposals: Least number of proposals that a conversation is asked for.
        tools: Tools besides those that are there: functions of your own as "module:function", looked for in the
            problem's folder too, and names of tools that `off` takes away.
        off: Names of tools that are not offered; "*" for all.
        mcp: Servers of the Model Context Protocol: tables with `name`, and `command` with `args`, or `url`.
        files: Patterns of files in the problem's folder that the model may read; none by default.
        second: Role whose model gives the second opinion.
        temperature: Of the model; by default its own.
    """

    turns: int = 12
    calls: int = 40
    evaluations: float = 0.1
    consults: int = 3
    tokens: int = 60_000
    reply: int = 4000
    proposals: int = 1
    tools: Sequence[str] = ()
    off: Sequence[str] = ()
    mcp: Sequence[Mapping[str, Any]] = ()
    files: Sequence[str] = ()
    second: str = "critic"
    temperature: float | None = None

    def __post_init__(self) -> None:
        check_whole(self, {"turns": 1, "calls": 1, "consults": 0, "tokens": 1000, "reply": 16, "proposals": 1})
        if not number(self.evaluations) or not 0 <= self.evaluations <= 1:
            raise wrong("evaluations", self.evaluations, "a share from 0 to 1")
        if self.temperature is not None:
            check_temperature(self.temperature)
        for name in ("tools", "off", "files"):
            value = getattr(self, name)
            if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
                # Options stand in the journal, so that they are names and never functions.
                such = {
                    "tools": '"module:function" for a tool of your own',
                    "off": '"python"',
                    "files": '"src/**/*.py"',
                }
                raise wrong(name, value, f"a list of texts, such as {such[name]}")
        outside = [item for item in self.files if not item or item.startswith(("/", "~")) or ".." in item.split("/")]
        if outside:
            raise wrong("files", outside[0], "a pattern of files in the problem's folder, such as src/**/*.py")
        if self.second not in ROLES:
            raise wrong("second", self.second, f"one of {', '.join(ROLES)}")
        unknown = [name for name in self.off if name != "*" and name not in TABLE]
        if unknown:
            raise wrong("off", unknown[0], f"* or one of {', '.join(sorted(TABLE))}")
