"""LLAMBO: warm start, the result to reach, and the two surrogates."""

from __future__ import annotations

import asyncio
import json
import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from agent.errors import BudgetExceeded, ConfigError, OutputInvalid
from agent.goals import Constraint, Objective
from agent.history import Warm
from agent.llm.types import Completion, ModelRequest
from agent.parameters import Categorical, Float, Int
from agent.problem import Example
from agent.proposers.base import Ask, Context, Proposal
from agent.proposers.llambo import LLAMBO
from agent.proposers.llambo_surrogates import Evidence, chance, improvement
from agent.proposers.random import Random
from agent.space import Candidate, Space
from agent.testing.proposers import Measure, Search, adviser, bowl
from agent.texts import Text

PLANE = Space({"x": Float(-5, 5), "y": Float(-5, 5)})
MIXED = Space(
    {
        "rate": Float(1e-4, 1.0, log=True, default=1e-3),
        "depth": Int(1, 9),
        "kind": Categorical(("adam", "sgd")),
        "prompt": Text("Be kind."),
    }
)


class Model:
    """Says what it is told to by the kind of request, and keeps what it was asked.

    Args:
        points: Configurations, one after the other, the last for ever; a text is said as it is.
        value: What it predicts for a configuration.
        good: Log-probabilities of the label's tokens for a configuration.
    """

    def __init__(
        self,
        points: Sequence[Any] = (),
        value: Callable[[dict[str, Any]], Any] = lambda _: 0.0,
        good: Callable[[dict[str, Any]], Sequence[tuple[str, float]]] = lambda _: (),
    ) -> None:
        self.points = list(points)
        self.value = value
        self.good = good
        self.requests: list[ModelRequest] = []

    def of(self, words: str) -> list[ModelRequest]:
        """The requests whose prompt holds these words."""
        return [item for item in self.requests if words in item.messages[0].text]

    def _point(self) -> Any:
        return self.points.pop(0) if len(self.points) > 1 else self.points[0]

    def say(self, request: ModelRequest) -> str:
        fields = (request.schema or {}).get("properties", {})
        if "value" in fields:
            return json.dumps({"value": self.value(queried(request))})
        if "configurations" in fields:
            return json.dumps({"configurations": [self._point() for _ in range(fields["configurations"]["minItems"])]})
        point = self._point()
        return point if isinstance(point, str) else json.dumps(point)

    async def ask(self, request: ModelRequest) -> Completion:
        self.requests.append(request)
        if request.schema is not None:
            return await adviser(self.say)(request)
        told = tuple(self.good(queried(request)))
        return Completion(text=told[0][0] if told else "?", logprobs=told)


def queried(request: ModelRequest) -> dict[str, Any]:
    """The configuration that a surrogate is asked about."""
    found: dict[str, Any] = json.loads(re.findall(r"\{.*?\}", request.messages[0].text)[-1])
    return found


def known(space: Space = PLANE, measure: Measure | None = None, budget: int = 14, **more: Any) -> Search:
    """A search that has measured random points."""
    search = Search(Random(), space, measure or bowl(space), budget=budget, **more)
    search.run()
    return search


def following(search: Search, ask: Ask | None, n: int = 1, **options: Any) -> tuple[Context, list[Proposal]]:
    context = search.context(50)
    context.memory, context.ask, context.options = None, ask, options
    return context, asyncio.run(LLAMBO().propose(context, n))


def fresh(space: Space = PLANE, **more: Any) -> Search:
    return Search(LLAMBO(), space, bowl(space), **more)


# The warm start.


def test_the_first_points_are_one_reply_of_what_the_model_knows() -> None:
    points = [{"x": float(number), "y": -1.0} for number in range(3)]
    model = Model(points)
    context, proposals = following(fresh(), model.ask, warm=3)
    assert [dict(proposal.values) for proposal in proposals] == points and len(model.requests) == 1
    assert {(proposal.source, proposal.radius) for proposal in proposals} == {("llambo:llm:warm", 0.01)}
    assert "write 3 configurations worth measuring first" in model.requests[0].messages[0].text
    assert context.memory == {"round": 1, "warm": True}
    context.ask = Model([{"x": 4.0, "y": 4.0}]).ask
    assert [p.source for p in asyncio.run(LLAMBO().propose(context, 1))] == ["llambo:llm"]


