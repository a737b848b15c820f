"""The null model: EvoLLM's loop with the mean of the five best points in the model's place."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from agent.errors import ConfigError
from agent.parameters import Categorical, Float, Int
from agent.proposers.base import Proposal
from agent.proposers.evollm_null import EvoLLMNull
from agent.proposers.random import Random
from agent.space import Space
from agent.testing.proposers import Measure, Search, bowl

SPACE = Space(
    {"rate": Float(1e-4, 1.0, log=True), "x": Float(-5, 5), "n": Int(1, 9), "kind": Categorical(("a", "b", "c"))}
)


def known(space: Space, measure: Measure | None = None, budget: int = 20, seed: int = 0) -> Search:
    """A search that has measured random points."""
    search = Search(Random(), space, measure or bowl(space), budget=budget, seed=seed)
    search.run()
    return search


def following(search: Search, n: int = 1, **options: Any) -> list[Proposal]:
    context = search.context(50)
    context.memory, context.options = None, options
    return asyncio.run(EvoLLMNull().propose(context, n))


def test_the_first_point_is_the_mean_of_the_five_best_on_each_scale() -> None:
    search = known(SPACE)
    five = [trial.candidate for trial in search.state.history.ranked(5)]
    proposals = following(search)
    assert [proposal.source for proposal in proposals] == ["evollm-null:mean"] + ["evollm-null:sample"] * 3
    mean = proposals[0].values
    product = 1.0
    for candidate in five:
        product *= candidate["rate"]
    assert mean["rate"] == pytest.approx(product**0.2, rel=1e-6), "a logarithmic scale has a geometric mean"
    assert mean["x"] == pytest.approx(sum(candidate["x"] for candidate in five) / 5)
    assert mean["n"] == int(sum(candidate["n"] + 0.5 for candidate in five) / 5)


def test_of_choices_the_most_frequent_counts_and_in_a_tie_the_better() -> None:
    space = Space({"x": Float(0, 1), "kind": Categorical(("a", "b", "c"))})
    for seed in range(6):
        search = known(space, seed=seed)
        kinds = [trial.candidate["kind"] for trial in search.state.history.ranked(5)]
        most = max(kinds.count(kind) for kind in kinds)
        winner = next(kind for kind in kinds if kinds.count(kind) == most)
        assert following(search)[0].values["kind"] == winner


def test_only_what_was_measured_with_success_is_averaged() -> None:
    space = Space({"x": Float(0, 1), "y": Float(0, 1)})

    def measure(candidate: Any) -> Mapping[str, float] | None:
        if candidate["x"] < 0.4:
            return None
        return {"value": candidate["x"], "size": 2.0 if candidate["y"] < 0.4 else 0.0}

    mean = following(known(space, measure, budget=60))[0].values
    assert mean["x"] > 0.4 and mean["y"] > 0.4


def test_it_descends_without_a_model_and_much_faster_than_random() -> None:
    space = Space({f"x{number}": Float(-5, 5) for number in range(5)})

    def regret(proposer: Any, seed: int, **given: Any) -> float:
        state = Search(proposer, space, bowl(space), budget=100, seed=seed, **given).run()
        return float(state.history.value(state.history.ranked(1)[0]))

    fixed = {"population": 5, "sigma": 0.1}
    null = [regret(EvoLLMNull(), seed, options=fixed) for seed in range(4)]
    drawn = [regret(Random(), seed) for seed in range(4)]
    assert all(a < b / 2 for a, b in zip(null, drawn, strict=True))


def test_its_options_are_those_of_the_loop_alone() -> None:
    search = known(SPACE)
    assert len(following(search, population=7)) == 7 and len(following(search, n=9)) == 9
    with pytest.raises(ConfigError, match="temperature: unknown option, allowed is one of population, sigma"):
        following(search, temperature=1.0)
    with pytest.raises(ConfigError, match="population: found 0"):
        EvoLLMNull().forecast(search.state.problem, 10, {"population": 0})


def test_no_model_is_called() -> None:
    async def never(request: Any) -> Any:
        raise AssertionError("a model was asked")

    search = known(SPACE)
    context = search.context(50)
    context.memory, context.ask = None, never
    assert asyncio.run(EvoLLMNull().propose(context, 1))
    assert EvoLLMNull().forecast(search.state.problem, 10, {}) == (0, 0, 0) and not EvoLLMNull.needs_model
