"""The conformance tests of executors, on a cluster that is there already."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from dask_support import cluster

from agent.evaluation import Evaluator, Executor
from agent.executors.dask import DaskExecutor
from agent.testing import ExecutorContract


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with cluster() as made:
        yield made.scheduler_address


class TestDask(ExecutorContract):
    @pytest.fixture(autouse=True)
    def _place(self, address: str) -> None:
        self.address = address

    def make(self, evaluator: Evaluator, slots: int) -> Executor:
        assert evaluator.spec is not None
        return DaskExecutor(evaluator.spec, fingerprint=evaluator.fingerprint, slots=slots, scheduler=self.address)
