"""Opening a gate's rows for reading, for good: whoever has seen them can no longer be surprised by them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.errors import ConfigError, GateError
from agent.events import VerdictReached
from agent.gate.accounts import Accounts
from agent.journal import read_all
from agent.problem import Example
from agent.space import digest
from agent.state import State, folded
from agent.wall import ended, mark_opened, opened

if TYPE_CHECKING:
    from agent.problem import Split

CONSEQUENCE = (
    "every later exam on these rows, in this run or any other, is unproven, because whoever has seen them can choose"
    " candidates that suit them"
)


def open_gate(folder: Path, data: Any) -> list[dict[str, Any]]:
    """Mark a run and the account of its rows as opened, and return what the gate measured, row by row.

    Args:
        folder: Of a run that has ended.
        data: The rows the run was started with: a `Dataset`, a list of rows or of `Example`s, or a path. They
            are needed because accounts know rows by their content, which a journal does not hold. None
            for a run without rows: its exams measured anew, so nothing is used up.

    Returns:
        One mapping for each pair of each exam: exam, row, released and champion (the compared number, None where it
        failed or was not measured), gain, and content.

    Raises:
        GateError: The run is open.
        ConfigError: These are not the run's rows.
        StoreError: The run or the accounts cannot be read or written; nothing is shown then.
    """
    check_ended(folder)
    found, state = _exams(folder)
    content: dict[str, Any] = {}
    if state.gate.val:
        examples, labels = _examples(data)
        rows = held_rows(state, examples)
        content = {example.id: example.row for example in rows}
        # The account first: a process that is cut off in between has shown nothing, and the rows are marked.
        unique = str(state.gate.standing.get("id", folder.name))
        Accounts(folder.parent, labels).open_gate(run=unique, rows=rows)
    if not opened(folder):
        mark_opened(folder, time.time())
    return [{**item, "content": content.get(str(item["row"]))} for item in found]


def check_ended(folder: Path) -> None:
    """Refuse a run that is open.

    Raises:
        GateError: It is.
    """
    if not ended(folder):
        raise GateError(
            f"{folder.name} is open, and while it is only the gate's bits leave it",
            hint=f"wait for its end, or end it with a resume (truegain resume {folder.name})",
        )


def held_rows(state: State, examples: Sequence[Example]) -> tuple[Example, ...]:
    """The gate's rows of a run among the examples that it was started with.

    Args:
        state: Folded with the gate's events.
        examples: With the content and the ids that they had then, in the same order.

    Raises:
        ConfigError: A row is missing, or says something else now.
    """
    split: dict[str, Split] = {example.id: "train" for example in state.problem.data}
    split |= {row: "val" for row, _ in state.gate.val}
    split |= {row: "test" for row, _ in state.gate.test}
    known = [replace(example, split=split[example.id]) for example in examples if example.id in split]
    if digest([[item.id, item.row, item.split] for item in known]) != state.fingerprints["data"]:
        raise ConfigError(
            f"these are not the rows that {state.run} was started with",
            hint="give the data as it was then: the same rows with the same ids, in the same order",
        )
    return tuple(example for example in known if example.split == "val")


def _examples(data: Any) -> tuple[Sequence[Example], Sequence[str]]:
    from agent.datasets.data import Dataset, load

    if data is None:
        raise ConfigError(
            "the gate's rows are needed to mark their account",
            hint="give the data that the run was started with",
        )
    if isinstance(data, (list, tuple)) and data and all(isinstance(item, Example) for item in data):
        return data, ("id",)
    found = data if isinstance(data, Dataset) else load(data)
    return found.examples, found.labels


def _exams(folder: Path) -> tuple[list[dict[str, Any]], State]:
    """What the gate measured in each exam, and the folded run."""
    state: State | None = None
    out: list[dict[str, Any]] = []
    number = 0
    for entry in read_all(folder):
        event = entry.event
        if state is not None and isinstance(event, VerdictReached) and event.verdict["kind"] in ("rows", "paired"):
            number += 1
            out += _pairs(state, number)
        state = folded(state, entry)
    assert state is not None
    return out, state


def _pairs(state: State, exam: int) -> list[dict[str, Any]]:
    gate, problem = state.gate, state.problem
    pairs, started = gate.pairs, gate.exam
    if pairs is None or started is None:
        return []
    out = []
    for place, pair in enumerate(pairs.numbers):
        halves = pairs.halves.get(pair, {})
        values = [halves.get(name) for name in (started.released, started.champion)]
        before, after = (problem.compared(item) if item is not None else None for item in values)
        gain = problem.objective.gain(after, before) if after is not None and before is not None else None
        row = gate.val[place][0] if problem.by_rows else None
        out.append({"exam": exam, "row": row, "released": before, "champion": after, "gain": gain})
    return out
