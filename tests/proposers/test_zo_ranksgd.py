"""ZO-RankSGD: nothing but the order of candidates is used."""

from __future__ import annotations

import asyncio
import json
import math
import random
import statistics
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import ConfigError
from agent.events import CandidateAdmitted
from agent.gate.ranking import ranking_gradient
from agent.goals import Direction, Objective
from agent.history import History
from agent.measuring import Unit
from agent.parameters import Float
from agent.problem import Problem
from agent.proposers.base import Context, Proposal, Proposer
from agent.proposers.random import Random
from agent.proposers.zo_ranksgd import ZORankSGD, direction
from agent.space import Space
from agent.testing.proposers import ProposerContract
from tests.proposers.several import problem_of


class TestContractInSmallGroups(ProposerContract):
    options: ClassVar = {"probes": 2, "line": 1, "step": 0.01}

    def make(self) -> Proposer:
        return ZORankSGD()


Cost = Callable[[list[float]], float | None]


def bowl(x: list[float]) -> float:
    return sum((a - 0.3) ** 2 for a in x)


class Walk:
    """A search over `size` numbers in the unit cube; `tell` says what the evaluator gives for a cost."""

    def __init__(
        self,
        cost: Cost = bowl,
        *,
        size: int = 5,
        seed: int = 0,
        proposer: Proposer | None = None,
        options: Mapping[str, Any] | None = None,
        tell: Callable[[float], float] = float,
        direction: Direction = "minimize",
    ) -> None:
        self.space = Space({f"x{number}": Float(0, 1) for number in range(size)})
        given = problem_of(self.space, None)
        self.problem = Problem("one", self.space, given.evaluator, (Objective("a", direction),), deterministic=True)
        self.cost, self.tell, self.seed = cost, tell, seed
        self.proposer, self.options = proposer or ZORankSGD(), options or {}
        first = self.space.decode([random.Random(seed).random() for _ in range(size)], self.space.initial())
        self.history = History(first, self.problem.objective)
        self.memory: Any = None
        self.decision = 0
        self.made: list[Proposal] = []
        self.measure(first.id)

    def measure(self, name: str) -> None:
        cost = self.cost(self.space.encode(self.history[name].candidate))
        values = None if cost is None else {"a": self.tell(cost)}
        self.history.measured(Unit(name, 0, 0, "search", values, "" if values else "error: none"), True)

    def ask(self, n: int = 1) -> list[str]:
        """Ids of new candidates, which wait to be measured."""
        self.decision += 1
        context = Context(
            self.problem,
            self.history.freeze(),
            random.Random(f"{self.seed} {self.decision}"),
            decision=self.decision,
            memory=json.loads(json.dumps(self.memory)),
            options=self.options,
        )
        proposals = asyncio.run(self.proposer.propose(context, n))
        self.memory = context.memory
        out = []
        for proposal in proposals:
            candidate = self.space.candidate(proposal.values)
            assert candidate.id not in self.history
            event = CandidateAdmitted(self.decision, candidate.id, candidate.values_json, proposal.source)
            self.history.apply(event)
            self.made.append(proposal)
            out.append(candidate.id)
        return out

    def run(self, evaluations: int) -> Walk:
        while len(self.history) < evaluations:
            for name in self.ask():
                self.measure(name)
        return self

    @property
    def best(self) -> float:
        """The smallest cost."""
        costs = [self.cost(self.space.encode(t.candidate)) for t in self.history.trials if t.values is not None]
        return min(cost for cost in costs if cost is not None)


# ---------------------------------------------------------------- the estimator


def test_each_ordered_pair_points_from_the_worse_to_the_better() -> None:
    offsets = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert direction(offsets, np.array([1.0, 2.0])).tolist() == [1.0, -1.0]
    assert direction(offsets, np.array([2.0, 1.0])).tolist() == [-1.0, 1.0]


@given(st.permutations(range(6)))
def test_without_ties_it_is_the_estimator_of_the_ranking_module(order: list[int]) -> None:
    offsets = np.random.default_rng(0).normal(size=(6, 3))
    keys = np.empty(6)
    keys[order] = np.arange(6)
    assert direction(offsets, keys) == pytest.approx(ranking_gradient(offsets, order))


def test_ties_say_nothing_and_what_failed_ties_with_what_failed() -> None:
    offsets = np.array([[1.0], [2.0], [4.0]])
    assert direction(offsets, np.zeros(3)).tolist() == [0.0]
    assert direction(offsets, np.array([math.inf] * 3)).tolist() == [0.0]
    # 0 is better than both; 1 and 2 failed: (1 - 2) + (1 - 4), over two pairs
    assert direction(offsets, np.array([5.0, math.inf, math.inf])).tolist() == [-2.0]


def test_it_points_downhill() -> None:
    rng = np.random.default_rng(3)
    slope = np.array([3.0, -1.0, 0.5])
    offsets = rng.normal(size=(200, 3))
    found = direction(offsets, offsets @ slope)
    cosine = -found @ slope / np.linalg.norm(found) / np.linalg.norm(slope)
    assert cosine > 0.97


