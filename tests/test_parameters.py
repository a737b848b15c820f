"""What each kind of parameter accepts, and how numbers map to the unit interval and to bins."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import ConfigError
from agent.parameters import Categorical, Float, Int, Numeric, Parameter
from agent.texts import Code, Demos, Text, parameter

law = settings(deadline=None, max_examples=150)
UNIT = st.floats(0, 1)


@st.composite
def floats(draw: st.DrawFn) -> Float:
    log = draw(st.booleans())
    low = draw(st.floats(1e-12, 1e6) if log else st.floats(-1e9, 1e9))
    width = draw(st.floats(1e-3, 1e9))
    return Float(low, low * (1 + width) if log else low + width, log=log)


@st.composite
def ints(draw: st.DrawFn) -> Int:
    log = draw(st.booleans())
    low = draw(st.integers(1 if log else -(10**6), 10**6))
    return Int(low, low + draw(st.integers(1, 10**6)), log=log)


SCALARS = st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text())
categoricals = st.lists(SCALARS, min_size=2, max_size=9, unique_by=lambda v: (type(v), v)).map(
    lambda choices: Categorical(tuple(choices))
)
numerics = st.one_of(floats(), ints(), categoricals)

EXAMPLES: list[Parameter] = [
    Float(0, 1),
    Float(1e-6, 1.0, log=True, default=1e-3),
    Int(-3, 7),
    Int(1, 1024, log=True, default=8),
    Categorical(("a", 1, 1.0, True)),
    Categorical((False, True), default=True),
    Text("Answer {question}.", placeholders=("question",), max_chars=100),
    Code("def f(x):\n    return x\n", entry="f"),
    Code("SELECT 1", language="sql"),
    Demos(({"q": 1}, {"q": 2}, {"q": 3}), k=2, default=(2, 0)),
]


@law
@given(numerics, UNIT)
def test_a_decoded_place_is_allowed_and_stays_put(item: Numeric, unit: float) -> None:
    value = item.decode(unit)
    again = item.decode(item.encode(value))
    assert item.check(value) == value and type(item.check(value)) is type(value)
    assert again == value and type(again) is type(value)
    assert 0 <= item.encode(value) <= 1


@law
@given(st.one_of(ints(), categoricals), st.randoms(use_true_random=False))
def test_a_discrete_value_survives_encoding_exactly(item: Int | Categorical, rng: random.Random) -> None:
    value = rng.randint(item.low, item.high) if isinstance(item, Int) else rng.choice(item.choices)
    again = item.decode(item.encode(value))
    assert again == value and type(again) is type(value)


@law
@given(floats(), UNIT)
def test_a_real_number_survives_encoding_up_to_the_digits_kept(item: Float, share: float) -> None:
    value = item.check(min(item.high, max(item.low, item.low + share * (item.high - item.low))))
    again = item.decode(item.encode(value))
    kept = abs(value) if item.log else item.high - item.low
    assert abs(again - value) <= 1e-8 * kept + 4 * math.ulp(max(abs(item.low), abs(item.high)))


@law
@given(numerics, st.integers(2, 1000), st.integers(0, 999))
def test_the_middle_of_a_bin_lies_in_that_bin(item: Numeric, resolution: int, index: int) -> None:
    index %= item.bins(resolution)
    value = item.from_bin(index, resolution)
    if isinstance(item, Int) and item.log:  # several bins share a small whole number, so only the value is kept
        assert abs(item.from_bin(item.to_bin(value, resolution), resolution) - value) <= 1 + value * 8 / resolution
    else:
        assert item.to_bin(value, resolution) == index


@law
@given(numerics, st.floats(-9, 9), st.floats(-9, 9))
def test_decoding_is_monotone_and_clips(item: Numeric, a: float, b: float) -> None:
    rank = item.choices.index if isinstance(item, Categorical) else float
    low, high = sorted((a, b))
    if not isinstance(item, Categorical):
        assert rank(item.decode(low)) <= rank(item.decode(high))
    assert item.decode(-5) == item.decode(0) and item.decode(7) == item.decode(1)


def test_bins_are_one_per_level_or_the_resolution() -> None:
    assert Int(0, 9).bins(1000) == 10
    assert Int(0, 9999).bins(1000) == 1000
    assert Categorical(("a", "b", "c")).bins(1000) == 3
    assert Float(0, 1).bins(1000) == Int(1, 5, log=True).bins(1000) == 1000
    assert [item.to_bin(1.0, 10) for item in (Float(0, 1), Float(0.1, 1, log=True))] == [9, 9]
    for outside in (-1, 3):
        with pytest.raises(ValueError, match="outside 0 to 2"):
            Categorical(("a", "b", "c")).from_bin(outside, 1000)


def test_the_ends_of_a_whole_number_are_as_likely_as_its_middle() -> None:
    rng = random.Random(1)
    counts = [0] * 4
    for _ in range(4000):
        counts[Int(0, 3).sample(rng)] += 1
    assert all(880 < count < 1120 for count in counts)


def test_every_whole_number_has_its_share_of_a_logarithmic_scale() -> None:
    item, places = Int(1, 4, log=True), 100_000
    drawn = [item.decode((place + 0.5) / places) for place in range(places)]
    for value in range(1, 5):  # from half a step below to half a step above
        expected = math.log((value + 0.5) / (value - 0.5)) / math.log(4.5 / 0.5)
        assert drawn.count(value) / places == pytest.approx(expected, abs=1e-4)


def test_a_logarithmic_scale_has_its_middle_at_the_geometric_mean() -> None:
    assert Float(1e-6, 1e-2, log=True).initial() == pytest.approx(1e-4)
    assert Int(1, 10_000, log=True).initial() == pytest.approx(100, rel=0.5)
    assert Float(0, 10).initial() == 5.0  # not 4.999999999


@pytest.mark.parametrize("item", EXAMPLES, ids=lambda item: item.type)
def test_the_spec_is_plain_json_and_gives_the_same_parameter(item: Parameter) -> None:
    assert parameter(json.loads(json.dumps(item.spec()))) == item
    assert item.check(item.initial()) == item.initial()
    assert item.check(item.sample(random.Random(3))) is not None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, True, "1", None, [1], 10**400, 2, -1])
@pytest.mark.parametrize("item", [Float(0, 1), Int(0, 1), Float(0.1, 1, log=True)])
def test_what_is_no_number_in_range_is_refused(item: Numeric, bad: Any) -> None:
    with pytest.raises(ValueError):
        item.check(bad)


def test_numbers_have_one_canonical_form() -> None:
    assert math.copysign(1, Float(-1, 1).check(-0.0)) == 1
    assert type(Float(0, 2).check(1)) is float
    assert type(Int(0, 2).check(1.0)) is int
    assert Int(0, 2**60).check(2**53 + 1) == 2**53 + 1
    with pytest.raises(ValueError, match="not a whole number"):
        Int(0, 2).check(1.5)


def test_one_true_and_one_point_zero_are_three_choices() -> None:
    item = Categorical((1, 1.0, True))
    assert [type(item.check(value)) for value in (1, 1.0, True)] == [int, float, bool]
    assert [item.encode(value) for value in (1, 1.0, True)] == pytest.approx([1 / 6, 3 / 6, 5 / 6])
    with pytest.raises(ValueError, match=r"'1' is not one of 1, 1\.0, True"):
        item.check("1")


def test_only_declared_placeholders_are_placeholders() -> None:
    item = Text('{"json": {x}} and {name}', placeholders=("name",))
    assert item.render(item.initial(), name="Ann") == '{"json": {x}} and Ann'
    with pytest.raises(ValueError, match=r"lost \{name\}"):
        item.check("{x} and name")
    with pytest.raises(KeyError):
        item.render(item.initial())


@law
@given(st.text(), st.text())
def test_nothing_in_a_filled_in_value_is_expanded(first: str, second: str) -> None:
    item = Text("{a}|{b}|{a}", placeholders=("a", "b"))
    assert item.render(item.initial(), a=first, b=second) == f"{first}|{second}|{first}"
    assert item.render(item.initial(), a="{b}", b="{a}") == "{b}|{a}|{b}"


def test_a_program_must_parse_and_keep_its_entry() -> None:
    item = Code("def solve(x):\n    return x\n", entry="solve")
    assert item.check("async def solve(x): return 1")
    assert item.check("class solve: pass")
    for program, reason in [
        ("def solve(x:", "does not parse"),
        ("\0", "does not parse"),
        ("(" * 5000, "does not parse"),
        ("if True:\n    def solve(x): return 1", "does not define solve"),
        ("solve = 1", "does not define solve"),
    ]:
        with pytest.raises(ValueError, match=reason):
            item.check(program)
    assert Code("int f(", language="c").check("def (") == "def ("


def test_demos_are_a_choice_from_a_pool() -> None:
    item = Demos(("a", "b", "c"), k=2)
    assert item.initial() == [] and item.chosen([2, 0]) == ["c", "a"]
    assert sorted(item.sample(random.Random(0))) in ([0, 1], [0, 2], [1, 2])
    for bad, reason in [
        ([0, 1, 2], "at most 2"),
        ([1, 1], "twice"),
        ([3], "outside 0 to 2"),
        ([True], "indices"),
        ("01", "indices"),
    ]:
        with pytest.raises(ValueError, match=reason):
            item.check(bad)


def test_a_file_is_read_from_the_problems_folder(tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text("Grüß {name}", encoding="utf-8")
    item = Text(file="prompt.txt", placeholders=("name",))
    with pytest.raises(ConfigError, match=r"prompt\.txt has not been read"):
        item.initial()
    assert item.bound(tmp_path).initial() == "Grüß {name}"
    (tmp_path / "broken.py").write_text("def f(")
    (tmp_path / "latin.txt").write_bytes(b"\xff\xfe\x00")
    for broken, reason in [
        (Code(file="broken.py"), "does not parse"),
        (Text(file="latin.txt"), r"latin\.txt"),
        (Text(file="absent.txt"), r"absent\.txt"),
    ]:
        with pytest.raises(ConfigError, match=reason):
            broken.bound(tmp_path)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({}, ["None", "float, int, categorical, text, code, demos"]),
        ({"type": "flaot"}, ["'flaot'", "float, int"]),
        ({"type": "float", "low": 0}, ["low, high", "found low"]),
        ({"type": "float", "low": 0, "high": 1, "hi": 2}, ["hi: unknown", "low, high, log, default"]),
        ({"type": "float", "low": "0", "high": 1}, ["low", "'0'"]),
        ({"type": "float", "low": math.nan, "high": 1}, ["low", "nan"]),
        ({"type": "float", "low": 2, "high": 1}, ["low (2)", "below high (1)"]),
        ({"type": "float", "low": 0, "high": 1, "log": True}, ["low > 0", "found 0"]),
        ({"type": "float", "low": 1, "high": 2, "log": "false"}, ["log", "'false'", "true or false"]),
        ({"type": "float", "low": -1.7e308, "high": 1.7e308}, ["too wide"]),
        ({"type": "float", "low": 0, "high": 1, "default": 3}, ["default", "3.0", "0 to 1"]),
        ({"type": "int", "low": 0.5, "high": 1}, ["low", "0.5", "whole number"]),
        ({"type": "int", "low": 0, "high": 10**400}, ["high", "too large"]),
        ({"type": "categorical", "choices": "abc"}, ["choices", "'abc'", "list"]),
        ({"type": "categorical", "choices": 3}, ["choices", "3", "list"]),
        ({"type": "categorical", "choices": ["a"]}, ["at least two"]),
        ({"type": "categorical", "choices": ["a", "a"]}, ["twice", "['a', 'a']"]),
        ({"type": "categorical", "choices": ["a", None]}, ["None", "string, number or boolean"]),
        ({"type": "categorical", "choices": [1.0, math.nan]}, ["nan", "finite"]),
        ({"type": "categorical", "choices": ["a", "b"], "default": "c"}, ["'c'", "'a', 'b'"]),
        ({"type": "text"}, ["exactly one of default and file"]),
        ({"type": "text", "default": "a", "file": "b"}, ["exactly one of default and file"]),
        ({"type": "text", "file": 3}, ["file", "3", "path"]),
        ({"type": "text", "default": 3}, ["int", "text"]),
        ({"type": "text", "default": "a {x}", "placeholders": "x"}, ["placeholders", "'x'", "list"]),
        ({"type": "text", "default": "a", "placeholders": ["x y"]}, ["'x y'"]),
        ({"type": "text", "default": "a", "placeholders": ["x"]}, ["lost {x}"]),
        ({"type": "text", "default": "abc", "max_chars": 2}, ["3 characters", "2 are allowed"]),
        ({"type": "text", "default": "abc", "max_chars": "2"}, ["max_chars", "'2'", "whole number"]),
        ({"type": "code", "default": "def f("}, ["does not parse"]),
        ({"type": "code", "default": "x = 1", "entry": "f"}, ["define f"]),
        ({"type": "demos", "pool": ["a"], "k": 2}, ["1 to 1", "found 2"]),
        ({"type": "demos", "pool": ["a"], "k": "1"}, ["1 to 1", "found '1'"]),
        ({"type": "demos", "pool": [math.nan], "k": 1}, ["pool", "JSON"]),
        ({"type": "demos", "pool": ["a"], "k": 1, "default": [4]}, ["default", "0 to 0"]),
    ],
)
def test_a_wrong_spec_names_what_was_found_and_what_is_allowed(spec: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parameter(spec)
    for word in words:
        assert word in str(caught.value)
