"""Evaluators that are a Python callable."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from agent.errors import ConfigError
from agent.evaluation import Failure, Output, Request, Score, measurement
from agent.evaluators.calling import Call
from agent.evaluators.loading import load_target, parse_target
from agent.evaluators.source import (
    callable_digest,
    declares,
    defines_async,
    import_path,
    import_root,
    module_digest,
)
from agent.executors.measure import failure_of
from agent.halving import HINTS


class FunctionEvaluator:
    """Calls a function with a candidate; what it returns is the measurement.

    The function, sync or async, gets the candidate (a mapping) as its first argument, and further
    arguments only for parameters that it declares by name: `example` (the data row), `seed`,
    `replicate`, `fidelity`, `request`, and `partial`, a callback for results that arrive before the
    final one. When there is data, a second positional parameter of any name is the row. It returns
    a number, `(number, feedback)`, a mapping, or a `Score`; see `measurement`.

    Args:
        target: "module:attr", found on sys.path or else in the problem's folder, or a callable.
        folder: The problem's folder; it comes last on sys.path, and only when user code is loaded.
        names: The objectives and constraints that a measurement must hold.
        exclusive: Whether nothing else of ours may compute while it measures.
        needs: Parameters that the function must declare, such as "fidelity"; looked at when it is loaded.

    Raises:
        ConfigError: The target is neither callable nor of the form "module:attr".
    """

    keeps_limits = False

    def __init__(
        self,
        target: str | Callable[..., Any],
        *,
        folder: Path | str | None = None,
        names: Sequence[str],
        exclusive: bool = False,
        needs: Sequence[str] = (),
    ) -> None:
        self.names = tuple(names)
        self.needs = tuple(needs)
        self.exclusive = exclusive
        self._folder = Path(folder).resolve() if folder is not None else None
        self._call: Call | None = None
        self._path: tuple[str, str] | None
        if isinstance(target, str):
            self._path = parse_target(target)
        elif callable(target):
            self._call = Call.of(target)
            self._path = import_path(target)
            if self._path is not None:
                self._folder = import_root(self._path[0])
        else:
            raise ConfigError(f"evaluator: {target!r} is not callable", hint='give a function or "module:function"')

    @cached_property
    def spec(self) -> Mapping[str, Any] | None:
        """Plain data to rebuild it from; None for a callable that another process cannot import."""
        if self._path is None:
            return None
        out = {
            "kind": "function",
            "target": ":".join(self._path),
            "folder": None if self._folder is None else str(self._folder),
            "names": list(self.names),
            "exclusive": self.exclusive,
        }
        return {**out, "needs": list(self.needs)} if self.needs else out

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the source, as it is when first asked for.

        For an import path that is the module's file and every file in its folder that it imports,
        directly or not; data files and installed packages are not part of it.
        """
        if self._path is not None:
            return module_digest(*self._path, self._folder)
        assert self._call is not None
        return callable_digest(self._call.function)

    @property
    def blocking(self) -> bool:
        """Whether the function computes instead of being awaited; read from the source until it is loaded."""
        return not (self._call.is_async if self._call is not None else self._declared_async)

    @cached_property
    def _declared_async(self) -> bool:
        return self._path is not None and defines_async(*self._path, self._folder)

    def load(self) -> Call:
        """Import the user's code, once.

        Raises:
            ConfigError: It cannot be imported, is not callable, or has parameters that nothing fills.
        """
        if self._call is None:
            assert self._path is not None
            self._call = Call.of(load_target(*self._path, self._folder))
            for name in self.needs:
                if not self.takes(name):
                    raise ConfigError(f"the evaluator does not take `{name}`", hint=HINTS.get(name, ""))
        return self._call

    def takes(self, name: str) -> bool | None:
        """Whether the function hears of what a parameter of this name would be; None when only loading it tells."""
        if self._call is not None:
            declared: frozenset[str] | None = frozenset(self._call.named)
        else:
            assert self._path is not None
            declared = declares(*self._path, self._folder)
        if declared is None:
            return None
        return name in declared or (name != "partial" and "request" in declared)

    async def produce(self, request: Request, partial: Callable[[Any], None]) -> Output:
        """The output's value is `{"values": {name: number}, "feedback": words}`.

        A program that uses `agent.trace` runs under `record` and `use(candidate)`; the output has its trace, a
        failed one too.
        """
        try:
            self.load()
        except (Exception, SystemExit) as error:
            return Output(failure=failure_of(error))
        tracing = sys.modules.get("agent.trace")
        if tracing is None:
            return await self._produced(request, partial)
        with tracing.record() as run, tracing.use(request.candidate):
            output = await self._produced(request, partial)
        return replace(output, trace=tracing.kept(run))

    async def _produced(self, request: Request, partial: Callable[[Any], None]) -> Output:
        def report(value: Any) -> None:
            partial(_partial(value, self.names))

        try:
            result = self.load()(request, report)
            if inspect.isawaitable(result):
                result = await result if _in_loop() else _run(result)
        except _Invalid as error:
            return Output.failed("invalid", str(error))
        except (Exception, SystemExit) as error:
            return Output(failure=failure_of(error))
        try:
            return Output(value=measurement(result, self.names))
        except ValueError as error:
            return Output.failed("invalid", str(error))
        except Exception as error:  # an object that breaks when it is looked at
            return Output(failure=Failure("invalid", f"the result cannot be read: {failure_of(error).message}"))

    def score(self, output: Output) -> Score:
        """The measurement that `produce` kept."""
        value = measurement(output.value, self.names)
        return Score(value["values"], value["feedback"])


class _Invalid(ValueError):
    """A partial result that is not one."""


def _partial(value: Any, names: Sequence[str]) -> dict[str, Any]:
    try:
        # A learning curve need not hold every constraint.
        return measurement(value, () if isinstance(value, (Mapping, Score)) else names)
    except ValueError as error:
        raise _Invalid(f"partial result: {error}") from None


def _in_loop() -> bool:
    asyncio = sys.modules.get("asyncio")  # a worker whose function is not async never imports it
    return asyncio is not None and asyncio._get_running_loop() is not None


def _run(result: Any) -> Any:
    """What an awaitable gives, in a thread without an event loop: its source did not tell that it is one."""
    import asyncio

    async def awaited() -> Any:
        return await result

    return asyncio.run(awaited())
