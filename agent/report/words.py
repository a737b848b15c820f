"""A diff of two texts by words, as pieces that a page or a terminal can mark."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import Literal, TypeAlias

Piece: TypeAlias = tuple[Literal["same", "gone", "new"], str]
"""A stretch of text, and whether both have it, or the old or the new one alone."""

MOST = 20_000
"""Words of both texts together up to which words are compared; longer texts are compared by lines."""

_WORDS = re.compile(r"\s+|\w+|[^\w\s]")


def pieces(before: str, after: str) -> list[Piece]:
    """What is the same, what is gone and what is new, in reading order; joined without "new" it is `before`."""
    old, new = _WORDS.findall(before), _WORDS.findall(after)
    if len(old) + len(new) > MOST:
        old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    out: list[Piece] = []
    for kind, a, b, c, d in SequenceMatcher(None, old, new).get_opcodes():
        if kind == "equal":
            out.append(("same", "".join(old[a:b])))
            continue
        if b > a:
            out.append(("gone", "".join(old[a:b])))
        if d > c:
            out.append(("new", "".join(new[c:d])))
    return out
