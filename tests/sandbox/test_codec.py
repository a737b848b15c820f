"""Values survive the channel, and no bytes from an enemy do more than fail."""

from __future__ import annotations

import io
import json
import struct
import time
import tracemalloc
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sandbox.codec import ARRAYS, NODES, decode, encode

NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
KEYS = st.text(max_size=4) | st.just("$npy")
PLAIN = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(PLAIN)
def test_json_values_come_back(value: Any) -> None:
    assert decode(encode(value)) == value


@pytest.mark.parametrize("dtype", ["?", "i1", "<u2", ">i8", "f2", "f4", ">f8", "c16"])
def test_arrays_come_back_anywhere(dtype: str) -> None:
    array = np.asfortranarray(np.arange(6).reshape(2, 3)).astype(dtype)
    value = decode(encode({"a": [array, 1], "$npy": (array.T, np.float32(0.5), np.int8(3), np.bool_(True))}))
    for found, sent in ((value["a"][0], array), (value["$npy"][0], array.T)):
        assert found.dtype == sent.dtype and np.array_equal(found, sent) and found.flags.writeable
    assert value["$npy"][1:] == [0.5, 3, True]
    assert decode(encode(np.zeros((0, 3)))).shape == (0, 3)


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), np.array([1.0, np.nan]), [{"a": np.float64("inf")}]])
def test_what_is_no_number_is_refused_unless_asked_for(value: Any) -> None:
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        encode(value)
    sent = encode(value, finite=False)
    with pytest.raises(ValueError, match=r"NaN|nfinity"):
        decode(sent)
    assert str(decode(sent, finite=False)) == str(decode(encode(value, finite=False), finite=False))


@pytest.mark.parametrize("value", [{1: 2}, {1, 2}, b"x", object(), np.array([object()]), np.array(["a"]), 1j])
def test_other_values_are_refused(value: Any) -> None:
    with pytest.raises(ValueError):
        encode(value)


def framed(text: bytes, *arrays: bytes) -> bytes:
    return b"".join([struct.pack("<I", len(text)), text, *(struct.pack("<Q", len(a)) + a for a in arrays)])


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def pickled() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xff\xff\xff",
        framed(b"[" * 100_000),
        framed(b"9" * 10_000),
        framed(b"1e999"),
        framed(b"NaN"),
        framed(b"\xff"),
        framed("[]".encode("utf-16-le")),  # in which what counts values cannot tell where a text ends
        framed(b"1") + b"rest",
        framed(b'{"$npy": 0}'),
        framed(b'{"$npy": -1}', npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1,)}", bytes(8))),
        framed(b'{"$npy": 0}', pickled()),
        framed(b'{"$npy": 0}', npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}")),
        framed(b'{"$npy": 0}', npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -1)}", bytes(8))),
        framed(b'{"$npy": 0}', npy("{'descr': '|V8', 'fortran_order': False, 'shape': (1,)}", bytes(8))),
        framed(b'{"$npy": 0}', npy("__import__('os').system('true')")),
        framed(b'{"$npy": 0}', npy("(" * 200)),
        framed(b'{"$npy": 0}', npy("x" * 60_000)),
        framed(b'{"$npy": 0}', b"\x93NUMPY\x03\x00"),
        framed(b'{"$npy": 0}', npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000, 0)}")),
        framed(b'{"$npy": 0}', npy("{'descr': '<f8', 'fortran_order': False, 'shape': (0, 1000000000)}")),
        framed(b'{"$npy": 0}', npy("{'descr': '<f8', 'fortran_order': False, 'shape': (40, 0, 40)}")),
        framed(b'[{"$npy": 0}, {"$npy": 0}]', npy("{'descr': '|i1', 'fortran_order': False, 'shape': (1,)}", b"1")),
    ],
)
def test_bytes_from_an_enemy_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        decode(data)


def test_an_array_of_nothing_has_sides_that_one_can_walk() -> None:
    assert decode(encode(np.zeros((0, 768)))).shape == (0, 768)
    with pytest.raises(ValueError, match="without elements"):
        encode(np.zeros((10**9, 0)))


def test_the_same_array_may_be_sent_twice() -> None:
    array = np.arange(3)
    one, beside = decode(encode([array, {"$$": array}]))
    two = beside["$$"]
    assert one.tolist() == two.tolist() == [0, 1, 2] and one is not two


ONE = npy("{'descr': '|i1', 'fortran_order': False, 'shape': (1,), }", b"1")


def test_an_array_that_the_value_does_not_name_is_refused() -> None:
    assert decode(framed(b'{"$npy":0}', ONE)).tolist() == [49]
    for data in (framed(b"[]", ONE), framed(b'{"$npy":0}', ONE, ONE), framed(b'{"$npy":0}', ONE, b"not even one")):
        with pytest.raises(ValueError, match="stands nowhere"):
            decode(data)


def test_values_and_arrays_from_an_enemy_are_counted_before_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    many = b"[" + b",".join([b'{"$npy":%d}' % n for n in range(ARRAYS)]) + b"]"
    assert len(decode(framed(many, *[ONE] * ARRAYS))) == ARRAYS
    lists = [[]] * (NODES // 2 - 1)
    commas = "," * (2 * NODES) + '\\",'
    assert decode(encode(lists)) == lists and decode(encode({"[,": commas})) == {"[,": commas}
    wide, crowd = encode([[]] * (NODES + 1)), framed(many, *[ONE] * (ARRAYS + 1))
    assert len(decode(wide, trusted=True)) == NODES + 1, "our own inputs may be as large as they are"
    monkeypatch.setattr(json, "loads", lambda *_, **__: pytest.fail("it was read"))
    for data, what in (
        (wide, "values"),
        (encode(dict.fromkeys(map(str, range(NODES + 1)))), "values"),
        (crowd, "arrays"),
    ):
        with pytest.raises(ValueError, match=f"more than [0-9,]+ {what}"):
            decode(data)


@pytest.mark.parametrize("text", [b'"\\"' * 10**6, b'"' * 10**6 + b"," * 10**6, b'"' + b'\\"' * 10**6])
def test_hostile_quotes_are_gone_through_once(text: bytes) -> None:
    started = time.process_time()
    with pytest.raises(ValueError):
        decode(framed(b"," * NODES + b",," + text))
    assert time.process_time() - started < 10, "and not once for each"


@pytest.mark.parametrize("shape", ["1" * 900 + "x", "1, " * 300 + "x", "-" * 900 + "1"])
def test_hostile_headers_are_refused_at_once(shape: str) -> None:
    started = time.process_time()
    with pytest.raises(ValueError, match="header"):
        decode(framed(b'{"$npy":0}', npy("{'descr': '<f8', 'fortran_order': False, 'shape': (" + shape)))
    assert time.process_time() - started < 5


DEEP = {"lists": b"[" * 400 + b"]" * 400, "mappings": b'{"":' * 300 + b"1" + b"}" * 300, "empty": b"[]"}


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
def test_reading_costs_some_multiple_of_the_bytes(text: bytes) -> None:
    data = framed(b"[" + b",".join([text] * (2**18 // (len(text) + 1))) + b"]")
    tracemalloc.start()
    value = decode(data)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert value and most < 60 * len(data), most / len(data)


@given(st.binary(max_size=60), st.integers(0, 200))
def test_damaged_bytes_are_refused_or_are_another_value(noise: bytes, at: int) -> None:
    data = bytearray(encode([np.arange(4), {"a": "b"}]))
    data[at : at + len(noise)] = noise
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            value = decode(bytes(data), finite=False)
        except ValueError:
            return
        assert str(decode(encode(value, finite=False), finite=False)) == str(value)
