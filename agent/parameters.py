"""What may change: the parameter, and the kinds that have a place on the unit interval.

A parameter checks values, draws them, and, when it is numeric or categorical, maps them to the
unit interval and to integer bins (the representation EvoLLM searches in, Lange et al. 2024,
arXiv 2402.18381). Values are plain JSON. Texts, programs and few-shot examples are in `agent.texts`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from agent.errors import ConfigError

Value = Any
"""A parameter's value: plain JSON, so that it can be hashed, stored and sent to a worker."""

LABEL = "type"
DIGITS = 9
"""Digits that a decoded `Float` keeps: of its range on a linear scale, of its value on a logarithmic one."""


class Parameter:
    """Base of the parameters. Subclasses are frozen dataclasses; `spec` and `from_spec` round-trip them."""

    type: ClassVar[str]
    numeric: ClassVar[bool] = False

    def initial(self) -> Value:
        """The value of the initial candidate."""
        raise NotImplementedError

    def check(self, value: Value) -> Value:
        """The canonical form of a value.

        Raises:
            ValueError: The value is not allowed; the text says what is.
        """
        raise NotImplementedError

    def sample(self, rng: random.Random) -> Value:
        """A random allowed value; text-like parameters, which have no distribution, stay as they are."""
        return self.initial()

    def bound(self, folder: Path) -> Parameter:
        """The same parameter with files read from `folder`."""
        return self

    def spec(self) -> dict[str, Any]:
        """The parameter as plain JSON."""
        out: dict[str, Any] = {LABEL: self.type}
        for item in fields(self):  # type: ignore[arg-type]
            value = getattr(self, item.name)
            if value != item.default:
                out[item.name] = list(value) if isinstance(value, tuple) else value
        return out


class Numeric(Parameter):
    """A parameter with a place on the unit interval."""

    numeric = True

    @property
    def levels(self) -> int | None:
        """How many different values there are; None for a continuum."""
        raise NotImplementedError

    def encode(self, value: Value) -> float:
        """The value's place in [0, 1]; discrete values sit in the middle of equal cells."""
        raise NotImplementedError

    def decode(self, unit: float) -> Value:
        """The value at a place in [0, 1]; places outside are clipped."""
        raise NotImplementedError

    def bins(self, resolution: int) -> int:
        """How many integer bins represent this parameter at a resolution."""
        return min(resolution, self.levels or resolution)

    def to_bin(self, value: Value, resolution: int) -> int:
        """The value's integer bin, 0 to `bins(resolution) - 1`."""
        count = self.bins(resolution)
        return min(count - 1, int(self.encode(value) * count))

    def from_bin(self, index: int, resolution: int) -> Value:
        """The value in the middle of a bin.

        Raises:
            ValueError: The bin does not exist.
        """
        count = self.bins(resolution)
        if not 0 <= index < count:
            raise ValueError(f"bin {index} is outside 0 to {count - 1}")
        return self.decode((index + 0.5) / count)

    def sample(self, rng: random.Random) -> Value:
        return self.decode(rng.random())


