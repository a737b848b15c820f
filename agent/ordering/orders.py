"""Orders of candidates, as programs give them and as people write them."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from agent.errors import ConfigError
from agent.space import Candidate

Order: TypeAlias = Sequence[Any]
"""Candidates, best first: places in what was shown (from 0), ids, or candidates; a list in it holds equals."""


def checked(order: Any, shown: Sequence[str]) -> list[list[str]]:
    """An order as groups of ids, best first; those in a group are equally good.

    Raises:
        ConfigError: It is no order of all that was shown, each once.
    """
    rule = f"name all {len(shown)}, each once, best first: by place from 0 to {len(shown) - 1}, or by id"
    order = order.tolist() if hasattr(order, "tolist") else order  # as argsort gives it
    if isinstance(order, (str, bytes, Mapping)) or not isinstance(order, Sequence):
        raise ConfigError(f"the order is no list: found {str(order)[:80]!r}", hint=rule)
    groups: list[list[str]] = []
    for item in order:
        members = list(item) if isinstance(item, (list, tuple)) else [item]
        if not members:
            raise ConfigError("the order has an empty group", hint=rule)
        groups.append([_named(member, shown, rule) for member in members])
    named = [name for group in groups for name in group]
    for name in named:
        if named.count(name) > 1:
            raise ConfigError(f"the order names candidate {shown.index(name)} twice", hint=rule)
    missing = [str(place) for place, name in enumerate(shown) if name not in named]
    if missing:
        raise ConfigError(f"the order leaves out {', '.join(missing)}", hint=rule)
    return groups


def _named(item: Any, shown: Sequence[str], rule: str) -> str:
    if isinstance(item, Candidate):
        item = item.id
    if isinstance(item, str) and item in shown:
        return item
    try:
        place = -1 if isinstance(item, bool) else operator.index(item)
    except TypeError:
        place = -1
    if 0 <= place < len(shown):
        return shown[place]
    raise ConfigError(f"the order names {str(item)[:80]!r}, which was not shown", hint=rule)


def parse(text: str, count: int) -> list[list[int]]:
    """An order as people write it: "2 1=4 3" puts the second one first, then the first and fourth as equals.

    Args:
        text: Numbers from 1, with blanks, commas or ">" between them, and "=" between equals.
        count: How many were shown.

    Returns:
        Places from 0, in groups.

    Raises:
        ConfigError: It is no order of all of them.
    """
    rule = f"write the numbers 1 to {count}, best first, such as {' '.join(map(str, range(count, 0, -1)))}"
    for mark in ",>":
        text = text.replace(mark, " ")
    groups = []
    for part in "=".join(piece.strip() for piece in text.split("=")).split():
        pieces = part.split("=")
        if not all(piece.isascii() and piece.isdigit() and len(piece) < 9 for piece in pieces):
            raise ConfigError(f"{part[:40]!r} is no number of a candidate", hint=rule)
        groups.append([int(piece) - 1 for piece in pieces])
    named = sorted(place for group in groups for place in group)
    if named != list(range(count)):
        raise ConfigError(f"{text.strip()[:80]!r} does not name 1 to {count}, each once", hint=rule)
    return groups
