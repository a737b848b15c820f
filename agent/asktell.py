"""Ask and tell: the loop turned inside out, for programs that measure in their own way.

with Study(space={"a": Float(0, 1)}, budget=40) as study:
    while (request := study.ask()) is not None:
        study.tell(request, (request.candidate["a"] - 0.3) ** 2)
print(study.result.best)
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.api import known_arguments, make_session
from agent.errors import AgentError, ConfigError
from agent.evaluation import Output, Request, Score, measurement
from agent.folders import find, new_run, runs_folder
from agent.results.result import Result
from agent.space import digest


class _Told:
    """An evaluator whose outputs come from `tell`."""

    spec = None
    blocking = False
    keeps_limits = False
    fingerprint = digest("told from outside")

    def __init__(self, names: list[str], exclusive: bool) -> None:
        self.names = names
        self.exclusive = exclusive

    async def produce(self, request: Request, partial: Callable[[Any], None]) -> Output:
        return Output.failed("error", "outputs of a study come from tell")

    def score(self, output: Output) -> Score:
        return Score(**measurement(output.value, self.names))


class _Handed:
    """An executor that hands requests out and waits for what is told."""

    def __init__(self) -> None:
        self.requests: queue.Queue[Request | None] = queue.Queue()
        self.waiting: dict[int, tuple[asyncio.Future[Output], asyncio.AbstractEventLoop]] = {}

    async def submit(self, request: Request, partial: Callable[[Any], None] | None = None) -> Output:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Output] = loop.create_future()
        self.waiting[id(request)] = future, loop
        self.requests.put(request)
        try:
            return await future
        finally:
            self.waiting.pop(id(request), None)

    async def close(self) -> None:
        self.requests.put(None)


def _answer(future: asyncio.Future[Output], output: Output) -> None:
    if not future.done():
        future.set_result(output)


class Study:
    """A run that is driven by `ask` and `tell`.

    Args:
        given: As for `optimize`, without `evaluate`; `workers` in `options` is how many
            requests may be asked for before one is told. The next proposal is made while what was asked for is
            measured; with `exclusive` it waits for what is told.
        runs: Where run folders go.
        resume: A study to go on with: what was told before is not asked for again.

    Raises:
        ConfigError: As for `optimize`.
    """

    def __init__(self, *, runs: str | Path | None = None, resume: str | Path | None = None, **given: Any) -> None:
        known_arguments(given)
        self._told = _Told([], bool(given.get("exclusive")))
        self._session = make_session(self._told, **{"name": "study", **given})
        self._told.names = list(self._session.problem.reported)
        fidelity = self._session.problem.fidelity
        if fidelity is not None and fidelity.stop:
            raise ConfigError(
                "fidelity.stop: a study hears of a measurement when it is told, so no learning curve can stop one",
                hint="leave out stop, or let optimize() call a function that takes `partial`",
            )
        root = runs_folder(self._session.problem.folder, runs)
        if resume is None:
            self._session.warm_up(root)
        self._session.check()
        self._handed = _Handed()
        self._session.executor = self._handed
        self._folder = new_run(root, self._session.problem.name) if resume is None else find(root, str(resume))
        self._resume = resume is not None
        self._changes = {"budget": self._session.budget.to_json()} if "budget" in given else {}
        self._result: Result | None = None
        self._error: BaseException | None = None
        self._task: asyncio.Task[Result] | None = None
        self._thread = threading.Thread(target=self._drive, name="truegain-study", daemon=True)
        self._thread.start()

    def _drive(self) -> None:
        async def main() -> Result:
            if self._resume:
                work = self._session.resume(self._folder, changes=self._changes)
            else:
                work = self._session.run(self._folder)
            self._task = asyncio.ensure_future(work)
            return await self._task

        try:
            self._result = asyncio.run(main())
        except BaseException as error:
            self._error = error
        finally:
            self._handed.requests.put(None)

    def ask(self) -> Request | None:
        """The next request to measure; None when the run has ended. Waits while a proposal is being made."""
        request = self._handed.requests.get()
        if request is None:
            self._handed.requests.put(None)  # stays the answer
            self._thread.join()
            if self._error is not None and not isinstance(self._error, asyncio.CancelledError):
                raise self._error
        return request

    def tell(self, request: Request, value: Any) -> None:
        """What a request gave: an `Output`, or what an evaluator may return. NaN and the like are failures.

        Raises:
            AgentError: The request is not open.
        """
        known = self._handed.waiting.get(id(request))
        if known is None:
            raise AgentError("this request is not open", hint="tell each request that ask gave, once")
        future, loop = known
        if not isinstance(value, Output):
            try:
                value = Output(value=measurement(value, self._told.names))
            except ValueError as error:
                value = Output.failed("invalid", str(error))
        loop.call_soon_threadsafe(_answer, future, value)

    @property
    def result(self) -> Result:
        """The result of a study that has ended.

        Raises:
            AgentError: It has not.
        """
        if self._result is None:
            raise AgentError("the study has not ended", hint="ask until it returns None")
        return self._result

    def close(self) -> None:
        """Stop; what was told is safe, and `Study(resume=…)` does not ask for it again."""
        with contextlib.suppress(RuntimeError):
            if self._task is not None and self._thread.is_alive():
                self._task.get_loop().call_soon_threadsafe(self._task.cancel)
        self._thread.join()

    def __enter__(self) -> Study:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
