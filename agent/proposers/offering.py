"""Which tools the proposer `agentic` offers: those of the table that can be of use, and the user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from agent.errors import ConfigError
from agent.problem import Problem
from agent.tools.base import TABLE, Tool, load

if TYPE_CHECKING:
    from agent.proposers.agentic_options import Options
    from agent.proposers.base import Context

NEEDS: Mapping[str, Callable[[Problem, Options], bool]] = {
    "evaluate": lambda problem, options: options.evaluations > 0,
    "files": lambda problem, options: bool(options.files),
    "read_file": lambda problem, options: bool(options.files),
    "search_files": lambda problem, options: bool(options.files),
    "pareto": lambda problem, options: len(problem.objectives) > 1,
    "rows": lambda problem, options: problem.by_rows,
    "read_row": lambda problem, options: problem.by_rows,
    "surrogate": lambda problem, options: bool(problem.space.numeric),
    "critic": lambda problem, options: options.consults > 0,
    "second": lambda problem, options: options.consults > 0,
}
"""When a tool is of use; the others always are. Those in `TRACES` need a program that is traced."""
TRACES = ("trace", "search_trace")


def offered(problem: Problem, options: Options) -> list[Tool]:
    """The tools of a conversation, by the table and the options; those of servers come on top.

    Raises:
        ConfigError: One cannot be loaded, or two have the same name.
    """
    off = set(TABLE) if "*" in options.off else set(options.off)
    names = [name for name in sorted(TABLE) if name not in off and NEEDS.get(name, _always)(problem, options)]
    tools = [load(name, problem.folder) for name in dict.fromkeys([*names, *options.tools])]
    seen = {"submit"}
    for tool in tools:
        if tool.name in seen:
            raise ConfigError(
                f"proposer.options.tools: there are two tools with the name {tool.name}", hint="rename your function"
            )
        seen.add(tool.name)
    return tools


async def traced(context: Context) -> bool:
    """Whether the program that is searched for tells what it does: the tools for traces are of no use elsewhere."""
    found = context.effects is not None and await context.effects.trace(context.history.champion, None)
    return bool(found)


def _always(problem: Problem, options: Options) -> bool:
    return True
