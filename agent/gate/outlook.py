"""What the gate of a problem can still show, worked out from its account; nothing is written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from agent.datasets.data import MINIMUM, split
from agent.gate import levels, standing
from agent.gate.accounts import Accounts
from agent.gate.membership import Assigned
from agent.gate.preview import copied
from agent.ledger import plural
from agent.problem import Example, Problem
from agent.wall import ended

NEXT = "the next run"


@dataclass(frozen=True, slots=True)
class Outlook:
    """The standing of a problem's gate.

    Args:
        rows: Rows by split, as the next run would have them.
        units: Independent rows (clusters) of the gate.
        account: `agent.gate.accounts.Standing` as JSON; None when nothing was ever held out.
        smallest: Smallest gain, as a share of the score's range, that the next run's last exam shows with a
            chance of 0.8; None when there is none.
        exhausted: Whether it would miss even a large gain more often than not.
        usable: Whether the next run can prove anything.
        sizes: The rows in words.
        sentences: The rest in words.
        notes: What was found when the rows were divided.
        exams: All exams on these rows, in all runs; the size of one in an open run is not told.
    """

    rows: dict[str, int]
    units: int
    account: dict[str, Any] | None
    smallest: float | None
    exhausted: bool
    usable: bool
    sizes: str
    sentences: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    exams: tuple[dict[str, Any], ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def clusters(examples: Sequence[Example]) -> int:
    """How many independent units the examples are."""
    return len({example.cluster or example.id for example in examples})


def without_rows(problem: Problem) -> str:
    """Why a problem has no account."""
    if problem.exact:
        return "comparisons are exact here, so there are no gate rows and no account"
    what = "the rows are the goal itself" if problem.data else "there are no rows"
    return f"{what}, so exams measure anew in every run and nothing is used up"


def _assigned(place: Path, problem: Problem, shares: Mapping[str, float] | None) -> tuple[Accounts, Assigned]:
    accounts = Accounts(place, problem.labels)

    def splitter(examples: Sequence[Example]) -> Sequence[Example]:
        return split(examples, shares, problem.labels)

    return accounts, accounts.assign(problem.data, NEXT, splitter=splitter)


def _by_split(examples: Sequence[Example]) -> dict[str, int]:
    return {name: sum(example.split == name for example in examples) for name in ("train", "val", "test")}


def outlook(runs: Path, problem: Problem, alpha: float, shares: Mapping[str, float] | None = None) -> Outlook:
    """What the next run on these rows could show.

    Args:
        runs: The runs folder, where the accounts are.
        problem: With its rows, not divided.
        alpha: Chance of any false claim over all runs.
        shares: For val and test, as in `agent.datasets.data.split`.

    Raises:
        StoreError: The accounts cannot be read.
    """
    if not problem.by_rows:
        return Outlook({}, 0, None, None, False, True, without_rows(problem))
    with copied(runs) as place:
        accounts, found = _assigned(place, problem, shares)
        gate = [example for example in found.examples if example.split == "val"]
        known = accounts.standing(gate, alpha) if gate else None
        exams = accounts.history(gate) if gate else []
    rows, units = _by_split(found.examples), clusters(gate)
    sizes = f"{rows['train']} train, {rows['val']} val and {rows['test']} test rows"
    if known is None:
        pooled = f"Nothing can be proven: {standing.pooled(rows['train'])}."
        return Outlook(rows, 0, None, None, False, False, sizes, (pooled,), found.notes)
    least = levels.detectable(units, known.next)
    smallest = least if math.isfinite(least) and least < 1 else None
    exhausted = standing.exhausted(units, known.next)
    told = tuple(_sentences(known, alpha, units, smallest, exhausted, found.searched))
    usable = not exhausted and not known.opened and not found.searched
    listed = tuple(
        {
            "run": exam.run.partition("#")[0],
            "exam": exam.exam,
            "last": exam.last,
            "planned": exam.planned if _over(runs, exam.run) else None,
            "level": exam.level,
            "accepted": exam.accepted,
            "time": exam.time,
        }
        for exam in exams
    )
    return Outlook(rows, units, asdict(known), smallest, exhausted, usable, sizes, told, found.notes, listed)


def _over(runs: Path, run: str) -> bool:
    # The size of an exam follows from what the search saw, and is told when the run is over. A deleted run is.
    folder = runs / run.partition("#")[0]
    return not folder.is_dir() or ended(folder)


def _sentences(
    known: Any, alpha: float, units: int, smallest: float | None, exhausted: bool, searched: Sequence[str]
) -> list[str]:
    out = [
        f"{plural(known.tests, 'exam')} in {plural(known.runs, 'run')}, {known.accepts} accepted"
        + (f", {known.pending} not ended" if known.pending else "")
        + f"; {known.spent:.2g} of {alpha:g} spent; the next run's exam has the level {known.next:.2g}."
    ]
    if exhausted:
        out.append(f"{_capital(standing.exhausted_sentence(units, known.next))}.")
    elif smallest is not None:
        out.append(f"Gains under {standing.percent(smallest)} cannot be shown with these {units} gate examples.")
    if known.opened:
        runs = ", ".join(dict.fromkeys(item.run.partition("#")[0] for item in known.opened))
        out.append(f"The gate was opened for reading in {runs}: what it accepts is unproven. Open a new gate.")
    if searched:
        out.append(f"A search has read {len(searched)} of these rows: what the gate accepts is unproven.")
    return out


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def renewed(runs: Path, problem: Problem, alpha: float, shares: Mapping[str, float] | None = None) -> dict[str, Any]:
    """What a new gate would be: tried out on a copy of the accounts.

    Args:
        runs, problem, alpha, shares: As for `outlook`.

    Returns:
        retired: gate rows that would go to train; rows: by split in the next run; enough: whether its gate can
        show a large gain; sentence, and warning where it cannot.

    Raises:
        StoreError: The accounts cannot be read.
    """
    with copied(runs) as place:
        retired = Accounts(place, problem.labels).new_gate(problem.data)
        _, found = _assigned(place, problem, shares)
    gate = [example for example in found.examples if example.split == "val"]
    rows = _by_split(found.examples)
    warning = ""
    if not gate:
        warning = (
            f"fewer than {MINIMUM} rows are left that no run has seen, so the next run would have no gate and could"
            f" prove nothing; add at least {MINIMUM} examples to the data first"
        )
    elif standing.exhausted(clusters(gate), levels.alone(alpha, {})):
        warning = f"{len(gate)} gate rows would miss even a large gain more often than show it; add examples first"
    sentence = f"The next run would have {rows['train']} train, {rows['val']} val and {rows['test']} test rows."
    return {"retired": retired, "rows": rows, "enough": not warning, "sentence": sentence, "warning": warning}
