"""JSON that must fit a schema."""

from __future__ import annotations

import time

import pytest

from agent.errors import ConfigError
from agent.metrics import structure
from agent.metrics.base import load

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def test_json_must_fit_the_schema() -> None:
    metric = load("json_schema", {"schema": PERSON})
    assert metric.score('{"name": "Ada", "age": 36}', {}) == (1.0, "right")
    assert metric.score('Sure:\n```json\n{"name": "Ada", "age": 36}\n```', {})[0] == 1.0
    number, words = metric.score('{"name": "Ada", "age": -1, "sex": "f"}', {})
    assert number == 0.0
    assert words == "wrong: the output.age: must be at least 0, found -1; the output: 'sex' is not asked for"
    assert metric.score("{'name': 'Ada'}", {})[1].startswith("wrong: the output \"{'name': 'Ada'}\" is not JSON")
    assert not metric.blocking


@pytest.mark.parametrize(
    "output",
    ['{"name": "A", "age": NaN}', '{"name": "A", "name": "B", "age": 1}', "", "null", '{"name": "\\ud800", "age": 1}'],
)
def test_what_is_not_strict_json_fails(output: str) -> None:
    assert load("json_schema", {"schema": PERSON}).score(output, {})[0] == 0.0


def test_json_alone_where_a_fence_is_not_wanted() -> None:
    fenced = '```\n{"name": "Ada", "age": 36}\n```'
    assert load("json_schema", {"schema": PERSON, "fenced": False}).score(fenced, {})[0] == 0.0


def test_the_schema_may_be_the_rows_own() -> None:
    metric = load("json_schema", {"schema": "shape"})
    assert metric.score("3", {"shape": {"type": "integer"}})[0] == 1.0
    assert metric.score('"3"', {"shape": {"type": "integer"}})[0] == 0.0
    with pytest.raises(ValueError, match="not a schema"):
        metric.score("3", {"shape": "integer"})
    with pytest.raises(ValueError, match="not supported"):
        metric.score("3", {"shape": {"type": "integer", "multipleOf": 3}})


def test_a_schema_that_is_not_checked_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="multipleOf"):
        load("json_schema", {"schema": {"type": "integer", "multipleOf": 3}})


@pytest.mark.parametrize(
    "inside",
    [
        {"type": "objekt"},
        {"type": ["objekt", "null"]},
        {"items": {"type": "objekt"}},
        {"additionalProperties": {"type": "objekt"}},
        {"anyOf": [{"type": "null"}, {"type": "objekt"}]},
        {"properties": {"a": {"properties": {"type": {"type": "objekt"}}}}},
        {"$defs": {"a": {"type": "objekt"}}},
    ],
)
def test_a_type_that_no_value_has_is_refused_at_once(inside: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="found the type 'objekt', allowed is object, ") as found:
        load("json_schema", {"schema": inside})
    assert found.value.hint == "did you mean object?"
    with pytest.raises(ValueError, match="the row's 'shape': schema: found the type 'objekt'"):
        load("json_schema", {"schema": "shape"}).score("3", {"shape": inside})


def test_a_property_may_be_called_type() -> None:
    metric = load("json_schema", {"schema": {"properties": {"type": {"type": ["string", "null"]}}}})
    assert metric.score('{"type": "x"}', {})[0] == 1.0


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structure, "SECONDS", 2.0)


@pytest.mark.usefixtures("short")
def test_a_regular_expression_that_would_take_for_ever_is_stopped() -> None:
    metric = load("json_schema", {"schema": {"type": "string", "pattern": "^(a+)+$"}})
    assert metric.blocking
    assert metric.score('"aaaa"', {})[0] == 1.0
    assert "must match the pattern" in metric.score('"b"', {})[1]
    began = time.monotonic()
    number, words = metric.score(f'"{"a" * 60}!"', {})
    assert (number, words) == (0.0, "wrong: the output cannot be checked: it took longer than 2 s")
    assert time.monotonic() - began < 60
    assert metric.score('"aa"', {})[0] == 1.0  # and the next one is checked as ever


@pytest.mark.usefixtures("short")
def test_a_schema_that_refers_to_itself_cannot_double_with_each_level() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}, "end": {"const": 1}}}
    twice = {"$defs": {"node": {"anyOf": [{**node, "required": ["end"]}, {**node, "required": ["next"]}]}}}
    metric = load("json_schema", {"schema": {**twice, "$ref": "#/$defs/node"}})
    assert metric.score('{"next": {"next": {"end": 1}}}', {})[0] == 1.0
    deep = '{"next": ' * 200 + '{"end": 2}' + "}" * 200
    began = time.monotonic()
    assert metric.score(deep, {})[0] == 0.0
    assert time.monotonic() - began < 60
