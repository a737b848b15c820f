"""From a model's words to a checked value: what is found, what fits, and what is never guessed."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from agent.errors import ConfigError, OutputInvalid
from agent.llm.schema import OPENAI, problems, strict, verify, without_nulls
from agent.llm.structured import Shape
from agent.llm.types import Completion, Usage

POINT = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"], "additionalProperties": False}


def read(text: str, schema: Any = POINT) -> Any:
    return Shape(schema).read(Completion(text, usage=Usage(input=3, output=4)))


# Finding the JSON.


@pytest.mark.parametrize(
    "text",
    [
        '{"x": 1}',
        '  {"x": 1}\n',
        '```json\n{"x": 1}\n```',
        'Here you are:\n```\n{"x": 1}\n```\nAnything else?',
        'The answer is {"x": 1}.',
        'I wrote {this} first, and then {"x": 1}',
        '<think>maybe {"x": 7}?</think>{"x": 1}',
        '{"y": 0} would be wrong, so: {"x": 1}',
        'once {"x": 1} and again {"x": 1}',
    ],
)
def test_the_object_is_found_among_other_words(text: str) -> None:
    assert read(text) == {"x": 1}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no JSON object"),
        ("x is 1", "no JSON object"),
        ("[1]", "no JSON object"),
        ('{"x": 1', "no JSON object"),
        ('{"x": NaN}', "no JSON object"),
        ('{"x": 1, "x": 2}', "no JSON object"),
        ('{"x": 1e999}', "no JSON object"),
        ('{"x": "\\ud800"}', "no JSON object"),
        ('{"x": "1"}', 'the reply.x: integer is needed, found "1"'),
        ('{"x": true}', "the reply.x: integer is needed, found true"),
        ('first {"x": 1}, no, rather {"x": 2}', "several JSON objects that fit, and they differ"),
    ],
)
def test_what_is_not_there_is_not_guessed(text: str, reason: str) -> None:
    with pytest.raises(OutputInvalid) as caught:
        read(text)
    assert reason in caught.value.message
    assert (caught.value.raw, caught.value.usage.output) == (text, 4)


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSONS, max_size=4))
def test_any_object_comes_back_as_it_was(value: dict[str, Any]) -> None:
    anything = {"type": "object"}
    assert read(json.dumps(value), anything) == value
    assert read(f"Well:\n```json\n{json.dumps(value)}\n```", anything) == value


def test_deep_nesting_is_no_crash() -> None:
    with pytest.raises(OutputInvalid):
        read('{"x": ' * 20_000)


# Pydantic.


class Part(BaseModel):
    kind: Literal["a", "b"]
    size: int = Field(ge=1)


class Whole(BaseModel):
    name: str
    parts: list[Part] = []
    rest: dict[str, float] | None = None


def test_a_pydantic_model_is_read_strictly() -> None:
    assert read('{"name": "n", "parts": [{"kind": "a", "size": 2}]}', Whole) == Whole(
        name="n", parts=[Part(kind="a", size=2)]
    )
    with pytest.raises(OutputInvalid) as caught:
        read('{"name": 3, "parts": [{"kind": "c", "size": "2"}]}', Whole)
    reasons = caught.value.message.splitlines()
    assert [reason.split(":")[0] for reason in reasons] == [
        "the reply.name",
        "the reply.parts[0].kind",
        "the reply.parts[0].size",
    ]


def test_null_for_an_optional_field_means_left_out() -> None:
    assert read('{"name": "n", "parts": null, "rest": null}', Whole) == Whole(name="n")


class Leaf(BaseModel):
    value: int


class Tree(BaseModel):
    children: list[Tree | Leaf] = []


def test_recursive_models_can_be_asked_for() -> None:
    sent = strict(Shape(Tree).schema)
    assert sent is not None and sent["type"] == "object"
    assert all(item["additionalProperties"] is False for item in sent["$defs"].values())
    assert read('{"children": [{"children": [{"value": 1}]}]}', Tree).children[0].children[0] == Leaf(value=1)


# Checking.


@pytest.mark.parametrize(
    ("schema", "good", "bad", "reason"),
    [
        ({"type": "number"}, [1, 2.5], ["1", None, True], "number is needed"),
        ({"type": "integer"}, [1, 2.0], [2.5], "integer is needed, found 2.5"),
        ({"type": ["string", "null"]}, ["a", None], [1], "string or null is needed"),
        ({"enum": ["a", 1]}, ["a", 1], ["b", True], 'must be one of "a", 1'),
        ({"const": 1}, [1], [True, 2], "must be 1"),
        ({"minimum": 0, "maximum": 1}, [0, 1], [-0.1, 1.1], "must be at"),
        ({"exclusiveMinimum": 0, "exclusiveMaximum": 1}, [0.5], [0, 1], "must be "),
        ({"minLength": 2, "maxLength": 3}, ["ab", "äöü"], ["a", "abcd"], "characters are"),
        ({"pattern": "^a+$"}, ["aa"], ["ab"], "must match the pattern"),
        ({"type": "array", "minItems": 1, "maxItems": 2}, [[1]], [[], [1, 2, 3]], "items are"),
        ({"type": "array", "items": {"type": "string"}}, [["a"]], [["a", 1]], "[1]: string is needed"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, ["a", None], [1], "string is needed"),
        ({"type": "object", "additionalProperties": {"type": "number"}}, [{"a": 1}], [{"a": "b"}], ".a: number"),
        ({"$ref": "#/$defs/n", "$defs": {"n": {"type": "number"}}}, [1], ["1"], "number is needed"),
    ],
)
def test_each_keyword_is_checked(schema: Any, good: list[Any], bad: list[Any], reason: str) -> None:
    verify(schema)
    assert all(problems(value, schema) == [] for value in good)
    for value in bad:
        assert reason in problems(value, schema)[0]


def test_a_keyword_that_is_not_checked_is_refused_wherever_it_hides() -> None:
    for schema in (
        {"oneOf": []},
        {"type": "array", "items": {"multipleOf": 2}},
        {"type": "object", "properties": {"a": {"anyOf": [{"dependentRequired": {}}]}}},
    ):
        with pytest.raises(ConfigError, match="not supported"):
            verify(schema)
    with pytest.raises(ConfigError, match="does not define"):
        problems(1, {"$ref": "#/$defs/missing"})


# The dialect of strict mode.


def test_strict_closes_objects_and_requires_everything_without_touching_the_original() -> None:
    step = {"type": "object", "properties": {"n": {"type": "number"}}}
    mine = {
        "type": "object",
        "title": "T",
        "properties": {
            "title": {"type": "string", "minLength": 1, "description": "Short."},
            "steps": {"type": "array", "maxItems": 3, "items": step},
        },
        "required": ["title"],
    }
    before = deepcopy(mine)
    sent = strict(mine)
    assert mine == before
    assert sent == {
        "type": "object",
        "properties": {
            "title": {"type": "string", "description": "Short. (minLength: 1)"},
            "steps": {
                "anyOf": [
                    {
                        "type": "array",
                        "description": "(maxItems: 3)",
                        "items": {
                            "type": "object",
                            "properties": {"n": {"anyOf": [{"type": "number"}, {"type": "null"}]}},
                            "required": ["n"],
                            "additionalProperties": False,
                        },
                    },
                    {"type": "null"},
                ]
            },
        },
        "required": ["title", "steps"],
        "additionalProperties": False,
    }
    openai = strict(mine, OPENAI)
    assert openai is not None and openai["properties"]["steps"]["anyOf"][0]["maxItems"] == 3


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"type": "object", "properties": {"a": {}}},
        {"type": "object", "properties": {"a": {"type": "array"}}},
        {"type": "object", "properties": {"a": {"type": "number"}}, "additionalProperties": True},
        {"type": "string"},
    ],
)
def test_what_strict_mode_cannot_say_is_not_bent(schema: Any) -> None:
    assert strict(schema) is None


def test_only_nulls_that_mean_left_out_are_taken_back() -> None:
    schema = {
        "type": "object",
        "properties": {
            "needed": {"type": ["string", "null"]},
            "maybe": {"type": "string"},
            "nothing": {"type": "null"},
            "inner": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "number"}}}},
        },
        "required": ["needed"],
    }
    value = {"needed": None, "maybe": None, "nothing": None, "inner": [{"a": None}], "other": None}
    assert without_nulls(value, schema) == {"needed": None, "nothing": None, "inner": [{}], "other": None}


@given(st.data())
def test_a_value_in_strict_form_is_the_value_again(data: st.DataObject) -> None:
    """Whatever optional fields a reply leaves out as null, what is read back fits the caller's schema."""
    names = data.draw(st.sets(st.sampled_from("abcd"), min_size=1))
    required = data.draw(st.sets(st.sampled_from(sorted(names))))
    schema = {
        "type": "object",
        "properties": {name: {"type": "integer"} for name in names},
        "required": sorted(required),
        "additionalProperties": False,
    }
    reply = {name: data.draw(st.integers() if name in required else st.integers() | st.none()) for name in names}
    sent = strict(schema)
    assert sent is not None and problems(reply, sent) == []
    assert read(json.dumps(reply), schema) == {name: value for name, value in reply.items() if value is not None}
