"""Which executor an evaluator gets when nothing is said."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from agent.errors import ConfigError
from agent.evaluators.command import CommandEvaluator
from agent.evaluators.function import FunctionEvaluator
from agent.executors.inline import InlineExecutor
from agent.executors.select import executor_for
from agent.executors.subprocess import SubprocessExecutor


def computes(candidate: Any) -> float:
    return 1.0


async def waits(candidate: Any) -> float:
    return 1.0


def evaluator(target: Any) -> FunctionEvaluator:
    return FunctionEvaluator(target, names=["value"])


def test_what_computes_and_can_be_imported_goes_to_workers() -> None:
    for target in (computes, "agent.testing:square", "no_such_module:evaluate"):
        assert isinstance(executor_for(evaluator(target), workers=1), SubprocessExecutor)


def test_what_waits_or_has_no_import_path_stays_here(tmp_path: Path) -> None:
    command = CommandEvaluator([sys.executable], cwd=tmp_path, names=["value"])
    for item in (evaluator(waits), evaluator(lambda candidate: 1.0), command):
        assert isinstance(executor_for(item, workers=1), InlineExecutor)
    assert isinstance(executor_for(command, workers=1, isolate=True), InlineExecutor)


def test_an_async_function_is_recognized_without_importing_it(tmp_path: Path) -> None:
    source = "raise SystemExit\nasync def evaluate(c): ...\nclass A:\n    async def f(c): ...\n    def g(c): ..."
    (tmp_path / "waits_for_it.py").write_text(source)
    found = {}
    for name in ("evaluate", "A.f", "A.g", "nothing"):
        item = FunctionEvaluator(f"waits_for_it:{name}", folder=tmp_path, names=["value"])
        found[name] = type(executor_for(item, workers=1))
    assert found == {
        "evaluate": InlineExecutor,
        "A.f": InlineExecutor,
        "A.g": SubprocessExecutor,
        "nothing": SubprocessExecutor,
    }


def test_the_choice_can_be_made() -> None:
    assert isinstance(executor_for(evaluator(computes), workers=1, kind="inline"), InlineExecutor)
    assert isinstance(executor_for(evaluator(waits), workers=1, kind="subprocess"), SubprocessExecutor)
    assert isinstance(executor_for(evaluator(waits), workers=1, isolate=True), SubprocessExecutor)


def test_what_cannot_be_is_refused_with_the_fix() -> None:
    for options in ({"kind": "subprocess"}, {"isolate": True}):
        with pytest.raises(ConfigError, match="no import path") as error:
            executor_for(evaluator(lambda candidate: 1.0), workers=1, **options)  # type: ignore[arg-type]
        assert "module:function" in error.value.hint
    with pytest.raises(ConfigError, match="allowed is at least 1"):
        executor_for(evaluator(computes), workers=0)
    with pytest.raises(ConfigError, match="isolate needs worker processes"):
        executor_for(evaluator(computes), workers=1, kind="inline", isolate=True)
    with pytest.raises(ConfigError, match="inline or subprocess"):
        executor_for(evaluator(computes), workers=1, kind="cluster")  # type: ignore[arg-type]
