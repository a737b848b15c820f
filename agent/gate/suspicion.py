"""Signs that a score comes from a trick and not from a better program. Pure functions; none of them proves anything.

What is suspicious is to be measured again on fresh inputs in the strictest sandbox before it counts.
"""

from __future__ import annotations

import ast
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from agent.code import programs
from agent.parameters import Parameter
from agent.texts import Code

JUMP = 6.0
"""Deviations of the earlier scores beyond which a gain is a jump."""
FEWEST = 8
"""Scores needed to say what is usual."""

INTERNALS = frozenset(
    {
        "gc",
        "inspect",
        "ctypes",
        "atexit",
        "_getframe",
        "currentframe",
        "f_back",
        "f_locals",
        "f_globals",
        "__subclasses__",
        "__reduce__",
        "__reduce_ex__",
        "settrace",
        "setprofile",
        "get_objects",
        "get_referrers",
        "TRUEGAIN_REQUEST",
        "_pytest",
        "pluggy",
        "conftest",
    }
)
"""Names by which a program reaches for what is around it, and which a solution has no use for."""


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A sign, and what it was seen in.

    Args:
        reason: "bound", "jump", "internals", "variant" or "canary".
        evidence: One sentence for people.
    """

    reason: str
    evidence: str


def beyond_bound(
    values: Mapping[str, float], bounds: Mapping[str, tuple[float | None, float | None]]
) -> list[Suspicion]:
    """Scores that cannot be: outside the bounds that the author of the task declared, or not finite.

    Args:
        values: By name.
        bounds: By name, (low, high); None for an open end. Both ends are possible.
    """
    out = []
    for name, (low, high) in bounds.items():
        value = values.get(name)
        if value is None:
            continue
        if not math.isfinite(value):
            out.append(Suspicion("bound", f"{name} is {value!r}"))
        elif low is not None and value < low:
            out.append(Suspicion("bound", f"{name} is {value:.12g}, and less than {low:.12g} is impossible"))
        elif high is not None and value > high:
            out.append(Suspicion("bound", f"{name} is {value:.12g}, and more than {high:.12g} is impossible"))
    return out


def jump(earlier: Sequence[float], value: float, sign: float, k: float = JUMP) -> Suspicion | None:
    """A gain over the best so far that is out of all proportion to how scores differed until now.

    The usual spread is the median absolute deviation times 1.4826, which a few outliers do not move (Rousseeuw and
    Croux, Alternatives to the median absolute deviation, JASA 1993, section 1).

    Args:
        earlier: Scores so far; fewer than eight say nothing.
        value: The new one.
        sign: 1.0 where more is better, -1.0 where less is.
        k: Deviations.
    """
    if len(earlier) < FEWEST or not math.isfinite(value):
        return None
    best = max(sign * other for other in earlier)
    middle = statistics.median(earlier)
    spread = 1.4826 * statistics.median(abs(other - middle) for other in earlier)
    gain = sign * value - best
    if gain <= k * spread:
        return None
    many = f"{gain / spread:.3g} times the usual deviation" if spread else "while scores did not differ at all"
    return Suspicion("jump", f"it gains {gain:.4g} over the best of {len(earlier)}, {many}")


def _named(text: str, names: Iterable[str]) -> dict[str, int]:
    """The names of internals in a program, with the first line of each."""
    wanted = INTERNALS | set(names)
    found: dict[str, int] = {}
    for node in ast.walk(programs.parse(text)):
        said: list[str] = []
        if isinstance(node, ast.Name):
            said = [node.id]
        elif isinstance(node, ast.Attribute):
            said = [node.attr]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            said = [node.value]
        elif isinstance(node, ast.Import):
            said = [part for item in node.names for part in item.name.split(".")]
        elif isinstance(node, ast.ImportFrom):
            said = [*(node.module or "").split("."), *(item.name for item in node.names)]
        for name in said:
            if name in wanted:
                found.setdefault(name, getattr(node, "lineno", 0))
    return found


def programs_of(space: Mapping[str, Parameter], values: Mapping[str, Any]) -> list[str]:
    """The Python programs among a candidate's values, each file for itself."""
    out = []
    for name, item in space.items():
        if isinstance(item, Code) and item.language == "python":
            value = values[name]
            out += [value] if isinstance(value, str) else [text for path, text in value.items() if path.endswith(".py")]
    return out


def newly_internal(texts: Iterable[str], before: Iterable[str], names: Iterable[str] = ()) -> Suspicion | None:
    """Names of what is around a program that stand in it: as names, attributes, imports or whole strings.

    A word in a comment or a longer text does not count. This finds the careless; what keeps the others out is the
    sandbox.

    Args:
        texts: The programs of a candidate.
        before: Those of the initial candidate: what its author wrote is no trick, and does not count.
        names: Further names, such as the modules of the task.
    """
    names = list(names)
    known = {name for text in before for name in _readable(text, names)}
    found = {name: line for text in texts for name, line in _readable(text, names).items() if name not in known}
    if not found:
        return None
    return Suspicion("internals", "it names " + ", ".join(f"{name} (line {line})" for name, line in found.items()))


def _readable(text: str, names: Iterable[str]) -> dict[str, int]:
    try:
        return _named(text, names)
    except ValueError:  # it does not parse, so it does nothing either
        return {}


# Exact rechecks, for mathematical tasks.


def exact(value: Any) -> Any:
    """A number, or numbers in lists, as fractions: exactly what the floating-point number is.

    Raises:
        ValueError: A number is not finite, or something is no number.
    """
    if isinstance(value, (list, tuple)):
        return [exact(item) for item in value]
    if hasattr(value, "tolist"):
        return exact(value.tolist())
    if isinstance(value, bool) or not isinstance(value, (int, float, Fraction)):
        raise ValueError(f"{value!r} is not a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value!r} is not finite")
    return Fraction(value)


@dataclass(frozen=True, slots=True)
class Interval:
    """A closed interval of fractions that certainly holds a real number; `+ - *` and roots stay certain.

    Args:
        low: Lower end.
        high: Upper end.
    """

    low: Fraction
    high: Fraction

    @classmethod
    def of(cls, value: float | Fraction, radius: float | Fraction = 0) -> Interval:
        """The numbers within `radius` of a value.

        Raises:
            ValueError: They are not finite.
        """
        middle, around = exact(value), exact(radius)
        return cls(middle - around, middle + around)

    def __add__(self, other: Interval) -> Interval:
        return Interval(self.low + other.low, self.high + other.high)

    def __sub__(self, other: Interval) -> Interval:
        return Interval(self.low - other.high, self.high - other.low)

    def __mul__(self, other: Interval) -> Interval:
        ends = [a * b for a in (self.low, self.high) for b in (other.low, other.high)]
        return Interval(min(ends), max(ends))

    def sqrt(self, digits: int = 40) -> Interval:
        """The square root, each end rounded outwards to so many decimal digits.

        Raises:
            ValueError: A part of the interval is negative.
        """
        if self.low < 0:
            raise ValueError("the root of an interval with negative numbers")
        unit = 10**digits
        low = math.isqrt(self.low.numerator * unit**2 // self.low.denominator)
        high = math.isqrt(-(-self.high.numerator * unit**2 // self.high.denominator))
        return Interval(Fraction(low, unit), Fraction(high + 1, unit))

    def certainly_at_least(self, other: Interval) -> bool:
        """Whether every number here is at least every number there."""
        return self.low >= other.high

    def certainly_at_most(self, other: Interval) -> bool:
        """Whether every number here is at most every number there."""
        return self.high <= other.low
