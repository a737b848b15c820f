"""What a few measurements say about a new evaluator: does it work, repeat, and move with the parameters?"""

from __future__ import annotations

import hashlib
import math
import os
import stat
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from agent.drafting import confined
from agent.drafting.findings import Findings, left
from agent.evaluation import Failure, Request
from agent.gate.noise import SAME, Noise
from agent.parameters import Numeric, Parameter, Value
from agent.space import Candidate, digest

if TYPE_CHECKING:
    from agent.evaluation import Output
    from agent.ledger import Ledger
    from agent.paying import Measuring
    from agent.problem import Example
    from agent.session import Session

RUNS, FEWEST = 5, 3
ROWS = 3
"""Rows on which a candidate is measured here."""
TRIED = 8
"""Parameters that are moved."""
LARGEST = 10_000_000
"""Bytes of a file up to which what it holds is compared; beyond, its size and when it was written."""
MOVES = 3.0
"""Standard deviations by which a score must differ to have moved."""


def others(session: Session) -> list[tuple[str, list[Value]]]:
    """Two values away from the default for each parameter that has them, at most `TRIED` of them: one alone may give
    the same by symmetry.
    """
    space, out = session.problem.space, []
    initial = space.initial()
    for name, item in space.items():
        tried: list[Value] = []
        if isinstance(item, Numeric):
            low = item.encode(initial[name]) < 0.5
            tried = [item.decode(unit) for unit in ((0.9, 0.65) if low else (0.1, 0.3))]
        elif item.type == "text":
            tried = [_allowed(item, f"{initial[name]}\n{initial[name]}")]
        values = [value for value in dict.fromkeys(tried) if value is not None and value != initial[name]]
        if values:
            out.append((name, values))
    return out[:TRIED]


def _allowed(item: Parameter, value: Value) -> Value:
    try:
        return item.check(value)
    except ValueError:
        return None


def count(session: Session, runs: int = RUNS) -> int:
    """Evaluations that `check` makes at most."""
    rows = max(1, min(ROWS, len(session.problem.split("train"))))
    return (runs + max(0, runs - FEWEST)) * rows + sum(len(values) for _, values in others(session)) * rows


def walled(session: Session) -> bool:
    """Whether the evaluator can be kept from writing here: a function, in a process of its own."""
    return getattr(session.problem.evaluator, "kind", "") == "function" and confined.possible()


def seen(folder: Path) -> dict[str, str]:
    """What the files below a folder hold, by name, so that a change shows; no link is followed."""
    found = {}
    for place, inside, names in os.walk(folder):
        links = [name for name in inside if (Path(place) / name).is_symlink()]
        inside[:] = sorted(set(inside) - {"__pycache__", ".git"})
        for path in (Path(place) / name for name in (*names, *links)):
            name = path.relative_to(folder).as_posix()
            try:
                about = path.lstat()
                if stat.S_ISREG(about.st_mode) and about.st_size <= LARGEST:
                    found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
                else:
                    target = os.readlink(path) if stat.S_ISLNK(about.st_mode) else ""
                    found[name] = f"{about.st_mode} {about.st_size} {about.st_mtime_ns} {target}"
            except OSError as error:
                found[name] = f"not readable: {error.errno}"
    return found


async def check(session: Session, runs: int = RUNS, *, walls: bool = True) -> Findings:
    """Measure the initial candidate a few times, with one seed and with others, in two processes; then move parameters.

    Args:
        session: With rows that are divided, if there are any.
        runs: Measurements of the initial candidate, from 3.
        walls: Keep the evaluator from writing, but for a temporary folder, and off the network, where
            `walled` says that this is possible.

    Raises:
        ProviderError, PrerequisiteError, BudgetExceeded: A model that the evaluator asks cannot be had or paid.
    """
    if (
        getattr(session.problem.evaluator, "kind", "") == "function"
    ):  # in a process that can be killed, whatever it says
        session = replace(session, settings=replace(session.settings, executor="subprocess"))
    if walls and walled(session):
        with tempfile.TemporaryDirectory(prefix="truegain-try-") as own:
            session = replace(session, env={"TMPDIR": own, **(session.env or {})})
            return await confined.confined(lambda: _check(session, runs), [Path(own)])
    return await _check(session, runs)


class _Broken(Exception):
    def __init__(self, failure: Failure, printed: str) -> None:
        super().__init__(failure.message)
        self.failure, self.printed = failure, printed


