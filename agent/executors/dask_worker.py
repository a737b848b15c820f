"""What runs on a worker of a dask cluster: one warm process per slot there, as the subprocess executor has them here.

`evaluate` is sent by its name alone, and what it gets and gives is JSON: no code of ours or of the user's crosses the
network. It awaits on the worker's event loop while the measurement computes in a process of its own, which can be
killed. So a timeout or a cancellation ends the measurement and leaves the worker as it was.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any

from agent.errors import AgentError
from agent.evaluation import Output, Request
from agent.executors.subprocess import CLOSED, SubprocessExecutor
from agent.executors.worker import BUILD

TOPIC = "truegain"
"""Where a worker says that it begins a request, and what arrives before its result. The scheduler keeps the last
thousand messages of a topic, so all runs share one."""
POLL_SECONDS = 0.25
"""How often a worker looks whether anybody still waits for a measurement that goes on."""
IDLE_SECONDS = 60.0
"""After so long without a request the processes for a client end: it may have died without a word."""
PACKAGES = ("truegain", "distributed")


SOURCES = "truegain's source"
"""Stands among the versions for the digest of the package's modules: two checkouts may say the same version."""


def versions() -> dict[str, str]:
    """Of what client and worker must have alike."""
    return {**{name: metadata.version(name) for name in PACKAGES}, SOURCES: sources(Path(__file__).parents[1])}


@cache
def sources(package: Path) -> str:
    """Digest of the Python files of a package, as they were when it was first asked for."""
    found = sha256()
    for path in sorted(package.rglob("*.py")):
        found.update(f"{path.relative_to(package).as_posix()}\0{sha256(path.read_bytes()).hexdigest()}\n".encode())
    return found.hexdigest()[:16]


async def evaluate(text: str) -> str:
    """Measure one request on this worker.

    Args:
        text: JSON with `key` and `token` of the client, `spec`, `fingerprint` and `versions` to compare, `env`,
            `isolate`, `request`, and whether it wants `partials`.

    Returns:
        JSON: {"output": …}, or {"refused": a sentence, "hint": …} where this worker must not measure for the client.
    """
    from distributed import get_worker

    job = json.loads(text)
    worker: Any = get_worker()
    key = job["key"]
    attempt = os.urandom(6).hex()  # a message may come twice; this tells it from a second attempt
    worker.log_event(TOPIC, {"key": key, "begun": worker.address, "attempt": attempt})
    pools: dict[str, Pool] = worker.extensions.setdefault(TOPIC, {})
    pool = pools.get(job["token"])
    if pool is None:
        pool = pools[job["token"]] = Pool(job, slots=worker.state.nthreads)

    def report(value: Any) -> None:
        worker.log_event(TOPIC, {"key": key, "partial": json.dumps(value), "attempt": attempt})

    def wanted() -> bool:
        task = worker.state.tasks.get(key)
        return task is not None and task.state != "cancelled"

    work = asyncio.ensure_future(pool.measure(Request.from_json(job["request"]), report if job["partials"] else None))
    try:
        while not (await asyncio.wait({work}, timeout=POLL_SECONDS))[0]:
            if not wanted():
                work.cancel()
        return json.dumps(work.result())
    except asyncio.CancelledError:
        return json.dumps({"output": Output(failure=CLOSED).to_json()})
    finally:
        work.cancel()  # the worker itself is closing


async def forget(token: str, dask_worker: Any = None) -> None:
    """End the processes of a client that is done; dask fills in the worker."""
    pool = dask_worker.extensions.get(TOPIC, {}).pop(token, None)
    if pool is not None:
        await pool.close()


class Pool:
    """The processes on one worker that measure for one client.

    Args:
        job: The client's first one.
        slots: Requests that the worker runs at once.
    """

    def __init__(self, job: Mapping[str, Any], slots: int) -> None:
        self._job = job
        self._slots = slots
        self._inner: SubprocessExecutor | None = None
        self._allowed: asyncio.Future[None] | None = None
        self._running = 0
        self._timer: asyncio.TimerHandle | None = None

    async def measure(self, request: Request, report: Any) -> dict[str, Any]:
        """The answer to one request, as `evaluate` gives it."""
        if self._allowed is None:
            self._allowed = asyncio.ensure_future(asyncio.to_thread(compare, self._job))
        try:
            await asyncio.shield(self._allowed)
        except AgentError as error:
            return {"refused": error.message, "hint": error.hint}
        if self._timer is not None:
            self._timer.cancel()
        self._running += 1
        try:
            if self._inner is None:
                job = self._job
                self._inner = SubprocessExecutor(job["spec"], slots=self._slots, isolate=job["isolate"], env=job["env"])
            return {"output": (await self._inner.submit(request, report)).to_json()}
        finally:
            self._running -= 1
            if not self._running:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(IDLE_SECONDS, lambda: loop.create_task(self.close()))

    async def close(self) -> None:
        """End the processes; the next request starts new ones."""
        if self._timer is not None:
            self._timer.cancel()
        inner, self._inner = self._inner, None
        if inner is not None:
            await inner.close()


def compare(job: Mapping[str, Any]) -> None:
    """Refuse to measure what the client would not measure itself.

    Raises:
        AgentError: Another version of a package here, another source of the evaluator, or a sandbox that is too weak.
    """
    mine = versions()
    for name, wanted in job["versions"].items():
        if name == SOURCES and mine.get(name) != wanted:
            raise AgentError(
                "truegain's source on this worker is another one than here, under the same version",
                hint="install the same files on every worker, then start them again",
            )
        if mine[name] != wanted:
            raise AgentError(
                f"{name} is {mine[name]} on this worker and {wanted} here",
                hint=f"install {name}=={wanted} on every worker (and the scheduler), then start them again",
            )
    try:
        module, _, name = BUILD.partition(":")
        evaluator = getattr(importlib.import_module(module), name)(job["spec"])
        same = evaluator.fingerprint == job["fingerprint"]
    except AgentError:
        raise
    except Exception as error:
        raise AgentError(f"the evaluator cannot be read on this worker: {error}", hint=SAME_FOLDER) from error
    if not same:
        raise AgentError("the evaluator's source on this worker is another one", hint=SAME_FOLDER)
    guard = getattr(evaluator, "guard", None)
    if guard is not None:
        guard()


SAME_FOLDER = (
    "the problem's folder must be at the same path on every worker, with the same files: a shared disk, an image, or"
    " rsync before the run"
)
