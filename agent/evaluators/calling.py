"""How a user's callable wants to be called."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from agent.errors import ConfigError
from agent.evaluation import Request

OFFERED = ("example", "seed", "replicate", "fidelity", "request", "partial", "ask")
"""What a callable may ask for by the name of a parameter."""


@dataclass(frozen=True)
class Call:
    """How a callable wants to be called.

    Args:
        function: The callable.
        is_async: Whether calling it gives something to await.
        named: The offered parameters that it declares.
        optional: Those of them that have a default.
        second: A second positional parameter of another name, which gets the data row.
        needed: Whether `second` has no default.
    """

    function: Callable[..., Any]
    is_async: bool
    named: tuple[str, ...] = ()
    optional: frozenset[str] = frozenset()
    second: str | None = None
    needed: bool = False

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Call:
        """Read the callable's signature.

        Raises:
            ConfigError: It takes no candidate, or has a parameter that nothing fills.
        """
        name = getattr(function, "__qualname__", type(function).__qualname__)
        is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(type(function), "__call__", None)  # noqa: B004
        )
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (ValueError, TypeError):
            return cls(function, is_async)  # written in C; it gets the candidate
        # What functools.partial filled in stays as the user set it.
        fixed = set(function.keywords) if isinstance(function, partial) else set()
        free = [p for p in parameters if p.name not in fixed]
        positional = [p for p in free if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        if not positional and not variadic:
            raise ConfigError(f"{name}() takes no candidate", hint="its first parameter gets the candidate")
        second = next((p for p in positional[1:2] if p.name not in OFFERED), None)
        rest = [p for p in free if p not in (*positional[:1], second)]
        named = [p for p in rest if p.name in OFFERED and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        for p in rest:
            if p not in named and p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
                raise ConfigError(
                    f"{name}() has a parameter {p.name!r} that nothing fills",
                    hint=f"give it a default, or use one of {', '.join(OFFERED)}",
                )
        return cls(
            function,
            is_async,
            named=tuple(p.name for p in named),
            optional=frozenset(p.name for p in named if p.default is not p.empty),
            second=second.name if second else None,
            needed=second is not None and second.default is second.empty,
        )

    def __call__(self, request: Request, report: Callable[[Any], None], ask: Callable[..., Any] | None = None) -> Any:
        has_row = request.example is not None
        if self.needed and not has_row:
            raise ConfigError(
                f"parameter {self.second!r} gets the row of the data, but there is no data",
                hint=f"add data to the problem, or use one of {', '.join(OFFERED)} as the parameter's name",
            )
        offered = {
            "example": request.row,
            "seed": request.seed,
            "replicate": request.replicate,
            "fidelity": request.fidelity,
            "partial": report,
            "ask": ask,
        }
        if "request" in self.named:
            # Nothing that measures may know for whom; a worker does not know it either.
            offered["request"] = replace(request, purpose="search")
        wanted = (n for n in self.named if has_row or n != "example" or n not in self.optional)
        arguments = [request.candidate, request.row] if self.second and has_row else [request.candidate]
        return self.function(*arguments, **{name: offered[name] for name in wanted})
