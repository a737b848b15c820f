"""A parameter from an answer of one line, such as "0.001 1 log" or "fast, exact"."""

from __future__ import annotations

import math
from typing import Any

from agent.errors import ConfigError
from agent.parameters import Value
from agent.texts import parameter

HOW = 'two numbers and perhaps "log", such as 0.001 1 log; or choices with commas, such as fast, exact'


def suggested(value: Value) -> str:
    """An answer that suits a default; "" where there is none to suggest."""
    if isinstance(value, bool):
        return "true, false"
    if isinstance(value, int):
        if value <= 0:
            return "0 10" if value == 0 else f"{value * 4} 0"
        return f"1 {max(10, value * 4)}" if value < 100 else f"{value // 10} {value * 10} log"
    if isinstance(value, float):
        if value == 0:
            return "-1.0 1.0"
        if value < 0:
            return f"{float(f'{value * 4:.3g}')!r} 0.0"
        return f"{float(f'{value / 10:.3g}')!r} {float(f'{value * 10:.3g}')!r} log"
    return ""


def spec(answer: str, default: Value) -> dict[str, Any]:
    """The table of problem.toml for an answer.

    Args:
        answer: As `HOW` says.
        default: The value that is used now; None to take the first choice, or the middle of the range.

    Raises:
        ConfigError: The answer means no parameter, or the default does not lie in it.
    """
    table = _choices(answer, default) if "," in answer else _range(answer, default)
    parameter(table)  # says what is wrong with it
    return table


def _choices(answer: str, default: Value) -> dict[str, Any]:
    words = [word.strip() for word in answer.split(",") if word.strip()]
    choices = [_value(word) for word in words]
    if isinstance(default, str):
        choices = list(words)
    elif isinstance(default, float):
        choices = [float(item) if type(item) is int else item for item in choices]
    if default is not None and not any(item == default and type(item) is type(default) for item in choices):
        choices.insert(0, default)
    return {"type": "categorical", "choices": choices, "default": choices[0] if default is None else default}


def _range(answer: str, default: Value) -> dict[str, Any]:
    words = answer.split()
    log = bool(words) and words[-1].casefold() == "log"
    numbers = [_value(word) for word in (words[:-1] if log else words)]
    if len(numbers) != 2 or not all(type(item) in (int, float) for item in numbers):
        raise ConfigError(f"found {answer!r}", hint=HOW)
    if isinstance(default, (bool, str)):
        raise ConfigError(f"{default!r} is no number", hint="give its choices, with commas")
    low, high = numbers
    whole = all(type(item) is int for item in numbers) and not isinstance(default, float)
    table: dict[str, Any] = {"type": "int" if whole else "float", "low": low, "high": high}
    if not whole:
        table |= {"low": float(low), "high": float(high)}
    if log:
        table["log"] = True
    if default is not None:
        if not low <= default <= high:
            raise ConfigError(f"{default!r} is used now, and does not lie between {low} and {high}", hint="widen it")
        table["default"] = default if whole else float(default)
    else:
        middle = math.sqrt(low * high) if log and low > 0 else (low + high) / 2
        table["default"] = round(middle) if whole else float(f"{middle:.3g}")
    return table


def _value(word: str) -> Any:
    for kind in (int, float):
        try:
            number = kind(word)
        except ValueError:
            continue
        if math.isfinite(number):
            return number
    return {"true": True, "false": False}.get(word.casefold(), word)
