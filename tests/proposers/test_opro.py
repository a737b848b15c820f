"""OPRO: the best so far from worst to best, and replies for numbers and texts alike."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.api import optimize
from agent.errors import BudgetExceeded, ConfigError, OutputInvalid, ProviderError
from agent.goals import Objective
from agent.llm.scripted import Scripted
from agent.llm.types import Completion, ModelRequest
from agent.parameters import Categorical, Float, Int
from agent.proposers.base import Context, Proposal
from agent.proposers.opro import CHARACTERS, OPRO
from agent.proposers.random import Random
from agent.results.result import Result
from agent.space import Candidate, Space
from agent.testing.proposers import Measure, Search, adviser, bowl, bowl_at
from agent.texts import Code, Demos, Text
from tests.proposers.text_spaces import Model

PLANE = Space({"x": Float(-5, 5), "y": Float(-5, 5)})
WORDS = Space({"prompt": Text("Answer {question}", placeholders=("question",), max_chars=60)})


def known(space: Space = PLANE, measure: Measure | None = None, budget: int = 12, **more: Any) -> Search:
    search = Search(Random(), space, measure or bowl(space), budget=budget, **more)
    search.run()
    return search


def following(search: Search, model: Callable[[ModelRequest], str] | None, n: int = 1, **options: Any) -> Any:
    context = search.context(50)
    context.ask, context.options = adviser(model) if model else None, options
    return context, asyncio.run(OPRO().propose(context, n))


def rows(prompt: str) -> list[tuple[float, dict[str, Any]]]:
    """The history in a prompt."""
    found = []
    for line in prompt.splitlines():
        result, colon, text = line.partition(": {")
        if colon and result.lstrip("-").replace(".", "").isdigit():
            found.append((float(result), json.loads("{" + text.partition(" (")[0])))
    return found


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_the_best_are_shown_from_worst_to_best(direction: Any) -> None:
    sign = 1 if direction == "minimize" else -1

    def measure(candidate: Candidate) -> Mapping[str, float]:
        return {"value": sign * bowl_at(PLANE, candidate)["value"], "size": 0.0}

    search, model = known(measure=measure, budget=30, direction=direction), Model({"x": 1.0, "y": 1.0})
    following(search, model, shown=8)
    shown = rows(model.prompt)
    costs = [sign * result for result, _ in shown]
    assert len(shown) == 8 and costs == sorted(costs, reverse=True)
    best = search.state.history.ranked(8)
    assert shown[-1][1]["x"] == pytest.approx(best[0].candidate["x"], abs=0.005)
    assert all(
        found[1]["x"] == pytest.approx(t.candidate["x"], abs=0.005) for found, t in zip(shown, best[::-1], strict=True)
    )
    assert ("larger" if sign < 0 else "smaller") + " is better" in model.requests[0].system
    assert "differs from all above" in model.prompt


def test_a_reply_becomes_a_proposal_at_one_call() -> None:
    model = Model({"x": 1.5, "y": -2.25})
    context, (proposal,) = following(known(), model)
    assert dict(proposal.values) == {"x": 1.5, "y": -2.25}
    assert (proposal.source, proposal.radius, proposal.parents) == ("opro:llm", 0.01, (context.champion.id,))
    assert len(model.requests) == 1 and not context.rejections


def test_several_are_asked_for_at_once() -> None:
    model = Model({"x": 1.0, "y": 1.0}, {"x": 2.0, "y": 2.0}, {"x": 1.0, "y": 1.0})
    context, proposals = following(known(), model, n=3)
    assert [proposal.values["x"] for proposal in proposals] == [1.0, 2.0] and len(model.requests) == 3
    assert [item["reason"] for item in context.rejections] == ["the point is the same as another one just made"]


def test_a_text_is_rewritten_and_keeps_its_placeholders() -> None:
    def measure(candidate: Candidate) -> Mapping[str, float]:
        return {"value": -float(len(candidate["prompt"])), "size": 0.0}

    model = Model(*({"prompt": f"Answer {'very ' * times}well: {{question}}"} for times in range(1, 6)))
    state = Search(OPRO(), WORDS, measure, ask=adviser(model), budget=7).run()
    best = state.history[state.history.champion].candidate["prompt"]
    assert best == "Answer very very very very very well: {question}"
    assert "text of at most 60 characters that keeps {question}" in model.requests[0].system
    assert model.requests[0].schema["properties"]["prompt"] == {"type": "string", "maxLength": 60}  # type: ignore[index]
    assert "Answer very well" in model.prompt


def test_a_text_without_its_placeholder_is_refused_and_asked_for_once_more() -> None:
    search = Search(OPRO(), WORDS, bowl(WORDS))
    model = Model({"prompt": "Answer me!"}, {"prompt": "Say it: {question}"})
    context, (proposal,) = following(search, model)
    assert proposal.values["prompt"] == "Say it: {question}" and len(model.requests) == 2
    assert "the text lost {question}" in context.rejections[0]["reason"]
    assert "of no use: the point is not allowed: prompt: the text lost {question}" in model.prompt


def test_programs_and_choices_of_examples_are_values_as_well() -> None:
    space = Space({"code": Code("def f(): return 0", entry="f"), "shots": Demos(("a", "b", "c"), k=2), "n": Int(1, 9)})
    search = Search(OPRO(), space, bowl(space))
    good = {"code": "def f(): return 1", "shots": [2, 0], "n": 3}
    context, (proposal,) = following(search, Model({**good, "code": "def g(): return"}, good))
    assert dict(proposal.values) == good and "does not define f" in context.rejections[0]["reason"]


def test_known_points_are_asked_for_once_more_and_then_drawn_and_marked() -> None:
    search = known()
    best = search.state.history.ranked(1)[0]
    model = Model(dict(best.candidate))
    context, proposals = following(search, model)
    assert len(model.requests) == 2 and "of no use: the point repeats a known one" in model.prompt
    assert [item["reason"] for item in context.rejections] == [f"the point repeats candidate {best.number}"] * 2
    (proposal,) = proposals
    assert proposal.source == "opro:fallback" and proposal.values != best.candidate


def test_a_space_of_texts_alone_gets_nothing_rather_than_the_same_again() -> None:
    search = Search(OPRO(), WORDS, bowl(WORDS))
    context, proposals = following(search, Model({"prompt": "Answer {question}"}))
    assert proposals == [] and len(context.rejections) == 2 and not context.exhausted


def test_an_unusable_reply_is_recorded_and_not_asked_for_again() -> None:
    model = Model("I would rather not.")
    context, proposals = following(known(), model)
    assert len(model.requests) == 1, "the gateway has tried a repair already"
    assert context.rejections[0]["detail"] == "I would rather not."
    assert [proposal.source for proposal in proposals] == ["opro:fallback"]


def test_without_a_model_it_says_so() -> None:
    context, proposals = following(known(), None)
    assert context.rejections[0]["reason"] == "there is no model to ask"
    assert [proposal.source for proposal in proposals] == ["opro:fallback"]


def test_choices_come_back_as_they_were_declared() -> None:
    space = Space({"kind": Categorical(("a", 2, 0.5, True)), "depth": Categorical((1.0, 2.0)), "x": Float(0, 1)})
    search = Search(OPRO(), space, bowl(space))
    _, (first,) = following(search, Model({"kind": True, "depth": 2, "x": 0.1}))
    assert first.values["kind"] is True and type(first.values["depth"]) is float
    _, (second,) = following(search, Model({"kind": 2.0, "depth": 1, "x": 0.1}))
    assert type(second.values["kind"]) is int


def test_long_texts_are_shown_for_the_best_alone() -> None:
    space = Space({"prompt": Text("x" * 3000)})
    numbers = iter(range(100))

    def write(request: ModelRequest) -> str:
        return json.dumps({"prompt": f"{next(numbers):04d}" + "y" * 2900})

    def measure(candidate: Candidate) -> Mapping[str, float]:
        return {"value": -float(candidate["prompt"][:4].replace("xxxx", "-1")), "size": 0.0}

    search = Search(OPRO(), space, measure, ask=adviser(write), budget=9)
    search.run()
    model = Model({"prompt": "short"})
    following(search, model)
    assert "0006yyy" in model.prompt and "0001yyy" not in model.prompt
    assert len(model.prompt) < CHARACTERS + 1000


def test_the_prompt_tells_what_is_left_what_failed_and_what_is_at_a_bound() -> None:
    def measure(candidate: Candidate) -> Mapping[str, float] | None:
        if candidate["y"] > 0:
            return None
        return {"value": candidate["x"], "size": 2.0 if candidate["y"] < -4 else 0.0}

    space = Space({"x": Float(-5, 5, default=-5.0), "y": Float(-5, 5, default=-1.0)})
    search = known(space, measure, budget=40)
    search.state.history.rejections.append({"reason": "the point repeats candidate 3", "source": "opro:llm"})
    model = Model({"x": 0.0, "y": 0.0})
    following(search, model)
    lines = model.prompt.splitlines()
    assert any("(x at its low end)" in line for line in lines)
    failed = [line for line in lines if line.startswith("failed: ")]
    assert len(failed) == 3 and all("no value here" in line or "must have size at most 1" in line for line in failed)
    assert "refused before: the point repeats a known one" in lines
    assert "Evaluations left: 0." in lines


def test_a_limit_is_raised_when_nothing_was_answered_and_told_when_something_was() -> None:
    search = known()
    good = Completion(text="{}", parsed={"x": 1.0, "y": 1.0})

    def run(*given: Any, n: int) -> tuple[Context, list[Proposal]]:
        left = iter(given)

        async def ask(request: ModelRequest) -> Completion:
            item = next(left)
            if isinstance(item, Exception):
                raise item
            return item

        context = search.context(50)
        context.ask = ask
        return context, asyncio.run(OPRO().propose(context, n))

    full = BudgetExceeded("calls", 3, 3)
    with pytest.raises(BudgetExceeded):
        run(full, n=1)
    with pytest.raises(BudgetExceeded):
        run(OutputInvalid("no JSON"), full, n=2)
    context, proposals = run(good, full, ProviderError("busy"), n=3)
    assert [proposal.source for proposal in proposals] == ["opro:llm"]
    assert [item["reason"].split(":")[0] for item in context.rejections] == ["no call was made"] * 2
    with pytest.raises(ProviderError):
        run(good, ProviderError("wrong key", fatal=True), n=2)
    again = Completion(text="{}", parsed=dict(search.state.history.ranked(1)[0].candidate))
    context, proposals = run(again, full, n=1)  # the second try is refused
    assert [proposal.source for proposal in proposals] == ["opro:fallback"]
    assert "no further call was made" in context.rejections[1]["reason"]


def test_the_forecast_is_not_below_what_a_run_asks_for() -> None:
    model = Model(*({"x": number / 7 - 4, "y": 4 - number / 5} for number in range(40)))
    search = Search(OPRO(), PLANE, bowl(PLANE), ask=adviser(model), budget=32)
    search.run()
    calls, heard, said = OPRO().forecast(search.state.problem, 30, {})
    assert 30 <= len(model.requests) <= calls <= 60
    assert heard >= sum(len(request.system + request.messages[0].text) for request in model.requests) / 3
    assert said >= sum(request.max_output_tokens for request in model.requests)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"show": 4}, "show: unknown option, allowed is one of shown, temperature"),
        ({"shown": 0}, "shown: found 0, allowed is a whole number of at least 1"),
        ({"shown": True}, "shown: found True"),
        ({"temperature": -1}, "temperature: found -1, allowed is a number of at least 0"),
    ],
)
def test_a_wrong_option_names_what_was_found_and_what_is_allowed(options: Mapping[str, Any], words: str) -> None:
    search = known(budget=2)
    with pytest.raises(ConfigError, match=words):
        OPRO().forecast(search.state.problem, 10, options)
    with pytest.raises(ConfigError, match=words):
        following(search, None, **options)


# A task where the scores alone tell which rules help: a bad one spoils all, and two good ones are the first gain.

GOOD = ("ISO dates", "two decimals", "surname first", "SI units")
BAD = tuple(f"style {letter}" for letter in "abcdefghijklmnopqrst")


def helpful(text: Any) -> int:
    return sum(f"{rule}." in str(text) for rule in GOOD)


def ruled(candidate: Mapping[str, Any], row: Mapping[str, Any]) -> float:
    text = candidate["prompt"]
    spoilt = any(f"{rule}." in text for rule in BAD)
    return float(not spoilt and row["n"] % 8 < (3, 3, 5, 6, 8)[helpful(text)])


def climber(mask: str) -> Callable[[ModelRequest], str]:
    """Adds a rule to the best text that the prompt shows, and none that a far worse one had: by the prompt alone.

    Texts are measured on different rows, so what differs by less than 0.1 is as good, and the longest is taken.
    """

    def say(request: ModelRequest) -> str:
        text = request.messages[0].text
        shown = [(0.0 if mask else score, values["prompt"]) for score, values in rows(text)]
        best = max((score for score, _ in shown), default=0.0)
        now = max((values for score, values in shown if score > best - 0.1), key=len, default="Answer.")
        if mask == "history":
            shown, now = [], "Answer."
        worse = " ".join(values for score, values in shown if score <= best - 0.1)
        left = [rule for rule in (*GOOD, *BAD) if f"{rule}." not in f"{now} {worse}"] or ["nothing"]
        return json.dumps({"prompt": f"{now} Use {left[zlib.crc32(text.encode()) % len(left)]}."})

    return say


def climbed(runs: Path, seed: int, mask: str = "") -> Result:
    return optimize(
        lambda candidate, row: ruled(candidate, row),
        space={"prompt": Text("Answer.")},
        data=[{"n": number} for number in range(160)],
        objectives=Objective("value", "maximize", floor=0.0, low=0.0, high=1.0),
        deterministic=True,
        budget=1300,
        seed=seed,
        model=Scripted(climber(mask)),
        options={"proposer": "opro"},
        runs=runs,
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_a_run_puts_together_the_rules_that_the_scores_speak_for(tmp_path: Path, seed: int) -> None:
    result = climbed(tmp_path, seed)
    assert helpful(result.best["prompt"]) >= 3 and result.status == "proven"


@pytest.mark.parametrize(("mask", "seed"), [("scores", 1), ("scores", 2), ("history", 1)])
def test_the_same_model_gains_nothing_where_these_are_masked(tmp_path: Path, mask: str, seed: int) -> None:
    result = climbed(tmp_path, seed, mask)
    assert result.status == "initial" and len(result.trials) > 10