# ---------------------------------------------------------------- order alone

TRANSFORMS: dict[str, Callable[[float], float]] = {
    "shifted": lambda c: c - 1e6,
    "cubed": lambda c: (10 * c) ** 3,
    "exponential": lambda c: math.exp(5 * c),
    "logarithm": lambda c: math.log(c),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_any_increasing_transform_of_the_scores_gives_the_same_candidates(name: str) -> None:
    plain = Walk(seed=1).run(80)
    other = Walk(seed=1, tell=TRANSFORMS[name]).run(80)
    assert [dict(p.values) for p in other.made] == [dict(p.values) for p in plain.made]
    assert json.dumps(other.memory) == json.dumps(plain.memory)


def test_so_does_a_decreasing_one_where_the_score_is_made_large() -> None:
    plain = Walk(seed=2).run(60)
    other = Walk(seed=2, tell=lambda c: -(c**3), direction="maximize").run(60)
    assert [dict(p.values) for p in other.made] == [dict(p.values) for p in plain.made]


def test_another_order_gives_other_candidates() -> None:
    plain, other = Walk(seed=1).run(40), Walk(seed=1, tell=lambda c: -c).run(40)
    assert [dict(p.values) for p in other.made] != [dict(p.values) for p in plain.made]


# ---------------------------------------------------------------- searching


def test_it_gets_far_closer_than_random_search() -> None:
    ours = [Walk(seed=seed).run(100).best for seed in range(7)]
    theirs = [Walk(seed=seed, proposer=Random()).run(100).best for seed in range(7)]
    assert statistics.median(ours) < statistics.median(theirs) / 5


def test_failures_stand_last() -> None:
    values = iter([1.0])

    def half(x: list[float]) -> float | None:  # fails on one side of where it begins
        return next(values, 1.0 if x[0] < walk_begins else None)

    walk_begins = random.Random(3).random()
    walk = Walk(half, size=2, seed=3, options={"probes": 12}).run(13)
    walk.ask()
    assert walk.memory["along"][0] < -0.8


def test_steps_grow_while_they_find_better() -> None:
    walk = Walk(lambda x: sum(x), seed=9, options={"step": 0.02}).run(60)
    assert walk.memory["step"] > 0.02


def test_failures_do_not_stop_it() -> None:
    walk = Walk(lambda x: None if x[0] > 0.6 else bowl(x), seed=3).run(100)
    assert sum(t.values is None for t in walk.history.trials) > 0
    assert walk.best < 0.02


def test_the_line_search_steps_along_the_direction_that_the_order_gave() -> None:
    walk = Walk(seed=4, options={"probes": 8, "line": 2}).run(9)
    centre = np.array(walk.memory["place"])
    name = walk.ask()[0]
    step = np.array(walk.space.encode(walk.history[name].candidate)) - centre
    assert walk.made[-1].rationale.endswith("along the direction that the order gave")
    assert walk.memory["along"] and step @ np.array(walk.memory["along"]) > 0


def test_while_results_are_out_it_adds_to_the_open_group() -> None:
    walk = Walk(seed=5, options={"probes": 4})
    waiting = walk.ask(10)
    assert len(waiting) == 10 and not walk.memory["along"]
    for name in waiting:
        walk.measure(name)
    walk.ask()
    assert walk.memory["along"]  # all ten were put in order at once


def test_a_better_candidate_of_somebody_else_becomes_the_centre() -> None:
    walk = Walk(seed=6).run(20)
    foreign = walk.space.candidate(dict.fromkeys(walk.space, 0.3))
    walk.history.apply(CandidateAdmitted(99, foreign.id, foreign.values_json, "other"))
    walk.measure(foreign.id)
    walk.run(35)
    assert walk.memory["centre"] == foreign.id


def test_steps_shrink_where_nothing_is_better_and_begin_again() -> None:
    values = iter([1.0])
    walk = Walk(lambda _: next(values, None), size=2, seed=7, options={"probes": 2, "line": 1, "step": 0.25})
    steps = []
    for _ in range(120):
        for name in walk.ask():
            walk.measure(name)
        steps.append(walk.memory["step"])
    assert min(steps) < 0.001
    assert any((before < 0.001, after) == (True, 0.25) for before, after in pairwise(steps)), "it never began again"


def test_how_near_it_comes_follows_the_step() -> None:
    walk = Walk(size=2, seed=8).run(120)
    radii = [proposal.radius for proposal in walk.made]
    assert max(radii) == 0.01 and 0 < min(radii) < 0.005
    places = np.array([walk.space.encode(proposal.values) for proposal in walk.made])
    for number, radius in enumerate(radii[1:], 1):
        assert np.abs(places[:number] - places[number]).max(axis=1).min() > radius


@pytest.mark.parametrize(
    "options",
    [{"probes": 1}, {"probes": 3.0}, {"line": 0}, {"step": 0}, {"step": 0.6}, {"step": "x"}, {"step": True}, {"mu": 1}],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"proposer\.options\."):
        Walk(options=options).ask()
