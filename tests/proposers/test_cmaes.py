"""CMA-ES: its mathematics, and what it is told of a search."""

from __future__ import annotations

import asyncio
import copy
import json
import math
from typing import Any

import numpy as np
import pytest

from agent.errors import ConfigError
from agent.events import CandidateAdmitted
from agent.measuring import Unit
from agent.parameters import Categorical, Float, Int
from agent.proposers import cmaes
from agent.proposers.base import Context, Proposal
from agent.proposers.cmaes import CMAES
from agent.proposers.gaussian import Distribution
from agent.space import Candidate, Space
from agent.testing.proposers import Measure, Search, bowl

SPACE = Space({f"x{i}": Float(-5, 5) for i in range(3)})
SIZE = 7
"""Members of a generation in three dimensions."""


class Told:
    """Records what a distribution is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.generations: list[tuple[np.ndarray, list[bool]]] = []
        tell = cmaes.Mixed.tell

        def spy(distribution: Any, points: np.ndarray, foreign: np.ndarray) -> None:
            self.generations.append((points.copy(), foreign.tolist()))
            tell(distribution, points, foreign)

        monkeypatch.setattr(cmaes.Mixed, "tell", spy)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    return Told(monkeypatch)


def search(measure: Measure | None = None, proposer: Any = None, space: Space = SPACE, **given: Any) -> Search:
    made = Search(proposer or CMAES(), space, measure or bowl(space), **given)
    made.run()
    return made


def step_by_hand(mean: Any, sigma: float, cov: Any, points: Any) -> tuple[Any, float, Any]:
    """The first update, member by member, in the tutorial's order."""
    count, size = points.shape
    raw = [math.log((count + 1) / 2) - math.log(i + 1) for i in range(count)]
    good = count // 2
    mu_eff = sum(raw[:good]) ** 2 / sum(w * w for w in raw[:good])
    mu_minus = sum(raw[good:]) ** 2 / sum(w * w for w in raw[good:])
    c1 = 2 / ((size + 1.3) ** 2 + mu_eff)
    cmu = min(1 - c1, 2 * (mu_eff - 2 + 1 / mu_eff) / ((size + 2) ** 2 + mu_eff))
    alpha = min(1 + c1 / cmu, 1 + 2 * mu_minus / (mu_eff + 2), (1 - c1 - cmu) / (size * cmu))
    plus, minus = sum(w for w in raw if w > 0), -sum(w for w in raw if w < 0)
    weights = [w / plus if w >= 0 else alpha * w / minus for w in raw]
    cs = (mu_eff + 2) / (size + mu_eff + 5)
    ds = 1 + 2 * max(0, math.sqrt((mu_eff - 1) / (size + 1)) - 1) + cs
    cc = (4 + mu_eff / size) / (size + 4 + 2 * mu_eff / size)
    chi = math.sqrt(size) * (1 - 1 / (4 * size) + 1 / (21 * size**2))
    root = np.linalg.inv(np.linalg.cholesky(cov))
    steps = [(point - mean) / sigma for point in points]
    whole = sum(w * y for w, y in zip(weights[:good], steps[:good], strict=True))
    values, vectors = np.linalg.eigh(cov)
    half = vectors @ np.diag(values**-0.5) @ vectors.T
    path = math.sqrt(cs * (2 - cs) * mu_eff) * half @ whole
    norm = np.linalg.norm(path)
    h = norm / math.sqrt(1 - (1 - cs) ** 4) < (1.4 + 2 / (size + 1)) * chi
    pc = h * math.sqrt(cc * (2 - cc) * mu_eff) * whole
    new = (1 + c1 * (not h) * cc * (2 - cc) - c1 - cmu * sum(weights)) * cov + c1 * np.outer(pc, pc)
    for w, y in zip(weights, steps, strict=True):
        new = new + cmu * (w if w >= 0 else w * size / np.linalg.norm(root @ y) ** 2) * np.outer(y, y)
    return mean + sigma * whole, sigma * math.exp(cs / ds * (norm / chi - 1)), new


def test_an_update_is_the_tutorials() -> None:
    rng = np.random.default_rng(0)
    mean, cov = np.full(4, 0.5), np.array(np.diag([1.0, 2.0, 0.5, 1.5])) + 0.2
    points = 0.5 + 0.1 * rng.standard_normal((8, 4))
    distribution = Distribution(mean, 0.1, cov)
    distribution.tell(points, np.zeros(8, dtype=bool))
    expected = step_by_hand(mean, 0.1, cov, points)
    assert distribution.mean == pytest.approx(expected[0])
    assert distribution.sigma == pytest.approx(expected[1])
    assert distribution.cov == pytest.approx(expected[2], abs=1e-7)


