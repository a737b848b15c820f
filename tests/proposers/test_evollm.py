"""EvoLLM: what the model is shown, what becomes of its answer, and how the spread follows success."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from agent.errors import BudgetExceeded, ConfigError
from agent.llm.types import ModelRequest
from agent.parameters import Categorical, Float, Int
from agent.proposers.base import Context, Proposal
from agent.proposers.evollm import SIGMA, SIGMA_RANGE, EvoLLM, Options, select
from agent.space import Candidate, Space
from agent.testing.proposers import Measure, Search, adviser, bowl, bowl_at
from agent.texts import Text

PLANE = Space({"x": Float(0, 1), "y": Float(0, 1)})
SIX = Space({f"x{number}": Float(0, 1) for number in range(6)})


class Model:
    """Says what it is told to, and keeps what it was asked."""

    def __init__(self, *answers: list[int] | str) -> None:
        self.answers = answers
        self.requests: list[ModelRequest] = []

    def __call__(self, request: ModelRequest) -> str:
        self.requests.append(request)
        answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
        return answer if isinstance(answer, str) else json.dumps({"solution": answer})

    def lines(self, number: int = -1) -> list[tuple[int, list[int]]]:
        """The lines of a prompt: score and bins."""
        found = []
        for line in self.requests[number].messages[0].text.splitlines():
            score, _, bins = line.partition(" : ")
            found.append((int(score.rstrip(" :")), [int(item) for item in bins.split(",")] if bins else []))
        return found


def search(
    space: Space, model: Model | None, measure: Measure | None = None, budget: int = 9, **options: Any
) -> Search:
    given = {"population": 4, **options}
    ask = adviser(model) if model is not None else None
    return Search(EvoLLM(), space, measure or bowl(space), ask=ask, budget=budget, options=given)


def after(warm: Search, model: Model, decision: int = 50, n: int = 1) -> tuple[Context, list[Proposal]]:
    """One more generation after a search, by this model."""
    context = warm.context(decision)
    context.ask = adviser(model)
    return context, asyncio.run(EvoLLM().propose(context, n))


@pytest.fixture
def warm() -> Search:
    """A search without a model, over a plane."""
    started = search(PLANE, None)
    started.run()
    return started


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_the_model_sees_solutions_from_worst_to_best_and_a_target_beyond(direction: Any) -> None:
    sign = 1 if direction == "minimize" else -1

    def measure(candidate: Candidate) -> Mapping[str, float]:
        return {"value": sign * bowl_at(PLANE, candidate)["value"], "size": 0.0}

    started = Search(EvoLLM(), PLANE, measure, budget=9, direction=direction)
    started.run()
    model = Model([300, 300])
    after(started, model)
    *shown, (target, nothing) = model.lines()
    costs = [(x / 1000 - 0.3) ** 2 + (y / 1000 - 0.3) ** 2 for _, (x, y) in shown]
    assert len(shown) >= 3 and costs == sorted(costs, reverse=True)
    scores = [score for score, _ in shown]
    assert (scores[0], scores[-1]) == (0, 100) and scores == sorted(scores)
    assert target > 100 and nothing == []


def test_near_and_far_targets_take_turns(warm: Search) -> None:
    model = Model([300, 300])
    targets = []
    for generation in range(4):
        context = warm.context(50)
        context.ask, context.memory = adviser(model), {**context.memory, "generation": generation}
        asyncio.run(EvoLLM().propose(context, 1))
        targets.append(model.lines()[-1][0])
    assert sorted(set(targets)) == [101, 110] and targets[:2] == targets[2:]


def test_the_models_point_comes_first_and_the_draws_lie_around_it(warm: Search) -> None:
    context, proposals = after(warm, Model([900, 100]), n=30)
    assert [proposal.source for proposal in proposals] == ["evollm:llm"] + ["evollm:sample"] * 29
    assert dict(proposals[0].values) == {"x": 0.9005, "y": 0.1005}  # the middles of the bins
    spread = context.memory["sigma"]
    assert sum(abs(p.values["x"] - 0.9) < 2 * spread for p in proposals) >= 24
    assert all(proposal.parents == (context.champion.id,) for proposal in proposals)
    assert not context.rejections


def test_blocks_of_coordinates_are_asked_for_in_turn_and_the_rest_stays_at_the_best() -> None:
    started = search(SIX, None, block=2, calls=2)
    started.run()
    best = started.state.history.ranked(1)[0].candidate
    model = Model([999, 998])
    context, proposals = after(started, model)
    assert [len(bins) for _, bins in model.lines(0)[:-1]] == [2] * (len(model.lines(0)) - 1)
    asked, kept = ["x0", "x1", "x2", "x3"], ["x4", "x5"]
    assert [round(proposals[0].values[name], 2) for name in asked] == [1.0] * 4
    assert [proposals[0].values[name] for name in kept] == pytest.approx([best[name] for name in kept], abs=1e-3)
    started.state.memory = context.memory
    _, following = after(started, Model([0, 1]), decision=51)
    low = [name for name in SIX if following[0].values[name] < 0.01]
    assert set(low) >= {"x4", "x5", "x0", "x1"}
    assert "2 integers from 0 to 999" in model.requests[0].system


def test_only_the_best_of_the_best_generations_are_shown() -> None:
    started = search(SIX, None, budget=60, population=10)
    history = started.run().history
    shown = select(started.context(), Options(generations=2, members=3))
    assert len(shown) == 6 and len({trial.proposal for trial in shown}) == 2
    measured = history.ranked()
    assert shown[-1] == measured[0]
    for proposal in {trial.proposal for trial in shown}:
        members = [trial for trial in measured if trial.proposal == proposal]
        assert [trial for trial in reversed(shown) if trial.proposal == proposal] == members[:3]


def test_an_unusable_answer_falls_back_to_the_best_and_says_so(warm: Search) -> None:
    context, proposals = after(warm, Model("I would rather not."))
    assert {proposal.source for proposal in proposals} == {"evollm:fallback"}
    (rejection,) = context.rejections
    assert rejection["source"] == "evollm:llm" and "cannot be used" in rejection["reason"]
    assert rejection["detail"] == "I would rather not."


def test_one_usable_block_of_two_is_used_and_the_other_one_recorded() -> None:
    started = search(SIX, None, block=3, calls=2)
    started.run()
    context, proposals = after(started, Model("no", [7, 8, 9]))
    assert proposals[0].source == "evollm:llm" and len(context.rejections) == 1
    assert [proposals[0].values[f"x{i}"] < 0.02 for i in range(6)] == [False] * 3 + [True] * 3


def test_in_a_block_of_mixed_parameters_every_integer_is_a_value_of_each() -> None:
    space = Space(
        {"x": Float(0, 1), "kind": Categorical(("a", "b", "c", "d")), "n": Int(1, 5), "on": Categorical((0, 1))}
    )
    started = search(space, None)
    started.run()
    model = Model([999, 749, 200, 0])  # those of few values come first
    context, proposals = after(started, model)
    assert dict(proposals[0].values) == {"on": 1, "kind": "c", "n": 2, "x": 0.0005}
    assert "4 integers from 0 to 999" in model.requests[0].system and not context.rejections
    best = context.history.ranked(1)[0].candidate
    middles = {"a": 125, "b": 375, "c": 625, "d": 875}
    assert model.lines()[-2][1][1] == middles[best["kind"]]


def test_choices_alone_keep_their_own_numbers() -> None:
    space = Space({name: Categorical(("a", "b", "c")) for name in ("k", "l")})
    started = search(space, None, budget=4)
    started.run()
    model = Model([2, 1])
    _, proposals = after(started, model)
    assert "integers from 0 to 2." in model.requests[0].system
    solution = (model.requests[0].schema or {})["properties"]["solution"]
    assert solution["items"] == {"type": "integer", "minimum": 0, "maximum": 2}
    assert all(proposal.source != "evollm:fallback" for proposal in proposals)


def test_a_repeated_answer_is_recorded_and_only_draws_are_proposed() -> None:
    space = Space({"n": Int(0, 99), "kind": Categorical(("a", "b"))})
    started = search(space, None)
    history = started.run().history
    best = history.ranked(1)[0]
    number = space.to_bins(best.candidate)[0]
    context, proposals = after(started, Model([25 if best.candidate["kind"] == "a" else 75, number]))
    (rejection,) = context.rejections
    assert rejection["reason"] == f"the point repeats candidate {best.number}"
    assert {proposal.source for proposal in proposals} == {"evollm:sample"}


def test_an_answer_next_to_a_measured_point_is_recorded_as_well(warm: Search) -> None:
    best = warm.state.history.ranked(1)[0]
    near = [min(999, bin_ + 5) for bin_ in PLANE.to_bins(best.candidate)]
    context, proposals = after(warm, Model(near))
    assert context.rejections[0]["reason"] == f"the point lies within 1% of candidate {best.number}"
    assert {proposal.source for proposal in proposals} == {"evollm:sample"}


def test_points_say_how_near_to_known_ones_they_may_come(warm: Search) -> None:
    _, proposals = after(warm, Model([900, 100]))
    assert [proposal.radius for proposal in proposals] == [0.01] * 4
    context = warm.context(50)
    context.ask, context.options = adviser(Model([900, 100])), {"sigma": 0.05}
    fine = asyncio.run(EvoLLM().propose(context, 1))
    assert [proposal.radius for proposal in fine] == pytest.approx([0.01, 0.005, 0.005, 0.005])


def test_one_call_for_each_proposal(warm: Search) -> None:
    model = Model([900, 100])
    context = warm.context(50)
    context.ask, context.options = adviser(model), {"population": 1, "calls": 1}
    proposals = asyncio.run(EvoLLM().propose(context, 1))
    assert [proposal.source for proposal in proposals] == ["evollm:llm"] and len(model.requests) == 1


def test_a_spread_of_the_users_own_stays_as_it_is() -> None:
    state = search(PLANE, Model([1, 2], [900, 30], [4, 500]), budget=60, sigma=0.1).run()
    assert state.memory["sigma"] == 0.1


def test_choices_change_as_rarely_as_the_spread_is_small() -> None:
    space = Space({**{f"k{i}": Categorical(tuple("abcd")) for i in range(4)}, "x": Float(0, 1)})
    changed = []
    for sigma in (0.05, 0.8):
        started = search(space, None)
        started.run()
        context = started.context(50)
        context.ask, context.options = adviser(Model([0, 0, 0, 0])), {"sigma": sigma, "calls": 1, "population": 60}
        proposals = asyncio.run(EvoLLM().propose(context, 1))
        changed.append(sum(p.values[f"k{i}"] != "a" for p in proposals for i in range(4)) / (4 * len(proposals)))
    assert changed[0] < 0.1 and 0.45 < changed[1] < 0.75  # 0.8 * 3/4
    others = [sum(p.values[f"k{i}"] == kind for p in proposals for i in range(4)) for kind in "bcd"]
    assert max(others) < 2 * min(others), "the order of choices means nothing"


def test_the_model_is_told_what_code_knows() -> None:
    def measure(candidate: Candidate) -> Mapping[str, float] | None:
        if candidate["x"] > 0.9:
            return None
        return {"value": candidate["x"], "size": 2.0 if candidate["y"] > 0.9 else 0.0}

    started = search(Space({"x": Float(0, 1, default=0.0), "y": Float(0, 1)}), None, measure, budget=40)
    started.run()
    started.state.history.rejections.append({"reason": "the point repeats candidate 7", "source": "evollm:llm"})
    started.state.history.rejections.append({"reason": "another one's", "source": "opro:llm"})
    context, model = started.context(50), Model([0, 0])
    context.left, context.ask = {"evaluations": 12.0}, adviser(model)
    asyncio.run(EvoLLM().propose(context, 1))
    system = model.requests[0].system
    assert "Evaluations left: 12." in system
    failed = [line for line in system.splitlines() if line.startswith("Failed: ")]
    assert len(failed) == 3 and all(re.search(r"\b9\d\d\b", line) for line in failed)
    assert "Refused before: the point repeats a known one" in system and "another one" not in system
    assert "In the best solution, integer 1 is at the low end of its range." in system


def test_the_spread_narrows_when_nothing_improves_and_widens_when_much_does() -> None:
    seen: dict[str, int] = {}

    def rising(candidate: Candidate) -> Mapping[str, float]:
        return {"value": -float(seen.setdefault(candidate.id, len(seen))), "size": 0.0}

    def falling(candidate: Candidate) -> Mapping[str, float]:
        return {"value": 0.0 if candidate == PLANE.initial() else 1.0, "size": 0.0}

    lucky = search(PLANE, Model([1, 2], [900, 30], [4, 500]), rising, budget=60).run()
    unlucky = search(PLANE, Model([1, 2], [900, 30], [4, 500]), falling, budget=200).run()
    assert lucky.memory["sigma"] == SIGMA_RANGE[1] > SIGMA > unlucky.memory["sigma"] == SIGMA_RANGE[0]


def test_until_two_are_measured_the_generation_is_random_and_nothing_is_asked() -> None:
    model = Model([1, 1])
    context = search(PLANE, model).context()
    proposals = asyncio.run(EvoLLM().propose(context, 1))
    assert len(proposals) == 4 and {proposal.source for proposal in proposals} == {"evollm:random"}
    assert model.requests == []
    assert len(asyncio.run(EvoLLM().propose(context, 7))) == 7


def test_the_draws_of_a_generation_differ_from_each_other_and_from_all_before() -> None:
    space = Space({"n": Int(0, 4), "kind": Categorical(("a", "b"))})
    started = search(space, None, budget=5)
    started.run()
    context, proposals = after(started, Model([1, 2]), n=9)
    ids = [context.problem.space.candidate(proposal.values).id for proposal in proposals]
    assert len(set(ids)) == len(ids) >= 3
    assert not any(candidate in context.history for candidate in ids)


def test_a_limit_ends_the_generation_as_documented(warm: Search) -> None:
    async def ask(request: ModelRequest) -> Any:
        raise BudgetExceeded("calls", 3, 3)

    context = warm.context(50)
    context.ask, before = ask, context.memory
    with pytest.raises(BudgetExceeded):
        asyncio.run(EvoLLM().propose(context, 1))
    assert context.memory == before


def test_the_forecast_is_what_a_run_asks_for() -> None:
    model = Model([1, 2], [500, 77], [900, 30], [4, 500])
    started = search(PLANE, model, budget=41)
    started.run()
    calls, tokens_in, tokens_out = EvoLLM().forecast(started.state.problem, 40, {"population": 4})
    assert len(model.requests) <= calls == 10
    assert tokens_out >= sum(request.max_output_tokens for request in model.requests)
    words = sum(len(re.findall(r"\d|\w+|\S", r.system + r.messages[0].text)) for r in model.requests)
    assert tokens_in > words / 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"populaton": 4}, ["populaton", "unknown", "population, sigma, generations, members, block"]),
        ({"population": 0}, ["population", "found 0", "at least 1"]),
        ({"sigma": 0}, ["sigma", "found 0", "above 0 and at most 1"]),
        ({"block": 1.5}, ["block", "1.5", "whole number"]),
        ({"resolution": 1}, ["resolution", "at least 2"]),
        ({"target": []}, ["target", "[]", "above 0"]),
        ({"target": 0.1}, ["target", "0.1", "list"]),
        ({"temperature": "hot"}, ["temperature", "'hot'"]),
    ],
)
def test_a_wrong_option_names_what_was_found_and_what_is_allowed(options: Mapping[str, Any], words: list[str]) -> None:
    started = search(PLANE, None)
    with pytest.raises(ConfigError) as caught:
        EvoLLM().forecast(started.state.problem, 10, options)
    for word in ["proposer.options.", *words]:
        assert word in caught.value.message


def test_texts_alone_are_not_for_it() -> None:
    context = search(Space({"prompt": Text("Be kind.")}), None).context()
    with pytest.raises(ConfigError, match="numbers and choices"):
        asyncio.run(EvoLLM().propose(context, 1))
