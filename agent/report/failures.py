"""Failures that are the same but for numbers, paths and addresses are told once, with a count."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

LONGEST = 2000
"""Characters of a message that count."""

# From the special to the general. No pattern can backtrack over what it has matched, so that a long line costs no more
# than its length.
_PATTERNS = (
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.I), "‹id›"),
    (re.compile(r"\b0x[0-9a-f]+\b", re.I), "‹address›"),
    (re.compile(r"(?<![\w.])(?:[A-Za-z]:)?[\\/](?:[\w.@+~-]+[\\/])+[\w.@+~-]*"), "‹path›"),
    (re.compile(r"\b(?=[a-f]*\d)[0-9a-f]{12,}\b", re.I), "‹id›"),
    (re.compile(r"[+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?", re.I), "‹n›"),
    (re.compile(r"\s+"), " "),
)


def normal(text: str) -> str:
    """A message with its numbers, paths, addresses and long hashes taken out."""
    text = text[:LONGEST]
    for pattern, name in _PATTERNS:
        text = pattern.sub(name, text)
    return text.strip()


@dataclass(frozen=True, slots=True)
class Cluster:
    """Messages that are the same when normalised.

    Args:
        pattern: What they share.
        count: How many there are.
        first: The first of them, word for word.
        detail: More about the first: the end of a traceback, or what the model had said.
        example: The row it was about, if any.
        who: Candidates by number, or sources, in order and each once.
    """

    pattern: str
    count: int
    first: str
    detail: str
    example: str | None
    who: list[int | str]


@dataclass(frozen=True, slots=True)
class Told:
    """One message."""

    text: str
    who: int | str
    detail: str = ""
    example: str | None = None


def clusters(told: Iterable[Told]) -> list[Cluster]:
    """Clusters of messages, the largest first; equal ones in the order in which they began."""
    found: dict[str, list[Told]] = {}
    for item in told:
        found.setdefault(normal(item.text), []).append(item)
    ranked = sorted(found.items(), key=lambda pair: -len(pair[1]))
    return [
        Cluster(
            pattern,
            len(items),
            items[0].text,
            items[0].detail,
            items[0].example,
            list(dict.fromkeys(i.who for i in items)),
        )
        for pattern, items in ranked
    ]
