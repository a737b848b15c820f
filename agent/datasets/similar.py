"""Near-duplicates among rows, found exactly: every pair above the threshold, and no other.

A row is the set of its shingles, hashed. Two rows are near-duplicates when the Jaccard similarity
of their sets is at least 0.8 (Broder, On the resemblance and containment of documents, 1997).
Prefix filtering finds them without comparing all pairs (Chaudhuri, Ganti and Kaushik, A primitive
operator for similarity joins in data cleaning, ICDE 2006): two such sets always share one of their
smallest hashes. The order is that of the hashes themselves, so an index kept in a database stays
valid when rows are added.

Numbers count in full: each shingle is hashed together with all numbers of its row, so rows with
different numbers ("12 + 3" and "12 + 4") have no shingle in common.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any

WORDS = 3
"""Consecutive words in a shingle."""
FEWEST = 8
"""Rows of fewer words are cut into shingles of `CHARACTERS` characters instead."""
CHARACTERS = 5

# Punctuation between words says little; every other sign (+, <, brackets) is a word of its own,
# or rows of formulas and brackets would all look the same.
_WORD = re.compile(r"\w+|[^\w\s.,;:!?'\"‘’“”…]")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def leaves(value: Any, skip: Collection[str] = ()) -> Iterator[str]:
    """The strings and numbers of plain JSON as strings, in key order.

    Args:
        value: Plain JSON; its nesting is at most what the JSON reader accepts.
        skip: Top-level fields to leave out.
    """
    stack = [value]
    if isinstance(value, Mapping):
        stack = [value[key] for key in sorted(value, key=str, reverse=True) if key not in skip]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, (int, float)) and not isinstance(item, bool):
            yield str(int(item) if isinstance(item, float) and item.is_integer() else item)
        elif isinstance(item, Mapping):
            stack.extend(item[key] for key in sorted(item, key=str, reverse=True))
        elif isinstance(item, (list, tuple)):
            stack.extend(reversed(item))


def _plain(number: str) -> str:
    """A number without leading and trailing zeros: 7, 7.0 and 007 are one."""
    whole, _, part = number.partition(".")
    part = part.rstrip("0")
    return f"{whole.lstrip('0') or '0'}{'.' if part else ''}{part}"


def shingles(row: Any, skip: Collection[str] = ("id",)) -> frozenset[int]:
    """The hashed shingles of a row: 64-bit integers.

    Args:
        row: Plain JSON.
        skip: Top-level fields that only label the row, such as its id.

    Returns:
        The set; empty when the row holds no text and no number.
    """
    text = " ".join(" ".join(leaves(row, skip)).casefold().split())
    words = _WORD.findall(text)
    if len(words) >= FEWEST:
        parts = {" ".join(words[i : i + WORDS]) for i in range(len(words) - WORDS + 1)}
    elif text:
        parts = {text[i : i + CHARACTERS] for i in range(max(1, len(text) - CHARACTERS + 1))}
    else:
        return frozenset()
    numbers = " ".join(sorted(map(_plain, _NUMBER.findall(text))))
    base = blake2b(f"{numbers}\n".encode("utf-8", "surrogatepass"), digest_size=8)
    out = set()
    for part in parts:
        state = base.copy()
        state.update(part.encode("utf-8", "surrogatepass"))
        out.add(int.from_bytes(state.digest(), "big"))
    return frozenset(out)


def prefix(hashes: Collection[int]) -> list[int]:
    """The |S| - ⌈0.8 |S|⌉ + 1 smallest hashes of a set; near-duplicates share at least one of them."""
    size = len(hashes)
    return sorted(hashes)[: size - -(-4 * size // 5) + 1] if size else []


def similar(a: Collection[int], b: Collection[int]) -> bool:
    """Whether two sets of shingles are near-duplicates: Jaccard similarity of at least 0.8; empty sets never are."""
    if 5 * min(len(a), len(b)) < 4 * max(len(a), len(b)):
        return False
    common = len(frozenset(a) & frozenset(b))
    return common > 0 and 5 * common >= 4 * (len(a) + len(b) - common)


def candidates(sets: Sequence[Collection[int]]) -> Iterator[tuple[int, int]]:
    """Pairs (i, j), i < j, of positions whose sets may be near-duplicates; every near-duplicate is among them."""
    index: defaultdict[int, list[int]] = defaultdict(list)
    for j, hashes in enumerate(sets):
        smallest = prefix(hashes)
        for i in sorted({i for number in smallest for i in index[number]}):
            yield i, j
        for number in smallest:
            index[number].append(j)


def near_duplicates(rows: Iterable[Any], skip: Collection[str] = ("id",)) -> Iterator[tuple[int, int]]:
    """Pairs (i, j), i < j, of the positions of rows that are near-duplicates, copies included.

    Args:
        rows: Plain JSON.
        skip: Top-level fields that only label a row.
    """
    sets = [shingles(row, skip) for row in rows]
    return ((i, j) for i, j in candidates(sets) if similar(sets[i], sets[j]))
