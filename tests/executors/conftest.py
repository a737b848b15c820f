"""Problem folders with an evaluator in them."""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from executor_helpers import NO_LIMITS, PATIENCE, request

from agent.evaluation import Limits, Output
from agent.evaluators.function import FunctionEvaluator
from agent.executors.subprocess import SubprocessExecutor


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def evaluator(folder: Path) -> Callable[..., FunctionEvaluator]:
    """Writes evaluate.py into the problem's folder: evaluator of its `evaluate`."""

    def make(source: str, target: str = "evaluate:evaluate") -> FunctionEvaluator:
        (folder / "evaluate.py").write_text(textwrap.dedent(source))
        return FunctionEvaluator(target, folder=folder, names=["value"])

    return make


@pytest.fixture
def measured(evaluator: Callable[..., FunctionEvaluator]) -> Callable[..., Output]:
    """What one request gives with this source, in a worker process that is closed afterwards."""

    def measure(source: str, limits: Limits = NO_LIMITS, target: str = "evaluate:evaluate", **options: Any) -> Output:
        async def whole() -> Output:
            executor = SubprocessExecutor(evaluator(source, target).spec or {}, slots=1, **options)
            try:
                return await asyncio.wait_for(executor.submit(request(limits, x=2.0)), PATIENCE)
            finally:
                await executor.close()
                assert not executor._workers

        return asyncio.run(whole())

    return measure
