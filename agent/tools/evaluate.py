"""The tool that measures a configuration before it is proposed. It is paid for from the search's share."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agent.space import digest
from agent.tools.base import Desk, ToolError, tool_of
from agent.tools.shared import find, marked, short
from agent.tools.submit import changed

if TYPE_CHECKING:
    from agent.proposers.base import Context

ROWS = 3
"""Rows of train that a configuration is measured on where the model does not say."""


async def _evaluate(
    desk: Desk, changes: dict[str, Any], base: str = "champion", examples: list[str] | None = None, n: int = ROWS
) -> str:
    """Measure a configuration now. Each row costs one evaluation of the budget; nothing is proposed by it.

    Args:
        changes: New values by parameter; empty to measure the base itself.
        base: What the changes are made to: champion, initial, # and a number, or an id.
        examples: Ids of rows of train to measure it on; what is measured there can be known by heart, so that a later
            comparison leaves these rows out.
        n: Without examples, how many rows, drawn at random.
    """
    context = desk.context
    parent = find(desk, base).candidate
    candidate = changed(context, parent, changes) if changes else parent
    found = await context.look(candidate.values_json, _examples(desk, examples, n), key=desk.key)
    lines = []
    for row in found.rows:
        name = f"row {row.example}: " if row.example is not None else ""
        if row.values is None:
            lines.append(f"{name}failed: {row.failure}")
        else:
            lines.append(f"{name}{_numbers(row.values)}" + (f"  {row.feedback}" if row.feedback else ""))
    mean = f"mean of {len(found.rows)}: {_numbers(found.mean)}" if found.mean is not None else "it has no result"
    known = f" (this is candidate #{context.history[candidate.id].number})" if candidate.id in context.history else ""
    return f"{mean}{known}\n{marked(desk, chr(10).join(lines))}"


def _examples(desk: Desk, examples: list[str] | None, n: int) -> tuple[str, ...]:
    known = [item.id for item in desk.context.problem.split("train")]
    if not known:
        if examples:
            raise ToolError("this problem has no rows", hint="leave examples out")
        return ()
    if examples:
        missing = [name for name in examples if name not in known]
        if missing:
            raise ToolError(
                f"there is no row {short(missing[0], 60)!r} to measure on", hint=f"rows are {', '.join(known[:5])} …"
            )
        return tuple(dict.fromkeys(examples))
    if n < 1:
        raise ToolError(f"n: found {n}, allowed is 1 to {len(known)}")
    rng = random.Random(digest([desk.context.decision, desk.key, "rows"]))
    return tuple(rng.sample(known, min(n, len(known))))


def _rows(context: Context, arguments: Mapping[str, Any]) -> int:
    """How many measurements a call asks for, as far as its arguments can be read."""
    known = len(context.problem.split("train"))
    if not known:
        return 1
    examples, n = arguments.get("examples"), arguments.get("n", ROWS)
    if isinstance(examples, list) and examples:
        return min(len(examples), known)
    return max(1, min(n, known)) if isinstance(n, int) else ROWS


def _numbers(values: Mapping[str, float]) -> str:
    return " ".join(f"{name}={value:.6g}" for name, value in values.items())


evaluate = tool_of(_evaluate, name="evaluate", seconds=None, rows=_rows)
