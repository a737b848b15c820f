"""A hash as a program: what even means, and that a program cannot say it of itself."""

from __future__ import annotations

import random
from typing import Any

import pytest

from agent.config import load
from agent.evaluation import Request
from agent.space import Candidate
from tests.examples.support import EXAMPLES, modules, outputs

KNOWN = """def mix(x):
    x ^= x >> 16
    x = x * 0x85EBCA6B & 0xFFFFFFFF
    x ^= x >> 13
    x = x * 0xC2B2AE35 & 0xFFFFFFFF
    return x ^ x >> 16
"""


def digits(task: Any, keys: list[int], mix: Any) -> str:
    return "".join(f"{mix(key ^ turned):08x}" for key in keys for turned in (0, *(1 << bit for bit in range(32))))


def test_the_bias_is_that_of_chance_for_chance_and_whole_for_what_ignores_the_key() -> None:
    with modules("hash", "task") as (task,):
        keys = task.keys("counter", "test")
        assert len(set(keys)) == task.KEYS and keys[1] - keys[0] == 1
        assert all(key % 4096 == 0 for key in task.keys("aligned", "test"))
        rng = random.Random(0)
        assert task.bias(digits(task, keys, lambda x: rng.getrandbits(32))) == pytest.approx(4.4, abs=0.3)
        assert task.bias(digits(task, keys, lambda x: 7)) == pytest.approx(100)
        assert task.bias(digits(task, keys, lambda x: x)) == pytest.approx(100), "a bit turns one bit, and always"
        half = task.bias(digits(task, keys, lambda x: rng.getrandbits(32) & 0xFFFF))
        assert half == pytest.approx(100 / 2**0.5, abs=0.5), "half of the bits never turn"


async def test_a_better_hash_is_found_out_and_an_answer_of_another_form_is_none() -> None:
    initial = load(EXAMPLES / "hash").problem.initial()
    programs = [
        KNOWN,
        "def mix(x):\n    return x % 16\n",
        "def mix(x):\n    return -1\n",
        "def mix(x):\n    return 1 << 40\n",
    ]
    first, known, weak, *bad = await outputs(
        "hash", Request(initial), *(Request(Candidate({"program": text})) for text in programs)
    )
    assert first.value["values"]["bias"] > 40 > 5 > known.value["values"]["bias"]
    assert weak.value["values"]["bias"] > 90
    assert [output.failure.kind for output in bad if output.failure] == ["invalid", "invalid"]


COUNTS = """calls = []


def mix(x):
    key, bit = divmod(len(calls), 33)
    calls.append(0)
    return 0xFFFFFFFF if bit and key & 1 else 0
"""
FIRST = """seen = {}


def mix(x):
    return seen.setdefault(x, len(seen) * 0x9E3779B1 & 0xFFFFFFFF)
"""
CHANCE = "import random\n\n\ndef mix(x):\n    return random.getrandbits(32)\n"


async def test_a_program_that_goes_by_when_it_is_asked_and_not_by_the_key_has_no_score() -> None:
    texts = [COUNTS, FIRST, CHANCE]
    for output in await outputs("hash", *(Request(Candidate({"program": text})) for text in texts)):
        assert output.failure is not None and output.failure.kind == "error"
        assert "the answers differ" in output.failure.message


def test_a_bias_that_no_hash_has_is_suspicious() -> None:
    with modules("hash", "task") as (task,):
        low, _ = task.Task.bounds["bias"]
        assert 2.5 < low < 100 / task.KEYS**0.5


async def test_the_gate_has_other_keys() -> None:
    initial = load(EXAMPLES / "hash").problem.initial()
    train, again, one, two = await outputs(
        "hash", Request(initial, seed=1), *(Request(initial, seed=seed, stage="confirm") for seed in (1, 1, 2))
    )
    values = [output.value["values"]["counter"] for output in (train, again, one, two)]
    assert values[1] == values[2] and len(set(values)) == 3