def test_a_foreign_point_is_shortened_to_what_could_have_been_drawn() -> None:
    mean = np.array([0.5, 0.5])
    distribution = Distribution(mean, 0.1, np.array([[4.0, 0.0], [0.0, 0.25]]))
    # Along the first axis the deviation is 0.1·2, so 0.4 away is 2 deviations: less than √2 + 4/4 = 2.41.
    near = np.array([0.9, 0.5])
    assert distribution.shortened(near) == pytest.approx(near)
    # Along the second it is 0.1·0.5, so 0.5 away is 10 deviations, and comes to 2.41 of them.
    far = distribution.shortened(np.array([0.5, 1.0]))
    assert far == pytest.approx([0.5, 0.5 + (math.sqrt(2) + 1) * 0.05])
    assert distribution.shortened(mean) == pytest.approx(mean)


def test_a_foreign_point_is_never_a_warning_example() -> None:
    points = 0.5 + 0.1 * np.random.default_rng(1).standard_normal((6, 2))
    plain, spared = Distribution(np.full(2, 0.5), 0.1), Distribution(np.full(2, 0.5), 0.1)
    plain.tell(points, np.zeros(6, dtype=bool))
    spared.tell(points, np.array([False] * 5 + [True]))
    worst = points[-1] - 0.5
    assert worst @ spared.cov @ worst > worst @ plain.cov @ worst
    assert spared.mean == pytest.approx(plain.mean)


def test_draws_stay_in_the_cube_also_from_a_corner() -> None:
    distribution = Distribution(np.zeros(6), 0.3)
    rng = np.random.default_rng(0)
    points = np.array([distribution.draw(rng) for _ in range(200)])
    assert points.min() >= 0 and points.max() <= 1 and points.max() > 0.5


def test_it_converges_on_a_bowl() -> None:
    state = search(budget=300).state
    assert state.history.value(state.history[state.history.champion]) < 1e-5


def test_a_generation_is_told_when_all_its_members_are_measured(told: Told) -> None:
    search(budget=2 + 3 * SIZE)
    assert [len(points) for points, _ in told.generations] == [SIZE, SIZE]  # the third waits for the next call
    assert not any(any(foreign) for _, foreign in told.generations)


def hostile(space: Space) -> Measure:
    """Half of the cube fails, a third of the rest breaks a constraint."""

    def measure(candidate: Candidate) -> dict[str, float] | None:
        kind = int(candidate.id, 16) % 6
        if candidate != space.initial() and kind < 3:
            return None
        value = sum((place - 0.3) ** 2 for place in space.encode(candidate))
        return {"value": value, "size": 2.0 if kind == 3 and candidate != space.initial() else 0.0}

    return measure


@pytest.mark.parametrize("workers", [1, 4])
def test_failures_and_infeasible_points_are_never_told(told: Told, workers: int) -> None:
    state = search(hostile(SPACE), budget=150, workers=workers).state
    bad = [t for t in state.history.trials if t.values is None or not t.feasible]
    assert len(bad) > 50 and len(told.generations) >= 5
    seen = np.concatenate([points for points, _ in told.generations])
    for trial in bad:
        gap = np.abs(seen - np.array(SPACE.encode(trial.candidate))).max(axis=1).min()
        assert gap > 1e-6, f"candidate {trial.number} was told"
    assert state.history.value(state.history[state.history.champion]) < 0.02


def test_a_member_that_was_refused_is_replaced(told: Told) -> None:
    made = Search(CMAES(), SPACE, bowl(SPACE), budget=40)
    memory: Any = None
    context = made.context()
    for _ in range(3):  # what is proposed never reaches the history, as if a check refused it
        context = made.context()
        context.memory = memory
        asyncio.run(CMAES().propose(context, 3))
        memory = context.memory
    assert len(memory["members"]) == 3 and not told.generations


class Advised:
    """CMA-ES beside somebody who gives every third point."""

    name = "advised"
    needs_model = False

    def __init__(self, advice: list[float]) -> None:
        self.advice = advice

    def forecast(self, *_: Any) -> tuple[int, int, int]:
        return 0, 0, 0

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        memory = context.memory or {"calls": 0, "cmaes": None}
        calls = memory["calls"] + 1
        if calls % 3 == 0:
            context.memory = {**memory, "calls": calls}
            near = [place + context.rng.gauss(0, 0.02) for place in self.advice]
            return [Proposal(SPACE.decode(near, context.champion), "adviser")]
        context.memory = memory["cmaes"]
        out = await CMAES().propose(context, n)
        context.memory = {"calls": calls, "cmaes": context.memory}
        return out


