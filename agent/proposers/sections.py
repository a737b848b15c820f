"""Texts in sections, so that a reply can change one and leave the others alone: paragraphs between blank lines."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_GAP = re.compile(r"(\n[ \t]*\n\s*)")


def split(text: str) -> tuple[list[str], list[str]]:
    """A text's sections, and the gaps between them: one less."""
    parts = _GAP.split(text)
    return parts[::2], parts[1::2]


def numbered(text: str) -> str:
    """A text with a number in front of each section."""
    return "\n".join(f"[{place}] {part}" for place, part in enumerate(split(text)[0], 1))


def edited(text: str, edits: Sequence[Mapping[str, Any]]) -> str:
    """A text after some edits, all of which count by the numbers before them.

    Args:
        text: As it is.
        edits: Each has the number of its "section", from 1 to one more than there are, and a "text"; "" removes it.

    Raises:
        ValueError: There is no such section, or one is changed twice; says which.
    """
    parts, gaps = split(text)
    new: dict[int, str] = {}
    for edit in edits:
        place = int(edit["section"])
        if not 1 <= place <= len(parts) + 1:
            raise ValueError(f"there is no section {place}, the last one is {len(parts)}")
        if place in new:
            raise ValueError(f"section {place} is changed twice")
        new[place] = str(edit["text"])
    out = ""
    for place, part in enumerate([*parts, ""], 1):
        now = new.get(place, part)
        if not now:
            continue
        gap = gaps[place - 2] if 2 <= place <= len(parts) else "\n\n"
        out += gap + now if out else now
    return out
