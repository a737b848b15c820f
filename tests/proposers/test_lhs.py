"""Latin hypercube designs."""

from __future__ import annotations

import asyncio
import random

import pytest

from agent.errors import ConfigError
from agent.parameters import Categorical, Float, Int
from agent.proposers.lhs import LatinHypercube, latin, places
from agent.space import Space
from agent.testing.proposers import Search, bowl

SPACE = Space({"x": Float(-1, 1), "y": Float(1e-4, 1, log=True), "n": Int(1, 5), "kind": Categorical(("a", "b"))})


def cells(values: list[float], count: int) -> list[int]:
    return sorted(int(value * count) for value in values)


def test_every_parameter_is_visited_evenly() -> None:
    for column in zip(*places(17, 3, random.Random(0)), strict=True):
        assert cells(list(column), 17) == list(range(17))


def test_the_order_in_one_parameter_says_nothing_about_another() -> None:
    first, second = zip(*places(50, 2, random.Random(0)), strict=True)
    pairs = set(zip((int(50 * u) for u in first), (int(50 * u) for u in second), strict=True))
    assert len(pairs) == 50 and pairs != {(i, i) for i in range(50)}


def test_starts_are_even_in_numbers_and_in_choices() -> None:
    starts = latin(10, SPACE, random.Random(3))
    assert cells([SPACE.encode(start)[1] for start in starts], 10) == list(range(10))
    assert sorted(start["n"] for start in starts) == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert sorted(start["kind"] for start in starts) == ["a"] * 5 + ["b"] * 5


def test_equal_randomness_gives_equal_starts() -> None:
    assert latin(6, SPACE, random.Random(1)) == latin(6, SPACE, random.Random(1))
    assert latin(6, SPACE, random.Random(1)) != latin(6, SPACE, random.Random(2))


def proposed(search: Search) -> list[float]:
    return [search.state.problem.space.encode(trial.candidate)[0] for trial in search.state.history.trials[1:]]


def test_a_design_is_spread_over_several_calls() -> None:
    search = Search(LatinHypercube(), SPACE, bowl(SPACE), budget=10, options={"points": 8}, workers=3)
    search.run()
    assert cells(proposed(search)[:8], 8) == list(range(8))


def test_a_design_fits_what_is_left_of_the_budget() -> None:
    space = Space({"x": Float(0, 1)})
    search = Search(LatinHypercube(), space, bowl(space), budget=8)  # the initial candidate is measured twice
    search.run()
    assert cells(proposed(search), 6) == list(range(6))


def test_after_a_design_comes_another_one() -> None:
    space = Space({"x": Float(0, 1)})
    search = Search(LatinHypercube(), space, bowl(space), budget=12, options={"points": 5})
    search.run()
    found = proposed(search)
    assert cells(found[:5], 5) == cells(found[5:10], 5) == list(range(5))
    assert [t.rationale for t in search.state.history.trials[1:]] == ["design 1"] * 5 + ["design 2"] * 5


@pytest.mark.parametrize("options", [{"points": 1}, {"points": 2.5}, {"points": True}, {"size": 3}])
def test_wrong_options_are_refused(options: dict[str, object]) -> None:
    search = Search(LatinHypercube(), SPACE, bowl(SPACE), options=options)
    with pytest.raises(ConfigError, match=r"proposer\.options\."):
        asyncio.run(LatinHypercube().propose(search.context(), 1))
