"""Quality-diversity: the best program of every kind, where kinds are given, cycled or learned."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from agent.errors import ConfigError
from agent.evaluators.function import FunctionEvaluator
from agent.evolution.behaviour import Behaviour, numbers, traced
from agent.evolution.kinds import Kinds
from agent.goals import Constraint, Objective
from agent.history import History, Trial
from agent.llm.types import Completion, ModelRequest
from agent.problem import Problem
from agent.proposers.base import Ask, Context
from agent.proposers.quality_diversity import Options, QualityDiversity, kind_of
from agent.space import Candidate, Space
from agent.testing import square
from agent.testing.search import Search
from agent.texts import Code
from agent.trace import op, record
from agent.tracing.spans import Trace

SPACE = Space({"program": Code("def solve(x):\n    return [0, 0, 0]\n", entry="solve")})


def program(*numbers_: float) -> str:
    return f"def solve(x):\n    return {list(numbers_)}\n"


def problem(*objectives: Objective, constraints: tuple[Constraint, ...] = ()) -> Problem:
    given = objectives or (Objective("value"),)
    evaluator = FunctionEvaluator(f"agent.testing:{square.__name__}", names=("value",))
    return Problem("p", SPACE, evaluator, given, constraints, deterministic=True)


def context(made: Problem, measured: list[Mapping[str, float] | None], decision: int = 1) -> Context:
    trials = [Trial(made.initial(), 0, 0, "initial", state="champion")]
    for k, values in enumerate(measured, 1):
        feasible = values is not None and not made.violated(values)
        failed = "error: no" if values is None else ""
        own = dict(values) if values is not None else None
        candidate = Candidate({"program": program(k)})
        trials.append(Trial(candidate, k, k, "test", values=own, feasible=feasible, failure=failed))
    history = History.of(trials, made.initial().id, made.objective)
    history.told, history.heard = list(history.trials), len(history.trials)
    return Context(made, history, random.Random(decision), decision=decision)


def filed(given: Context, **options: Any) -> dict[int, Any]:
    kinds = Kinds(given.problem, kind_of(given.problem, Options(**options))).follow(given.history)
    archive = kinds.archive(given.decision)
    return {elite.number: archive.grid.cell(elite.descriptor) for elite in archive}


# The learned space


def test_pca_finds_the_direction_in_which_programs_differ() -> None:
    rng = random.Random(0)
    known = []
    for _ in range(64):
        along = rng.uniform(-1, 1)
        known.append({"a": along, "b": -3 * along, "c": 7.0, "d": 0.05 * rng.gauss(0, 1) + along})
    made = Behaviour.learned(known, 2, 4, "pca", "seed")
    places = [made.descriptor(one) for one in known]
    axis = np.array([place["axis 0"] for place in places])
    assert abs(np.corrcoef(axis, [one["a"] for one in known])[0, 1]) > 0.999
    assert np.std([place["axis 1"] for place in places]) < 0.1 * axis.std()
    cells = Counter(made.grid().cell(place)[0] for place in places)
    assert set(cells) == {0, 1, 2, 3} and min(cells.values()) >= 14, "the bins are filled alike"


def test_random_projection_keeps_distances_and_is_the_same_for_one_run() -> None:
    rng = random.Random(0)
    known = [{f"n{k}": rng.gauss(0, 1) for k in range(60)} for _ in range(16)]
    made = Behaviour.learned(known, 24, 2, "random", "run")
    again, other = (Behaviour.learned(known, 24, 2, "random", seed) for seed in ("run", "another"))
    assert (made.axes == again.axes).all() and not (made.axes == other.axes).all()
    table = np.array([list(made.descriptor(one).values()) for one in known])
    scaled = (np.array([[one[name] for name in made.names] for one in known]) - made.centre) / made.scale
    before = np.linalg.norm(scaled[1:] - scaled[0], axis=1)
    after = np.linalg.norm(table[1:] - table[0], axis=1)
    assert (after / before).min() > 0.6 and (after / before).max() < 1.5


def test_the_space_is_learned_anew_when_twice_as_much_is_known_and_stays_between() -> None:
    rng = random.Random(1)
    known = [{"a": rng.gauss(0, 1), "b": rng.gauss(0, 1)} for _ in range(40)]
    made = {count: Behaviour.learned(known[:count], 1, 3, "pca", "") for count in (8, 15, 16, 31, 32, 40)}
    assert made[8].edges == made[15].edges and made[16].edges == made[31].edges and made[32].edges == made[40].edges
    assert len({made[8].edges, made[16].edges, made[32].edges}) == 3


def test_what_is_missing_counts_as_the_mean_and_what_never_differs_as_nothing() -> None:
    known = [{"a": float(k), "same": 3.0} for k in range(8)]
    made = Behaviour.learned([*known[:7], {"same": 3.0}], 3, 2, "pca", "")
    assert made.descriptor({})["axis 0"] == 0.0 == made.descriptor({"a": 3.0})["axis 0"]
    assert made.descriptor({"a": 1.0})["axis 1"] == 0.0 and not (made.axes != made.axes).any()
    with pytest.raises(ValueError, match="nothing to learn"):
        Behaviour.learned([], 2, 2, "pca", "")


def test_behaviour_is_what_the_evaluator_tells_beside_the_goals_or_the_rows_or_else_the_looks() -> None:
    made, looks = problem(constraints=(Constraint("size", max=1),)), {"nodes": 5.0}
    told = Trial(made.initial(), 0, 0, "t", values={"value": 1.0, "size": 0.0, "turns": 4.0})
    assert numbers(made, told, {}, lambda trial: looks) == {"turns": 4.0}
    plain = Trial(made.initial(), 0, 0, "t", values={"value": 1.0})
    assert numbers(made, plain, {"a": 0.5}, lambda trial: looks) == {"row a": 0.5}
    assert numbers(made, plain, {}, lambda trial: looks) == looks


def test_what_a_traced_program_does_is_how_often_its_ops_are_called_and_what_they_give() -> None:
    with record() as run:
        for k in range(4):
            halved(k)
        spread("abc")
    assert traced(run.trace) == {
        "calls halved": 4.0,
        "gave halved": 0.75,
        "calls spread": 1.0,
        "gave spread": 3.0,
    }
    assert traced(Trace()) == {}


@op(name="halved")
def halved(number: float) -> float:
    return number / 2


@op(name="spread")
def spread(text: str) -> list[str]:
    return list(text)


def _trace(candidate: Candidate) -> Mapping[str, Any]:
    space: dict[str, Any] = {}
    exec(candidate["program"], space)
    with record() as run:
        for k in range(abs(space["solve"](0)[0])):
            halved(k)
    return run.trace.to_json()


def test_kinds_are_learned_of_traces_where_no_number_is_told() -> None:
    def plainly(candidate: Candidate) -> Mapping[str, float]:
        return {name: value for name, value in (measure(candidate) or {}).items() if name != "a"}

    archives = {}
    for name, trace in (("looks", None), ("traces", _trace)):
        proposer = QualityDiversity()
        search = Search(proposer, SPACE, plainly, ask=steps(1), budget=40, options={"axes": 1}, trace=trace)
        search.run()
        archives[name] = proposer._kinds.archive(1)  # type: ignore[union-attr]
        calls = [abs(program_of(search, elite.number)[0]) for elite in archives[name]]
        if trace is not None:
            assert len(calls) >= 3 and len(set(calls)) == len(calls), "one for each number of calls"
    assert len(archives["looks"]) < len(archives["traces"])


def program_of(search: Search, number: int) -> list[int]:
    space: dict[str, Any] = {}
    exec(search.state.history.trials[number].candidate["program"], space)
    value: list[int] = space["solve"](0)
    return value


# The archive


def test_each_kind_keeps_its_best() -> None:
    measured: list[Mapping[str, float] | None] = [
        {"value": float(10 + k % 4), "turns": float(k // 4)} for k in range(16)
    ]
    found = filed(context(problem(), [*measured, None]), axes=1, bins=4)
    assert sorted(found) == [1, 5, 9, 13], "of each four that behave alike the cheapest one; failures nowhere"
    assert len(set(found.values())) == 4


def test_given_descriptors_are_features_or_measured_numbers() -> None:
    made = problem(Objective("value"), constraints=(Constraint("size", max=100),))
    measured = [{"value": 1.0, "size": 3.0}, {"value": 2.0, "size": 30.0}, {"value": 3.0, "size": 4.0}]
    assert sorted(filed(context(made, measured), descriptors={"size": [0, 40, 4]})) == [1, 2]
    assert sorted(filed(context(made, measured), descriptors={"chars": 1})) == [1]


def test_cycling_takes_each_objective_as_quality_in_turn() -> None:
    made = problem(Objective("value", "minimize", low=0, high=10), Objective("speed", "maximize", low=0, high=10))
    measured = [
        {"value": 1.0, "speed": 1.0},
        {"value": 2.0, "speed": 1.5},
        {"value": 1.5, "speed": 9.0},
        {"value": 9.0, "speed": 9.5},
    ]
    by_value = filed(context(made, measured, decision=2), bins=2)  # cells of speed: below and from 5
    by_speed = filed(context(made, measured, decision=1), bins=2)  # cells of value
    assert sorted(by_value) == [1, 3] and sorted(by_speed) == [3, 4]


def test_a_threshold_is_not_traded_for_the_objective() -> None:
    made = problem(Objective("value"), constraints=(Constraint("size", max=1.0),))
    measured = [{"value": 10.0 - k, "size": k / 10} for k in range(21)]
    assert list(filed(context(made, measured), descriptors={"chars": 1})) == [11], "the best with a size of at most 1"


# With a model


def measure(candidate: Candidate) -> Mapping[str, float] | None:
    space: dict[str, Any] = {}
    exec(candidate["program"], space)
    value = space["solve"](0)
    return {"value": float(sum(abs(a - b) for a, b in zip(value, [3, 1, 4], strict=True))), "size": 0.0, "a": value[0]}


def steps(seed: int) -> Ask:
    rng = random.Random(seed)

    async def ask(request: ModelRequest) -> Completion:
        prompt = request.messages[0].text
        shown = [json.loads(found) for found in re.findall(r"return (\[[^\]]*\])", prompt)]
        value = [rng.choice(shown)[k] for k in range(3)] if "combine" in prompt else shown[0]
        value[rng.randrange(3)] += rng.choice([-1, 1])
        return Completion(text=f"A step.\n```python\n{program(*value)}```", model="scripted:test")

    return ask


@pytest.mark.parametrize("options", [{}, {"projection": "random"}, {"descriptors": ["constants"]}])
def test_a_run_finds_better_programs_of_several_kinds(options: dict[str, Any]) -> None:
    history = Search(QualityDiversity(), SPACE, measure, ask=steps(3), budget=60, options=options).run().history
    best = history[history.champion].values
    assert best is not None and best["value"] <= 4
    assert len({trial.parents for trial in history.trials}) > 5
    if not options:
        crossed = [trial for trial in history.trials if trial.source == "quality_diversity:llm:cross"]
        assert crossed and all(len(set(trial.parents)) == 2 for trial in crossed)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"descriptors": "objectives"}, "there is only one"),
        ({"descriptors": ["beauty"]}, "beauty"),
        ({"descriptors": "chars"}, "a list of names"),
        ({"projection": "tsne"}, "pca or random"),
        ({"axes": 0}, "axes"),
        ({"axes": 9}, "cells"),
        ({"bins": 1}, "bins"),
        ({"cross": 1.5}, "cross"),
        ({"cycle": True}, "unknown option"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_spent(options: dict[str, Any], why: str) -> None:
    made = Search(QualityDiversity(), SPACE, measure).state.problem
    with pytest.raises(ConfigError, match=why):
        QualityDiversity().forecast(made, 1, options)
