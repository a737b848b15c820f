"""The number of a whole set of outputs, such as macro F1, for the end of a run: what the gate's claim is not about.

It needs the rows' contents, which the journal does not hold. So it is computed when the run ends, from the recorded
outputs of the initial and the best candidate, and kept beside the journal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.events import EvaluationEnded, EvaluationStarted
from agent.journal import read_all
from agent.looking import LOOK
from agent.results.rowchanges import NOTHING, SPLIT

if TYPE_CHECKING:
    from agent.metrics.base import Metric
    from agent.problem import Problem
    from agent.space import Candidate

FILE = "whole.json"


def metric_of(problem: Problem) -> Metric | None:
    """The metric that has a number of the whole set which the gate does not examine; None where there is none."""
    metric: Metric | None = getattr(problem.evaluator, "metric", None)
    return metric if metric is not None and metric.note else None


def compute(folder: Path, problem: Problem, initial: Candidate, best: Candidate) -> dict[str, Any] | None:
    """The number with both candidates on train and test, over the rows that both answered; val is not read.

    Args:
        folder: Of a run that has ended.
        problem: With its rows.
        initial: The starting candidate.
        best: The other one.

    Returns:
        name and note; by split rows, initial and best, or "error". None where the metric has no such number.

    Raises:
        StoreError: The journal cannot be read.
    """
    metric = metric_of(problem)
    if metric is None:
        return None
    texts = _texts(folder, {initial.id, best.id})
    out: dict[str, Any] = {"name": getattr(metric.whole, "__name__", metric.name), "note": metric.note}
    for purpose, split in SPLIT.items():
        known = [texts.get((purpose, candidate.id), {}) for candidate in (initial, best)]
        rows = [row for row in problem.split(split) if all(row.id in there for there in known)]  # type: ignore[arg-type]
        if not rows:
            continue
        try:
            contents = [row.row for row in rows]
            numbers = [metric.over([there[row.id] for row in rows], contents) for there in known]
        except Exception as error:  # a user's function may do anything
            out[split] = {"rows": len(rows), "error": f"{type(error).__name__}: {error}"[:300]}
        else:
            out[split] = {"rows": len(rows), "initial": numbers[0], "best": numbers[1]}
    return out


def _texts(folder: Path, candidates: set[str]) -> dict[tuple[str, str], dict[str, str | None]]:
    """The last answer by purpose and candidate, and row; None for a failure."""
    out: dict[tuple[str, str], dict[str, str | None]] = {}
    open_ones: dict[int, EvaluationStarted] = {}
    for entry in read_all(folder):
        event = entry.event
        if isinstance(event, EvaluationStarted):
            mine = event.candidate in candidates and event.purpose in SPLIT
            if mine and event.fidelity == 1 and event.stage != LOOK and event.example is not None:
                open_ones[event.id] = event
        elif isinstance(event, EvaluationEnded) and event.id in open_ones:
            started = open_ones.pop(event.id)
            failure = event.output.get("failure")
            value = event.output.get("value")
            text = value.get("text") if isinstance(value, Mapping) else None
            if (failure or {}).get("kind") in NOTHING or not (failure or isinstance(text, str)):
                continue
            out.setdefault((started.purpose, started.candidate), {})[str(started.example)] = text
    return out


def load(folder: Path) -> dict[str, Any] | None:
    """What was kept; None where there is nothing, or nothing readable."""
    try:
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and "note" in found else None


def sentence(found: Mapping[str, Any]) -> str:
    """It in words: the numbers, and what the gate's claim is about instead."""
    parts = []
    for split in SPLIT.values():
        one = found.get(split)
        if one is None:
            continue
        if "error" in one:
            parts.append(f"not computed on {split}: {one['error']}")
        else:
            parts.append(f"{one['initial']:.4g} to {one['best']:.4g} on {one['rows']} {split} rows")
    said = f"{found['name']} over all outputs, for which nothing is claimed: {', '.join(parts)}. " if parts else ""
    note = str(found["note"])
    return f"{said}{note[0].upper()}{note[1:]}."
