"""Candidates: identity, checks, the unit cube, bins, differences."""

from __future__ import annotations

import copy
import json
import math
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import ConfigError
from agent.parameters import Categorical, Float, Int
from agent.space import Candidate, Change, Space, canonical, digest
from agent.texts import Code, Demos, Text

law = settings(deadline=None, max_examples=100)

MIXED = Space(
    {
        "rate": Float(1e-5, 1.0, log=True, default=1e-3),
        "depth": Int(1, 12),
        "kind": Categorical(("relu", "tanh", 1, True)),
        "prompt": Text("Say {name}", placeholders=("name",)),
        "shots": Demos(("a", "b", "c"), k=2),
        "share": Float(-1, 1),
    }
)

PINNED: dict[str, dict[str, Any]] = {
    "44136fa355b3678a": {},  # begins like the SHA-256 of the two characters {}
    "5041bf1f713df204": {"x": 1},
    "bf32f56236899e13": {"x": 1.0},
    "9e4f189bf4079d1b": {"x": True},
    "013bdcb2b4d38b7d": {"x": "1"},
    "7b4f617b5a06c9f2": {"b": [1, 2], "a": 'ü \ud83d "quoted" \n', "c": 1e-07},
}
"""Journals outlive versions, so what a candidate is called must never change."""

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@law
@given(st.dictionaries(st.text(), JSON, max_size=4), st.randoms(use_true_random=False))
def test_identity_ignores_order_and_survives_json_and_pickle(values: dict[str, Any], rng: random.Random) -> None:
    shuffled = list(values.items())
    rng.shuffle(shuffled)
    one = Candidate(values)
    for other in (
        Candidate(dict(shuffled)),
        Candidate(json.loads(json.dumps(values))),
        Candidate(json.loads(canonical(one.values_json))),
        pickle.loads(pickle.dumps(one)),
        copy.deepcopy(one),
    ):
        assert other == one and other.id == one.id and hash(other) == hash(one)
        assert list(other.values_json) == sorted(values)


def test_identity_is_the_same_in_every_process_and_version() -> None:
    program = (
        "import json, sys; from agent.space import Candidate; print([Candidate(v).id for v in json.load(sys.stdin)])"
    )
    for seed in ("0", "77"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            input=json.dumps(list(PINNED.values())),
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == str(list(PINNED))
    assert digest([1, "a", {"k": None}]) == "79eba1d8671b613c"
    assert MIXED.fingerprint == "53308836c1730a7f"


def test_equal_looking_values_are_different_candidates() -> None:
    assert len({Candidate({"x": value}) for value in (1, 1.0, True, "1", [1], None)}) == 6
    assert Candidate({"x": 0.1 + 0.2}) != Candidate({"x": 0.3})
    assert MIXED.candidate({**MIXED.initial(), "share": -0.0}) == MIXED.candidate({**MIXED.initial(), "share": 0})


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_json_has_no_identity(bad: float) -> None:
    with pytest.raises(ValueError):
        Candidate({"x": bad})
    with pytest.raises(ValueError):
        Candidate({"x": [bad]})


def test_a_candidate_cannot_be_changed() -> None:
    candidate = MIXED.candidate({**MIXED.initial(), "shots": [2, 0]})
    before = candidate.id
    candidate["shots"].append(1)
    candidate.values_json["shots"].append(1)
    dict(candidate)["depth"] = 3
    assert candidate["shots"] == [2, 0] and Candidate(candidate).id == before
    with pytest.raises(TypeError):
        candidate["depth"] = 3  # type: ignore[index]


def test_a_candidate_is_checked_value_by_value() -> None:
    good = MIXED.initial().values_json
    for change, words in [
        ({"depth": 13}, "depth: 13 is outside 1 to 12"),
        ({"rate": math.nan}, "rate: the value must be finite, not nan"),
        ({"rate": math.inf}, "rate: the value must be finite, not inf"),
        ({"depth": 10**400}, "depth: the value is too large"),
        ({"kind": 1.0}, "kind: 1.0 is not one of 'relu', 'tanh', 1, True"),
        ({"prompt": "no"}, "prompt: the text lost {name}"),
        ({"deep": 1}, "deep: there is no such parameter"),
    ]:
        with pytest.raises(ValueError) as caught:
            MIXED.candidate({**good, **change})
        assert str(caught.value) == words
    del good["share"]
    with pytest.raises(ValueError, match="share: the value is missing"):
        MIXED.candidate(good)


@law
@given(st.randoms(use_true_random=False), st.integers(2, 1000))
def test_a_sample_survives_the_unit_cube_and_its_bins_stay_put(rng: random.Random, resolution: int) -> None:
    candidate = MIXED.sample(rng)
    assert MIXED.candidate(candidate) == candidate
    assert MIXED.decode(MIXED.encode(candidate), candidate) == candidate
    bins = MIXED.to_bins(candidate, resolution)
    middle = MIXED.from_bins(bins, candidate, resolution)
    assert MIXED.to_bins(middle, resolution) == bins
    assert all(0 <= index < count for index, count in zip(bins, MIXED.bins(resolution), strict=True))
    assert (middle["prompt"], middle["shots"]) == (candidate["prompt"], candidate["shots"])


def test_the_unit_cube_has_numeric_and_categorical_parameters_only() -> None:
    assert MIXED.numeric == ("rate", "depth", "kind", "share")
    assert MIXED.bins(1000) == [1000, 12, 4, 1000]
    with pytest.raises(ValueError, match="4 coordinates are needed, not 1"):
        MIXED.decode([0.5], MIXED.initial())
    with pytest.raises(ValueError, match="4 bins are needed, not 1"):
        MIXED.from_bins([0], MIXED.initial())
    with pytest.raises(ValueError, match="kind: bin 4 is outside 0 to 3"):
        MIXED.from_bins([0, 0, 4, 0], MIXED.initial())


def test_equal_seeds_draw_equal_candidates() -> None:
    def draws(seed: int) -> list[Candidate]:
        rng = random.Random(seed)
        return [MIXED.sample(rng) for _ in range(5)]

    assert draws(1) == draws(1) != draws(2)


def test_the_difference_names_what_changed_in_the_order_of_declaration() -> None:
    before = MIXED.candidate({**MIXED.initial(), "kind": 1})
    after = MIXED.candidate({**before, "share": 0.5, "depth": 3, "kind": True})
    assert MIXED.diff(before, after) == [
        Change("depth", before["depth"], 3),
        Change("kind", 1, True),
        Change("share", before["share"], 0.5),
    ]
    assert MIXED.diff(after, after) == []


def test_the_spec_gives_the_same_space(tmp_path: Path) -> None:
    again = Space.from_spec(json.loads(json.dumps(MIXED.spec())))
    assert dict(again) == dict(MIXED) and list(again) == list(MIXED)
    assert again.fingerprint == MIXED.fingerprint
    assert Space({**MIXED, "depth": Int(1, 13)}).fingerprint != MIXED.fingerprint
    (tmp_path / "f.py").write_text("x = 1\n")
    assert Space({"f": Code(file="f.py")}).bound(tmp_path).initial() == Candidate({"f": "x = 1\n"})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Space({}), "empty"),
        (lambda: Space({"a b": Int(0, 1)}), "'a b' is not a name"),
        (lambda: Space({"a": 3}), "a: 3 is not a parameter"),  # type: ignore[dict-item]
        (lambda: Space.from_spec({"a": {"type": "int", "low": 0}}), "a: type int needs low, high, found low"),
    ],
)
def test_a_wrong_space_names_the_parameter(make: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()