def test_the_cards_say_what_is_known_of_problem_parameters_and_rows() -> None:
    search, model = fresh(MIXED), Model([{"rate": 0.01, "depth": 3, "kind": "sgd"}])
    problem = replace(
        search.state.problem,
        description="Train a network on small pictures.",
        objectives=(Objective("accuracy", "maximize", unit="%", low=0, high=100),),
        constraints=(Constraint("megabytes", max=20),),
        data=tuple(Example(f"r{number}", None) for number in range(40)),
    )
    context = replace(search.context(), problem=problem, ask=model.ask, options={"warm": 1})
    asyncio.run(LLAMBO().propose(context, 1))
    system = model.requests[0].system
    for words in (
        "Train a network on small pictures.",
        "Result: accuracy (%), larger is better; it lies between 0 and 100.",
        "measured on rows of data, 40 of them here, and the mean counts",
        "Must hold: megabytes at most 20.",
        "- rate: number from 0.0001 to 1.0, logarithmic scale, default 0.001",
        "- depth: whole number from 1 to 9, default 5",
        '- kind: one of "adam", "sgd", default "adam"',
    ):
        assert words in system
    assert "prompt" not in system, "texts are not for it"


def test_a_search_that_knows_something_needs_no_warm_start() -> None:
    model = Model([{"x": 1.0, "y": 1.0}])
    _, (proposal,) = following(known(), model.ask)
    assert proposal.source == "llambo:llm" and not model.of("worth measuring first")


def test_no_warm_start_is_an_option() -> None:
    _, proposals = following(fresh(), Model([{"x": 1.0, "y": 1.0}]).ask, warm=0)
    assert [proposal.source for proposal in proposals] == ["llambo:llm"]


# The sampler and its target.


def test_the_sampler_is_one_call_and_keeps_what_it_does_not_change() -> None:
    model = Model([{"rate": 0.25, "depth": 2, "kind": "sgd"}])
    context, (proposal,) = following(known(MIXED), model.ask)
    assert len(model.requests) == 1 and not context.rejections
    assert dict(proposal.values) == {"rate": 0.25, "depth": 2, "kind": "sgd", "prompt": "Be kind."}
    schema = model.requests[0].schema or {}
    assert schema["properties"] == {
        "rate": {"type": "number", "minimum": 0.0001, "maximum": 1.0},
        "depth": {"type": "integer", "minimum": 1, "maximum": 9},
        "kind": {"enum": ["adam", "sgd"]},
    }


def sampled(search: Search, **options: Any) -> tuple[float, list[tuple[float, dict[str, Any]]]]:
    """The target and the rows of a sampler's prompt."""
    model = Model([{"x": 1.0, "y": 1.0}])
    following(search, model.ask, **options)
    lines = model.requests[0].messages[0].text.splitlines()
    pairs = [line.split(" -> ") for line in lines if "-> {" in line]
    rows = [(float(result), json.loads(text.partition(" (")[0])) for result, text in pairs]
    return float(lines[-1].removesuffix(" ->")), rows


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (-1.0, -3.0), (1e6, 5e6), (1e-7, 0.5)])
def test_the_target_lies_beyond_the_best_whatever_the_sign_and_the_size(
    direction: Any, scale: float, shift: float
) -> None:
    sign = 1 if direction == "maximize" else -1

    def measure(candidate: Candidate) -> Mapping[str, float]:
        return {"value": shift + scale * (candidate["x"] + 0.1 * candidate["y"]), "size": 0.0}

    target, rows = sampled(known(measure=measure, direction=direction), alpha=0.1)
    results = [result for result, _ in rows]
    best, span = sign * max(sign * item for item in results), max(results) - min(results)
    assert target == pytest.approx(best + sign * 0.1 * span, abs=0.005 * span)
    assert len(set(results)) > 5, "rounding leaves them different"


