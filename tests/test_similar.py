"""Near-duplicates: all of them, none besides, and no two rows with different numbers."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.datasets.similar import candidates, leaves, near_duplicates, prefix, shingles, similar

WORDS = [f"{a}{b}" for a in ("ba", "ko", "mi", "tu", "re") for b in ("lan", "per", "sto", "vik", "nor", "gel")]


def rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Random texts, of which a third are earlier ones with a few words changed."""
    rng = random.Random(seed)
    out: list[dict[str, Any]] = []
    for number in range(count):
        if number % 3 == 2:
            words = str(rng.choice(out)["text"]).split()
            for _ in range(rng.randrange(4)):
                words[rng.randrange(len(words))] = rng.choice(WORDS)
        else:
            words = [rng.choice(WORDS) for _ in range(rng.randint(3, 40))]
        out.append({"id": number, "text": " ".join(words)})
    return out


def jaccard(a: frozenset[int], b: frozenset[int]) -> float:
    return len(a & b) / len(a | b)


def test_the_pairs_are_those_that_comparing_all_with_all_finds() -> None:
    many = rows(300)
    sets = [shingles(row) for row in many]
    wanted = {(i, j) for i, j in itertools.combinations(range(300), 2) if jaccard(sets[i], sets[j]) >= 0.8}
    assert 30 < len(wanted) < 300
    found = list(near_duplicates(many))
    assert set(found) == wanted and len(found) == len(wanted)
    assert len(list(candidates(sets))) < 300 * 299 / 2 / 4, "most pairs are never compared"


@settings(deadline=None, max_examples=300)
@given(st.sets(st.integers(0, 30), min_size=1, max_size=25), st.sets(st.integers(0, 30), min_size=1, max_size=25))
def test_similar_sets_share_one_of_their_smallest(a: set[int], b: set[int]) -> None:
    near = len(a & b) * 10 >= 8 * len(a | b)
    assert similar(a, b) == similar(b, a) == near
    if near:
        assert set(prefix(a)) & set(prefix(b))


def test_a_similarity_of_exactly_four_fifths_counts() -> None:
    assert similar({1, 2, 3, 4}, {1, 2, 3, 4, 5})
    assert not similar({1, 2, 3, 4, 6}, {1, 2, 3, 4, 5})
    assert not similar(set(), set())


@pytest.mark.parametrize(("size", "kept"), [(0, 0), (1, 1), (4, 1), (5, 2), (10, 3), (100, 21)])
def test_the_prefix_holds_the_smallest(size: int, kept: int) -> None:
    numbers = random.Random(1).sample(range(10**6), size)
    assert prefix(numbers) == sorted(numbers)[:kept]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How do I unlock my PIN?", "how do I  unlock my pin"),
        ({"a": "one text", "b": "and another"}, {"b": "and another", "a": "one text"}),
        ({"id": 1, "text": "Wo ist der nächste Bahnhof?"}, {"id": 2, "text": "Wo ist der nächste Bahnhof?"}),
        (
            "On a long day in May we walked from the old mill to the sea, and back again before night.",
            "On a long day in May we walked from the old mill to the sea, and back again before dawn!",
        ),
        ("最寄りの駅はどこにありますか教えてください", "最寄りの駅はどこにありますか教えてください。"),
        ({"x": 7.0}, {"x": 7}),
    ],
)
def test_near_duplicates(one: Any, other: Any) -> None:
    assert list(near_duplicates([one, other])) == [(0, 1)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("12 + 3", "12 + 4"),
        ("12 + 3", "12 - 3"),
        ("((()))", "()(())"),
        (
            "Ann has 12 apples, buys 3 more, and gives half of all her apples to Ben. How many are left?",
            "Ann has 12 apples, buys 5 more, and gives half of all her apples to Ben. How many are left?",
        ),
        ("if x + y then the answer to this long question is a", "if x * y then the answer to this long question is a"),
        ({"x": 1, "y": 2}, {"x": 2, "y": 1}),
        ({}, {}),
        ({"a": True}, {"a": True}),
    ],
)
def test_no_near_duplicates(one: Any, other: Any) -> None:
    assert list(near_duplicates([one, other])) == []


def test_hashes_are_the_same_in_every_version() -> None:
    # A database of accounts outlives this process, so these numbers must never change.
    assert shingles("12 + 3") == {5620329035155877851, 13130014327174417223}
    assert shingles({"id": "left out", "text": "zero one two three four five six seven"}) >= {
        1898948108659274912,
        13430153172388644693,
    }


def test_leaves_come_in_the_order_of_keys() -> None:
    row = {"b": ["x", {"d": 2, "c": 1.5}], "a": "first", "z": None, "t": True, "skip": "not this"}
    assert list(leaves(row, ("skip",))) == ["first", "x", "1.5", "2"]


def test_deep_rows_and_broken_unicode_are_no_trouble() -> None:
    deep: Any = "end"
    for _ in range(5000):
        deep = [deep]
    assert len(shingles(deep)) == 1
    assert len(shingles("\ud800 alone")) == 3
