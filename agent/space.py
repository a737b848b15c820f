"""The search space, and the candidates in it."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent.errors import ConfigError
from agent.parameters import Float, Int, Numeric, Parameter, Value
from agent.texts import parameter

RESOLUTION = 1000
"""Integer bins of a continuous parameter, as in EvoLLM (Lange et al. 2024, section 3)."""
EDGE = 0.01
"""Share of a scale that counts as its end."""


_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def canonical(value: Any) -> str:
    """JSON with one spelling for each value: sorted keys, no spaces, shortest float repr, no NaN."""
    return _encode(value)


def digest(value: Any, length: int = 16) -> str:
    """Hash of a plain-JSON value, equal in every process and version: `length` hex digits of SHA-256."""
    return hashlib.sha256(canonical(value).encode("utf-8", "surrogatepass")).hexdigest()[:length]


def _own(value: Value) -> Value:
    """A value that the caller may change: a copy of a choice of examples or of a tree of files."""
    return list(value) if isinstance(value, list) else dict(value) if isinstance(value, dict) else value


class Candidate(Mapping[str, Value]):
    """An immutable mapping parameter → value, identified by the hash of its values."""

    __slots__ = ("_id", "_values")

    def __init__(self, values: Mapping[str, Value]) -> None:
        self._values = {name: values[name] for name in sorted(values)}
        self._id = digest(self._values)

    @property
    def id(self) -> str:
        """16 hex digits of the SHA-256 of the canonical values."""
        return self._id

    @property
    def values_json(self) -> dict[str, Value]:
        """The values as a plain dictionary of the caller's own."""
        return {name: _own(value) for name, value in self._values.items()}

    def __getitem__(self, name: str) -> Value:
        return _own(self._values[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(self._id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Candidate) and other._id == self._id

    def __repr__(self) -> str:
        return f"Candidate({self._id[:8]}: {', '.join(f'{k}={v!r}' for k, v in self._values.items())})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Candidate, (self._values,)


@dataclass(frozen=True, slots=True)
class Change:
    """One parameter that differs between two candidates."""

    name: str
    before: Value
    after: Value


class Space(Mapping[str, Parameter]):
    """The named parameters of a problem, in the order in which they were declared."""

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        if not parameters:
            raise ConfigError("the space is empty", hint="declare at least one parameter")
        for name, item in parameters.items():
            if not isinstance(name, str) or not name.isidentifier():
                raise ConfigError(f"{name!r} is not a name", hint="use letters, digits and underscores")
            if not isinstance(item, Parameter):
                raise ConfigError(f"{name}: {item!r} is not a parameter", hint="use Float, Int, Categorical, Text …")
        self._parameters = dict(parameters)
        self.numeric: tuple[str, ...] = tuple(n for n, p in self._parameters.items() if isinstance(p, Numeric))

    def __getitem__(self, name: str) -> Parameter:
        return self._parameters[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)

    def spec(self) -> dict[str, dict[str, Any]]:
        """The space as plain JSON; `Space.from_spec` reads it back."""
        return {name: item.spec() for name, item in self._parameters.items()}

    @classmethod
    def of(cls, given: Any) -> Space:
        """The space that a user gave: a space, a mapping of names to parameters, or a list of `agent.param`.

        Raises:
            ConfigError: It is none of these, or two of the list have one name.
        """
        if isinstance(given, Space):
            return given
        if isinstance(given, Mapping):
            return cls(given)
        listed = isinstance(given, (list, tuple))
        if not listed or not all(hasattr(item, "name") and hasattr(item, "parameter") for item in given):
            allowed = 'a Space, a mapping of names to parameters, or a list of param("name", …)'
            raise ConfigError(f"space: found {given!r}, allowed is {allowed}")
        names = [item.name for item in given]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigError(f"space: {', '.join(twice)} is there twice", hint="give each param a name of its own")
        return cls({item.name: item.parameter for item in given})

    @classmethod
    def from_spec(cls, spec: Mapping[str, Mapping[str, Any]]) -> Space:
        """The space that plain JSON describes.

        Raises:
            ConfigError: Names the parameter, what was found and what is allowed.
        """
        out = {}
        for name, item in spec.items():
            try:
                out[name] = parameter(item)
            except ConfigError as error:
                raise ConfigError(f"{name}: {error.message}", hint=error.hint) from None
        return cls(out)

    @property
    def fingerprint(self) -> str:
        """Hash of the space's definition."""
        return digest(self.spec())

    def bound(self, folder: Path) -> Space:
        """The space with every `file` read from the problem's folder."""
        out = {}
        for name, item in self._parameters.items():
            try:
                out[name] = item.bound(folder)
            except ConfigError as error:
                raise ConfigError(f"space.{name}: {error.message}", hint=error.hint) from None
        return Space(out)

    def starting(self, values: Mapping[str, Value]) -> Space:
        """The same space with other defaults; what `values` leaves out keeps its own.

        Raises:
            ValueError: A parameter is unknown, or a value is not allowed; names the parameter.
        """
        wanted = self.candidate({**self.initial(), **values})
        items: dict[str, Any] = dict(self._parameters)
        return Space({name: replace(item, default=wanted[name]) for name, item in items.items()})

    def initial(self) -> Candidate:
        """The candidate of all defaults."""
        return Candidate({name: item.initial() for name, item in self._parameters.items()})

    def candidate(self, values: Mapping[str, Value]) -> Candidate:
        """A checked candidate in canonical form.

        Raises:
            ValueError: A parameter is missing or unknown, or a value is not allowed; names the parameter.
        """
        for name in values:
            if name not in self._parameters:
                raise ValueError(f"{name}: there is no such parameter")
        out = {}
        for name, item in self._parameters.items():
            if name not in values:
                raise ValueError(f"{name}: the value is missing")
            try:
                out[name] = item.check(values[name])
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        return Candidate(out)

    def sample(self, rng: random.Random) -> Candidate:
        """A random candidate: numeric and categorical parameters uniform on their scale, texts at their default."""
        return Candidate({name: item.sample(rng) for name, item in self._parameters.items()})

    def _numeric(self, name: str) -> Numeric:
        item = self._parameters[name]
        assert isinstance(item, Numeric)
        return item

    def encode(self, candidate: Mapping[str, Value]) -> list[float]:
        """The candidate in the unit cube: one number in [0, 1] for each name in `numeric`, in that order."""
        return [self._numeric(name).encode(candidate[name]) for name in self.numeric]

    def decode(self, unit: Sequence[float], base: Mapping[str, Value]) -> Candidate:
        """The candidate at a point of the unit cube; what is not numeric comes from `base`."""
        if len(unit) != len(self.numeric):
            raise ValueError(f"{len(self.numeric)} coordinates are needed, not {len(unit)}")
        values = dict(base)
        values.update((name, self._numeric(name).decode(u)) for name, u in zip(self.numeric, unit, strict=True))
        return Candidate(values)

    def bins(self, resolution: int = RESOLUTION) -> list[int]:
        """How many integer bins each name in `numeric` has."""
        return [self._numeric(name).bins(resolution) for name in self.numeric]

    def to_bins(self, candidate: Mapping[str, Value], resolution: int = RESOLUTION) -> list[int]:
        """The candidate's integer bins, in the order of `numeric`."""
        return [self._numeric(name).to_bin(candidate[name], resolution) for name in self.numeric]

    def from_bins(self, bins: Sequence[int], base: Mapping[str, Value], resolution: int = RESOLUTION) -> Candidate:
        """The candidate in the middle of the given bins.

        Raises:
            ValueError: A bin is outside its parameter's range; names the parameter.
        """
        if len(bins) != len(self.numeric):
            raise ValueError(f"{len(self.numeric)} bins are needed, not {len(bins)}")
        values = dict(base)
        for name, index in zip(self.numeric, bins, strict=True):
            try:
                values[name] = self._numeric(name).from_bin(index, resolution)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        return Candidate(values)

    def end(self, name: str, value: Value) -> str:
        """Which end of its scale a number lies at, "lower" or "upper": within 1 % of it; "" between them.

        A category has no ends, and of two whole numbers each would be one.
        """
        item = self._parameters[name]
        if not isinstance(item, (Float, Int)) or (isinstance(item, Int) and item.high - item.low < 2):
            return ""
        if item.log:
            place = math.log(value / item.low) / math.log(item.high / item.low)
        else:
            place = (value - item.low) / (item.high - item.low)
        return "lower" if place <= EDGE else "upper" if place >= 1 - EDGE else ""

    def at_bounds(self, candidate: Mapping[str, Value]) -> tuple[str, ...]:
        """The numbers that lie at an end of their scale. Nothing is wrong with them, but there may be more beyond."""
        return tuple(name for name in self.numeric if self.end(name, candidate[name]))

    def diff(self, before: Mapping[str, Value], after: Mapping[str, Value]) -> list[Change]:
        """The parameters whose values differ, in the order of declaration."""
        return [Change(n, before[n], after[n]) for n in self._parameters if canonical(before[n]) != canonical(after[n])]