def test_near_and_far_targets_take_turns_and_worse_ones_can_be_asked_for() -> None:
    search = known()
    far, near = [], []
    for turn in (0, 1):
        model, context = Model([{"x": 1.0, "y": 1.0}]), search.context(50)
        context.memory, context.ask, context.options = {"round": turn, "warm": True}, model.ask, {"alpha": [0.5, -0.5]}
        asyncio.run(LLAMBO().propose(context, 1))
        target = float(model.requests[0].messages[0].text.splitlines()[-1].removesuffix(" ->"))
        (far if turn else near).append(target)
    best = min(trial.values["value"] for trial in search.state.history.trials if trial.values)
    assert far[0] < best < near[0]


def test_the_target_keeps_to_the_declared_bounds_and_equal_results_have_a_size() -> None:
    search = known(budget=2)
    bounded = replace(search.state.problem, objectives=(Objective("value", "maximize", low=0.0, high=1.0),))
    assert Evidence(bounded, (0.98, 0.1), ("", ""), (0, 1)).target(0.1) == 1.0
    assert Evidence(bounded, (1.0, 1.0), ("", ""), (0, 1)).target(0.1) == 1.0
    free = search.state.problem
    assert Evidence(free, (8.0, 8.0), ("", ""), (0, 1)).target(0.1) == pytest.approx(7.2)
    assert Evidence(free, (0.0, 0.0), ("", ""), (0, 1)).target(0.1) == pytest.approx(-0.1)
    assert Evidence(free, (-4.0,), ("",), (0,)).target(0.5) == pytest.approx(-6.0)


def test_the_best_are_shown_in_no_order() -> None:
    search = known(budget=40)
    _, rows = sampled(search, shown=9)
    best = {round(search.state.history.value(trial), 2) for trial in search.state.history.ranked(9)}
    results = [result for result, _ in rows]
    assert {round(result, 2) for result in results} == best and len(results) == 9
    assert results != sorted(results) and results != sorted(results, reverse=True)


def test_the_prompt_tells_what_is_left_what_failed_and_what_is_at_a_bound() -> None:
    def measure(candidate: Candidate) -> Mapping[str, float] | None:
        return None if candidate["y"] > 0 else {"value": candidate["x"], "size": 0.0}

    space = Space({"x": Float(-5, 5, default=-5.0), "y": Float(-5, 5, default=-1.0)})
    search, model = known(space, measure, budget=30), Model([{"x": 0.0, "y": 0.0}])
    search.state.history.rejections.append({"reason": "the point repeats candidate 3", "source": "llambo:llm"})
    following(search, model.ask)
    lines = model.requests[0].messages[0].text.splitlines()
    assert any(line.endswith("(x at its low end)") for line in lines)
    assert sum(line.startswith("failed: ") and "no value here" in line for line in lines) == 3
    assert {"Evaluations left: 0.", "refused before: the point repeats a known one"} <= set(lines)


def test_points_of_an_earlier_run_are_told_as_such() -> None:
    search, model = known(), Model([{"x": 2.0, "y": 2.0}])
    history = search.state.history
    points = [(1.0, 7.5), (2.5, 3.25), (3.0, 9.0), (4.0, 8.0)]
    history.warm = (
        *(Warm(Candidate({"x": x, "y": 0.0}), score, False, "warm:old") for x, score in points),
        Warm(Candidate({"x": -4.5, "y": 0.0}), None, True, "warm:old"),
    )
    following(search, model.ask)
    told = [line for line in model.requests[0].messages[0].text.splitlines() if "earlier run" in line]
    assert told == [
        'in an earlier run: 3.25 -> {"x": 2.5, "y": 0.0}',
        'in an earlier run: 7.5 -> {"x": 1.0, "y": 0.0}',
        'in an earlier run: 8 -> {"x": 4.0, "y": 0.0}',
        'failed in an earlier run: {"x": -4.5, "y": 0.0}',
    ]


