"""JSON that a model wrote: read to the letter, or not at all."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

CONTAINERS = (Mapping, list, tuple)
_PLAIN = frozenset({int, float, bool, type(None)})
DEEPEST = 64
"""Containers inside of each other, beyond which a value is refused: reading, masking and writing it go as deep."""


def decoder() -> json.JSONDecoder:
    """A decoder that refuses what Python's own lets pass: NaN, infinity, and a key that comes twice."""
    return json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)


def loads(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: It is not JSON, or holds what no file and no server could take: NaN, infinity, a key
            that comes twice, half of a surrogate pair, nesting deeper than `DEEPEST`.
    """
    try:
        value = decoder().decode(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    check(value)
    return value


def check(value: Any) -> None:
    """Refuse a value that cannot be written.

    Raises:
        ValueError: A text holds half of a surrogate pair, which an escape such as `\\ud800` can smuggle in, or it is
            nested too deeply.
    """
    if too_deep(value):
        raise ValueError("it is nested too deeply")
    json.dumps(value, ensure_ascii=False).encode()


def too_deep(value: Any) -> bool:
    """Whether a value is nested deeper than `DEEPEST`."""
    level = [value]
    for _ in range(DEEPEST + 1):
        inside = [
            item.values() if isinstance(item, Mapping) else item for item in level if isinstance(item, CONTAINERS)
        ]
        if not inside:
            return False
        level = [item for held in inside for item in held]
    return True


def sound(value: Any, depth: int = 0) -> Any:
    """A plain value with every text writable: halves of surrogate pairs become U+FFFD.

    Raises:
        ValueError: It is nested far deeper than `DEEPEST`; a request holds values that `loads` has let pass.
    """
    if depth > 2 * DEEPEST:
        raise ValueError("it is nested too deeply")
    if isinstance(value, str):
        if value.isascii():  # nearly all of them, and known without a look at the text
            return value
        try:
            value.encode()
        except UnicodeEncodeError:
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return value
    if isinstance(value, dict):
        return {sound(key): item if type(item) in _PLAIN else sound(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [sound(item, depth + 1) for item in value]
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
