"""Places in the cube, and finding where a function over them is largest."""

from __future__ import annotations

import numpy as np

from agent.parameters import Categorical, Float, Int
from agent.space import Space
from agent.surrogates.acquisition import Grid, maximise

MIXED = Space({"a": Float(0, 1), "n": Int(1, 5), "kind": Categorical(("x", "y", "z")), "log": Int(1, 1000, log=True)})


def test_places_are_those_that_values_have() -> None:
    grid = Grid(MIXED)
    x = grid.uniform(500, np.random.default_rng(0))
    base = MIXED.initial()
    for row in x[:50]:
        candidate = MIXED.decode(row.tolist(), base)
        assert np.allclose(MIXED.encode(candidate)[1:3], row[1:3])
    assert len(np.unique(x[:, 1])) == 5 and len(np.unique(x[:, 2])) == 3
    assert x.min() >= 0 and x.max() <= 1


def test_neighbours_differ_and_stay_inside() -> None:
    grid = Grid(MIXED)
    centre = grid.snap(np.array([[0.5, 0.99, 0.5, 1.0]]))[0]
    near = grid.around(centre, np.full(4, 0.01), 200, np.random.default_rng(1))
    assert (near != centre).any(axis=1).mean() > 0.8
    assert near.min() >= 0 and near.max() <= 1
    assert np.abs(near[:, 0] - 0.5).max() < 0.06
    assert len(np.unique(near[:, 1])) >= 2  # a whole number moves by a step although the width is less


def test_it_finds_a_peak_to_many_digits() -> None:
    grid = Grid(Space({f"x{k}": Float(0, 1) for k in range(6)}))
    peak = np.array([0.1, 0.9, 0.33, 0.5, 0.71, 0.02])
    place, value = maximise(lambda x: -((x - peak) ** 2).sum(axis=1), grid, np.random.default_rng(0))
    assert value > -1e-3
    near, better = maximise(
        lambda x: -((x - peak) ** 2).sum(axis=1), grid, np.random.default_rng(0), centres=place[None, :]
    )
    assert better >= value - 1e-4 and near.shape == (6,)


def test_it_keeps_to_a_box_where_there_is_one() -> None:
    grid = Grid(Space({f"x{k}": Float(0, 1) for k in range(3)}))
    low, high = np.full(3, 0.2), np.full(3, 0.4)
    place, _ = maximise(lambda x: x.sum(axis=1), grid, np.random.default_rng(0), low=low, high=high)
    assert np.all(place <= 0.4) and np.all(place > 0.35)


def test_choices_are_searched_as_choices() -> None:
    space = Space({f"k{k}": Categorical(tuple("abcdef")) for k in range(8)})
    grid = Grid(space)
    wanted = grid.uniform(1, np.random.default_rng(4))[0]
    place, value = maximise(lambda x: (x == wanted).sum(axis=1) * 1.0, grid, np.random.default_rng(0))
    assert value >= 6 and place.shape == (8,)