@pytest.mark.parametrize(
    ("reply", "reason", "calls"),
    [
        ("I would rather not.", "the reply cannot be used", 1),
        ({"x": 7.0, "y": 0.0}, "the reply cannot be used", 1),
        ({"x": 0.0, "y": 0.0}, "the point repeats candidate 0", 2),
        ({"x": 0.05, "y": -0.05}, "the point lies within 1% of candidate 0", 2),
    ],
)
def test_what_cannot_be_used_is_recorded_asked_for_at_most_once_more_and_then_drawn(
    reply: Any, reason: str, calls: int
) -> None:
    model = Model([reply])
    context, proposals = following(known(), model.ask)
    assert len(model.requests) == calls and len(context.rejections) == calls
    assert all(item["reason"].startswith(reason) for item in context.rejections)
    assert [proposal.source for proposal in proposals] == ["llambo:fallback"]
    if calls == 2:
        assert "of no use: the point " in model.requests[1].messages[0].text


def test_the_second_try_counts() -> None:
    model = Model([{"x": 0.0, "y": 0.0}, {"x": 1.0, "y": 1.0}])
    context, (proposal,) = following(known(), model.ask)
    assert proposal.source == "llambo:llm" and len(context.rejections) == 1


def test_a_finite_space_that_is_used_up_is_told() -> None:
    space = Space({"kind": Categorical(("a", "b"))})
    context, proposals = following(known(space, budget=4), Model([{"kind": "a"}]).ask)
    assert proposals == [] and context.exhausted


def test_without_a_model_it_says_so() -> None:
    context, (proposal,) = following(known(), None)
    assert proposal.source == "llambo:fallback" and context.rejections[0]["reason"] == "there is no model to ask"


# The discriminative surrogate.


def spread(count: int) -> list[dict[str, float]]:
    return [{"x": number - 3.0, "y": 4.0} for number in range(count)]


def test_predictions_choose_by_expected_improvement() -> None:
    model = Model(spread(6), value=lambda point: abs(point["x"] - 1.0))
    options = {"surrogate": "discriminative", "candidates": 6, "samples": 3}
    context, (proposal,) = following(known(), model.ask, **options)
    assert proposal.values["x"] == 1.0 and proposal.claim == 0.0
    assert proposal.source == "llambo:llm:discriminative" and proposal.radius == 0.01
    assert "predicted 0" in proposal.rationale
    assert len(model.of("for the next result")) == 2 and len(model.of("Predict the next result")) == 6 * 3
    orders = {request.messages[0].text.partition("Predict")[0] for request in model.of("Predict the next result")}
    assert len(orders) == 2, "each template shows the history in another order"
    assert not context.rejections


def test_of_equal_means_the_less_certain_one_is_tried() -> None:
    rng = random.Random(0)
    model = Model(spread(4), value=lambda point: 50.0 + (rng.choice((-20.0, 20.0)) if point["x"] == -2.0 else 0.0))
    options = {"surrogate": "discriminative", "candidates": 4, "samples": 12}
    _, (proposal,) = following(known(), model.ask, **options)
    assert proposal.values["x"] == -2.0


def test_larger_is_better_where_that_is_declared() -> None:
    model = Model(spread(4), value=lambda point: point["x"])
    _, proposals = following(known(direction="maximize"), model.ask, n=2, surrogate="discriminative", candidates=4)
    assert [proposal.values["x"] for proposal in proposals] == [0.0, -1.0]


def test_expected_improvement_agrees_with_its_integral() -> None:
    rng = random.Random(1)
    for best, mean, sd in ((1.0, 1.5, 0.7), (-2.0, -2.5, 0.1), (0.0, 3.0, 2.0)):
        draws = [max(0.0, best - rng.gauss(mean, sd)) for _ in range(200_000)]
        assert improvement(best, mean, sd) == pytest.approx(sum(draws) / len(draws), rel=0.03)
    assert improvement(1.0, 0.25, 1e-12) == pytest.approx(0.75) and improvement(0.0, 1e9, 1e-9) == 0.0


