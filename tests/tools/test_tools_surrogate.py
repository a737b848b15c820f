"""Asking the model of the data before anything is paid for."""

from __future__ import annotations

import math
import re

import pytest

from agent.goals import Objective
from agent.texts import Text
from tests.tools.tool_support import NUMBERS, Known, ask, context, measured, problem, refusal


def bowl(direction: str = "maximize", scale: float = 1.0, **given: object) -> Known:
    """The result is best at x = 0.3."""
    sign = 1 if direction == "maximize" else -1
    goals = (Objective("score", direction),)  # type: ignore[arg-type]
    known = context(problem({"x": NUMBERS["x"], **given}, objectives=goals, deterministic=True))  # type: ignore[arg-type]
    for i in range(11):
        if i != 3:
            measured(known, {"x": i / 10}, sign * scale * (1 - 10 * (i / 10 - 0.3) ** 2))
    return known


def numbers(line: str) -> tuple[float, float, float]:
    """Mean, deviation and expected improvement."""
    found = re.search(r": (-?[\d.e+-]+) ± ([\d.e+-]+); expected improvement ([\d.e+-]+)", line)
    assert found, line
    return float(found[1]), float(found[2]), float(found[3])


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
async def test_it_says_where_an_improvement_is_to_be_expected(direction: str) -> None:
    sign = 1 if direction == "maximize" else -1
    text = await ask("surrogate", bowl(direction), points=[{"x": 0.3}, {"x": 0.9}])
    head, good, bad = text.splitlines()
    assert f"the best so far is {sign * 0.9:g}, from 10 measured candidates." in head
    assert numbers(good)[0] == pytest.approx(sign * 1.0, abs=0.05)
    assert numbers(bad)[0] == pytest.approx(sign * -2.6, abs=0.05)
    assert numbers(good)[2] == pytest.approx(0.1, abs=0.05), "in the unit of the result"
    assert numbers(bad)[2] < 1e-6


async def test_an_improvement_is_in_the_unit_of_the_result() -> None:
    (line,) = (await ask("surrogate", bowl(scale=1000.0), points=[{"x": 0.3}])).splitlines()[1:]
    assert numbers(line)[2] == pytest.approx(100, abs=20)


async def test_where_candidates_failed_it_says_so() -> None:
    known = bowl()
    for i in range(8):
        measured(known, {"x": 0.91 + i / 100}, "error: boom")
    assert "it may fail" in await ask("surrogate", known, points=[{"x": 0.95}])
    assert "it may fail" not in await ask("surrogate", known, points=[{"x": 0.2}])


async def test_what_is_no_number_is_left_to_others() -> None:
    known = bowl(prompt=Text("go"))
    assert "nothing of the 1 parameters" in await ask("surrogate", known, points=[{"x": 0.3, "prompt": "stop"}])
    assert "no numbers and no choices" in await refusal("surrogate", context(problem({"p": Text("a")})), points=[{}])


@pytest.mark.parametrize(
    "points",
    [[], [{}] * 21, [{"x": 7}], [{"x": math.nan}], [{"x": 10**400}], [{"y": 1}], [{"x": "0.3"}], [{"x": [[]]}]],
    ids=repr,
)
async def test_points_that_are_not_allowed_are_refused_with_what_is(points: list[dict[str, object]]) -> None:
    text = await refusal("surrogate", bowl(), points=points)
    assert "allowed is 1 to 20" in text or "the parameters are x" in text
    assert len(text) < 800


async def test_a_model_of_one_point_is_no_model() -> None:
    known = context()
    measured(known, {"x": 0.1}, 1.0)
    assert "a model needs 2" in await refusal("surrogate", known, points=[{"x": 0.5}])
