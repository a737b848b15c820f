"""Before a night's search: measure the released candidate again, and say what changed since the last nights."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.batch import drift
from agent.batch.drift import MISSING, Drift, Row, Scores
from agent.batch.measured import Measured, Measurements, Spent
from agent.batch.measuring import Allowance, Interrupted, Unit, measure, units
from agent.batch.permutation import LEVEL
from agent.errors import AgentError, ConfigError
from agent.evaluation import Executor
from agent.gate.preview import copied
from agent.problem import Problem, Split
from agent.session import Session
from agent.setup import Setup
from agent.space import Candidate, digest

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
        seconds: In which any of its evaluations ran.
        rows: Rows (or repeats) with a score tonight and before.
        wanted: Rows that should have been measured.
        scored: Rows with a score tonight. None, where some failed: the evaluator is broken, or what it rests on is out.
        failed: Rows that failed tonight.
        unreached: Rows that were not measured tonight, for what may be spent was spent.
        failure: What the first row that failed said: "error: …", "timeout: …"; "" when none did.
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
    scored: int
    failed: int
    unreached: int
    failure: str
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


async def rescore(
    setup: Setup,
    candidate: Candidate,
    *,
    store: Path,
    night: str,
    most: float,
    seconds: float | None = None,
    usd: float | None = None,
    rest: asyncio.Event | None = None,
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
        seconds: That this call may take. An evaluation begins only when it should end in time, by those before it.
        usd: Dollars that this call's evaluations may tell; one begins only when it should fit.
        rest: Once it is set nothing more begins. What is in flight is finished, and then it ends with `Interrupted`.
        executor: Instead of what fits the evaluator; it is left open.
        observe: Is told what happens, in sentences.
        rows: At most so many rows; of a noisy problem without rows at most so many repeats.
        split: Which rows: "train", or "test" for who accepts that every night reads them.
        runs: The folder of runs, whose accounts say which rows are whose; without it the rows are divided anew.
        level: Chance of a false alarm about the scores of a noisy problem.

    Raises:
        ConfigError: The val rows are asked for, or a split without rows.
        Interrupted: `rest` was set. What was measured is kept, and nothing is compared before the rest is measured.
        StoreError: The store cannot be read or written.
    """
    if split != "train" and split != "test":
        why = ": the gate alone reads val rows" if split == "val" else ""
        raise ConfigError(
            f"drift.split: found {split!r}, allowed is train or test{why}",
            hint="take train; or test, if it may be read every night",
        )
    if hasattr(setup.problem.evaluator, "begins"):
        raise ConfigError(
            "drift: outputs that are only compared with the initial candidate's have no score that could drift",
            hint='set split = "off" under [drift] of the batch file, and keep such problems in a batch of their own',
        )
    if rows < 1:
        raise ConfigError(f"drift.rows: found {rows}, allowed is at least 1", hint='or leave it out: split = "off"')
    say = observe or (lambda _: None)
    session = _session(setup, executor, runs)
    problem = session.problem
    part: Split = "test" if split == "test" else "train"
    wanted = units(problem, rows, part)
    described = drift.described(setup.problem.data, {item.id: item for item in problem.split(part)})
    source = problem.evaluator.fingerprint
    with Measurements(store) as known:
        last = known.before(problem.name, night)
        number = known.night(problem.name, night, candidate.id, source, digest(described), described)
        there = known.of(number)
        spent = known.spent(problem.name, night)
        used = spent.evaluations + spent.possibly
        missing = [unit for unit in wanted if (unit.name, unit.content) not in there]
        missing = missing[: int(max(0, min(most - used, len(missing))))]
        earlier = known.earlier(number)
        if missing:
            say(f"measuring {candidate.id[:8]} again, {len(missing)} evaluations")
            allowance = Allowance(seconds, usd, rest, known.taken(problem.name))
            await measure(session, candidate, missing, known, number, known.ago(problem.name, night), allowance)
            there = known.of(number)
            if allowance.interrupted and any((unit.name, unit.content) not in there for unit in missing):
                raise Interrupted(
                    "the night ended before all of it was measured", hint="it goes on when the night does"
                )
        found = _found(known, number, earlier, wanted, problem, night, level)
        drifts = [item for item in _of_source(last, source, described, night, level) if item is not None]
        if found.drift is not None:
            drifts.append(found.drift)
        known.add(number, drifts)
        there = known.of(number)
        tonight = [there.get((unit.name, unit.content)) for unit in wanted]
        first = not earlier or (bool(there) and found.nights == 0)
        out = _result(problem, candidate, night, found, drifts, known.spent(problem.name, night), tonight, first)
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


