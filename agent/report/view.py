"""Everything a report tells of a run, as plain data: `--json` prints it, and the pages are made from it.

While the run is open it is folded from what the search may read, and nothing is claimed. After the end the verdicts
are there, and the scores on the single test rows of the final report; what is in these rows only once somebody has
opened them (`agent.wall`), and single rows of the gate never.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from agent.errors import StoreError
from agent.goals import Objective
from agent.history import Trial
from agent.journal import read, read_all
from agent.problem import Problem
from agent.report.cards import WHOLE, Allowance, Card, cards, line_texts, preference
from agent.report.failures import Cluster, Told, clusters
from agent.report.grid import Grid, grid
from agent.report.tape import Bit, Shown, Step, Tape
from agent.report.warnings import warnings
from agent.results.result import Result
from agent.results.standings import standings
from agent.texts import Text
from agent.wall import ended, opened


@dataclass(frozen=True, slots=True)
class Goal:
    """What is compared, as verdicts speak of it; `best` says which way is better: "lower" or "higher"."""

    name: str
    unit: str
    better: str


@dataclass(frozen=True, slots=True)
class Difference:
    """A parameter that differs between the initial and the best candidate.

    Args:
        words: Whether it is a text.
        lines: Of a program, the unified diff of each file that differs, by its name.
    """

    name: str
    before: Any
    after: Any
    words: bool
    lines: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class View:
    """A run, for people.

    Args:
        status: proven, exact, unproven, initial, or open.
        sentence: What may be claimed, with its interval.
        goal: What is compared, and
        goals: all objectives.
        units: Of objectives and constraints, by name.
        reason: Why it ended or rests, with `detail`.
        seed: Of its random numbers.
        spent: `Ledger.to_json()`.
        served: The models: asked for, answered by, calls.
        initial: Number of the initial candidate, and
        best, released, champion: of these.
        differences: Best against initial.
        steps: The race's word on each candidate, with what had been spent; its scores are search scores.
        bits: The gate's bits, with what had been spent.
        train: Scores of examples by candidates, from the search; None where the problem has no rows.
        test: The same of the final report, after the end; None where there is none. Rows have names of their own.
        repeats: Without rows: the scores of each candidate's full measurements, by number.
        cards: A page of each candidate.
        gate: `agent.results.standings.standings`.
        front: The Pareto front of several objectives, or None.
        failures: Evaluations that failed, clustered.
        rejected: Proposals that were refused, clustered by reason.
        errors: Failures of proposers and models, clustered.
        data: How many rows each split has, and what the problem is.
        made: What it was made with: versions, fingerprints, settings, origin.
        command: What reproduces it; "" for a run that was started from Python.
        warnings: What to know before believing any of it.
        left_out: What the report does not hold, so that it stays small.
    """

    run: str
    problem: str
    description: str
    status: str
    sentence: str
    reason: str
    detail: str
    goal: Goal
    goals: list[Objective]
    units: dict[str, str]
    seed: int
    spent: dict[str, Any]
    served: list[dict[str, Any]]
    initial: int
    best: int
    released: int
    champion: int
    differences: list[Difference]
    steps: list[Step]
    bits: list[Bit]
    train: Grid | None
    test: Grid | None
    repeats: dict[int, list[float | None]]
    cards: list[Card]
    gate: dict[str, Any]
    front: dict[str, Any] | None
    failures: list[Cluster]
    rejected: list[Cluster]
    errors: list[Cluster]
    data: dict[str, Any]
    made: dict[str, Any]
    command: str
    warnings: list[str]
    left_out: list[str] = field(default_factory=list)

    @property
    def open(self) -> bool:
        """Whether the run has not ended, so that nothing is claimed."""
        return self.status == "open"

    def to_json(self) -> dict[str, Any]:
        """The view as plain JSON."""
        return asdict(self)


def load_view(folder: Path, full: bool = False) -> View:
    """The view of a run folder.

    Args:
        folder: Of the run.
        full: Keep every text and output whole, whatever the size.

    Raises:
        StoreError: There is no journal, it has no events yet, or it cannot be read.
    """
    over = ended(folder)
    shown: Shown = "none" if not over else "whole" if opened(folder) else "scores"
    tape = Tape.of(read_all(folder) if over else read(folder), shown)
    if tape is None:
        raise StoreError(f"the run in {folder} has no events yet", hint="wait a moment, or remove the folder")
    return view_of(tape, folder, full)


def view_of(tape: Tape, folder: Path, full: bool = False) -> View:
    """The view of a folded run; see `load_view`."""
    state = tape.state
    result = Result.of(state, folder)
    problem, history = state.problem, state.history
    numbers = {trial.id: trial.number for trial in history.trials}
    allowance = Allowance.full() if full else Allowance()
    differences = [
        Difference(
            change.name,
            allowance.value(change.before, WHOLE),
            allowance.value(change.after, WHOLE),
            isinstance(problem.space[change.name], Text),
            line_texts(problem.space, change, allowance, WHOLE),
        )
        for change in problem.space.diff(result.initial, result.best)
    ]
    by_rows = bool(tape.problem["examples"])
    kept = [step.number for step in tape.steps if step.decision == "promote"]
    order = preference(len(history.trials), [numbers[result.best.id], numbers[result.released.id], 0, *reversed(kept)])
    told = cards(tape, order, allowance)
    found = standings(state, tape.tally)
    return View(
        run=state.run,
        problem=problem.name,
        description=allowance.text(problem.description),
        status=result.status,
        sentence=result.sentence,
        reason=result.reason,
        detail=result.detail,
        goal=Goal(problem.spoken.name, problem.spoken.unit, "lower" if problem.objective.sign < 0 else "higher"),
        goals=list(problem.objectives),
        units=units(problem),
        seed=state.seed,
        spent=result.spent,
        served=[{"asked": a, "answered": m, "calls": n} for (a, m), n in sorted(tape.served.items())],
        initial=0,
        best=numbers[result.best.id],
        released=numbers[result.released.id],
        champion=numbers[result.champion],
        differences=differences,
        steps=tape.steps,
        bits=tape.bits,
        train=grid(tape, "search") if by_rows else None,
        test=grid(tape, "report") if by_rows else None,
        repeats={} if by_rows else _repeats(tape, history.trials[:]),
        cards=told,
        gate=found,
        front=result.front.to_json() if result.front is not None else None,
        failures=_short(clusters(_failed(tape, numbers)), allowance),
        rejected=_short(clusters(_refused(tape)), allowance),
        errors=_short(clusters(Told(text, text.partition(":")[0]) for text in tape.errors), allowance),
        data=_data(tape),
        made={
            "versions": tape.started.versions,
            "fingerprints": dict(state.fingerprints),
            "settings": state.settings.to_json(),
            "budget": state.ledger.budget.to_json(),
            "origin": tape.started.origin,
            "checks": tape.started.checks,
            "beginning": result.beginning,
            "epoch": state.epoch,
            "resumes": state.resumes,
        },
        command=shlex.join(map(str, tape.started.origin.get("command") or ())),
        warnings=warnings(result, tape, found),
        left_out=allowance.sentences(),
    )


def units(problem: Problem) -> dict[str, str]:
    """Of a problem's objectives and constraints, by name."""
    return {goal.name: goal.unit for goal in problem.objectives} | {c.name: c.unit for c in problem.constraints}


