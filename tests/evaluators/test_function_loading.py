"""Functions that are named by their import path: where they are found, and what shadows what."""

from __future__ import annotations

import asyncio
import functools
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from agent.errors import ConfigError
from agent.evaluation import Output, Request
from agent.evaluators.function import FunctionEvaluator
from agent.space import Candidate


def of(target: Any, **options: Any) -> FunctionEvaluator:
    return FunctionEvaluator(target, names=["value"], **options)


def produce(evaluator: FunctionEvaluator) -> Output:
    return asyncio.run(evaluator.produce(Request(Candidate({"x": 2.0})), print))


def plain(candidate: Any) -> float:
    return 1.0


class Callable:
    def __call__(self, candidate: Any) -> float:
        return 1.0

    def method(self, candidate: Any) -> float:
        return 1.0

    @classmethod
    def of_class(cls, candidate: Any) -> float:
        return 1.0

    @staticmethod
    def static(candidate: Any) -> float:
        return 1.0


@pytest.mark.parametrize("target", ["evaluate", "evaluate:", ":f", "a b:f", "evaluate:f()", ""])
def test_a_target_of_another_form_is_refused(target: str) -> None:
    with pytest.raises(ConfigError, match="module:function"):
        of(target)


def test_a_file_is_refused_with_the_right_spelling() -> None:
    with pytest.raises(ConfigError) as error:
        of("tools/evaluate.py:score")
    assert error.value.hint == 'write "tools.evaluate:score"'
    with pytest.raises(ConfigError, match="not callable"):
        of(42)


def test_which_callables_another_process_can_import() -> None:
    spec = of(plain).spec
    assert spec is not None and spec["target"] == f"{__name__}:plain"
    assert of(Callable.static).spec is not None
    item = Callable()
    for target in (lambda c: 1.0, item, item.method, functools.partial(plain), Callable.of_class, len):
        assert of(target).spec is None


def test_user_code_is_found_last_and_only_when_it_is_needed(tmp_path: Path) -> None:
    (tmp_path / "found_last.py").write_text("def evaluate(candidate): return 1")
    (tmp_path / "json.py").write_text("raise RuntimeError('shadowed')")
    path = list(sys.path)
    try:
        evaluator = of("found_last:evaluate", folder=tmp_path)
        assert evaluator.spec and evaluator.fingerprint and evaluator.blocking
        assert sys.path == path
        assert produce(evaluator).failure is None
        assert sys.path == [*path, str(tmp_path)]
    finally:
        sys.path[:] = path


def test_a_module_named_like_an_installed_one_is_refused_with_the_fix(tmp_path: Path) -> None:
    path = list(sys.path)
    try:
        for name in ("json", "agent"):
            (tmp_path / f"{name}.py").write_text("def evaluate(candidate): return 1")
            failure = produce(of(f"{name}:evaluate", folder=tmp_path)).failure
            assert failure is not None and failure.kind == "error"
            assert "rename" in failure.message
    finally:
        sys.path[:] = path


def test_two_problems_in_one_process_do_not_get_each_others_modules(tmp_path: Path) -> None:
    path = list(sys.path)
    try:
        outputs = []
        for name in ("one", "two"):
            folder = tmp_path / name
            folder.mkdir()
            (folder / "only_one_helper.py").write_text(f"NAME = {name!r}")
            (folder / f"problem_{name}.py").write_text(
                textwrap.dedent("""
                    def evaluate(candidate):
                        import only_one_helper
                        return 1.0, only_one_helper.NAME
                """)
            )
            outputs.append(produce(of(f"problem_{name}:evaluate", folder=folder)))
        assert outputs[0].value["feedback"] == "one"
        failure = outputs[1].failure
        assert failure is not None and "only_one_helper" in failure.message and "subprocess" in failure.message
    finally:
        sys.path[:] = path