def test_good_points_of_others_are_injected(told: Told) -> None:
    state = search(proposer=Advised([0.3] * 3), budget=40).state
    points, foreign = told.generations[0]
    assert 1 <= sum(foreign) <= SIZE // 3 and len(points) == SIZE
    assert foreign[: sum(foreign)] == [True] * sum(foreign)  # they are the best
    mean = np.array(state.memory["cmaes"]["distribution"]["numbers"]["mean"])
    assert np.abs(mean - 0.3).max() < 0.1


def test_bad_points_of_others_are_not(told: Told) -> None:
    search(proposer=Advised([0.98] * 3), budget=40)
    assert len(told.generations) >= 3 and not any(any(foreign) for _, foreign in told.generations)


def test_members_that_are_late_count_for_the_next_generation_shortened(told: Told) -> None:
    """Fifteen measurements run at a time, and those that began last end first."""
    made = Search(CMAES(), SPACE, bowl(SPACE))
    history, memory = made.state.history, None
    running: list[Candidate] = []
    for decision in range(1, 90):
        context = made.context(decision)
        context.memory = memory
        for proposal in asyncio.run(CMAES().propose(context, 15 - len(running))):
            candidate = SPACE.candidate(proposal.values)
            history.apply(
                CandidateAdmitted(decision, candidate.id, candidate.values_json, proposal.source, "", [], None)
            )
            running.append(candidate)
        memory = context.memory
        candidate = running.pop(-1 if decision % 3 else 0)
        history.measured(Unit(candidate.id, 0, -1, "search", bowl(SPACE)(candidate)), True)
    late = [foreign for _, foreign in told.generations if any(foreign)]
    assert len(told.generations) >= 10 and late
    assert sum(len(points) for points, _ in told.generations) >= 80, "late members were thrown away"
    assert min(history.value(trial) for trial in history.ranked()) < 0.01


def test_a_replay_from_the_written_memory_goes_on_exactly_alike() -> None:
    first, second = search(budget=80).state, search(budget=80).state
    assert first.memory == second.memory == json.loads(json.dumps(first.memory))

    def asked(decision: int, memory: Any) -> list[dict[str, Any]]:
        context = search(budget=80).context(decision)
        context.memory = memory
        return [p.to_json() for p in asyncio.run(CMAES().propose(context, 4))]

    kept = copy.deepcopy(first.memory)
    assert asked(99, first.memory) == asked(99, json.loads(json.dumps(kept)))
    assert first.memory == kept, "the journal's memory was changed"


def test_a_fold_that_has_converged_begins_anew_with_twice_the_population() -> None:
    space = Space({"x": Float(0, 1), "y": Float(0, 1)})
    state = search(space=space, budget=420).state
    assert state.memory["folds"] >= 1 and state.memory["size"] == 6 * 2 ** state.memory["folds"]
    assert state.history.value(state.history[state.history.champion]) < 1e-12


def test_equal_costs_everywhere_end_a_fold_too() -> None:
    state = search(lambda _: {"value": 1.0, "size": 0.0}, budget=260).state
    assert state.memory["folds"] >= 1


def test_whole_numbers_reach_their_best_value_and_end_when_all_are_known() -> None:
    space = Space({"n": Int(1, 9), "m": Int(1, 9)})
    state = search(space=space, budget=200).state
    assert state.stop is not None and state.stop.reason == "exhausted"
    assert len(state.history) == 81
    assert all(t.source in ("initial", "cmaes", "cmaes:random") for t in state.history.trials)


def test_choices_are_left_to_catcma() -> None:
    space = Space({"x": Float(0, 1), "kind": Categorical(("a", "b"))})
    with pytest.raises(ConfigError) as caught:
        asyncio.run(CMAES().propose(Search(CMAES(), space, bowl(space)).context(), 1))
    assert "kind is a choice" in caught.value.message and "catcma" in caught.value.hint


@pytest.mark.parametrize(
    "options", [{"sigma": 0}, {"sigma": True}, {"sigma": 2}, {"population": 3}, {"population": 4.0}, {"popsize": 8}]
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    made = Search(CMAES(), SPACE, bowl(SPACE), options=options)
    with pytest.raises(ConfigError, match=r"proposer\.options\."):
        asyncio.run(CMAES().propose(made.context(), 1))
    with pytest.raises(ConfigError):
        CMAES().forecast(made.state.problem, 5, options)


def test_the_options_are_used() -> None:
    assert search(budget=5, options={"population": 11}).state.memory["size"] == 11
    numbers = search(budget=5, options={"sigma": 0.01}).state.memory["distribution"]["numbers"]
    assert numbers["sigma"] == 0.01