class _Bench:
    """Measures, and counts."""

    def __init__(self, session: Session, runs: int) -> None:
        self.problem, self.session, self.runs = session.problem, session, runs
        self.rows: list[Example | None] = [*self.problem.split("train")[:ROWS]] or [None]
        self.seconds: list[float] = []
        self.made = 0

    async def value(self, place: Measuring, candidate: Candidate, row: Example | None, replicate: int) -> float:
        """One number.

        Raises:
            _Broken: There is none.
        """
        problem = self.problem
        name = row.id if row is not None else None
        self.made += 1
        output: Output = await place.submit(
            Request(
                candidate,
                example=name,
                row=row.row if row is not None else None,
                seed=int(digest([self.session.seed, name, f"draft {replicate}"], 8), 16),
                replicate=replicate,
                limits=problem.limits,
            )
        )
        self.seconds.append(output.seconds)
        if output.failure is not None:
            raise _Broken(output.failure, output.log)
        try:
            value = problem.compared(problem.evaluator.score(output).values)
        except (ValueError, TypeError, KeyError) as error:
            raise _Broken(Failure("invalid", str(error)), output.log) from None
        if value is None:
            raise _Broken(Failure("invalid", "it gave no number to compare"), output.log)
        return value


async def _check(session: Session, runs: int) -> Findings:
    bench = _Bench(session, max(FEWEST, runs))
    initial = session.problem.initial()
    ledgers: list[Ledger] = []
    try:
        same: list[list[float]] = [[] for _ in bench.rows]
        other: list[list[float]] = [[] for _ in bench.rows]
        async with session.measuring() as place:
            ledgers.append(place.till.ledger)
            for index, row in enumerate(bench.rows):
                for _ in range(2):
                    same[index].append(await bench.value(place, initial, row, 0))
                other[index].append(await bench.value(place, initial, row, 1))
        session = replace(session, budget=left(session.budget, ledgers))
        # Another process: the hashes of texts differ there, and nothing is warm.
        async with session.measuring() as place:
            ledgers.append(place.till.ledger)
            for index, row in enumerate(bench.rows):
                if bench.runs > FEWEST:
                    same[index].append(await bench.value(place, initial, row, 0))
                for replicate in range(2, bench.runs - FEWEST + 1):
                    other[index].append(await bench.value(place, initial, row, replicate))
            repeats = all(map(_equal, same))
            kind: Literal["deterministic", "seeded", "noisy"] = "noisy"
            if repeats:
                agree = all(_equal([*one, *two]) for one, two in zip(same, other, strict=True))
                kind = "deterministic" if agree else "seeded"
            groups = [[*one, *two] for one, two in zip(same, other, strict=True)]
            if kind == "seeded":  # each seed counts once, so more seeds are worth it
                for index, row in enumerate(bench.rows):
                    for replicate in range(bench.runs, 2 * bench.runs - FEWEST):
                        other[index].append(await bench.value(place, initial, row, replicate))
                groups = [[one[0], *two] for one, two in zip(same, other, strict=True)]
            noise = Noise.of(groups, session.problem, 1.0)
            moved, still = await _moves(bench, place, noise, [group[0] for group in groups])
    except _Broken as broken:
        return Findings(failure=broken.failure, printed=broken.printed, evaluations=bench.made, ledgers=tuple(ledgers))
    warm = bench.seconds[1:] or bench.seconds
    return Findings(
        kind,
        tuple(groups[0]),
        noise,
        math.fsum(warm) / len(warm),
        moved,
        still,
        evaluations=bench.made,
        ledgers=tuple(ledgers),
    )


def _equal(values: list[float]) -> bool:
    return all(math.isclose(value, values[0], rel_tol=SAME) for value in values)


async def _moves(
    bench: _Bench, place: Measuring, noise: Noise, base: list[float]
) -> tuple[dict[str, tuple[Value, float | None]], tuple[str, ...]]:
    """What changes when one parameter at a time lies elsewhere; with the seed of the first measurement."""
    moved: dict[str, tuple[Value, float | None]] = {}
    still = []
    initial = bench.problem.initial()
    for name, values in others(bench.session):
        for value in values:
            candidate = bench.problem.space.candidate({**initial, name: value})
            found: float | None = None
            differs = False
            for row, before in zip(bench.rows, base, strict=True):
                try:
                    now = await bench.value(place, candidate, row, 0)
                except _Broken:
                    found, differs = None, True
                    break
                found = now if found is None else found
                differs = differs or abs(now - before) > max(MOVES * noise.sd, SAME * max(abs(now), abs(before)))
            if differs:
                moved[name] = (value, found)
                break
        else:
            still.append(name)
    return moved, tuple(still)