def test_a_candidate_without_a_prediction_stands_at_the_mean_of_the_others() -> None:
    def value(point: dict[str, Any]) -> Any:
        return "no idea" if point["x"] == -3.0 else 10.0 if point["x"] == -2.0 else 90.0

    model = Model(spread(3), value=value)
    context, proposals = following(known(), model.ask, n=2, surrogate="discriminative", candidates=3, templates=1)
    assert [proposal.values["x"] for proposal in proposals] == [-2.0, -3.0] and proposals[1].claim is None
    assert sum("the mean of the others" in item["reason"] for item in context.rejections) == 1


def test_without_any_prediction_nothing_is_chosen_and_that_is_told() -> None:
    model = Model(spread(3), value=lambda _: "no idea")
    context, (proposal,) = following(known(), model.ask, surrogate="discriminative", candidates=3)
    assert proposal.source == "llambo:llm" and "it did not choose" in context.rejections[-1]["reason"]


def test_predictions_keep_to_declared_bounds() -> None:
    search, model = known(), Model(spread(3))
    goal = Objective("value", low=0.0, high=400.0)
    context = replace(search.context(50), memory=None, ask=model.ask, options={"surrogate": "discriminative"})
    context.problem = replace(context.problem, objectives=(goal,))
    asyncio.run(LLAMBO().propose(context, 1))
    schema = model.of("Predict the next result")[0].schema or {}
    assert schema["properties"]["value"] == {"type": "number", "minimum": 0.0, "maximum": 400.0}


# The generative surrogate.


def test_the_likeliest_of_the_best_is_chosen() -> None:
    def good(point: dict[str, Any]) -> list[tuple[str, float]]:
        share = 0.9 if point["x"] == -1.0 else 0.2
        return [("1", math.log(share * 0.5)), (" 0", math.log((1 - share) * 0.5)), ("The", math.log(0.4))]

    model = Model(spread(4), good=good)
    options = {"surrogate": "generative", "candidates": 4, "templates": 2}
    context, (proposal,) = following(known(), model.ask, **options)
    assert proposal.values["x"] == -1.0 and proposal.source == "llambo:llm:generative"
    assert "a chance of 90%" in proposal.rationale and not context.rejections
    asked = [request for request in model.requests if request.logprobs]
    assert len(asked) == 4 * 2 and {request.max_output_tokens for request in asked} == {1}
    labels = re.findall(r"\} ?(?:\(.*?\) )?-> (\d)", asked[0].messages[0].text)
    assert sorted(labels) == ["0"] * 8 + ["1"] * 2, "a quarter of ten"


def test_chances_count_all_spellings_of_a_label() -> None:
    def of(*told: tuple[str, float]) -> float | None:
        return chance(Completion(text="", logprobs=tuple((token, math.log(share)) for token, share in told)))

    assert of(("1", 0.3), (" 1", 0.3), ("0", 0.2)) == pytest.approx(0.75)
    assert of(("1", 0.6), ("The", 0.2)) == pytest.approx(0.75), "what is not told has at most the least that is"
    assert of(("The", 0.6), ("x", 0.2)) is None and of() is None


def test_without_log_probabilities_the_user_is_told_what_to_do() -> None:
    with pytest.raises(ConfigError, match="log-probabilities") as caught:
        following(known(), Model(spread(4)).ask, surrogate="generative")
    assert "discriminative" in caught.value.hint


def test_a_label_that_is_not_among_the_likely_tokens_is_recorded() -> None:
    model = Model(spread(3), good=lambda point: [("1" if point["x"] == -1.0 else "The", -0.1), ("x", -3.0)])
    context, (proposal,) = following(known(), model.ask, surrogate="generative", candidates=3, templates=1)
    assert proposal.values["x"] == -1.0
    assert [item["reason"] for item in context.rejections] == ["neither 1 nor 0 is among the likely tokens"] * 2


# Limits, forecasts and options.


