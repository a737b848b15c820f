"""Tools that show and search what a candidate's program did."""

from __future__ import annotations

from collections.abc import Sequence

from agent.tools.base import Desk, ToolError
from agent.tools.shared import MARKED, find, marked, short
from agent.tracing.spans import Span, Trace, plain

ENDS = 20
"""Spans that are shown from the beginning, and from the end, of a long trace."""
WIDEST = 240
"""Characters of a span's line."""
CODE = 2000
"""Characters of an op's source text."""


async def trace(desk: Desk, candidate: str = "champion", row: str | None = None, span: int | None = None) -> str:
    """What a candidate's program did when it was last measured: its calls, their inputs and outputs, what raised.

    Args:
        candidate: champion, initial, best, # and a number, or an id.
        row: Id of a row, for what it did on that one.
        span: Number of a call, to see it in full with the code of its function.
    """
    found, where = await _trace(desk, candidate, row)
    if span is not None:
        chosen = next((item for item in found.spans if item.id == span), None)
        if chosen is None:
            raise ToolError(f"{where} has no call #{span}", hint="call trace without span to see the numbers")
        code = found.code.get(chosen.name, "")
        body = found.show(span) + (f"\ncode of {plain(chosen.name)}:\n{code[:CODE]}" if code else "")
        return marked(desk, body)
    failing = found.failing()
    head = f"{where}: {len(found.spans) + found.dropped} calls, {len(failing)} raised"
    lines = found.show().splitlines()
    if len(lines) > 2 * ENDS + 10:
        first = _lines(found, failing[:5])
        lines = [
            *first,
            *lines[:ENDS],
            f"… {len(lines) - 2 * ENDS} lines left out; search_trace finds …",
            *lines[-ENDS:],
        ]
    return f"{head}\n{marked(desk, chr(10).join(line[:WIDEST] for line in lines))}"


async def search_trace(desk: Desk, text: str, candidate: str = "champion", row: str | None = None, n: int = 10) -> str:
    """The calls of a candidate's program in whose name, values, notes or error a text occurs.

    Args:
        text: What to look for, in any case; no pattern.
        candidate: champion, initial, best, # and a number, or an id.
        row: Id of a row, for what it did on that one.
        n: How many calls, 1 to 30.
    """
    from agent.tools.shared import listed

    most = listed(n)
    if not text:
        raise ToolError("text is empty", hint="say what to look for")
    found, where = await _trace(desk, candidate, row)
    hits = found.search(text)
    head = f"{where}: {len(hits)} of {len(found.spans)} calls have {short(text, 60)!r}"
    return f"{head}\n{marked(desk, chr(10).join(_lines(found, hits[:most])))}" if hits else head


def _lines(found: Trace, spans: Sequence[Span]) -> list[str]:
    return [found.line(span)[: MARKED // max(5, len(spans))] for span in spans]


async def _trace(desk: Desk, name: str, row: str | None) -> tuple[Trace, str]:
    trial = find(desk, name)
    desk.context.showing(trial)  # a trace holds what its program is made of
    if row is not None and row not in {example.id for example in desk.context.problem.split("train")}:
        raise ToolError(f"there is no row {short(row, 60)!r}", hint="take an id that rows shows, or leave row out")
    effects = desk.context.effects
    if row is None and effects is not None and (latest := await effects.trace(trial.id, None)) is not None:
        row = latest[1]
    found = await desk.context.trace(trial.id, row)
    where = f"{trial.id[:8]}" + (f" on row {short(row, 60)}" if row is not None else "")
    if found is None:
        raise ToolError(
            f"there is no trace of {where}",
            hint="it was not measured there yet, or its program records none; take another candidate or row",
        )
    return found, where
