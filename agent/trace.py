"""Traces of your own program: what it read, what it called, what came out, and where it failed.

prompt = param("prompt", Text("Answer briefly."))

@op
def answer(question):
    note("short on purpose")
    return call(prompt.value, question)

with record() as run:
    answer("…")
print(run.trace.show())

with use(candidate):
    answer("…")

Values are plain Python, in and out. Where nothing records, an op costs one look at a context variable.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

from agent.errors import ConfigError
from agent.tracing.recorder import Open, Recorder
from agent.tracing.scopes import SCOPE, Scope, current, leave
from agent.tracing.streams import STREAMS, passed, reset

if TYPE_CHECKING:
    from agent.parameters import Parameter
    from agent.tracing.spans import Trace

F = TypeVar("F", bound=Callable[..., Any])
CODE_CHARS = 2000
IS_COROUTINE = 0x80
"""`inspect.CO_COROUTINE`; importing inspect takes longer than all the rest of this module."""


class Param:
    """A value that may change; see `param`."""

    def __init__(self, name: str, parameter: Parameter, sandbox: Mapping[str, Any] | None = None) -> None:
        self.name = name
        self.parameter = parameter
        self._sandbox = dict(sandbox or {})

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_called"}

    def __repr__(self) -> str:
        return f"param({self.name!r}, {type(self.parameter).__name__})"

    @functools.cached_property
    def initial(self) -> Any:
        """The value that it has where nothing else is in use."""
        return self.parameter.initial()

    @property
    def value(self) -> Any:
        """The value in this context: the candidate's under `use`, else the initial one; the caller's own copy.

        Raises:
            ValueError: The value in use is not one that the parameter allows.
        """
        scope = current()
        if scope is None:
            return _own(self.initial)
        values, recorder = scope.values or {}, scope.recorder
        value = _own(self._checked(scope, values[self.name]) if self.name in values else self.initial)
        if recorder is not None and not recorder.ended:
            recorder.read(scope.span, self.name, value)
        return value

    def _checked(self, scope: Scope, value: Any) -> Any:
        if self not in scope.checked:
            try:
                scope.checked[self] = self.parameter.check(value)
            except ValueError as error:
                raise ValueError(f"{self.name}: {error}") from None
        return scope.checked[self]

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Call the entry of a `Code` parameter in the sandbox; recorded as an op of the parameter's name.

        Arguments and result are JSON values, with numpy arrays anywhere in them. It waits for the result, so
        async code calls it in a thread.

        Raises:
            CallFailed: The code raised, ran too long, or did what the sandbox refuses; has its failing line.
            ConfigError: The parameter is no Python code with an entry.
            PrerequisiteError: The sandbox cannot work here.
        """
        return self._called(*args, **kwargs)

    @functools.cached_property
    def _called(self) -> Callable[..., Any]:
        made: Callable[..., Any] = wrap(self._run, name=self.name)
        return made

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        from agent.code.codecall import call

        return call(self.name, self.parameter, self.value, self._sandbox, args, kwargs)


def param(name: str, parameter: Parameter, *, sandbox: Mapping[str, Any] | None = None) -> Param:
    """A value that may change: the program reads `.value`, and `optimize(space=[…])` takes it as it is.

    Args:
        name: Name in the space and in candidates.
        parameter: Its kind, its rules and its initial value. A `file` is read from the folder of the module that
            calls this.
        sandbox: For `Param.call`: `caps` (see `agent.sandbox.types.Caps`), `imports`, `layers`, `unsafe`.

    Raises:
        ConfigError: The name is no identifier, or the parameter is none.
    """
    if not isinstance(name, str) or not name.isidentifier():
        raise ConfigError(f"param: {name!r} is not a name", hint="use letters, digits and underscores")
    if isinstance(parameter, type) or not (hasattr(parameter, "check") and hasattr(parameter, "spec")):
        raise ConfigError(f"param: {name}: {parameter!r} is not a parameter", hint="use Float, Int, Text, Code …")
    if getattr(parameter, "file", None) or getattr(parameter, "files", None):
        from pathlib import Path

        place = sys._getframe(1).f_globals.get("__file__")
        parameter = parameter.bound(Path(place).resolve().parent if place else Path.cwd())
    return Param(name, parameter, sandbox)


