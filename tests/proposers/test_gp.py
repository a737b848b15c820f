"""Bayesian optimisation, over the whole space and in a trust region."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
from typing import Any

import pytest

from agent.errors import ConfigError
from agent.parameters import Categorical, Float, Int
from agent.proposers.base import Proposal, Proposer
from agent.proposers.gp import GP, Region, TrustRegion
from agent.proposers.random import Random
from agent.space import Candidate, Space
from agent.testing.proposers import Search, bowl, rough

BOX = Space({f"x{k}": Float(-5, 5) for k in range(4)})


def valley(candidate: Candidate) -> dict[str, float]:
    """Rosenbrock's function: a bent valley, easy to reach and hard to follow."""
    x = [candidate[name] for name in BOX]
    value = sum(100 * (b - a * a) ** 2 + (1 - a) ** 2 for a, b in itertools.pairwise(x))
    return {"value": value, "size": 0.0}


def best(proposer: Proposer, measure: Any, space: Space = BOX, budget: int = 60, **given: Any) -> float:
    state = Search(proposer, space, measure, budget=budget, **given).run()
    return state.history.value(state.history[state.history.champion])


def propose(search: Search, n: int = 1, decision: int = 1) -> list[Proposal]:
    return asyncio.run(search.proposer.propose(search.context(decision), n))


@pytest.mark.parametrize("make", [GP, TrustRegion])
def test_a_bowl_is_solved_to_many_digits(make: type[GP]) -> None:
    assert best(make(), bowl(BOX), budget=40) < 1e-4
    assert best(Random(), bowl(BOX), budget=40) > 1e-2


def test_the_trust_region_follows_a_valley_further() -> None:
    space = Space({f"x{k}": Float(-5, 5, default=-4) for k in range(4)})
    ours = [best(TrustRegion(), valley, space, budget=90, seed=seed) for seed in range(3)]
    random = [best(Random(), valley, space, budget=90, seed=seed) for seed in range(3)]
    assert sorted(ours)[1] < sorted(random)[1] / 50


def test_the_best_can_be_maximised() -> None:
    def hill(candidate: Candidate) -> dict[str, float]:
        return {"value": -bowl(BOX)(candidate)["value"], "size": 0.0}  # type: ignore[index]

    assert best(GP(), hill, budget=40, direction="maximize") > -1e-4


def test_whole_numbers_and_choices_are_searched() -> None:
    space = Space({"n": Int(1, 40), "kind": Categorical(("a", "b", "c", "d")), "x": Float(0, 1)})

    def measure(candidate: Candidate) -> dict[str, float]:
        off = abs(candidate["n"] - 17) / 10 + abs(candidate["x"] - 0.8)
        return {"value": off + (candidate["kind"] != "c"), "size": 0.0}

    assert best(GP(), measure, space, budget=45) < 0.1


def test_the_upper_confidence_bound_is_an_option() -> None:
    assert best(GP(), bowl(BOX), budget=40, options={"acquisition": "ucb", "beta": 1.0}) < 1e-3


def test_several_points_at_once_differ() -> None:
    search = Search(GP(), BOX, bowl(BOX), budget=15)
    search.run()
    places = [BOX.encode(proposal.values) for proposal in propose(search, 4, decision=99)]
    nearest = min(math.dist(a, b) for i, a in enumerate(places) for b in places[:i])
    assert len(places) == 4 and nearest > 0.01


def test_what_is_being_measured_is_not_asked_for_again() -> None:
    search = Search(GP(), BOX, bowl(BOX), budget=15)
    search.run()
    first = propose(search, 1, decision=99)[0]
    search.state.ended = None
    search.state.unchecked.append((99, first.to_json()))
    from agent.decide import decide

    search.state.stop = None
    for event in decide(search.state):
        search.apply(event)
    second = propose(search, 1, decision=99)[0]
    assert math.dist(BOX.encode(first.values), BOX.encode(second.values)) > 1e-3


def test_failures_are_left_alone_and_the_rest_is_searched() -> None:
    def measure(candidate: Candidate) -> dict[str, float] | None:
        return None if candidate["x0"] > 0 and candidate != BOX.initial() else dict(bowl(BOX)(candidate) or {})

    search = Search(GP(), BOX, measure, budget=50)
    state = search.run()
    late = [trial for trial in state.history.trials if trial.number > 25]
    assert sum(trial.state == "failed" for trial in late) < len(late) / 4


def test_its_words_say_what_it_expects() -> None:
    search = Search(GP(), BOX, bowl(BOX), budget=20)
    search.run()
    assert "expected" in propose(search, decision=50)[0].rationale


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"acquisition": "luck"}, "ei or ucb"),
        ({"beta": -1}, "beta"),
        ({"beta": True}, "beta"),
        ({"start": 1.5}, "start"),
        ({"warp": 1}, "acquisition"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        propose(Search(GP(), BOX, bowl(BOX), options=options))


def test_a_solved_problem_is_searched_to_the_end_of_the_budget() -> None:
    space = Space({"x": Float(0, 1), "n": Int(1, 3)})

    def measure(candidate: Candidate) -> dict[str, float]:
        return {"value": (candidate["x"] - 0.25) ** 2 + candidate["n"], "size": 0.0}

    for make in (GP, TrustRegion):
        state = Search(make(), space, measure, budget=90).run()
        assert state.stop is not None and state.stop.reason == "evaluations", state.stop


def test_a_region_grows_with_success_and_shrinks_without() -> None:
    region = Region()
    for _ in range(2):
        region.tell(True, 4)
    assert region.side == 1.6
    for _ in range(3):
        region.tell(False, 4)
    assert region.side == 0.8
    while region.side < 0.81 and region.side > 2**-6:
        region.tell(False, 4)
    for _ in range(6):
        region.tell(False, 4)
    assert region.side >= 0.4  # what was found out at the finest is not looked at again: it begins anew
    assert json.dumps(region.to_json(3))


def test_a_noisy_problem_gets_no_points_next_to_known_ones() -> None:
    search = Search(GP(), BOX, rough(BOX), budget=40)
    search.run()
    object.__setattr__(search.state.problem, "deterministic", False)
    place = BOX.encode(propose(search, decision=77)[0].values)
    known = [BOX.encode(trial.candidate) for trial in search.state.history.trials]
    assert min(max(abs(a - b) for a, b in zip(place, other, strict=True)) for other in known) > 0.01
