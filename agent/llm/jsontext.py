"""JSON that a model wrote: read to the letter, or not at all."""

from __future__ import annotations

import json
import math
from typing import Any


def decoder() -> json.JSONDecoder:
    """A decoder that refuses what Python's own lets pass: NaN, infinity, and a key that comes twice."""
    return json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)


def loads(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: It is not JSON, or holds what no file and no server could take: NaN, infinity, a key
            that comes twice, half of a surrogate pair, nesting without end.
    """
    try:
        value = decoder().decode(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    check(value)
    return value


def check(value: Any) -> None:
    """Refuse a value whose texts cannot be written.

    Raises:
        ValueError: A text holds half of a surrogate pair, which an escape such as `\\ud800` can smuggle in.
    """
    json.dumps(value, ensure_ascii=False).encode()


def sound(value: Any) -> Any:
    """A plain value with every text writable: halves of surrogate pairs become U+FFFD."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return value
    if isinstance(value, dict):
        return {sound(key): sound(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [sound(item) for item in value]
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("a key comes twice")
    return out


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value
