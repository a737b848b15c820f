"""What a search begins with besides the defaults: the user's own starting points, and what an earlier run found.

Of an earlier run only what its search saw is read. Its best points are measured anew, and its scores never stand
beside scores of this run: not in the history, not in the race, not in the gate's evidence.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from agent.errors import AgentError, ConfigError, StoreError
from agent.folders import find
from agent.journal import read
from agent.ledger import plural
from agent.nearness import Nearness
from agent.results.result import load_state
from agent.space import Candidate, Space, digest

if TYPE_CHECKING:
    from agent.history import Trial
    from agent.problem import Problem
    from agent.state import State

JSON: TypeAlias = dict[str, Any]
Earlier: TypeAlias = str | Path | Sequence[Mapping[str, Any]]
"""A run (its name, a beginning of that, its folder, or "last"), or points as `agent.integrations.optuna` gives them."""

START = "start"
"""Source of the user's own starting points."""
WARM = "warm:"
"""How the source of what comes from an earlier run begins."""
MOST, SHARE = 5, 10
"""Points of an earlier run that are tried first: at most so many, and at most one in SHARE of the evaluations."""
APART = 0.01
"""How different they are at least, in the unit cube: an earlier search ended in a heap of points."""
FAILURES = 200
"""Failed points that are remembered, the latest ones."""
FIELDS = ("values", "score", "failed", "source")


def starting_points(space: Space, given: Any) -> tuple[JSON, ...]:
    """The user's starting points, with the default for every parameter that one leaves out.

    Args:
        space: Of the problem.
        given: A list of mappings parameter → value.

    Raises:
        ConfigError: Names the starting point (from 0) and the parameter.
    """
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Sequence):
        raise ConfigError(f"starts: found {given!r}, allowed is a list of mappings of parameters to values")
    out = []
    for number, point in enumerate(given):
        if not isinstance(point, Mapping):
            raise ConfigError(f"starts.{number}: found {point!r}, allowed is a mapping of parameters to values")
        for name in point:
            if name not in space:
                raise ConfigError(
                    f"starts.{number}.{name}: there is no such parameter", hint=f"the space has {', '.join(space)}"
                )
        values = space.initial().values_json
        for name, value in point.items():
            try:
                values[name] = space[name].check(value)
            except ValueError as error:
                raise ConfigError(
                    f"starts.{number}.{name}: {error}", hint="change the value, or the parameter's range"
                ) from None
        out.append(values)
    return tuple(out)


def read_start(text: str) -> JSON:
    """A starting point of the command line, such as `a=1,kind=b`, or `prompt="With, a comma"`.

    Raises:
        ConfigError: It has another form, or a name twice.
    """
    try:
        found: JSON = tomllib.loads(f"v = {{ {text} }}")["v"]
        if all(isinstance(value, (str, int, float, list)) for value in found.values()):
            return found
    except tomllib.TOMLDecodeError:
        pass
    out: JSON = {}
    for part in text.split(","):
        name, mark, value = (piece.strip() for piece in part.partition("="))
        if not mark or not name:
            raise ConfigError(f"found {part.strip()!r}, allowed is name=value", hint="such as --start a=1,b=0.2")
        if name in out:
            raise ConfigError(f"{name} stands twice", hint="give --start again for another point")
        out[name] = _plain(value)
    return out


def _plain(text: str) -> Any:
    try:
        value = tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text
    return value if isinstance(value, (str, int, float, list)) else text


def take(problem: Problem, source: Earlier, runs: Path) -> JSON:
    """What an earlier run knows about this problem's space.

    Args:
        problem: With its rows divided.
        source: The run, or points by themselves: mappings with values, score (None without one), failed, source.
        runs: The folder of this run's runs, where names are looked for.

    Returns:
        run (its name), points (values, score, failed, source; the best first, then the failed ones) and notes, as they
        stand in `run.started`.

    Raises:
        ConfigError: There is no such run, it has no parameter in common, nothing to give, or has searched on rows
            that are held out here.
        StoreError: It cannot be read.
    """
    if not isinstance(source, (str, Path)):
        name, points, notes = _listed(problem, source)
        return _carried(problem, name, points, notes)
    folder = find(runs, str(source))
    state = _earlier(folder)
    _refuse_held_out(problem, state, folder, runs)
    if not set(state.problem.space) & set(problem.space):
        raise ConfigError(
            f"the run {folder.name} has no parameter of this problem: it searched {', '.join(state.problem.space)}",
            hint="parameters are known by their names; name a run with some of the same, or begin without one",
        )
    points, notes = _points(problem, state, WARM + folder.name)
    return _carried(problem, folder.name, points, notes)