def _repeats(tape: Tape, trials: list[Trial]) -> dict[int, list[float | None]]:
    """Compared numbers of the search's full measurements by candidate; None where one failed."""
    out: dict[int, list[float | None]] = {}
    for trial in trials:
        scores = [
            _score(tape, item.ended.score)
            for item in tape.measured.get(trial.id, ())
            if item.started.purpose == "search" and item.full
        ]
        if scores:
            out[trial.number] = scores
    return out


def _score(tape: Tape, score: Mapping[str, Any] | None) -> float | None:
    return tape.state.problem.compared(score["values"]) if score is not None else None


def _failed(tape: Tape, numbers: Mapping[str, int]) -> list[Told]:
    return [
        Told(
            item.failure,
            numbers.get(candidate, -1),
            str(item.ended.output.get("failure", {}).get("detail", "")),
            item.started.example,
        )
        for candidate, items in tape.measured.items()
        for item in items
        if item.failure
    ]


def _refused(tape: Tape) -> list[Told]:
    return [
        Told(str(item.get("reason", "")), str(item.get("source", "")), str(item.get("detail", "") or ""))
        for item in tape.rejected
    ]


def _short(found: list[Cluster], allowance: Allowance) -> list[Cluster]:
    return [
        Cluster(
            allowance.text(item.pattern, 400),
            item.count,
            allowance.text(item.first),
            allowance.text(item.detail),
            item.example,
            item.who,
        )
        for item in found
    ]


def _data(tape: Tape) -> dict[str, Any]:
    problem, plain = tape.state.problem, tape.problem
    return {
        "train": len(plain["examples"]),
        **plain.get("held_out", {}),
        "anchors": len(plain.get("anchors", ())),
        "target": plain.get("target", "suite"),
        "claim": plain.get("claim", "primary"),
        "deterministic": plain["deterministic"],
        "evaluator": plain.get("evaluator", {}),
        "limits": plain.get("limits", {}),
        "objectives": [
            f"{goal.name}: {'lower' if goal.sign < 0 else 'higher'} is better"
            + (f" ({goal.unit})" if goal.unit else "")
            for goal in problem.objectives
        ],
        "constraints": [str(item) for item in problem.constraints],
        "space": {name: item.spec() for name, item in problem.space.items()},
    }
