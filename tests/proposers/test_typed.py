"""Replies that change some parameters: what is taken, what is refused, and in which words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.llm.schema import OPENAI, problems, strict, without_nulls
from agent.parameters import Categorical, Float, Int
from agent.proposers import typed
from agent.space import Space
from agent.texts import Code, Demos, Text

HELPER = "def helper(x, y=1):\n    a = x\n    return a + y\n"
SPACE = Space(
    {
        "rate": Float(0, 1, default=0.5),
        "size": Int(1, 9, default=3),
        "kind": Categorical(("a", 1, True)),
        "prompt": Text("Answer {question}", placeholders=("question",), max_chars=40),
        "helper": Code(HELPER, entry="helper"),
        "shots": Demos(("p", "q", "r"), k=2),
        "tree": Code({"m/__init__.py": "def run(a):\n    return a\n"}, files=("m/*.py",), entry="m:run"),
    }
)
NOW = SPACE.initial()


def take(**changes: Any) -> tuple[dict[str, Any], list[str]]:
    return typed.taken(SPACE, NOW, changes)


def test_every_kind_of_parameter_is_changed_at_once() -> None:
    good, refused = take(
        rate=0.25,
        size=4,
        kind=True,
        prompt="Say {question}",
        helper="def helper(x, y=2):\n    return x",
        shots=[2, 0],
        tree="```python m/__init__.py\ndef run(a):\n    return 2 * a\n```",
    )
    assert not refused and good["rate"] == 0.25 and good["kind"] is True and good["shots"] == [2, 0]
    assert good["helper"] == "def helper(x, y=2):\n    return x"
    assert good["tree"] == {"m/__init__.py": "def run(a):\n    return 2 * a\n"}


def test_code_may_come_as_blocks_or_in_a_fence() -> None:
    block = "<<<<<<< SEARCH\n    a = x\n=======\n    a = 2 * x\n>>>>>>> REPLACE"
    whole = "def helper(x, y=1):\n    a = 2 * x\n    return a + y\n"
    for reply in (block, f"```\n{block}\n```", f"```python\n{whole}```", whole):
        assert take(helper=reply) == ({"helper": whole}, [])


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("rats", 1, "'rats': there is no such parameter; there are rate, size, "),
        ("rate", 1.5, "rate: "),
        ("rate", "0.25", "must be a number"),
        ("rate", True, "must be a number"),
        ("size", 2.7, "size: "),
        ("kind", "b", "kind: "),
        ("kind", "True", "kind: "),
        ("prompt", "Answer me", "prompt: the text lost {question}"),
        ("prompt", "Answer {{question}}", "prompt: the text lost {question}"),
        ("prompt", "{question} " + "very " * 20, "40 are allowed"),
        ("prompt", 3, "a text is needed"),
        ("helper", "def helper(x, y=1) return x", "helper: the program does not parse: line 1"),
        ("helper", "def helpful(x, y=1):\n    return x", "does not define helper"),
        ("helper", "def helper(z, y=1):\n    return z", "its signature changed: helper(z, y=1) does not take (x, y)"),
        ("helper", "def helper(x, y, z):\n    return z", "needs z too"),
        ("helper", "<<<<<<< SEARCH\n    b = x\n=======\n    b = 1\n>>>>>>> REPLACE", "nearest are the lines"),
        ("helper", "<<<<<<< SEARCH\n    a = x\n=======\n    a = 1\n", "the last block is not complete"),
        ("helper", "async def helper(x, y=1):\n    return x", "helper is an async function, and has to be a function"),
        ("helper", "def helper(x, y=1):\n    yield x", "helper is a generator, and has to be a function"),
        ("helper", "class helper:\n    def __init__(self, x, y=1): ...", "helper is a class, and has to be"),
        ("helper", "def helper(x, y=1):\n    return x\nhelper = 3", "line 3 gives the name helper to something else"),
        ("helper", "def helper(x, y=1):\n    return x\ndel helper", "line 3 gives the name helper"),
        ("helper", "def helper(x, y=1):\n    return x\nif 1:\n    from math import sin as helper", "line 4 gives"),
        ("helper", "def helper(x, y=1):\n    return x\nif 1:\n    def helper(z): ...", "line 4 gives"),
        ("helper", "def helper(x, /, y=1):\n    return x", "its signature changed: x cannot be given by name"),
        ("helper", "def helper(x, y):\n    return x", "its signature changed: y has no default"),
        ("helper", {"a": 1}, "a program text or search/replace blocks are needed, not dict"),
        ("helper", HELPER, "helper: this is its value already"),
        ("shots", "[2, 0]", "a list of pool indices is needed"),
        ("shots", [7], "shots: "),
        ("tree", "```python m/__init__.py\ndef run(b):\n    return b\n```", "its signature changed: run(b)"),
        ("tree", "def run(a): ...", "neither a search/replace block"),
        ("rate", 0.5, "rate: this is its value already"),
    ],
)
def test_what_cannot_be_taken_is_told_and_the_rest_stays(name: str, value: Any, why: str) -> None:
    good, refused = take(**{name: value, "size" if name != "size" else "rate": 1})
    assert good == {"size" if name != "size" else "rate": 1} and len(refused) == 1 and why in refused[0]


def test_no_change_is_told() -> None:
    assert take() == ({}, ["the reply changes nothing"])


def test_further_arguments_with_defaults_keep_a_signature() -> None:
    assert take(helper="def helper(x, y=1, z=2):\n    return x")[1] == []


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        (
            "async def f(x):\n    return x",
            "def f(x):\n    return x",
            "f is a function, and has to be an async function",
        ),
        ("def f(x):\n    yield x", "def f(x):\n    return [x]", "f is a function, and has to be a generator"),
        ("def f(x):\n    yield x", "def f(x):\n    yield from x", ""),
        ("def f(x):\n    return x", "def f(x):\n    g = lambda: (yield)\n    return [i for i in x]", ""),
        ("class f: ...", "def f(): ...", "f is a function, and has to be a class"),
        ("class f: ...", "class f:\n    x = 1", ""),
        ("def f(x): ...\nf = print", "def f(x): ...\nf = repr", ""),
        ("def f(x): ...", "f = None\ndef f(x):\n    f = 2\n    return f", ""),
        ("def f(*, x): ...", "def f(*, x=1): ...", ""),
        ("def f(*, x=1): ...", "def f(): ...", "it does not take x"),
        ("def f(*, x=1): ...", "def f(**more): ...", ""),
    ],
)
def test_the_entry_stays_what_it_was(before: str, after: str, why: str) -> None:
    assert typed.misfit(Code(before, entry="f"), before, after).removeprefix("its signature changed: ").startswith(why)
    assert bool(why) == bool(typed.misfit(Code(before, entry="f"), before, after))


def test_braces_that_are_doubled_are_no_placeholder() -> None:
    text = Text("{q}", placeholders=("q",))
    for good in ('{"a": {q}}', "{{{q}}}", "{{q}} is {q}", "{ {q}"):
        assert text.check(good) == good
    for bad in ("{{q}}", "{{{{q}}}}", "{q }", "{q!r}", "q"):
        with pytest.raises(ValueError, match="lost"):
            text.check(bad)


def test_the_schema_fits_the_strict_modes_and_leaves_everything_optional() -> None:
    shape = typed.schema(SPACE, NOW)
    for reply in ({}, {"rate": 9.0}, {"size": 4, "tree": "…"}):
        assert problems({"reasoning": "", "changes": reply}, shape) == []
    assert problems({"reasoning": "", "changes": {"rats": 1}}, shape) == ["the reply.changes: 'rats' is not asked for"]
    assert problems({"reasoning": "", "changes": {"rate": "0.5"}}, shape)
    wire = strict(shape, OPENAI)
    assert wire is not None and wire["properties"]["changes"]["required"] == list(SPACE)
    reply = {"reasoning": "", "changes": {**dict.fromkeys(SPACE), "rate": 0.1}}
    assert without_nulls(reply, shape)["changes"] == {"rate": 0.1}


def test_a_reply_with_one_unknown_name_keeps_the_others() -> None:
    raw = json.dumps({"reasoning": "so", "changes": {"rats": 1, "rate": 0.1}})
    assert typed.salvaged(raw) == {"reasoning": "so", "changes": {"rats": 1, "rate": 0.1}}
    for raw in ("", "words", "[1]", '{"changes": {}}', '{"changes": [1]}', '{"rate": 1}', "[" * 100_000):
        assert typed.salvaged(raw) is None
