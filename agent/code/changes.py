"""What differs between two texts or programs, line by line, as people are shown it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from agent.ledger import plural

NAMED = 3
"""Files of a program that one line names."""


def texts(value: Any) -> dict[str, str]:
    """A text's or program's texts by path; of one in a single text the path is ""."""
    return dict(value) if isinstance(value, dict) else {"": str(value)}


def line_diffs(name: str, before: Any, after: Any) -> Iterator[tuple[str, list[str]]]:
    """What differs between two texts or programs: each changed file's name, and its unified diff.

    Args:
        name: Of the parameter; files of a program of several are named name/path.
        before: A text, or texts by path, and
        after: the same.
    """
    old, new = texts(before), texts(after)
    for path in sorted({*old, *new}):
        place = f"{name}/{path}".rstrip("/")
        one, two = (item.get(path, "").splitlines() for item in (old, new))
        lines = list(difflib.unified_diff(one, two, place, place, lineterm=""))
        if lines:
            yield place, lines
        elif (path in old) != (path in new):
            yield place, [f"--- {place}", f"+++ {place}", "an empty file " + ("was made" if path in new else "is gone")]


def counted_lines(name: str, before: Any, after: Any) -> str:
    """How many lines of which files differ: "+3 −2 lines in lib.py"."""
    several = isinstance(before, dict) or isinstance(after, dict)
    places, added, gone = [], 0, 0
    for place, lines in line_diffs(name, before, after):
        added += sum(line.startswith("+") for line in lines[2:])
        gone += sum(line.startswith("-") for line in lines[2:])
        places.append(place.removeprefix(f"{name}/") if several else place)
    if not places:
        return f"the ends of lines in {name}"
    named = ", ".join(places[:NAMED]) + (f" and {plural(len(places) - NAMED, 'more file')}" if places[NAMED:] else "")
    what = f"+{added} −{gone} line{'' if added + gone == 1 else 's'}"
    return f"{what} in {named}"
