"""A user's own function as a metric."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agent.errors import ConfigError
from agent.evaluation import Score, measurement
from agent.metrics.base import Ask, Metric, Row


class FunctionMetric(Metric):
    """A user's function `metric(output, row)`, sync or async, that gives a score or `(score, feedback)`.

    It may also give a mapping of the numbers in `names`, with "feedback" among them.

    Args:
        function: The function.
        names: What it reports, first the primary.
        low: The smallest score.
        high: The largest; a score beyond either is an error.
        numerator: For a number of the whole set, as in `agent.goals.Objective`; its parts must be reported.
        denominator: The same below the line.
        most: The largest sum that these parts can have on one row; without it nothing can be proven of the quotient.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        names: Sequence[str] = ("score",),
        low: float = 0.0,
        high: float = 1.0,
        numerator: Mapping[str, float] | None = None,
        denominator: Mapping[str, float] | None = None,
        most: float | None = None,
    ) -> None:
        super().__init__()
        if not names or isinstance(names, str):
            raise ConfigError("metric: names: found none, allowed is a list of names")
        if not low < high:
            raise ConfigError(f"metric: low ({low!r}) must be below high ({high!r})")
        if (numerator is None) != (denominator is None):
            raise ConfigError("metric: numerator and denominator belong together", hint="give both")
        self.function = function
        self.name = getattr(function, "__name__", type(function).__name__)
        parts = [part for item in (numerator, denominator) for part in item or ()]
        self.names = tuple(dict.fromkeys([*names, *parts]))
        self.low, self.high = float(low), float(high)
        self.numerator, self.denominator, self.most = numerator, denominator, most
        self.is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(type(function), "__call__", None)  # noqa: B004
        )
        self.blocking = not self.is_async

    def values(self, output: str, row: Row) -> tuple[dict[str, float], str]:
        """All numbers by name, and the words. The output comes whole: the function's author knows what is too long.

        Raises:
            ValueError: The function is async, or what it gave is no score.
        """
        if self.is_async:
            raise ValueError(f"{self.name} is async; use `await metric.measure(output, row)`")
        return self._read(self.function(output, row))

    async def measure(self, output: str, row: Row, ask: Ask | None = None, prompt: str = "") -> Score:
        """As `Metric.measure`; whatever the function raises comes out."""
        if self.is_async:
            return Score(*self._read(await self.function(output, row)))
        return await super().measure(output, row, ask, prompt)

    def _read(self, found: Any) -> tuple[dict[str, float], str]:
        value = measurement(found, self.names)
        numbers: dict[str, float] = value["values"]
        first = numbers[self.names[0]]
        if not self.low <= first <= self.high:
            raise ValueError(f"{self.name} gave {first:g}, allowed is {self.low:g} to {self.high:g}")
        return numbers, value["feedback"]

    @property
    def fingerprint(self) -> str:
        """As `Metric.fingerprint`; of a function without an import path the hash is of its own source."""
        if not self.source:
            from agent.evaluators.source import callable_digest

            self.source = callable_digest(self.function)
        return super().fingerprint
