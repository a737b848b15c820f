"""What counts as better, and what a journal keeps of a problem."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.datasets.data import load
from agent.errors import ConfigError
from agent.evaluation import Output, Request, Score
from agent.goals import Constraint, Objective
from agent.parameters import Float, Int
from agent.problem import Example, Problem
from agent.space import Space
from agent.texts import Text


class Nothing:
    """An evaluator that is only named."""

    exclusive = True
    blocking = False
    keeps_limits = False
    spec: Mapping[str, Any] = {"kind": "nothing"}
    fingerprint = "source-1"

    async def produce(self, request: Request, partial: Callable[[Any], None]) -> Output:
        raise NotImplementedError

    def score(self, output: Output) -> Score:
        raise NotImplementedError


@pytest.fixture
def problem(tmp_path: Path) -> Problem:
    (tmp_path / "prompt.txt").write_text("Be kind.")
    return Problem(
        name="example",
        space=Space({"x": Float(0, 1), "n": Int(1, 9), "prompt": Text(file="prompt.txt")}),
        evaluator=Nothing(),
        objectives=(
            Objective("time", unit="ms", min_effect=2.0, min_effect_relative=0.1),
            Objective("size", floor=9.0),
        ),
        constraints=(Constraint("error", max=0.1), Constraint("recall", min=0.5, max=1)),
        data=load([{"id": "a", "q": 1}, {"q": 2}]).examples,
        description="Make it fast.",
        folder=tmp_path,
    )


def test_smaller_is_better_when_minimizing_and_larger_when_maximizing() -> None:
    low, high = Objective("time", "minimize"), Objective("share", "maximize")
    assert (low.gain(3, 5), low.gain(5, 3)) == (2, -2)
    assert (high.gain(3, 5), high.gain(5, 3)) == (-2, 2)
    assert (low.sign, high.sign) == (-1, 1)


def test_the_larger_minimum_effect_counts() -> None:
    goal = Objective("time", min_effect=2.0, min_effect_relative=0.1)
    assert [goal.margin(reference) for reference in (0, 10, 30, -30)] == pytest.approx([2, 2, 3, 3])
    assert Objective("time").margin(5) == 0


def test_constraint_bounds_are_included(problem: Problem) -> None:
    assert problem.violated({"error": 0.1, "recall": 0.5}) == []
    assert [c.name for c in problem.violated({"error": 0.1000001, "recall": 0.4})] == ["error", "recall"]
    assert [str(c) for c in problem.constraints] == ["error at most 0.1", "recall at most 1 and at least 0.5"]


def test_a_journal_keeps_enough_to_fold_show_and_export_without_the_folder(problem: Problem, tmp_path: Path) -> None:
    stored = json.loads(json.dumps(problem.to_json(), allow_nan=False))
    (tmp_path / "prompt.txt").unlink()
    again = Problem.from_json(stored)
    assert again.to_json() == stored
    assert again.initial() == problem.initial() and again.initial()["prompt"] == "Be kind."
    assert (again.objectives, again.constraints, again.names) == (
        problem.objectives,
        problem.constraints,
        problem.names,
    )
    assert again.evaluator.exclusive
    assert [example.id for example in again.data] == [example.id for example in problem.data]
    with pytest.raises(ValueError, match="open its folder"):
        again.evaluator.score(Output(value=1))


async def test_a_problem_read_from_a_journal_cannot_measure(problem: Problem) -> None:
    recorded = Problem.from_json(problem.to_json()).evaluator
    output = await recorded.produce(Request(problem.initial()), lambda _: None)
    assert output.failure is not None and "open its folder" in output.failure.message


def test_fingerprints_change_with_what_is_measured_and_with_nothing_else(problem: Problem, tmp_path: Path) -> None:
    before = problem.fingerprints

    def changed(**fields: Any) -> set[str]:
        now = replace(problem, **fields).fingerprints
        return {name for name in now if now[name] != before[name]}

    other = Nothing()
    other.fingerprint = "source-2"
    rows = (problem.data[0], Example(problem.data[1].id, {"q": 3}))
    assert changed(description="else", folder=tmp_path / "moved") == set()
    assert changed(evaluator=other) == {"evaluator"}
    assert changed(data=rows) == {"data"}
    assert changed(deterministic=True) == {"problem"}
    assert changed(objectives=(Objective("time"), Objective("size"))) == {"problem"}
    assert changed(space=Space({**problem.space, "x": Float(0, 2)})) == {"problem"}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Objective("x", "down"), ["direction", "'down'", "minimize or maximize"]),  # type: ignore[arg-type]
        (lambda: Objective("x", min_effect=-1), ["min_effect", "-1", "at least 0"]),
        (lambda: Objective("x", min_effect_relative=math.nan), ["min_effect_relative", "nan"]),
        (lambda: Objective("x", floor=math.inf), ["floor", "inf"]),
        (lambda: Objective("x", floor="0"), ["floor", "'0'"]),  # type: ignore[arg-type]
        (lambda: Constraint("x"), ["constraint x", "bound is missing"]),
        (lambda: Constraint("x", max=math.inf), ["constraint x", "max", "inf"]),
        (lambda: Constraint("x", max=1, min=2), ["constraint x", "min (2)", "max (1)"]),
    ],
)
def test_a_wrong_goal_names_what_was_found_and_what_is_allowed(make: Any, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    for word in words:
        assert word in str(caught.value)


def test_a_wrong_problem_is_refused(problem: Problem) -> None:
    for change, words in [
        ({"objectives": ()}, "no objective"),
        ({"objectives": (Objective("time"), Objective("error"))}, "declared twice.*error"),
        ({"data": (Example("a", 1), Example("a", 2))}, "same id"),
        ({"space": Space({"p": Text(file="absent.txt")})}, r"absent\.txt"),
    ]:
        with pytest.raises(ConfigError, match=words):
            replace(problem, **change)  # type: ignore[arg-type]