def note(text: str) -> None:
    """Attach evidence to the span that is running, or to the trace outside of any; nothing where nothing records."""
    scope = current()
    if scope is not None and scope.recorder is not None and not scope.recorder.ended:
        scope.recorder.note(scope.span, text if isinstance(text, str) else str(text))


class record:  # reads as a word: with record() as run
    """Record what runs inside of `with record() as run:`; `run.trace` is the trace, during it and afterwards.

    A recording inside of another one sees its own spans, and the outer one sees them too.
    """

    _scope: Scope | None = None
    _recorder: Recorder | None = None
    _trace: Trace | None = None

    def __enter__(self) -> record:
        if self._scope is not None:
            raise ConfigError("this record() was entered already", hint="write `with record() as run:` each time")
        _carry()
        before = current()
        outer = before.recorder if before is not None and before.recorder and not before.recorder.ended else None
        inside = before.span if before is not None and outer is not None else None
        self._recorder = Recorder(outer, inside)
        values, checked = (before.values, before.checked) if before is not None else (None, {})
        self._scope = Scope(self._recorder, None, values, checked, before)
        SCOPE.set(self._scope)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._scope is not None and self._recorder is not None
        leave(self._scope)
        self._scope.closed = True
        if self._recorder.outer is not None:
            self._trace = self._recorder.trace()  # its spans get parents when they go to the outer one
        self._recorder.finish()

    @property
    def trace(self) -> Trace:
        """What was recorded so far."""
        if self._trace is not None:
            return self._trace
        if self._recorder is None:
            raise ConfigError("nothing was recorded", hint="write `with record() as run:` around the program")
        trace = self._recorder.trace()
        if self._recorder.ended:
            self._trace = trace
        return trace


def kept(run: record) -> dict[str, Any] | None:
    """A recording as it is stored with an output: JSON, at most `tracing.capping.CHARS` characters; None when empty."""
    from agent.tracing.capping import capped

    trace = run.trace
    return capped(trace).to_json() if trace.spans or trace.notes else None


class use:  # reads as a word: with use(candidate)
    """Give parameters other values inside of `with use(candidate):`, in this context and what it starts.

    Uses nest: an inner one changes what it names. Names that no parameter has are ignored. A value that its
    parameter does not allow raises ValueError where it is read.

    Args:
        candidate: Name → value; a `Candidate` or any mapping.
    """

    def __init__(self, candidate: Mapping[str, Any]) -> None:
        if not isinstance(candidate, Mapping):
            raise ConfigError(f"use: found {candidate!r}", hint='a candidate, or a mapping such as {"prompt": "…"}')
        self._values = dict(candidate)
        self._scope: Scope | None = None

    def __enter__(self) -> use:
        if self._scope is not None:
            raise ConfigError("this use(…) is entered already", hint="write `with use(candidate):` each time")
        _carry()
        before = current()
        if before is None:
            self._scope = Scope(None, None, self._values, {})
        else:
            values = {**(before.values or {}), **self._values}
            self._scope = Scope(before.recorder, before.span, values, {}, before)
        SCOPE.set(self._scope)
        return self

    def __exit__(self, *_: object) -> None:
        scope, self._scope = self._scope, None
        if scope is not None:
            leave(scope)
            scope.closed = True  # a thread that lives on has its own values again


def _carry() -> None:
    from agent.tracing.threads import carry

    carry()


