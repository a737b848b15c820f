"""A bounded look at a value: enough for a preview and a hash, whatever its size.

A short text is looked at whole. Of a long one the head, the tail, the length and a checksum are kept: of all of
it up to `CHECKED` characters, of samples beyond. A container shows its first items and its last one, a few levels
deep. So a value of 100 MB costs microseconds, is never copied, and two that differ only where nobody looked are
taken for one.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.tracing.spans import Value

COUNTED = (list, tuple, dict, set, frozenset, bytes, bytearray)
"""Their size is what they hold, and not the length of a text about it."""
_SCALARS = frozenset({int, float, bool, type(None)})
Look = tuple[str, int, str, str, int]
"""Type, size, head (all of it where the tail is ""), tail, checksum. Equal looks are one value."""

HEAD, TAIL = 656, 456
"""Characters kept of a long text: 256 beyond each cut of a preview, so that a secret at the cut is still found."""
CHECKED = 65_536
SAMPLES = 64
ITEMS = 40
"""Items of a container that are looked at."""
DEPTH = 4
BITS = 4096
"""Bits up to which a whole number is written out."""
SHORT = 64
"""Characters up to which a text of letters and digits may be one that Python shares."""


def look(value: Any) -> Look:
    """A bounded look at a value. Calls `__repr__` only of a type that has its own and no known shape; never fails."""
    kind = type(value)
    if kind is str:
        size = len(value)
        if size <= HEAD + TAIL:
            return "str", size, value, "", 0
        return "str", size, value[:HEAD], value[-TAIL:], _checksum(value, size)
    if kind is float or kind is bool or value is None or (kind is int and -(2**60) < value < 2**60):
        text = repr(value)
    else:
        try:
            text = _text(value, HEAD + TAIL, 0)
        except (Exception, SystemExit):  # the user's own __repr__, __iter__, …, or a container that changes meanwhile
            text = f"<{kind.__name__}>"
    size = len(text)
    whole = len(value) if isinstance(value, COUNTED) else size
    if size <= HEAD + TAIL:
        return kind.__name__, whole, text, "", 0
    return kind.__name__, whole, text[:HEAD], text[-TAIL:], _checksum(text, size)


def shared(value: Any) -> bool:
    """Whether equal values of this kind are often one object, so that identity says nothing."""
    kind = type(value)
    if kind is str:
        return len(value) <= SHORT and (len(value) <= 1 or bool(value.replace("_", "a").isalnum()))
    if kind is int:
        return bool(-6 < value < 257)
    return value is None or kind is bool or (kind in (tuple, bytes, frozenset) and len(value) <= (kind is bytes))


def elements(value: Any, most: int = 100) -> Iterable[Any]:
    """What a container or a plain object holds, one level deep, at most `most`."""
    kind = type(value)
    try:
        if kind in (str, int, float, bytes, bool) or value is None:
            return ()
        if isinstance(value, dict):
            return list(islice(value.values(), most))
        if isinstance(value, (list, tuple, set, frozenset)):
            return list(islice(value, most))
        if isinstance(value, type) or callable(value):
            return ()
        return list(islice(getattr(value, "__dict__", {}).values(), most))
    except Exception:  # changed by another thread, or the user's own attributes
        return ()


def preview(found: Look, mask: Any) -> Value:
    """The stored form of a look.

    Args:
        found: The look.
        mask: Called with each text, returns it without secrets.
    """
    from agent.tracing.spans import Value, shorten, unit  # whoever only records does without dataclasses

    kind, size, head, tail, _ = found
    kind = mask(kind)[:80]
    return Value(kind, size, shorten(mask(head), mask(tail) if tail else "", f"{size:,} {unit(kind)}"))


def _checksum(text: str, size: int) -> int:
    if size > CHECKED:
        text = "".join(text[i : i + SAMPLES] for i in range(0, size, size // SAMPLES))
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))


def _text(value: Any, room: int, depth: int) -> str:
    """Something like its repr, not much longer than `room` characters."""
    kind = type(value)
    if kind in _SCALARS and (kind is not int or value.bit_length() <= BITS):
        return repr(value)
    if isinstance(value, (str, bytes, bytearray)):
        if len(value) <= room:
            return repr(value)
        return f"{value[: room // 2]!r}…[{len(value):,}]…{value[-room // 2 :]!r}"
    if kind is int:
        return f"<int of {value.bit_length():,} bits>"
    if (kind is list or kind is tuple) and len(value) <= ITEMS:
        if _SCALARS.issuperset(map(type, value)):
            return repr(value)
        if kind is list and depth < DEPTH:  # the most frequent container, without detours
            texts = []
            left = room
            for item in value:
                short = type(item) is str and len(item) <= left
                texts.append(repr(item) if short else _text(item, room // 2, depth + 1))
                left -= len(texts[-1]) + 2
                if left < 0:
                    break
            else:
                return f"[{', '.join(texts)}]"
    if depth >= DEPTH:
        return f"<{kind.__name__}>"
    if isinstance(value, dict):
        pairs = (f"{_text(k, 40, DEPTH - 1)}: {_text(v, room // 2, depth + 1)}" for k, v in value.items())
        return _joined(pairs, room, len(value), "{", "}", kind is not dict and kind.__name__)
    if isinstance(value, (list, tuple, set, frozenset)):
        ends = "[]" if isinstance(value, list) else "()" if isinstance(value, tuple) else "{}"
        items = (_text(item, room // 2, depth + 1) for item in value)
        last = _text(value[-1], room // 4, depth + 1) if isinstance(value, (list, tuple)) and value else ""
        named = kind not in (list, tuple, set) and kind.__name__
        return _joined(items, room, len(value), ends[0], ends[1], named, last)
    fields: Any = getattr(kind, "__dataclass_fields__", None)
    if fields is None and getattr(kind, "__repr__", None) is object.__repr__:
        fields = getattr(value, "__dict__", None)
    if fields is not None:
        parts = (f"{name}={_text(getattr(value, name, None), room // 2, depth + 1)}" for name in list(fields))
        return _joined(parts, room, len(fields), "(", ")", kind.__name__)
    text = repr(value)
    return text if len(text) <= room else f"{text[: room // 2]}…[{len(text):,}]…{text[-room // 2 :]}"


def _joined(parts: Iterator[str], room: int, count: int, begin: str, end: str, name: str | bool, last: str = "") -> str:
    kept: list[str] = []
    for part in islice(parts, ITEMS):
        kept.append(part)
        room -= len(part) + 2
        if room < 0:
            break
    if count > len(kept):
        kept.append(f"… {count - len(kept):,} more")
        if last:
            kept.append(last)
    text = f"{begin}{', '.join(kept)}{end}"
    return f"{name}{text}" if name else text
