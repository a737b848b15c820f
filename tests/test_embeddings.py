"""Vectors of texts: from a model, cached by content; or by hashing, which says so."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from agent.embeddings import DIMENSIONS, TOGETHER, Embeddings, hashed, projected
from agent.errors import AgentError, BudgetExceeded, ConfigError, OutputInvalid, ProviderError, StoreError
from agent.llm.types import Completion, ModelRequest
from agent.redact import redact


class Model:
    """Gives a vector that counts letters, and keeps what it was asked."""

    def __init__(self, name: str = "vectors-1", error: Exception | None = None, reply: str | None = None) -> None:
        self.name, self.error, self.reply = name, error, reply
        self.asked: list[list[str]] = []

    async def __call__(self, request: ModelRequest) -> Completion:
        assert request.embed
        texts = [message.text for message in request.messages]
        self.asked.append(texts)
        if self.error is not None:
            raise self.error
        vectors = [[1000 * text.count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts]
        return Completion(self.reply if self.reply is not None else json.dumps(vectors), model=self.name)


def angle(a: Any, b: Any) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


async def test_a_text_is_asked_for_once_and_its_vector_survives_the_memory() -> None:
    model, known = Model(), Embeddings()
    first = await known.of(["abc", "xyz", "abc"], model)
    kept = json.loads(json.dumps(known.to_json()))
    assert redact(kept) == kept, "no vector looks like a key"
    later = Embeddings(kept)
    second = await later.of(["xyz", "new", "abc"], model)
    assert model.asked == [["abc", "xyz"], ["new"]]
    assert (first[0], first[1]) == (second[2], second[0]) and first[0] == first[2]
    assert later.how == "model:vectors-1" and all(len(vector) == DIMENSIONS for vector in second)
    assert len(later.to_json()["vectors"]) == 3
    await later.of(["abc"], model)
    assert len(later.to_json()["vectors"]) == 1, "what is no longer wanted is forgotten"


async def test_many_texts_are_several_calls_and_an_empty_one_is_none_to_refuse() -> None:
    model = Model()
    vectors = await Embeddings().of([f"{'a' * n}b" for n in range(TOGETHER)] + ["  "], model)
    assert [len(texts) for texts in model.asked] == [TOGETHER, 1] and model.asked[1] == ["-"]
    assert len(vectors) == TOGETHER + 1


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (None, "no model was asked"),
        (Model(error=ConfigError("it gives none")), "it gives none"),
        (Model(error=ProviderError("it is down", fatal=True)), "it is down"),
        (Model(error=BudgetExceeded("calls", 3, 3)), "calls"),
        (Model(error=OutputInvalid("no JSON", raw="x")), "no JSON"),
        (Model(reply="words"), "the reply cannot be used"),
        (Model(reply="[[1, 2]]"), "the reply cannot be used: it does not hold 2 vectors"),
        (Model(reply='[[1, 2], [1, "a"]]'), "the reply cannot be used"),
        (Model(reply="[[1, 2], [1]]"), "its vectors differ in length"),
    ],
)
async def test_without_vectors_of_a_model_texts_are_hashed_and_that_is_said(model: Model | None, why: str) -> None:
    known = Embeddings()
    vectors = await known.of(["think step by step", "paint the house"], model)
    assert known.how == "hashing" and why in known.why
    again = Embeddings(json.loads(json.dumps(known.to_json())))
    works = Model()
    assert await again.of(["think step by step"], works) == vectors[:1]
    assert (again.how, again.why, works.asked) == ("hashing", known.why, []), "and the model is not asked again"


async def test_vectors_of_two_models_are_never_mixed() -> None:
    known = Embeddings()
    await known.of(["abc"], Model("one"))
    mixed = await known.of(["abc", "abd"], Model("two"))
    assert known.how == "hashing" and "vectors of model:two came after vectors of model:one" in known.why
    assert mixed == [[n / 127 for n in hashed(text)] for text in ("abc", "abd")]


async def test_a_journal_that_cannot_be_written_is_no_reason_to_hash() -> None:
    error: AgentError = StoreError("the disk is full")
    with pytest.raises(StoreError):
        await Embeddings().of(["abc"], Model(error=error))


def test_hashing_finds_texts_alike_that_share_words_and_knows_no_meaning() -> None:
    step, same, other = map(hashed, ("Think step by step.", "Please think, step by step!", "Reason it through slowly."))
    assert angle(step, same) > 0.5 > abs(angle(step, other)) + 0.2
    assert hashed("Think step by step.") == step and hashed("THINK step   by step.") == step
    assert hashed("") == [0] * DIMENSIONS and any(hashed("😀 日本語"))


def test_a_projection_keeps_what_is_near_and_what_is_far() -> None:
    import random

    rng = random.Random(1)
    base = [rng.randint(-300, 300) for _ in range(1536)]
    near = [value + rng.randint(-60, 60) for value in base]
    far = [rng.randint(-300, 300) for _ in range(1536)]
    a, b, c = projected([base, near, far])
    assert angle(a, b) == pytest.approx(angle(base, near), abs=0.1) and angle(a, c) == pytest.approx(0, abs=0.3)
    assert max(map(abs, a)) <= 127 and len(a) == DIMENSIONS