@overload
def op(function: F) -> F: ...
@overload
def op(*, name: str | None = None, kind: str = "op") -> Callable[[F], F]: ...
def op(function: Any = None, *, name: str | None = None, kind: str = "op") -> Any:
    """Record each call of a function as a span: `@op`, or `@op(name="…")`.

    It works on functions, methods, static and class methods, async functions, generators and async generators.
    The span of a generator begins with the call and ends with the generator; its output is what was yielded.

    Args:
        function: The function.
        name: Name of its spans; else its qualified name.
        kind: "op", "llm" or "tool".

    Raises:
        ConfigError: It is not a function.
    """
    if function is None:
        return functools.partial(wrap, name=name, kind=kind)
    return wrap(function, name=name, kind=kind)


def wrap(function: Any, *, name: str | None = None, kind: str = "op") -> Any:
    """What `op` makes of a function."""
    if isinstance(function, (staticmethod, classmethod)):
        return type(function)(wrap(function.__func__, name=name, kind=kind))
    if not callable(function) or isinstance(function, type):
        raise ConfigError(f"@op: {function!r} is not a function", hint="decorate functions and methods")
    about = _About(function, name, kind)
    if about.is_async:

        @functools.wraps(function)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            if SCOPE.get() is None or (before := current()) is None:
                return await function(*args, **kwargs)
            if (recorder := before.recorder) is None or recorder.ended:
                return await function(*args, **kwargs)
            span, scope = about.begin(recorder, before, args, kwargs)
            token = SCOPE.set(scope)
            try:
                result = await function(*args, **kwargs)
            except BaseException as error:
                recorder.fail(span, error, passed(error))
                raise
            finally:
                reset(token)
            recorder.end(span, result)
            return result

        return awaited

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        if SCOPE.get() is None or (before := current()) is None:
            return function(*args, **kwargs)
        if (recorder := before.recorder) is None or recorder.ended:
            return function(*args, **kwargs)
        span, scope = about.begin(recorder, before, args, kwargs)
        SCOPE.set(scope)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            recorder.fail(span, error, passed(error))
            raise
        finally:
            SCOPE.set(before)
        stream = STREAMS.get(type(result))
        if stream is not None:
            result = stream(recorder, span, scope, result)
            recorder.came_from(span, result)
            return result
        recorder.end(span, result)
        return result

    return called


class _About:
    """What the spans of an op share."""

    def __init__(self, function: Callable[..., Any], name: str | None, kind: str) -> None:
        self.function, self.kind = function, kind
        spelled = getattr(function, "__qualname__", type(function).__qualname__)
        self.name = name or spelled.rpartition("<locals>.")[2]
        plain = function
        while isinstance(plain, functools.partial):
            plain = plain.func
        self.is_async = bool(getattr(getattr(plain, "__code__", None), "co_flags", 0) & IS_COROUTINE)
        while plain is function and hasattr(plain, "__wrapped__"):
            plain = function = plain.__wrapped__
        code = getattr(function, "__code__", None)
        self.names = code.co_varnames[: code.co_argcount] if code is not None else ()
        if getattr(function, "__self__", None) is not None:
            self.names = self.names[1:]
        self.owned = self.names[:1] in (("self",), ("cls",))

    def begin(
        self, recorder: Recorder, scope: Scope, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Open, Scope]:
        names, owner = self.names, None
        inputs = list(zip(names, args, strict=False))
        if len(args) > len(names):
            inputs += [(f"*{i}", value) for i, value in enumerate(args[len(names) :])]
        if self.owned and inputs:
            owner = inputs.pop(0)[1]
        if kwargs:
            inputs += kwargs.items()
        span, inner = recorder.begin(scope, self.kind, self.name, inputs, owner)
        span.source = self
        return span, inner

    @functools.cached_property
    def code(self) -> str:
        """The function's source; "" where it is not known."""
        import inspect

        try:
            return inspect.getsource(self.function)[:CODE_CHARS]
        except (OSError, TypeError):
            return ""


def _own(value: Any) -> Any:
    """A value that the caller may change."""
    return list(value) if isinstance(value, list) else dict(value) if isinstance(value, dict) else value
