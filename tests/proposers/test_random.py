"""Uniform random search."""

from __future__ import annotations

import asyncio

from agent.parameters import Float, Int
from agent.proposers.random import Random
from agent.space import Space
from agent.testing.proposers import SPACES, Search, bowl


def test_draws_are_uniform_on_each_scale() -> None:
    space = Space({"rate": Float(1e-4, 1.0, log=True), "n": Int(0, 3)})
    context = Search(Random(), space, bowl(space)).context()
    drawn = [proposal.values for proposal in asyncio.run(Random().propose(context, 800))]
    assert 0.44 < sum(values["rate"] < 1e-2 for values in drawn) / 800 < 0.56
    assert all(0.19 < sum(values["n"] == n for values in drawn) / 800 < 0.31 for n in range(4))


def test_a_small_space_is_tried_as_a_whole() -> None:
    space = SPACES["twelve values"]
    state = Search(Random(), space, bowl(space), budget=40).run()
    assert len(state.history) == 12
    assert state.stop is not None and state.stop.reason == "exhausted"


def test_what_is_left_is_proposed_even_when_it_is_less_than_asked_for() -> None:
    context = Search(Random(), SPACES["twelve values"], bowl(SPACES["twelve values"])).context()
    assert len(asyncio.run(Random().propose(context, 50))) == 11  # all but the initial one
    assert context.exhausted