def chosen(space: Space, warm: JSON, known: Iterable[Mapping[str, Any]], evaluations: float, each: int) -> list[JSON]:
    """The points of an earlier run that are tried first, as they stand in `run.started`.

    Args:
        space: Of the problem.
        warm: As `take` gives it.
        known: Points that are measured anyway.
        evaluations: Of the whole run.
        each: Evaluations that one point takes.
    """
    ids = {Candidate(point).id for point in known}
    most = min(float(MOST), evaluations / (SHARE * max(1, each)))
    out: list[JSON] = []
    for point in warm.get("points", ()):
        if len(out) + 1 <= most and not point["failed"] and Candidate(point["values"]).id not in ids:
            why = "among the best there" + ("" if point["score"] is None else f": {point['score']:.4g}")
            out.append({"values": point["values"], "source": point["source"], "rationale": why})
    return out


def sentence(starts: Sequence[JSON], warm: JSON) -> str:
    """What a run begins with, in one line; "" when that is the defaults alone."""
    own = sum(start["source"] == START for start in starts)
    said = [f"{plural(own, 'starting point')} before the first proposal"] if own else []
    if warm:
        failed = sum(point["failed"] for point in warm["points"])
        tried = plural(len(starts) - own, "point")
        said.append(f"warm start from {warm['run']}: {tried} to try first, {failed} that failed to avoid")
    return "; ".join(said)


def _earlier(folder: Path) -> State:
    """An earlier run as its own proposers saw it: the gate's part stays closed, also after its end."""
    try:
        return load_state(folder, entries=read(folder))
    except StoreError:
        raise
    except (AgentError, KeyError, IndexError, ValueError, TypeError, AttributeError, AssertionError) as error:
        raise StoreError(
            f"the run {folder.name} cannot be read: {error!r}",
            hint="its journal is damaged, or of a version that is too new; begin without it, or from another run",
        ) from None


def _refuse_held_out(problem: Problem, state: State, folder: Path, runs: Path) -> None:
    # Runs that lie side by side share their accounts, which know what was searched. Ids that the user gave say
    # nothing across folders; those that are hashes of the content do.
    held = {item.id for item in problem.data if item.split != "train" and item.id == digest(item.row)}
    seen = held & {item.id for item in state.problem.data}
    if seen and folder.parent.resolve() != runs.resolve():
        raise ConfigError(
            f"the run {folder.name} has searched on {len(seen)} of the rows that are held out here, so nothing could be"
            " proven on them",
            hint=f"use its runs folder: --runs {folder.parent}; or begin without it",
        )


def _points(problem: Problem, state: State, source: str) -> tuple[list[JSON], list[str]]:
    """The points of a run, best first and then failed ones, in its own space."""
    trials, notes = list(state.history.trials), []
    if _comparable(problem, state):
        judge = problem
    else:
        judge = state.problem
        there, here = (f"{goal.name} ({goal.direction})" for goal in (state.problem.spoken, problem.spoken))
        notes.append(f"it was searched for {there}, and not for {here}, so its scores are left out")
    good, failed = [], []
    for trial in trials:
        if trial.values is None:
            if trial.state == "failed":
                failed.append(trial)
        elif not trial.feasible if judge is state.problem else judge.violated(trial.values):
            failed.append(trial)
        else:
            good.append(trial)
    good.sort(key=lambda trial: (-judge.objective.sign * judge.compared(trial.values or {}), trial.number))
    goals = ("objectives", "constraints", "claim")
    if all(getattr(judge, name) == getattr(state.problem, name) for name in goals):
        # A lucky first look may stand above what has won races.
        raced = state.arena.path if state.arena is not None else [state.history.champion]
        places = {name: place for place, name in enumerate(reversed(raced))}
        good.sort(key=lambda trial: places.get(trial.id, len(places)))
    out = [_point(trial, judge.compared(trial.values or {}) if judge is problem else None, source) for trial in good]
    return out + [_point(trial, None, source, True) for trial in failed], notes


def _comparable(problem: Problem, state: State) -> bool:
    """Whether the run measured all that this problem's goals and constraints speak of, in the same directions."""
    old = {goal.name: goal.direction for goal in state.problem.objectives}
    if any(old.get(goal.name, goal.direction) != goal.direction for goal in problem.objectives):
        return False
    return set(problem.names) <= set(state.problem.names)


