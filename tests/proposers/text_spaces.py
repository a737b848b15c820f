"""Spaces and replies for the conformance of proposers that change texts and choices of examples."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from typing import Any

from agent.llm.types import ModelRequest
from agent.parameters import Categorical, Float
from agent.space import Space
from agent.testing.proposers import instance
from agent.texts import Code, Demos, Text

POOL = tuple({"question": f"{number} + {number}", "answer": 2 * number} for number in range(12))

TEXTS: Mapping[str, Space] = {
    "text": Space({"prompt": Text("Answer the question.")}),
    "two texts": Space(
        {"system": Text("Be\n\nkind."), "prompt": Text("Answer {question}", placeholders=("question",))}
    ),
    "text and demos": Space({"prompt": Text("Answer."), "demos": Demos(POOL, 4)}),
    "all": Space(
        {
            "prompt": Text("Answer."),
            "demos": Demos(POOL, 3),
            "share": Float(0, 1),
            "kind": Categorical(("a", "b")),
            "code": Code("def f(x):\n    return x\n", entry="f"),
        }
    ),
}


class Model:
    """Says what it is told to, the last of it for ever, and keeps what it was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers = answers
        self.requests: list[ModelRequest] = []

    def __call__(self, request: ModelRequest) -> str:
        self.requests.append(request)
        answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, str) else json.dumps(answer)

    @property
    def prompt(self) -> str:
        return self.requests[-1].messages[0].text


def scores(text: str) -> dict[str, float]:
    """Results by row: "101" says what rows r0, r1, r2 gave."""
    return {f"r{place}": float(mark) for place, mark in enumerate(text)}


def masked(text: str) -> str:
    """A prompt without what stands between marks: the evidence."""
    return re.sub(r"--- begin .*?--- end", "", text, flags=re.DOTALL)


def wordy(request: ModelRequest) -> str:
    """A reply that fits the request's schema, with texts that no other reply has."""
    rng = random.Random(request.key("scripted:test"))
    return json.dumps(_words(instance(request.schema or {}, rng), rng))


def _words(value: Any, rng: random.Random) -> Any:
    if isinstance(value, dict):
        return {name: _words(item, rng) for name, item in value.items()}
    if isinstance(value, list):
        return [_words(item, rng) for item in value]
    return f"Say {{question}} {rng.getrandbits(40)}" if value == "words" else value