def _finite(value: Value, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{what} must be a number, not {value!r}")
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(f"{what} is too large") from None
    if not math.isfinite(number):
        raise ValueError(f"{what} must be finite, not {value!r}")
    return number


def _check_range(kind: str, low: float, high: float, log: bool) -> None:
    for name, bound in (("low", low), ("high", high)):
        try:
            _finite(bound, name)
        except ValueError as error:
            raise ConfigError(f"{kind}: {error}") from None
    if not isinstance(log, bool):
        raise ConfigError(f"{kind}: log: found {log!r}, allowed is true or false")
    if not low < high:
        raise ConfigError(f"{kind}: low ({low!r}) must be below high ({high!r})", hint="swap or widen the bounds")
    if log and low <= 0:
        raise ConfigError(
            f"{kind}: a logarithmic scale needs low > 0, found {low!r}",
            hint="raise low, or drop log = true",
        )
    if not math.isfinite(high / low if log else high - low):
        raise ConfigError(f"{kind}: the range from {low!r} to {high!r} is too wide", hint="bring the bounds closer")


@dataclass(frozen=True, slots=True)
class Float(Numeric):
    """A real number in [low, high], on a linear or logarithmic scale; the default is the scale's middle."""

    low: float
    high: float
    log: bool = False
    default: float | None = None
    type: ClassVar[str] = "float"

    def __post_init__(self) -> None:
        _check_range("Float", self.low, self.high, self.log)
        check_default(self)

    @property
    def levels(self) -> None:
        return None

    def initial(self) -> float:
        return self.decode(0.5) if self.default is None else self.check(self.default)

    def check(self, value: Value) -> float:
        number = _finite(value, "the value")
        if not self.low <= number <= self.high:
            raise ValueError(f"{number!r} is outside {self.low!r} to {self.high!r}")
        return number + 0.0  # -0.0 and 0.0 are one value and must have one hash

    def encode(self, value: Value) -> float:
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return float(value - self.low) / (self.high - self.low)

    def decode(self, unit: float) -> float:
        unit = min(1.0, max(0.0, unit))
        # Rounded far below what matters, so that 5 is not 4.999999999999999 and equal places are equal values.
        if self.log:
            value = float(f"{self.low * (self.high / self.low) ** unit:.{DIGITS}g}")
        else:
            value = round(
                self.low + unit * (self.high - self.low), DIGITS - math.floor(math.log10(self.high - self.low))
            )
        return min(self.high, max(self.low, value)) + 0.0


@dataclass(frozen=True, slots=True)
class Int(Numeric):
    """A whole number in [low, high], both included; the default is the scale's middle."""

    low: int
    high: int
    log: bool = False
    default: int | None = None
    type: ClassVar[str] = "int"

    def __post_init__(self) -> None:
        for name, value in (("low", self.low), ("high", self.high)):
            if isinstance(value, bool) or not isinstance(value, int):
                raise ConfigError(f"Int: {name} must be a whole number, found {value!r}", hint="use Float for reals")
        _check_range("Int", self.low, self.high, self.log)
        check_default(self)

    @property
    def levels(self) -> int | None:
        # On a logarithmic scale the values are not equally wide, so they share bins as reals do.
        return None if self.log else self.high - self.low + 1

    def initial(self) -> int:
        return self.decode(0.5) if self.default is None else self.check(self.default)

    def check(self, value: Value) -> int:
        number = _finite(value, "the value")
        if number != int(number):
            raise ValueError(f"{value!r} is not a whole number")
        whole = int(value)  # not int(number): a float does not hold every large whole number
        if not self.low <= whole <= self.high:
            raise ValueError(f"{whole} is outside {self.low} to {self.high}")
        return whole

    def _edges(self) -> tuple[float, float]:
        # Half a step beyond each end, so that the ends are as likely as the values between them.
        return math.log(self.low - 0.5), math.log(self.high + 0.5)

    def encode(self, value: Value) -> float:
        if self.log:
            first, last = self._edges()
            return (math.log(value) - first) / (last - first)
        return float(value - self.low + 0.5) / (self.high - self.low + 1)

    def decode(self, unit: float) -> int:
        unit = min(1.0, max(0.0, unit))
        if self.log:
            first, last = self._edges()
            value = round(math.exp(first + unit * (last - first)))
        else:
            value = self.low + int(unit * (self.high - self.low + 1))
        return min(self.high, max(self.low, value))


@dataclass(frozen=True, slots=True)
class Categorical(Numeric):
    """One of several choices (strings, numbers or booleans); the default is the first.

    The order of the choices gives the bins their order and means nothing else.
    """

    choices: tuple[Value, ...]
    default: Value = None
    type: ClassVar[str] = "categorical"

    def __post_init__(self) -> None:
        object.__setattr__(self, "choices", items("Categorical: choices", self.choices))
        if len(self.choices) < 2:
            raise ConfigError("Categorical: at least two choices are needed", hint="drop the parameter, or add one")
        for choice in self.choices:
            if not isinstance(choice, (str, int, float, bool)):
                raise ConfigError(f"Categorical: {choice!r} is not a string, number or boolean")
            if isinstance(choice, float) and not math.isfinite(choice):
                raise ConfigError(f"Categorical: {choice!r} is not finite", hint="name the case with a string")
        if len({_identity(choice) for choice in self.choices}) != len(self.choices):
            raise ConfigError(f"Categorical: a choice stands twice in {list(self.choices)}")
        check_default(self)

    @property
    def levels(self) -> int:
        return len(self.choices)

    def initial(self) -> Value:
        return self.choices[0] if self.default is None else self.check(self.default)

    def _index(self, value: Value) -> int:
        wanted = _identity(value)
        for index, choice in enumerate(self.choices):
            if _identity(choice) == wanted:
                return index
        raise ValueError(f"{value!r} is not one of {', '.join(map(repr, self.choices))}")

    def check(self, value: Value) -> Value:
        return self.choices[self._index(value)]

    def encode(self, value: Value) -> float:
        return (self._index(value) + 0.5) / len(self.choices)

    def decode(self, unit: float) -> Value:
        unit = min(1.0, max(0.0, unit))
        return self.choices[min(len(self.choices) - 1, int(unit * len(self.choices)))]


def items(what: str, given: Any) -> tuple[Any, ...]:
    """A list of a user's as a tuple.

    Raises:
        ConfigError: It is not a list.
    """
    # A string is a sequence too, and its letters are never what was meant.
    if isinstance(given, (str, bytes)) or not isinstance(given, Sequence):
        raise ConfigError(f"{what}: found {given!r}, allowed is a list")
    return tuple(given)


def _identity(value: Value) -> tuple[str, Value]:
    # 1, 1.0 and True are equal to Python and different to a user.
    return type(value).__name__, value


def check_default(parameter: Any) -> None:
    """Refuse a default that the parameter itself would not allow.

    Raises:
        ConfigError: Says why.
    """
    if parameter.default is not None:
        try:
            parameter.check(parameter.default)
        except ValueError as error:
            raise ConfigError(f"{type(parameter).__name__}: the default is not allowed: {error}") from None
