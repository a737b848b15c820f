"""The conformance tests that plug-in authors get, applied to our own executors."""

from __future__ import annotations

from agent.evaluation import Evaluator, Executor
from agent.executors.inline import InlineExecutor
from agent.executors.subprocess import SubprocessExecutor
from agent.testing import ExecutorContract


class TestInline(ExecutorContract):
    def make(self, evaluator: Evaluator, slots: int) -> Executor:
        return InlineExecutor(evaluator, slots=slots)


class TestSubprocess(ExecutorContract):
    def make(self, evaluator: Evaluator, slots: int) -> Executor:
        assert evaluator.spec is not None
        return SubprocessExecutor(evaluator.spec, slots=slots)


class TestIsolated(ExecutorContract):
    def make(self, evaluator: Evaluator, slots: int) -> Executor:
        assert evaluator.spec is not None
        return SubprocessExecutor(evaluator.spec, slots=slots, isolate=True)

    # Fifty worker starts say nothing that ten in the warm case do not.
    test_many_at_once_do_not_get_mixed_up = None  # type: ignore[assignment]
