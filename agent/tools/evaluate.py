"""The tool that measures a configuration before it is proposed. It is paid for from the search's share."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agent.space import digest
from agent.tools.base import Desk, ToolError, tool_of
from agent.tools.shared import find, marked, short
from agent.tools.submit import changed

if TYPE_CHECKING:
    from agent.looking import LookRow
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
    mean = f"mean of {len(found.rows)}: {_numbers(found.mean)}" if found.mean is not None else "it has no result"
    if len(found.rows) == 1 and found.mean is not None:
        mean = _numbers(found.mean)
    head = mean + _beside(context, candidate.id, [row.example for row in found.rows])
    lines = [_row(row) for row in found.rows if len(found.rows) > 1 or row.feedback or row.failure]
    body = "\n".join(lines)
    # The numbers are ours; the words are those of the evaluator, or of what the candidate printed.
    foreign = any(row.feedback or row.failure for row in found.rows)
    return f"{head}\n{marked(desk, body) if foreign else body}".strip()


def _row(row: LookRow) -> str:
    name = f"row {row.example}: " if row.example is not None else ""
    said = f"failed: {row.failure}" if row.values is None else _numbers(row.values)
    return name + (f"{said}  {row.feedback}" if row.feedback else said)


def _beside(context: Context, candidate: str, examples: Sequence[str | None]) -> str:
    """What is known besides: which candidate it is, and what the champion has on the same rows."""
    history = context.history
    known = f" (this is candidate #{history[candidate].number})" if candidate in history else ""
    rows = history[history.champion].rows
    scores = [rows[name][0] for name in examples if name is not None and name in rows]
    there = [score for score in scores if score is not None]
    if candidate == history.champion or not there or len(there) < len(examples):
        return known
    return f"{known}; the champion has {history.objective.name}={sum(there) / len(there):.6g} there"


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


def _numbers(values: Mapping[str, float]) -> str:
    return " ".join(f"{name}={value:.6g}" for name, value in values.items())


evaluate = tool_of(_evaluate, name="evaluate", seconds=None)