@pytest.mark.parametrize("surrogate", ["none", "discriminative"])
def test_a_limit_is_raised_and_the_memory_stays(surrogate: str) -> None:
    async def ask(request: ModelRequest) -> Completion:
        raise BudgetExceeded("calls", 3, 3)

    context = known().context(50)
    context.ask, context.options = ask, {"surrogate": surrogate}
    context.memory = {"round": 4, "warm": True}
    with pytest.raises(BudgetExceeded):
        asyncio.run(LLAMBO().propose(context, 1))
    assert context.memory == {"round": 4, "warm": True}


def test_a_limit_in_the_middle_of_the_predictions_is_told() -> None:
    model, left = Model(spread(4), value=lambda point: abs(point["x"] + 1.0)), iter(range(100))

    async def ask(request: ModelRequest) -> Completion:
        if next(left) >= 8:  # two by the sampler, and a prediction for each candidate
            raise BudgetExceeded("calls", 8, 8)
        return await model.ask(request)

    context, (proposal,) = following(known(), ask, surrogate="discriminative", candidates=4, samples=4)
    assert proposal.source == "llambo:llm:discriminative" and proposal.values["x"] in (-2.0, -1.0)
    assert sum("no call was made" in item["reason"] for item in context.rejections) == 10


@pytest.mark.parametrize("surrogate", ["none", "discriminative", "generative"])
def test_the_forecast_is_not_below_what_a_run_asks_for(surrogate: str) -> None:
    rng = random.Random(2)

    class Endless(Model):
        def _point(self) -> Any:
            if rng.random() < 0.2:
                return {"x": 0.0, "y": 0.0}
            return {"x": rng.uniform(-5, 5), "y": rng.uniform(-5, 5)}

    model = Endless(good=lambda _: [("1", -0.5), ("0", -1.0)])
    options = {"surrogate": surrogate, "candidates": 3, "samples": 2}
    search = Search(LLAMBO(), PLANE, bowl(PLANE), ask=model.ask, budget=22, options=options)
    search.run()
    calls, heard, said = LLAMBO().forecast(search.state.problem, 20, options)
    least = {"none": 17, "discriminative": 16 * 8, "generative": 16 * 8}[surrogate]
    assert least <= len(model.requests) <= calls <= 3 * least
    assert heard >= sum(len(request.system + request.messages[0].text) for request in model.requests) / 3
    assert said >= sum(request.max_output_tokens for request in model.requests)


def test_unusable_warm_starts_end_in_random_points_that_say_so() -> None:
    async def ask(request: ModelRequest) -> Completion:
        raise OutputInvalid("the reply holds no JSON object", raw="no")

    context, proposals = following(fresh(), ask, n=2)
    assert [proposal.source for proposal in proposals] == ["llambo:fallback"] * 2
    assert context.rejections == [
        {
            "reason": "the reply cannot be used: the reply holds no JSON object",
            "source": "llambo:llm:warm",
            "detail": "no",
        }
    ]
    assert context.memory["warm"], "it is not tried again and again"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"surogate": "none"}, "surogate: unknown option, allowed is one of surrogate, candidates"),
        ({"surrogate": "gp"}, "surrogate: found 'gp', allowed is one of none, discriminative, generative"),
        ({"samples": 1}, "samples: found 1, allowed is a whole number of at least 2"),
        ({"alpha": 2}, "alpha: found 2, allowed is a number from -1 to 1, or a list of them"),
        ({"alpha": []}, "alpha: found \\[\\]"),
        ({"alpha": ["x"]}, "alpha: found \\['x'\\]"),
        ({"best": 1}, "best: found 1, allowed is a number between 0 and 1"),
        ({"warm": -1}, "warm: found -1"),
        ({"temperature": math.nan}, "temperature: found nan"),
    ],
)
def test_a_wrong_option_names_what_was_found_and_what_is_allowed(options: Mapping[str, Any], words: str) -> None:
    search = known(budget=2)
    with pytest.raises(ConfigError, match=words):
        LLAMBO().forecast(search.state.problem, 10, options)


def test_texts_alone_are_not_for_it() -> None:
    context = fresh(Space({"prompt": Text("Be kind.")})).context()
    with pytest.raises(ConfigError, match="numbers and choices"):
        asyncio.run(LLAMBO().propose(context, 1))
