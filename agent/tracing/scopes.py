"""What holds in a context while `agent.trace` records: the recorder, the innermost span and the values in use."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.tracing.recorder import Open, Recorder


class Scope:
    """What holds in a context: the recorder, the innermost span, and the values of parameters.

    Args:
        recorder: None where nothing is recorded.
        span: None outside of any.
        values: By parameter name; None where nothing is in use.
        checked: Values that were found allowed, by parameter.
        outer: The scope around it.
    """

    __slots__ = ("checked", "closed", "outer", "recorder", "span", "values")

    def __init__(
        self,
        recorder: Recorder | None,
        span: Open | None,
        values: Mapping[str, Any] | None,
        checked: dict[Any, Any],
        outer: Scope | None = None,
    ) -> None:
        self.recorder, self.span, self.values, self.checked = recorder, span, values, checked
        self.outer, self.closed = outer, False


SCOPE: ContextVar[Scope | None] = ContextVar("truegain_trace", default=None)


def current() -> Scope | None:
    """The scope here, or the one around it where its recording ended in another context, as a generator's may."""
    scope = SCOPE.get()
    if scope is not None and scope.closed:
        while scope is not None and scope.closed:
            scope = scope.outer
        SCOPE.set(scope)
    return scope


def leave(scope: Scope) -> None:
    """End a scope and all that was left open inside of it; in a context where it does not hold nothing changes."""
    place = SCOPE.get()
    while place is not None and place is not scope:
        place = place.outer
    if place is not None:
        SCOPE.set(scope.outer)