def _point(trial: Trial, score: float | None, source: str, failed: bool = False) -> JSON:
    return {"values": trial.candidate.values_json, "score": score, "failed": failed, "source": source}


def _listed(problem: Problem, given: Any) -> tuple[str, list[JSON], list[str]]:
    """Points that were given by themselves: their name, best first and then failed ones, and notes."""
    if isinstance(given, (bytes, Mapping)) or not isinstance(given, Sequence):
        raise ConfigError(f"warm_from: found {given!r}, allowed is a run, or a list of points")
    out = []
    for number, point in enumerate(given):
        where = f"warm_from.{number}"
        if not isinstance(point, Mapping):
            raise ConfigError(f"{where}: found {point!r}, allowed is a mapping with {', '.join(FIELDS)}")
        for name in point:
            if name not in FIELDS:
                raise ConfigError(f"{where}.{name}: unknown key, allowed are {', '.join(FIELDS)}")
        values, score, failed = point.get("values"), point.get("score"), point.get("failed", False)
        source = point.get("source", "given points")
        fine = score is None or (_number(score) and math.isfinite(score))
        for name, found, right, allowed in (
            ("values", values, isinstance(values, Mapping), "a mapping of parameters to values"),
            ("score", score, fine, "a finite number, or None"),
            ("failed", failed, isinstance(failed, bool), "True or False"),
            ("source", source, isinstance(source, str) and bool(source.strip()), "a text"),
        ):
            if not right:
                raise ConfigError(f"{where}.{name}: found {found!r}, allowed is {allowed}")
        assert isinstance(values, Mapping)
        kept = None if failed else score
        out.append({"values": dict(values), "score": kept, "failed": failed, "source": WARM + str(source)})
    name = out[0]["source"].removeprefix(WARM) if len({point["source"] for point in out}) == 1 else "given points"
    if out and not any(set(point["values"]) & set(problem.space) for point in out):
        raise ConfigError(
            f"warm_from: none of the points has a parameter of this problem ({', '.join(problem.space)})",
            hint="parameters are known by their names",
        )
    good = [point for point in out if point["score"] is not None]
    good.sort(key=lambda point: -problem.objective.sign * point["score"])
    failed = [point for point in out if point["failed"]]
    left = len(out) - len(good) - len(failed)
    notes = [f"{plural(left, 'point')} without a score left out"] if left else []
    return name, good + failed, notes


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _carried(problem: Problem, name: str, points: list[JSON], notes: list[str]) -> JSON:
    """The points, best first, in this problem's space; what does not fit is told in the notes."""
    space = problem.space
    wrong: dict[str, list[str]] = {}
    best: list[JSON] = []
    failed: list[JSON] = []
    apart, lost = Nearness(space), 0
    for point in points:
        if point["failed"]:
            fitting, whole = _fitting(space, point["values"], {})
            lost += not whole  # with another value in it, it is not the point that failed
            if fitting is not None and whole:
                failed.append({**point, "values": fitting.values_json})
        elif len(best) < MOST:
            fitting, _ = _fitting(space, point["values"], wrong)
            if fitting is not None and apart.nearest(fitting, APART) is None:
                apart.add([fitting])
                best.append({**point, "values": fitting.values_json})
    if not best and not failed:
        raise ConfigError(
            f"there is nothing to begin with in {name}: no point of it was measured or fits this space",
            hint="name another run, or begin without one",
        )
    for parameter, reasons in wrong.items():
        notes.append(f"{parameter}: left at its default in {plural(len(reasons), 'point')}, since {reasons[0]}")
    if lost:
        notes.append(f"{plural(lost, 'failed point')} not remembered, since this space does not have them")
    return {"run": name, "points": best + failed[-FAILURES:], "notes": notes}


def _fitting(space: Space, values: Mapping[str, Any], wrong: dict[str, list[str]]) -> tuple[Candidate | None, bool]:
    """A point with what fits of it and the default for the rest, and whether all of it fits; None when nothing does."""
    fitting = {}
    reasons: dict[str, str] = {}
    for name in values:
        if name in space:
            try:
                fitting[name] = space[name].check(values[name])
            except ValueError as error:
                reasons[name] = str(error)
    if not fitting:
        return None, False
    for name, reason in reasons.items():
        wrong.setdefault(name, []).append(reason)
    return Candidate({**space.initial().values_json, **fitting}), not reasons
