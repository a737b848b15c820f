"""INSTINCT: a pool of texts, and a bandit that finds the good ones with few evaluations."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent import embeddings
from agent.api import optimize
from agent.embeddings import DIMENSIONS
from agent.errors import BudgetExceeded, ConfigError, OutputInvalid
from agent.events import CandidateAdmitted
from agent.goals import Objective
from agent.ledger import Budget
from agent.llm.types import Completion, ModelRequest
from agent.parameters import Float
from agent.proposers.instinct import Instinct
from agent.proposers.merits import merits
from agent.proposers.neural import NeuralUCB, features, spread
from agent.results.result import Result
from agent.space import Candidate, Space
from agent.testing.proposers import Measure, ProposerContract, Search, adviser
from agent.texts import Text
from tests.row_support import ACCURACY, rows, run

WORTH = {
    0.25: ("Work through it step by step.", "Think step by step before you answer.", "Go step by step, show each."),
    0.15: ("Check the result once more.", "Check your result before you reply."),
    -0.2: ("Be brief, one word is enough.", "Answer in one word, be brief."),
    -0.1: ("Answer as fast as you can.", "Answer fast, do not think."),
    0.0: ("You are a careful teacher.", "You are a famous expert.", "Thank you.", "This matters to me."),
}
SPACE = Space({"prompt": Text("Solve it.")})


def score(text: str) -> float:
    """A function of the prompt alone."""
    return 0.4 + sum(worth for worth, lines in WORTH.items() if any(line in text for line in lines))


def measure(candidate: Candidate) -> Mapping[str, float]:
    return {"value": score(candidate["prompt"]), "size": 0.0}


def pool(seed: int, count: int = 80) -> list[str]:
    rng = random.Random(seed)
    lines = [line for group in WORTH.values() for line in group]
    return list(dict.fromkeys(" ".join(rng.sample(lines, rng.randint(1, 4))) for _ in range(count)))


def search(measure: Measure = measure, space: Space = SPACE, **given: Any) -> Search:
    given = {"budget": 25, "direction": "maximize", **given}
    found = Search(Instinct(), space, measure, **given)
    found.run()
    return found


def needed(search: Search, good: float) -> int:
    """Evaluations until a text is among the good ones."""
    values = [trial.values["value"] if trial.values else 0.0 for trial in search.state.history.trials]
    return next((place for place, value in enumerate(values) if value >= good), 99)


def needed_by(seeds: Sequence[int]) -> tuple[list[int], list[float]]:
    """By the bandit; and expected of texts in a random order."""
    mine, chance = [], []
    for seed in seeds:
        texts = pool(seed)
        good = sorted(map(score, texts))[-2]
        mine.append(needed(search(budget=30, seed=seed, options={"texts": texts, "hidden": 40}), good))
        chance.append((len(texts) + 1) / (sum(score(text) >= good for text in texts) + 1))
    return mine, chance


def masked(text: str) -> list[int]:
    """A vector that says nothing of the text but which one it is."""
    rng = random.Random(hashlib.sha256(text.encode()).digest())
    return [rng.randint(-12, 12) for _ in range(DIMENSIONS)]


def test_it_finds_the_good_region_of_a_pool_with_a_fifth_fewer_evaluations_than_chance_takes() -> None:
    mine, chance = needed_by(range(10))
    assert statistics.fmean(mine) <= statistics.fmean(chance) / 1.25, (mine, chance)
    assert max(mine) <= 25


def test_where_the_vectors_say_nothing_of_the_texts_it_is_no_better_than_chance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(embeddings, "hashed", masked)
    mine, chance = needed_by(range(10))
    assert statistics.fmean(mine) > statistics.fmean(chance) / 1.25, (mine, chance)


def test_each_choice_says_how_it_was_made_and_hashing_is_told_once() -> None:
    found = search(options={"texts": pool(1)})
    admitted = [event for event in found.events if isinstance(event, CandidateAdmitted)]
    assert [event.source for event in admitted[:4]] == ["instinct:start"] * 3 + ["instinct:ucb"]
    assert admitted[3].rationale.startswith("expected ") and admitted[3].rationale.endswith("by hashing")
    told = [item["reason"] for item in found.state.history.rejections]
    assert told == ["texts are compared by their words, not by their meaning: no model was asked"]


def test_a_pool_that_is_used_up_ends_the_search_and_no_text_is_paid_for_twice() -> None:
    texts = ["One.", "Two.", "One.", "Solve it.", "Three."]
    found = search(options={"texts": texts})
    assert found.state.stop is not None and found.state.stop.reason == "exhausted"
    assert next(t.candidate["prompt"] for t in found.state.history.trials) == "Solve it."
    assert len(found.state.history) == 4
    reasons = [item["reason"] for item in found.state.history.rejections]
    assert reasons.count("a text repeats one that is known") == 2


def test_several_texts_are_chosen_together_and_other_parameters_stay() -> None:
    space = Space({"system": Text("Be kind."), "prompt": Text("Say {q}.", placeholders=("q",)), "x": Float(0, 1)})
    texts = [{"system": "Be brief."}, {"prompt": "Tell {q}."}, {"prompt": "Tell."}, {"system": "A.", "prompt": "{q}"}]
    found = search(lambda c: {"value": len(c["prompt"]), "size": 0.0}, space, options={"texts": texts})
    assert len(found.state.history) == 4 and {trial.candidate["x"] for trial in found.state.history.trials} == {0.5}
    assert any("the text lost {q}" in item["reason"] for item in found.state.history.rejections)


def test_exploration_leaves_what_is_known_to_be_good() -> None:
    near = [f"Go step by step, {word}." for word in ("slowly", "kindly", "boldly", "calmly", "gladly", "neatly")]
    far = ["Zebras graze at dawn beyond a river.", "Ten violins hum under old bridges."]

    def steps(candidate: Candidate) -> Mapping[str, float]:
        return {"value": float("step" in candidate["prompt"]), "size": 0.0}

    def after_good(exploration: float) -> str:
        found = search(steps, options={"texts": near[:3]}, budget=6)
        context = found.context(9)
        context.memory, context.options = None, {"texts": [*near[3:], *far], "exploration": exploration, "start": 1}
        (proposal,) = asyncio.run(Instinct().propose(context, 1))
        return str(proposal.values["prompt"])

    assert after_good(0) in near[3:] and after_good(20) in far


# In a run: of 512 texts one alone is better than the first, and worse ones are the nearer to it the better they are.

WORDS = (("red", "blue", "green", "black"), ("north", "south", "east", "west"), ("oak", "pine", "elm", "ash"))
WORDS += (("iron", "gold", "zinc", "lead"), ("wool", "silk"))
RIGHT = {"green", "east", "elm", "zinc", "silk"}


def named(runs: Path) -> Result:
    def right(candidate: Mapping[str, Any], row: Mapping[str, Any]) -> float:
        """A function of the prompt alone."""
        words = candidate["prompt"].split()
        share = 4 if words == ["plain"] else (0, 1, 2, 3, 4, 9)[len(RIGHT & set(words))]
        return float(row["n"] % 10 < share)

    return optimize(
        right,
        space={"prompt": Text("plain")},
        data=[{"n": number} for number in range(120)],
        objectives=Objective("value", "maximize", floor=0.0, low=0.0, high=1.0),
        deterministic=True,
        budget=700,
        seed=1,
        model=None,
        options={"proposer": "instinct", "options": {"texts": [" ".join(p) for p in itertools.product(*WORDS)]}},
        runs=runs,
    )


def test_a_run_gets_to_the_best_text_of_512_by_what_near_ones_were_worth(tmp_path: Path) -> None:
    result = named(tmp_path)
    assert set(str(result.best["prompt"]).split()) == RIGHT and result.status == "proven"
    assert len(result.trials) < 100


def test_the_same_run_gains_nothing_where_the_vectors_are_masked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings, "hashed", masked)
    result = named(tmp_path)
    assert result.status == "initial" and len(result.trials) > 30


# With a model that writes.


class Writer:
    """Writes five texts at a time from the lines above, and keeps what it was asked."""

    def __init__(self, change: Callable[[list[str]], Any] = lambda texts: texts) -> None:
        self.requests: list[ModelRequest] = []
        self.change = change

    def __call__(self, request: ModelRequest) -> str:
        self.requests.append(request)
        texts = pool(len(self.requests), 5)
        return json.dumps({"variants": [{"prompt": text} for text in self.change(texts)]})


def test_a_model_fills_the_pool_and_is_asked_again_when_half_of_it_is_measured() -> None:
    model = Writer()
    found = search(ask=adviser(model), options={"pool": 20, "embeddings": "hashing"}, budget=3)
    assert len(model.requests) == 4, "20 texts in replies of 5"
    later = Writer()
    found = search(ask=adviser(later), options={"pool": 20, "embeddings": "hashing"}, budget=25)
    assert 4 < len(later.requests) <= 8 and len(found.state.memory["pool"]) >= 9
    assert "The best so far" in later.requests[-1].messages[0].text
    shown = [line for line in later.requests[-1].messages[0].text.splitlines() if '{"prompt"' in line]
    numbers = [float(line.split(":")[0]) for line in shown]
    assert numbers == sorted(numbers) and len(numbers) == 5 and numbers[-1] >= 0.65


def test_texts_of_no_use_are_recorded_and_the_others_stay() -> None:
    model = Writer(lambda texts: ["Solve it.", texts[0], texts[0], texts[1]])
    found = search(ask=adviser(model), options={"pool": 5, "per_call": 5, "embeddings": "hashing"}, budget=3)
    reasons = [item["reason"] for item in found.state.history.rejections]
    assert reasons[:2] == ["a text repeats one that is known"] * 2 and len(found.state.history) == 2


def context_of(found: Search, ask: Any, **options: Any) -> Any:
    context = found.context(9)
    context.ask, context.options, context.memory = ask, {"pool": 8, **options}, found.state.memory
    return context


def test_a_limit_ends_it_only_when_the_pool_is_empty() -> None:
    async def broke(_: ModelRequest) -> Completion:
        raise BudgetExceeded("calls", 3, 3)

    found = search(options={"texts": ["One.", "Two.", "Three."]}, budget=3)
    context = context_of(found, broke, embeddings="hashing")
    (proposal,) = asyncio.run(Instinct().propose(context, 1))
    assert proposal.source.startswith("instinct:") and "no further call was made" in context.rejections[0]["reason"]
    empty = context_of(search(options={"texts": ["One."]}, budget=4), broke)
    with pytest.raises(BudgetExceeded):
        asyncio.run(Instinct().propose(empty, 1))


def test_an_unusable_reply_is_recorded() -> None:
    async def silent(_: ModelRequest) -> Completion:
        raise OutputInvalid("no JSON", raw="I would rather not.")

    context = context_of(Search(Instinct(), SPACE, measure), silent)
    assert asyncio.run(Instinct().propose(context, 1)) == [] and not context.exhausted
    assert context.rejections[0]["reason"] == "the reply cannot be used: no JSON"


def test_without_a_model_and_without_a_pool_it_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="neither a model") as caught:
        asyncio.run(Instinct().propose(Search(Instinct(), SPACE, measure).context(), 1))
    assert "proposer.options.texts" in caught.value.hint


class Thinker:
    """Writes texts, and gives vectors that know which of them are about steps."""

    async def complete(self, request: ModelRequest, *, seed: int | None) -> Completion:
        from agent.llm.types import Usage

        usage = Usage(input=10, output=0 if request.embed else 5)
        if request.embed:
            vectors = [[9000 if "step" in m.text else -9000, len(m.text), 100] for m in request.messages]
            return Completion(json.dumps(vectors), usage=usage, model="vectors-1")
        texts = pool(seed or 0, request.schema["properties"]["variants"]["maxItems"])  # type: ignore[index]
        return Completion(json.dumps({"variants": [{"prompt": text} for text in texts]}), usage=usage, model="writer")

    async def close(self) -> None: ...


def test_in_a_run_vectors_are_paid_under_their_role_once_and_replay(tmp_path: Path) -> None:
    def answered(candidate: Mapping[str, Any], row: Mapping[str, Any]) -> float:
        return float(random.Random(row["number"]).random() < score(candidate["prompt"]))

    made = run(
        tmp_path / "run",
        answered,
        rows(200),
        space=SPACE,
        objectives=(ACCURACY,),
        proposer="instinct",
        budget=500,
        options={"pool": 10, "rows": 2},
        models={"propose": "scripted:writer", "embed": "scripted:vectors"},
        model=Thinker(),
    )
    calls = made.of("call.started")
    texts = [m["text"] for call in calls if call.role == "embed" for m in call.request["messages"]]
    assert len(texts) == len(set(texts)) > 10, "no text is paid for twice"
    assert {call.model for call in calls if call.role == "embed"} == {"scripted:vectors"}
    chosen = [event for event in made.of("candidate.admitted") if event.source == "instinct:ucb"]
    assert chosen and "by model:vectors-1" in chosen[0].rationale and len(chosen[0].read) == 2
    raced = {e.example for e in made.of("evaluation.started") if e.candidate == chosen[0].candidate}
    assert raced and not raced & set(chosen[0].read)
    assert made.replays((1, 4))


# What a candidate is worth to the network.


def test_a_candidate_that_saw_hard_rows_is_not_worse_for_it(tmp_path: Path) -> None:
    found = search(options={"texts": ["One.", "Two."]}, budget=4)
    from dataclasses import replace

    context = found.context()
    history = context.history
    one, two, three = history.trials
    object.__setattr__(context.problem, "target", "population")
    object.__setattr__(context.problem, "data", rows(6))
    seen = {
        one.id: {"a": (0.9, ""), "b": (0.1, "")},
        two.id: {"b": (0.2, ""), "c": (0.1, "")},
        three.id: {"a": (0.8, "")},
    }
    for trial in (one, two, three):
        history._put(replace(trial, rows=seen[trial.id], feasible=True))
    found_ = {item.trial.id: item for item in merits(context)}
    assert found_[two.id].reward > found_[one.id].reward > found_[three.id].reward, "although its mean is the smallest"
    assert [found_[trial.id].weight for trial in (one, two, three)] == [1.0, 1.0, 0.5]


def test_what_failed_has_the_smallest_reward() -> None:
    found = search(
        lambda c: None if c["prompt"] == "Two." else {"value": len(c["prompt"]), "size": 0.0},
        options={"texts": ["One.", "Two.", "A long one."]},
        budget=6,
    )
    rewards = {item.trial.candidate["prompt"]: item.reward for item in merits(found.context())}
    assert rewards == {"Solve it.": 9, "One.": 4, "Two.": 4, "A long one.": 11}


# The bandit itself.


def line(count: int, seed: int = 0) -> tuple[Any, Any]:
    x = np.random.default_rng(seed).normal(size=(count, 3))
    return x / 2, x[:, 0] - x[:, 1]


def test_the_network_learns_and_knows_where_it_does_not() -> None:
    x, y = line(30)
    net = NeuralUCB(x, y, np.ones(30), seed=1)
    new, truth = line(200, 9)
    assert np.corrcoef(net.mean(new), truth)[0, 1] > 0.9
    assert net.bonus(x).mean() < 0.6 * net.bonus(new * 3).mean(), "an arm that was pulled has a small bonus"


def test_the_bonus_is_that_of_the_gradients_written_out() -> None:
    x, y = line(6)
    net = NeuralUCB(x, y, np.ones(6), seed=1, hidden=8, ridge=0.3)

    def gradient(row: Any) -> Any:
        wide = np.append(row, 1.0)
        inner = net._first @ wide
        first = np.outer((inner > 0) * net._second, wide).ravel()
        return np.concatenate([first, np.maximum(inner, 0) / np.sqrt(8)]) / np.sqrt(net._unit)

    pulled = np.array([gradient(row) for row in x])
    design = 0.3 * np.eye(pulled.shape[1]) + pulled.T @ pulled
    new, _ = line(5, 3)
    expected = [net.scale * np.sqrt(0.3 * g @ np.linalg.solve(design, g)) for g in map(gradient, new)]
    assert np.allclose(net.bonus(new), expected)
    more = np.vstack([pulled, gradient(new[0])])
    design = 0.3 * np.eye(pulled.shape[1]) + more.T @ more
    again = [net.scale * np.sqrt(0.3 * g @ np.linalg.solve(design, g)) for g in map(gradient, new)]
    assert np.allclose(net.bonus(new, new[:1]), again), "an arm under way counts before its reward is known"


def test_it_says_nothing_before_it_learned_and_survives_equal_rewards() -> None:
    x, y = line(5)
    assert np.allclose(NeuralUCB(x, y, np.ones(5), seed=1, steps=0).mean(x), y.mean())
    same = NeuralUCB(x, np.full(5, 0.7), np.ones(5), seed=1)
    assert np.allclose(same.mean(x), 0.7, atol=0.05) and np.isfinite(same.bonus(x)).all()
    assert np.isfinite(NeuralUCB(np.zeros((2, 3)), y[:2], np.ones(2), seed=1).bonus(np.zeros((1, 3)))).all()


def test_weights_say_how_much_an_arm_counts() -> None:
    x = np.array([[0.5, 0.5], [0.5, 0.5]])
    heavy = NeuralUCB(x, np.array([0.0, 1.0]), np.array([9.0, 1.0]), seed=1, steps=400)
    assert heavy.mean(x[:1])[0] == pytest.approx(0.1, abs=0.05)


def test_first_arms_lie_apart_and_features_survive_copies() -> None:
    rng = np.random.default_rng(1)
    groups = np.repeat(np.array([[0.0, 0], [9, 0], [0, 9], [9, 9]]), 10, axis=0) + rng.normal(0, 0.1, (40, 2))
    assert {place // 10 for place in spread(groups, groups[:1], 3, rng)} == {1, 2, 3}
    copies = np.ones((6, 4))
    assert sorted(spread(copies, copies[:1], 6, rng)) == list(range(6)) and not features(copies).any()
    made = features(rng.normal(size=(20, 50)))
    assert made.shape == (20, 20) and (made**2).sum(axis=1).mean() == pytest.approx(1)


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"pool": 0}, "pool"),
        ({"per_call": 0}, "per_call"),
        ({"hidden": 7}, "hidden"),
        ({"exploration": -1}, "exploration"),
        ({"embeddings": "magic"}, "embeddings"),
        ({"texts": "One."}, "texts"),
        ({"texts": [3]}, "texts"),
        ({"texts": [{"other": "x"}]}, "texts"),
        ({"rows": -1}, "rows"),
        ({"temperature": None}, "temperature"),
        ({"pools": 3}, "unknown option"),
    ],
)
def test_wrong_options_are_refused(options: Mapping[str, Any], wrong: str) -> None:
    context = Search(Instinct(), SPACE, measure, options=options).context()
    with pytest.raises(ConfigError, match=wrong):
        asyncio.run(Instinct().propose(context, 1))


def test_a_space_without_texts_is_refused() -> None:
    with pytest.raises(ConfigError, match="the space has none"):
        asyncio.run(Instinct().propose(Search(Instinct(), Space({"x": Float(0, 1)}), measure).context(), 1))


def test_the_forecast_is_not_below_what_a_search_asks() -> None:
    model, asked = Writer(), 0

    async def ask(request: ModelRequest) -> Completion:
        nonlocal asked
        asked += 1
        return await adviser(lambda r: json.dumps([[1, 2]] * len(r.messages)) if r.embed else model(r))(request)

    found = search(ask=ask, options={"pool": 10}, budget=30)
    calls, heard, said = Instinct().forecast(found.state.problem, 29, {"pool": 10})
    assert len(model.requests) < asked <= calls and heard > 0 and said > 0
    assert Budget(calls=calls)


class TestContract(ProposerContract):
    spaces: Mapping[str, Space] = {
        "prompt": SPACE,
        "two texts": Space({"system": Text("Be kind."), "prompt": Text("Say {q}.", placeholders=("q",))}),
        "mixed": Space({"x": Float(0, 1), "prompt": Text("First think.")}),
    }
    finite: Mapping[str, int] = {}
    options: Mapping[str, Any] = {"pool": 12, "hidden": 20}

    def make(self) -> Instinct:
        return Instinct()

    def reply(self, request: ModelRequest) -> str:
        rng = random.Random(request.key("scripted:test"))
        if request.embed:
            return json.dumps([[rng.randint(-99, 99) for _ in range(8)] for _ in request.messages])
        items = request.schema["properties"]["variants"]  # type: ignore[index]
        texts = [{n: f"{rng.random()} {{q}}" for n in items["items"]["properties"]} for _ in range(items["maxItems"])]
        return json.dumps({"variants": texts})

    def test_it_works_without_a_model_or_says_that_it_needs_one(self) -> None:
        texts = {"options": {"texts": ["One.", "Two."]}}
        assert len(self.search("prompt", ask=None, **texts).state.history) == 3
