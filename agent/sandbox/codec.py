"""Values as bytes: JSON with numpy arrays beside it. Nothing that is read here can run code.

A value is four bytes of length, that much JSON, and the arrays one after the other, each eight bytes of
length and an npy file without objects. An array stands in the JSON as {"$npy": n}, once; a key of the
value's own that begins with "$" gets a second one.
"""

from __future__ import annotations

import io
import json
import math
import re
import struct
import sys
from collections.abc import Mapping
from typing import Any

KINDS = "biufc"
HEADER_BYTES = 1024
HEADER = re.compile(
    rb"\{'descr': '([<>|][biufc]\d\d?)', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,19}, ?)*\d{0,19})\),? ?\} *\n?"
)
"""What numpy writes. Its own parser takes far more, at the reader's cost."""
ARRAYS = 1024
NODES = 500_000
"""Most arrays, and most values in the JSON, of one value from an enemy: each costs far more than its bytes."""
TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)  # goes through it once, whatever it is
EMPTY_SIDES = 1024
"""What the other sides of an array without elements may come to together: each costs its reader, not its writer."""


def encode(value: Any, finite: bool = True) -> bytes:
    """A value as bytes; tuples become lists, numpy's scalars Python's.

    Args:
        value: None, booleans, numbers, text, lists, tuples, mappings with text keys, numpy arrays of numbers.
        finite: Refuse NaN and infinities.

    Raises:
        ValueError: It is none of these.
    """
    arrays: list[bytes] = []
    try:
        text = json.dumps(_plain(value, finite, arrays), allow_nan=not finite, separators=(",", ":")).encode()
    except RecursionError:
        raise ValueError("the value is nested too deeply") from None
    parts = [struct.pack("<I", len(text)), text]
    for array in arrays:
        parts += [struct.pack("<Q", len(array)), array]
    return b"".join(parts)


def _plain(value: Any, finite: bool, arrays: list[bytes]) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if finite and not math.isfinite(value):
            raise ValueError("the value holds NaN or an infinity")
        return float(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item, finite, arrays) for item in value]
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise ValueError("a mapping has a key that is not text")
        return {"$" * key.startswith("$") + key: _plain(item, finite, arrays) for key, item in value.items()}
    numpy = sys.modules.get("numpy")  # who holds an array has loaded it
    if numpy is not None and isinstance(value, numpy.generic):
        return _plain(value.item(), finite, arrays)
    if numpy is not None and isinstance(value, numpy.ndarray):
        if value.dtype.kind not in KINDS:
            raise ValueError(f"an array of {value.dtype} cannot be sent; only numbers and booleans can")
        if finite and not numpy.isfinite(value).all():
            raise ValueError("an array holds NaN or an infinity")
        if _hollow(value.shape):
            raise ValueError(f"an array without elements has the shape {value.shape}")
        buffer = io.BytesIO()
        numpy.lib.format.write_array(buffer, numpy.asarray(value), version=(1, 0), allow_pickle=False)
        arrays.append(buffer.getvalue())
        return {"$npy": len(arrays) - 1}
    raise ValueError(f"a value of type {type(value).__name__} cannot be sent; JSON and numpy arrays can")


def decode(data: bytes, finite: bool = True, trusted: bool = False) -> Any:
    """The value; the bytes may come from an enemy.

    Args:
        data: The bytes.
        finite: Refuse NaN and infinities.
        trusted: Whether they are our own, which may hold any number of values and arrays.

    Raises:
        ValueError: They are not what `encode` makes.
    """
    try:
        (size,) = struct.unpack_from("<I", data)
        if 4 + size > len(data):
            raise ValueError("cut short")
        text = data[4 : 4 + size]
        if not trusted:
            _countable(text)
        arrays = _places(data, 4 + size, len(data) if trusted else ARRAYS)
        value = _value(json.loads(text.decode(), parse_constant=_refuse if finite else float), arrays, finite)
        if any(place is not None for place in arrays):
            raise ValueError("an array stands nowhere in the value")
        return value
    except ValueError:
        raise
    except (struct.error, RecursionError, IndexError, TypeError, OverflowError, MemoryError) as error:
        raise ValueError(f"not a value: {error}") from None


def _countable(text: bytes) -> None:
    """Raise ValueError where JSON holds too many values to be read; every one has a mark before or behind it."""

    def marks(within: bytes) -> int:
        return sum(within.count(mark) for mark in b",:[{")

    if marks(text) > NODES and marks(TEXT.sub(b"", text)) > NODES:
        raise ValueError(f"it holds more than {NODES:,} values; send numbers as an array")


def _places(data: bytes, at: int, most: int) -> list[memoryview | None]:
    """Where the arrays lie, each looked at only when the value refers to it."""
    places: list[memoryview | None] = []
    while at < len(data):
        (size,) = struct.unpack_from("<Q", data, at)
        at += 8 + size
        if at > len(data):
            raise ValueError("cut short")
        if len(places) == most:
            raise ValueError(f"it holds more than {most:,} arrays")
        places.append(memoryview(data)[at - size : at])
    return places


def _hollow(shape: tuple[int, ...]) -> bool:
    """Whether an array holds nothing and yet costs much to walk through."""
    return 0 in shape and math.prod(side for side in shape if side) > EMPTY_SIDES


def _refuse(word: str) -> Any:
    raise ValueError(f"the value holds {word}")


def _value(plain: Any, arrays: list[memoryview | None], finite: bool) -> Any:
    if isinstance(plain, float) and finite and not math.isfinite(plain):
        raise ValueError("the value holds an infinity")  # 1e999
    if isinstance(plain, list):
        for at, item in enumerate(plain):  # in place: two of everything would cost twice as much
            plain[at] = _value(item, arrays, finite)
        return plain
    if isinstance(plain, dict):
        if list(plain) == ["$npy"]:
            index = plain["$npy"]
            if not isinstance(index, int) or not 0 <= index < len(arrays):
                raise ValueError("an array is missing")
            place, arrays[index] = arrays[index], None  # once only, or a few bytes stand for gigabytes
            if place is None:
                raise ValueError("an array is there twice")
            return _array(place, finite)
        for key in plain:
            plain[key] = _value(plain[key], arrays, finite)
        if any(key.startswith("$$") for key in plain):
            return {key.removeprefix("$") if key.startswith("$$") else key: item for key, item in plain.items()}
    return plain


def _array(data: memoryview, finite: bool) -> Any:
    import numpy

    if bytes(data[:8]) != b"\x93NUMPY\x01\x00":
        raise ValueError("another version of npy")
    (size,) = struct.unpack_from("<H", data, 8)
    header = HEADER.fullmatch(data[10 : 10 + size]) if size <= HEADER_BYTES else None
    if header is None:
        raise ValueError("not an array: its header is another")
    dtype = numpy.dtype(header[1].decode())
    if dtype.kind not in KINDS:
        raise ValueError(f"an array of {dtype} cannot be read")
    fortran = header[2] == b"True"
    shape = tuple(int(side) for side in re.findall(rb"\d+", header[3]))
    rest = data[10 + size :]
    if math.prod(shape) * dtype.itemsize != len(rest):
        raise ValueError("an array's header does not fit its data")
    if _hollow(shape):
        raise ValueError(f"an array without elements has the shape {shape}")
    array = numpy.frombuffer(rest, dtype=numpy.uint8).copy()  # writable and aligned
    if dtype.kind == "b":
        array = array != 0  # a boolean has no third state
    array = array.view(dtype).reshape(shape, order="F" if fortran else "C")
    if finite and not numpy.isfinite(array).all():
        raise ValueError("an array holds NaN or an infinity")
    return array
