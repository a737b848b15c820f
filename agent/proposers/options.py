"""Reading a proposer's own options, which the user sets under [proposer.options]."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from agent.errors import ConfigError

T = TypeVar("T")


def read(kind: type[T], given: Mapping[str, Any]) -> T:
    """The options that a user set, as the dataclass `kind`, whose `__post_init__` checks their values.

    Raises:
        ConfigError: One is unknown or not allowed; says what is.
    """
    known = [item.name for item in fields(kind)]  # type: ignore[arg-type]
    for name in given:
        if name not in known:
            raise ConfigError(f"proposer.options.{name}: unknown option, allowed is one of {', '.join(known)}")
    return kind(**given)


def wrong(name: str, found: Any, allowed: str) -> ConfigError:
    """The error for an option with a value that is not allowed."""
    return ConfigError(f"proposer.options.{name}: found {found!r}, allowed is {allowed}")


def number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def check_whole(options: Any, least: Mapping[str, int]) -> None:
    """Refuse options that are no whole numbers of at least so much.

    Raises:
        ConfigError: Names the option.
    """
    for name, low in least.items():
        value = getattr(options, name)
        if type(value) is not int or value < low:
            raise wrong(name, value, f"a whole number of at least {low}")


def check_temperature(value: Any) -> None:
    """Refuse what is no temperature.

    Raises:
        ConfigError: Says what is.
    """
    if not number(value) or value < 0:
        raise wrong("temperature", value, "a number of at least 0")
