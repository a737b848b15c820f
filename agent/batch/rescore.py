"""Before a night's search: measure the released candidate again, and say what changed since the last nights."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.batch import drift
from agent.batch.drift import Drift, Row, Scores
from agent.batch.measured import Measured, Measurements, Spent
from agent.batch.permutation import LEVEL
from agent.errors import ConfigError
from agent.evaluation import Executor, Output, Request
from agent.gate.preview import copied
from agent.problem import Example, Problem, Split
from agent.session import Session
from agent.setup import Setup
from agent.space import Candidate, digest

REPEATS = 12
"""Measurements of a noisy problem without rows. Fewer could not show anything in the second night: 12 signs that
all agree have a chance of 1 in 2048."""
LONGEST = 200
"""Characters of a failure that are kept."""

Observe = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Rescore:
    """What measuring the released candidate again has found.

    Args:
        problem: Its name.
        candidate: Id of the candidate.
        night: Tonight.
        first: There was nothing to compare with: a first night, or a new candidate, evaluator or data.
        evaluations: That ended, over all calls of this night.
        possibly: That were begun and never ended: possibly spent, and counted against `most`.
        usd: Dollars that the evaluator told.
        seconds: Of all its evaluations together.
        rows: Rows (or repeats) with a score tonight and before.
        wanted: Rows that should have been measured.
        failed: Rows that failed tonight.
        mean: Tonight's mean; over the compared rows, or over all while there is nothing to compare with.
        before: Mean of the earlier nights over the same rows.
        interval: About 95 % for the difference; None where the comparison is exact.
        p: Of the test that nothing changed; None where the comparison is exact.
        smallest: The smallest shift of all rows that would mostly have been seen; None where none would.
        drifts: What changed.
        sentence: All of it in words.
    """

    problem: str
    candidate: str
    night: str
    first: bool
    evaluations: int
    possibly: int
    usd: float
    seconds: float
    rows: int
    wanted: int
    failed: int
    mean: float | None
    before: float | None
    interval: tuple[float, float] | None
    p: float | None
    smallest: float | None
    drifts: tuple[Drift, ...]
    sentence: str

    def to_json(self) -> dict[str, Any]:
        out = {name: getattr(self, name) for name in self.__dataclass_fields__}
        out["drifts"] = [found.to_json() for found in self.drifts]
        out["interval"] = None if self.interval is None else list(self.interval)
        return out


@dataclass(frozen=True, slots=True)
class Unit:
    """One thing to measure each night.

    Args:
        name: Id of the row, or a repeat.
        content: Hash of the row: a row that changed is another one.
        example: The row, or None for a repeat.
    """

    name: str
    content: str
    example: Example | None


async def rescore(
    setup: Setup,
    candidate: Candidate,
    *,
    store: Path,
    night: str,
    most: float,
    executor: Executor | None = None,
    observe: Observe | None = None,
    rows: int = 40,
    split: str = "train",
    runs: Path | None = None,
    level: float = LEVEL,
) -> Rescore:
    """Measure a candidate on the rows that every night measures, and compare with the earlier nights.

    Each measurement is written down before it begins and after it ended. Called again in the same night, it
    goes on with what is missing. The rows are chosen by the hash of their ids, so each night has the same.

    Args:
        setup: The problem.
        candidate: The released one.
        store: The file of all nights; made when it is not there.
        night: Tonight's name; nights are ordered by when they were first seen here.
        most: Evaluations that this night may spend here, those of earlier calls included.
        executor: Instead of what fits the evaluator; it is left open.
        observe: Is told what happens, in sentences.
        rows: At most so many rows; of a noisy problem without rows at most so many repeats.
        split: Which rows: "train", or "test" for who accepts that every night reads them.
        runs: The folder of runs, whose accounts say which rows are whose; without it the rows are divided anew.
        level: Chance of a false alarm about the scores of a noisy problem.

    Raises:
        ConfigError: The val rows are asked for, or a split without rows.
        StoreError: The store cannot be read or written.
    """
    if split != "train" and split != "test":
        why = ": the gate alone reads val rows" if split == "val" else ""
        raise ConfigError(
            f"drift.split: found {split!r}, allowed is train or test{why}",
            hint="take train; or test, if it may be read every night",
        )
    if rows < 1:
        raise ConfigError(f"drift.rows: found {rows}, allowed is at least 1", hint='or leave it out: split = "off"')
    say = observe or (lambda _: None)
    session = _session(setup, executor, runs)
    problem = session.problem
    part: Split = "test" if split == "test" else "train"
    units = _units(problem, rows, part)
    described = drift.described(setup.problem.data, {item.id: item for item in problem.split(part)})
    source = problem.evaluator.fingerprint
    with Measurements(store) as known:
        last = known.before(problem.name, night)
        number = known.night(problem.name, night, candidate.id, source, digest(described), described)
        there = known.of(number)
        spent = known.spent(problem.name, night)
        used = spent.evaluations + spent.possibly
        missing = [unit for unit in units if (unit.name, unit.content) not in there]
        missing = missing[: int(max(0, min(most - used, len(missing))))]
        earlier = known.earlier(number)
        if missing:
            say(f"measuring {candidate.id[:8]} again, {len(missing)} evaluations")
            await _measure(session, candidate, missing, known, number, len(earlier))
        found = _found(known, number, earlier, units, problem, night, level)
        drifts = [item for item in _of_source(last, source, described, night, level) if item is not None]
        if found.drift is not None:
            drifts.append(found.drift)
        known.add(number, drifts)
        first = not earlier or (bool(known.of(number)) and found.nights == 0)
        out = _result(problem, candidate, night, found, drifts, known.spent(problem.name, night), len(units), first)
    for item in drifts:
        say(f"drift: {item.sentence}")
    return out


def spent(store: Path, problem: str, night: str) -> Spent:
    """What a night's measurements of a problem took so far; after a kill, what was cut off included.

    Raises:
        StoreError: The store cannot be read.
    """
    if not store.exists():
        return Spent()
    with Measurements(store) as known:
        return known.spent(problem, night)


def note_models(store: Path, problem: str, night: str, folder: Path) -> list[Drift]:
    """Remember which models answered in one of the night's runs, and say which names are new.

    Args:
        store: The file of all nights.
        problem: Whose run it was.
        night: Tonight.
        folder: Of the run.

    Raises:
        StoreError: The store or the run's journal cannot be read.
    """
    found = drift.served(folder)
    with Measurements(store) as known:
        before = known.served(problem, night)
        known.serve(problem, night, found)
    return drift.model(before, found, night)


def _session(setup: Setup, executor: Executor | None, runs: Path | None) -> Session:
    """The problem with its rows divided as the runs in that folder have them; nothing is written there."""
    session = Session(
        setup.problem, setup.settings, setup.budget, setup.seed, executor=executor, env=setup.env, shares=setup.shares
    )
    with ExitStack() as stack:
        folder = None
        if runs is not None:
            folder = stack.enter_context(copied(runs)) / "rescore"
        session.divide(folder)
    return session


def _units(problem: Problem, rows: int, split: Split) -> list[Unit]:
    if problem.data:
        there = problem.split(split)
        if not there:
            raise ConfigError(f"drift.split: the problem has no {split} rows", hint="take train, or give test rows")
        chosen = sorted(there, key=lambda example: digest(["drift", example.id]))[:rows]
        return [Unit(example.id, digest(example.row), example) for example in chosen]
    count = 2 if problem.deterministic else min(rows, REPEATS)
    return [Unit(f"repeat {place}", "", None) for place in range(1, count + 1)]


async def _measure(
    session: Session, candidate: Candidate, units: Sequence[Unit], known: Measurements, number: int, nights: int
) -> None:
    problem = session.problem
    executor = session.make_executor(session.settings)
    slots = asyncio.Semaphore(1 if problem.evaluator.exclusive else max(1, session.settings.workers))

    async def one(unit: Unit) -> None:
        row = unit.example
        request = Request(
            candidate,
            example=row.id if row is not None else None,
            row=row.row if row is not None else None,
            # The same each night: what an evaluator draws from its seed is no drift.
            seed=int(digest([unit.name, "drift"], 8), 16),
            # Another one each night, so that no cache of the evaluator's answers for it; of a deterministic
            # problem without rows the two differ for the same reason.
            replicate=nights if row is not None else nights * 100 + int(unit.name.split()[1]),
            purpose="search" if row is None or row.split == "train" else "report",
            limits=problem.limits,
        )
        async with slots:
            begun = known.begin(number, unit.name, unit.content)
            started = time.monotonic()
            output = await executor.submit(request)
            if output.failure is not None and output.failure.kind == "cancelled":
                return  # by us, so it says nothing of the row
            seconds = output.seconds or time.monotonic() - started
            known.end(begun, _judged(problem, unit, output), output.usd, seconds)

    try:
        async with asyncio.TaskGroup() as group:
            for unit in units:
                group.create_task(one(unit))
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    finally:
        if session.executor is None:
            await executor.close()


def _judged(problem: Problem, unit: Unit, output: Output) -> Measured:
    try:
        if output.failure is not None:
            raise ValueError(f"{output.failure.kind}: {output.failure.message}")
        return Measured(unit.name, dict(problem.evaluator.score(output).values))
    except (ValueError, TypeError, KeyError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        return Measured(unit.name, None, lines[0][:LONGEST])


def _found(
    known: Measurements,
    number: int,
    earlier: Sequence[int],
    units: Sequence[Unit],
    problem: Problem,
    night: str,
    level: float,
) -> Scores:
    past = [known.of(other) for other in earlier]
    tonight = known.of(number)
    rows = []
    for unit in units:
        key = (unit.name, unit.content)
        if key in tonight:
            series = tuple(_compared(problem, measured[key]) for measured in past if key in measured)
            rows.append(Row(unit.name, _compared(problem, tonight[key]), series, tonight[key].failure))
    goal = problem.spoken
    return drift.scores(
        rows,
        goal,
        deterministic=problem.deterministic,
        repeats=not problem.data,
        night=night,
        level=level,
        seed=int(digest([night, number], 8), 16),
    )


def _compared(problem: Problem, found: Measured) -> float | None:
    try:
        return None if found.scores is None else problem.compared(found.scores)
    except KeyError:  # the objective has another name now
        return None


def _of_source(
    last: tuple[str, dict[str, list[str]]] | None, source: str, rows: dict[str, list[str]], night: str, level: float
) -> list[Drift | None]:
    if last is None:
        return []
    return [drift.evaluator(last[0], source, night), drift.data(last[1], rows, night, level=level)]


def _result(
    problem: Problem,
    candidate: Candidate,
    night: str,
    found: Scores,
    drifts: list[Drift],
    spent: Spent,
    wanted: int,
    first: bool,
) -> Rescore:
    test = found.found if found.found is not None and found.rows else None
    return Rescore(
        problem=problem.name,
        candidate=candidate.id,
        night=night,
        first=first,
        evaluations=spent.evaluations,
        possibly=spent.possibly,
        usd=spent.usd,
        seconds=spent.seconds,
        rows=found.rows,
        wanted=wanted,
        failed=found.failed,
        mean=found.mean,
        before=found.before,
        interval=test.interval if test else None,
        p=test.p if test else None,
        smallest=test.smallest if test else None,
        drifts=tuple(drifts),
        sentence=_sentence(problem, found, drifts, wanted),
    )


def _sentence(problem: Problem, found: Scores, drifts: list[Drift], wanted: int) -> str:
    goal = problem.spoken
    unit = f" {goal.unit}" if goal.unit else ""
    parts = [item.sentence for item in drifts]
    if found.mean is None:
        parts.append(f"no score of tonight: {found.failed} rows failed" if found.failed else "nothing was measured")
    elif found.drift is None and found.before is None:
        parts.append(f"{goal.name} is {found.mean:.4g}{unit}; there is no earlier night to compare with")
    elif found.drift is None:
        nights = "1 earlier night" if found.nights == 1 else f"{found.nights} earlier nights"
        least = ""
        if found.found is not None:
            nights += f" (p = {found.found.p:.2g})"
            small = found.found.smallest
            least = (
                f"; no shift could be shown with {found.rows} rows"
                if small is None
                else f"; a shift under {small:.2g}{unit} could be missed"
            )
        parts.append(
            f"no drift of {goal.name}: {found.mean:.4g}{unit} now, {found.before:.4g}{unit} in {nights}{least}"
        )
    measured = found.rows + found.failed
    if found.mean is not None and measured < wanted and found.nights:
        parts.append(f"{found.rows} of {wanted} rows could be compared")
    return "; ".join(parts)
