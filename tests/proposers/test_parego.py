"""ParEGO: each proposal weighs the objectives in another way."""

from __future__ import annotations

import asyncio
import random
import statistics

import numpy as np
import pytest

from agent.errors import ConfigError
from agent.goals import Constraint
from agent.parameters import Categorical, Float, Int
from agent.proposers.base import Proposer
from agent.proposers.parego import ParEGO, lattice, normalised, tchebycheff
from agent.proposers.random import Random
from agent.space import Space
from agent.surrogates.points import Points
from agent.testing.proposers import SPACES, Search, bowl
from tests.proposers.several import SeveralContract, Two, zdt1, zdt2


class TestContract(SeveralContract):
    steps = 20
    options = {"start": 5}  # noqa: RUF012

    def inner(self) -> Proposer:
        return ParEGO()


# ---------------------------------------------------------------- its parts


def test_weights_lie_on_the_lattice_and_each_of_them_comes_up() -> None:
    rng = random.Random(0)
    drawn = [tuple((lattice(3, 4, rng) * 4).tolist()) for _ in range(3000)]
    assert all(sum(weights) == 4 and min(weights) >= 0 for weights in drawn)
    counts = {weights: drawn.count(weights) for weights in set(drawn)}
    assert len(counts) == 15  # 6 over 2
    assert max(counts.values()) < 1.5 * min(counts.values())


def test_the_scalar_cost_is_the_largest_weighted_one_and_a_share_of_their_sum() -> None:
    table = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
    found = tchebycheff(table, np.array([0.2, 0.8]), 0.05)
    assert found.tolist() == pytest.approx([0.8 + 0.05 * 0.8, 0.4 + 0.05 * 0.5, 0.2 + 0.05 * 0.2])


def test_costs_are_normalised_by_what_was_measured_whatever_their_direction() -> None:
    search = Two(ParEGO(), lambda x: (10 * x[0], 5.0), size=1, seed=1).run(3)
    table = normalised(search.problem, Points.of(search.problem, search.history))
    assert sorted(table[:, 0])[0] == 0.0 and sorted(table[:, 0])[-1] == 1.0
    assert (table[:, 1] == 0.0).all()  # an objective that never changes decides nothing


# ---------------------------------------------------------------- searching


def test_it_covers_more_than_random_search_on_both_kinds_of_front() -> None:
    for function, best in ((zdt1, 6.267), (zdt2, 5.933)):
        ours = [Two(ParEGO(), function, seed=seed).run(40).volume for seed in range(3)]
        theirs = [Two(Random(), function, seed=seed).run(40).volume for seed in range(3)]
        gap = statistics.median(best - volume for volume in ours)
        assert gap < 0.25 * statistics.median(best - volume for volume in theirs)


def test_the_middle_of_a_front_that_bulges_inwards_is_found_too() -> None:
    search = Two(ParEGO(), zdt2, size=3, seed=2).run(45)
    front = [t.values for t in search.history.trials if t.values and zdt2_gap(t.values) < 0.1]
    assert any(0.25 < values["a"] < 0.75 for values in front)


def zdt2_gap(values: dict[str, float]) -> float:
    return -values["b"] - (1 - values["a"] ** 2)


def test_each_proposal_of_a_group_has_weights_of_its_own_and_keeps_its_distance() -> None:
    search = Two(ParEGO(), zdt1, seed=3).run(10)
    proposals = search.ask(6)
    assert len(proposals) == 6 and len({p.rationale for p in proposals}) > 1
    places = [search.problem.space.encode(p.values) for p in proposals]
    apart = [max(abs(a - b) for a, b in zip(p, q, strict=True)) for i, p in enumerate(places) for q in places[:i]]
    assert min(apart) > 1e-3


@pytest.mark.parametrize("how", ["fails", "breaks a constraint"])
def test_it_stays_out_of_where_candidates_are_of_no_use(how: str) -> None:
    # The second objective is best there, and it is half of the space.
    def function(x: list[float]) -> tuple[float, ...] | None:
        return None if how == "fails" and x[0] > 0.5 else (*zdt1(x), x[0])

    search = Two(ParEGO(), function, size=2, seed=5, constraint=Constraint("c", max=0.5)).run(40)
    assert sum(not t.feasible or t.values is None for t in search.history.trials[20:]) < 10


def test_a_mixed_space_is_searched() -> None:
    space = Space({"x": Float(0, 1), "n": Int(1, 5), "kind": Categorical(("a", "b", "c"))})
    search = Two(ParEGO(), lambda x: (x[0], (1 - x[0]) + abs(x[1] - 0.5) + (x[2] > 0.5)), space=space).run(30)
    late = search.history.trials[15:]
    assert sum(t.candidate["kind"] != "c" and t.candidate["n"] == 3 for t in late) > len(late) / 2


def test_lengths_are_remembered_and_fitted_again_when_there_are_more_points() -> None:
    search = Two(ParEGO(), zdt1, seed=6).run(15)
    fitted = search.memory["hyper"]["size"]
    search.run(30)
    assert fitted < search.memory["hyper"]["size"] <= 30
    search.memory = None
    assert search.ask()


# ---------------------------------------------------------------- what it refuses


def test_one_objective_is_refused_and_another_proposer_named() -> None:
    search = Search(ParEGO(), SPACES["float"], bowl(SPACES["float"]))
    for ask in (
        lambda: asyncio.run(ParEGO().propose(search.context(), 1)),
        lambda: ParEGO().forecast(search.state.problem, 10, {}),
    ):
        with pytest.raises(ConfigError, match="parego weighs several objectives") as caught:
            ask()
        assert "gp" in caught.value.hint


@pytest.mark.parametrize(
    "options", [{"start": -1}, {"start": 2.5}, {"divisions": True}, {"rho": -0.1}, {"rho": "x"}, {"weights": 3}]
)
def test_wrong_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"proposer\.options\."):
        Two(ParEGO(), zdt1, options=options).ask()
