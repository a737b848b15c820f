"""A dask cluster of this machine for a whole module of tests, and what its workers measure."""

from __future__ import annotations

import asyncio
import logging
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.evaluation import Request
from agent.evaluators.function import FunctionEvaluator
from agent.executors.dask import NO_DASHBOARD, DaskExecutor
from agent.space import Candidate

PATIENCE = 60.0
HOLD = """
import os, pathlib, time
HERE = pathlib.Path(__file__).parent

def measure(candidate):
    with open(HERE / "begun", "a") as file:
        file.write(f"{candidate['x']} {os.getpid()}\\n")
    while candidate.get("wait") and not (HERE / "go").exists():
        time.sleep(0.02)
    return candidate["x"] ** 2
"""
"""Squares x, and says that it has begun; with `wait` only once there is a file `go`."""


@contextmanager
def cluster(workers: int = 2, **more: Any) -> Iterator[Any]:
    """A scheduler with worker processes on free ports, without a dashboard."""
    pytest.importorskip("distributed", reason="the package distributed is not installed")
    from distributed import LocalCluster

    with warnings.catch_warnings():
        # At its end, with a worker killed: sockets that only the garbage collector closes.
        warnings.simplefilter("ignore", ResourceWarning)
        with LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            scheduler_kwargs=NO_DASHBOARD,
            silence_logs=logging.CRITICAL,
            memory_limit=0,
            **more,
        ) as made:
            yield made


def held(folder: Path, source: str = HOLD) -> FunctionEvaluator:
    (folder / "evaluate.py").write_text(source)
    return FunctionEvaluator("evaluate:measure", folder=folder, names=["value"])


@asynccontextmanager
async def executor(evaluator: FunctionEvaluator, scheduler: str | None, slots: int = 4, **more: Any) -> Any:
    made = DaskExecutor(
        evaluator.spec or {}, fingerprint=evaluator.fingerprint, slots=slots, scheduler=scheduler, **more
    )
    try:
        async with asyncio.timeout(PATIENCE):
            yield made
    finally:
        await made.close()


def asked(x: float, limits: Any = None, **values: Any) -> Request:
    more: Mapping[str, Any] = {"limits": limits} if limits is not None else {}
    return Request(Candidate({"x": x, **values}), **more)


async def until(true: Callable[[], Any], what: str) -> None:
    """Wait for something that another process does."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, f"{what}: never, in {PATIENCE:g} s"
        await asyncio.sleep(0.02)


def begun(folder: Path, *only: float) -> list[int]:
    """Processes that began to measure, one for each time; of all, or only of these x."""
    file = folder / "begun"
    lines = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
    return [int(pid) for x, pid in lines if not only or float(x) in only]


def pids(made: Any) -> list[int]:
    """Process ids of a cluster's workers."""
    return [worker.pid for worker in made.workers.values() if worker.pid is not None]
