"""The sandbox: a few workers, each with a warm zygote, and jobs that run in them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from agent.errors import ConfigError, PrerequisiteError
from agent.sandbox import codec
from agent.sandbox import layers as layering
from agent.sandbox.types import Job, Result
from agent.sandbox.verdict import Lost
from agent.sandbox.worker import Worker
from agent.sandbox.workspace import Workspace

LIFETIME = 2000
"""Candidates after which a zygote is replaced by a fresh one."""


class Sandbox:
    """Runs code that nobody has looked at.

    Args:
        imports: Libraries that are loaded beforehand, so that a candidate starts with them in a few
            milliseconds. They are trusted.
        workers: Jobs at once.
        layers: Names of the layers to use; None means all that work here.
        unsafe: Run even where the layers do not keep a candidate from our files and the network.

    Raises:
        ConfigError: There is no such layer.
        PrerequisiteError: (on entering) a layer does not work here, the layers are too weak, or a library
            cannot be loaded.
    """

    def __init__(
        self,
        imports: Sequence[str] = (),
        workers: int = 2,
        layers: Sequence[str] | None = None,
        unsafe: bool = False,
    ) -> None:
        self._imports = tuple(imports)
        self._wanted = layering.named(layers)
        self._unsafe = unsafe
        self._count = workers
        self._on: tuple[str, ...] = ()
        self._workspace: Workspace | None = None
        self._workers: set[Worker] = set()
        self._idle: asyncio.Queue[Worker | None] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that are on; known once it is entered."""
        return self._on

    @property
    def folder(self) -> Path | None:
        """Where its files lie while it is open."""
        return self._workspace.folder if self._workspace else None

    async def __aenter__(self) -> Self:
        self._on = await asyncio.to_thread(layering.chosen, self._wanted)
        weak = layering.require(self._on)
        if weak is not None and not self._unsafe:
            raise weak
        self._workspace = Workspace(shared="uid" in self._on)
        try:
            first = await asyncio.gather(*(self._start() for _ in range(self._count)), return_exceptions=True)
            for worker in first:
                if isinstance(worker, BaseException):
                    raise worker
                self._idle.put_nowait(worker)
        except Lost as error:
            await self.close()
            raise PrerequisiteError(
                f"the sandbox does not start: {error}", fix="truegain doctor --sandbox shows what works here"
            ) from None
        except BaseException:
            await self.close()
            raise
        return self

    async def _start(self) -> Worker:
        assert self._workspace is not None
        worker = Worker(self._on, self._imports, self._workspace.jobs)
        self._workers.add(worker)
        try:
            await worker.start()
        except BaseException:
            await self._discard(worker)
            raise
        return worker

    async def _discard(self, worker: Worker) -> None:
        self._workers.discard(worker)
        await worker.close()

    async def run(self, job: Job) -> Result:
        """Run one job, when a worker is free; nothing of it is left when this returns.

        A failure is the result's status. A job whose worker failed is run once more, then it is `lost`.

        Raises:
            ConfigError: An input or a file cannot be sent, or a library is not among the sandbox's.
        """
        missing = set(job.imports) - set(self._imports)
        if missing:
            raise ConfigError(
                f"the library {sorted(missing)[0]!r} is not on the sandbox's list",
                hint="add it to the sandbox's imports",
            )
        try:
            inputs = [codec.encode(value, finite=False) for value in job.inputs]
        except ValueError as error:
            raise ConfigError(
                f"an input cannot be sent to the sandbox: {error}",
                hint="inputs are numbers, texts, lists, mappings and numpy arrays",
            ) from None
        why = ""
        for _ in range(2):
            worker = await self._idle.get()
            try:
                worker = worker or await self._start()
                result = await worker.run(job, inputs)
            except Lost as error:
                why = str(error)
                await self._retire(worker)
            except asyncio.CancelledError:
                await self._retire(worker)
                raise
            except BaseException:
                self._idle.put_nowait(worker)
                raise
            else:
                if worker.served >= LIFETIME:
                    task = asyncio.ensure_future(self._retire(worker))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                else:
                    self._idle.put_nowait(worker)
                return result
        return Result("lost", message=why, layers=self._on)

    async def _retire(self, worker: Worker | None) -> None:
        """End a worker and leave its place to a new one."""
        fresh: Worker | None = None
        try:
            if worker is not None:
                await self._discard(worker)
            with contextlib.suppress(Lost):
                fresh = await self._start()
        finally:
            self._idle.put_nowait(fresh)

    async def close(self) -> None:
        """End everything and remove every file; may be called twice."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(self._discard(worker) for worker in tuple(self._workers)))
        if self._workspace is not None:
            self._workspace.close()
            self._workspace = None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