def fix_splits(setups: Sequence[Setup], runs: Path, who: str) -> None:
    """Give the rows of all problems of a night their splits, before any of them is measured.

    A row that is train for one problem may be val for the next one, and no val row is measured. A problem whose rows
    cannot be divided is left to its own run, which says why.

    Args:
        setups: In the order in which they are searched.
        runs: The folder of runs, whose accounts keep the splits.
        who: Remembered with rows that are new.
    """
    for setup in setups:
        session = Session(setup.problem, setup.settings, setup.budget, shares=setup.shares)
        with suppress(AgentError):
            session.divide(runs / who)


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


def _found(
    known: Measurements,
    number: int,
    earlier: Sequence[tuple[int, frozenset[str]]],
    wanted: Sequence[Unit],
    problem: Problem,
    night: str,
    level: float,
) -> Scores:
    past = [(known.of(other), kinds) for other, kinds in earlier]
    tonight = known.of(number)
    rows = []
    for unit in wanted:
        key = (unit.name, unit.content)
        if key in tonight:
            series = [(_compared(problem, measured[key]) if key in measured else MISSING, k) for measured, k in past]
            rows.append(Row.of(unit.name, _compared(problem, tonight[key]), series, tonight[key].failure))
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
    tonight: Sequence[Measured | None],
    first: bool,
) -> Rescore:
    test = found.found if found.found is not None and found.rows else None
    scores = [_compared(problem, one) for one in tonight if one is not None]
    scored = sum(score is not None for score in scores)
    unreached = len(tonight) - len(scores)
    failure = next((one.failure for one in tonight if one is not None and one.failure), "")
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
        wanted=len(tonight),
        scored=scored,
        failed=found.failed,
        unreached=unreached,
        failure=failure,
        mean=found.mean,
        before=found.before,
        interval=test.interval if test else None,
        p=test.p if test else None,
        smallest=test.smallest if test else None,
        drifts=tuple(drifts),
        sentence=_sentence(problem, found, drifts, len(tonight), unreached, failure),
    )


def _sentence(problem: Problem, found: Scores, drifts: list[Drift], wanted: int, unreached: int, failure: str) -> str:
    goal = problem.spoken
    unit = f" {goal.unit}" if goal.unit else ""
    what = "rows" if problem.data else "repeats"
    parts = [item.sentence for item in drifts]
    if found.mean is None:
        why = f" ({failure})" if failure else ""
        parts.append(f"nothing has a score: {found.failed} failed{why}" if found.failed else "nothing was measured")
    elif found.drift is None and found.before is None:
        parts.append(f"{goal.name} is {found.mean:.4g}{unit}; there is no earlier night to compare with")
    elif found.drift is None:
        nights = "1 earlier night" if found.nights == 1 else f"{found.nights} earlier nights"
        least = ""
        if found.found is not None:
            nights += f" (p = {found.found.p:.2g})"
            small = found.found.smallest
            if small is None:
                least = f"; no shift could be shown with {found.rows} {what}"
            elif small > 0:
                least = f"; a shift under {small:.2g}{unit} could be missed"
            else:  # any shift of all rows alike is seen; scores of two kinds never shift so
                least = f"; a change on a few of the {found.rows} {what} could be missed"
        parts.append(
            f"no drift of {goal.name}: {found.mean:.4g}{unit} now, {found.before:.4g}{unit} in {nights}{least}"
        )
    if unreached:
        parts.append(f"{unreached} of {wanted} {what} were not reached")
    elif found.mean is not None and found.rows + found.failed < wanted and found.nights:
        parts.append(f"{found.rows} of {wanted} {what} could be compared")
    return "; ".join(parts)
