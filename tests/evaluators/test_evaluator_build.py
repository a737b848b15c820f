"""From a spec back to an evaluator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.errors import ConfigError
from agent.evaluators.build import build
from agent.evaluators.command import CommandEvaluator
from agent.evaluators.function import FunctionEvaluator


class Mine(FunctionEvaluator):
    """A plug-in."""

    def __init__(self, names: list[str]) -> None:
        super().__init__("agent.testing:square", names=names)


def test_each_kind_is_built(tmp_path: Path) -> None:
    function = build({"kind": "function", "target": "a:b", "folder": str(tmp_path), "names": ["value"]})
    command = build({"kind": "command", "argv": ["true"], "cwd": str(tmp_path), "names": ["value"], "exclusive": True})
    assert isinstance(function, FunctionEvaluator) and isinstance(command, CommandEvaluator)
    assert command.exclusive


def test_a_plug_in_is_named_by_its_path() -> None:
    assert isinstance(build({"kind": f"{__name__}:Mine", "names": ["value"]}), Mine)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"kind": "fortran"}, "allowed is function, command"),
    ({}, "found None"),
    ({"kind": "no_such_module:Mine"}, "cannot be loaded"),
    ({"kind": "agent.evaluators.function:Nothing"}, "cannot be loaded"),
    ({"kind": "function", "target": "a:b"}, "names"),
    ({"kind": "function", "target": "a:b", "names": [], "colour": 1}, "colour"),
]


@pytest.mark.parametrize(("spec", "text"), WRONG)
def test_what_cannot_be_built_says_why(spec: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        build(spec)
