"""A tool that says what differs between two candidates."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from agent.texts import Code, Text
from agent.tools.base import Desk
from agent.tools.shared import find, number, said

LINES = 4000
"""Lines of a text beyond which its lines are not laid beside each other: that takes time with their square."""


async def diff(desk: Desk, before: str = "initial", after: str = "champion") -> str:
    """What differs between two candidates: numbers from → to, texts and programs as a unified diff.

    Args:
        before: champion, initial, best, # and a number, or an id.
        after: The same.
    """
    old, new = find(desk, before), find(desk, after)
    desk.context.showing(old, new)
    changes = desk.context.problem.space.diff(old.candidate, new.candidate)
    results = " → ".join(
        " ".join(f"{name}={value:.6g}" for name, value in (trial.values or {}).items()) or trial.state
        for trial in (old, new)
    )
    head = f"{old.id[:8]} → {new.id[:8]}: {len(changes)} parameters differ; {results}"
    if not changes:
        return head
    lines = [line for change in changes for line in changed(desk, change.name, change.before, change.after)]
    return said(desk, head, lines)


def changed(desk: Desk, name: str, before: Any, after: Any) -> Iterator[str]:
    """The lines that say how a parameter's value differs."""
    if not isinstance(desk.context.problem.space[name], (Text, Code)):
        yield f"{name}: {number(before)} → {number(after)}"
        return
    trees = [item if isinstance(item, Mapping) else {"": item} for item in (before, after)]
    for path in sorted({*trees[0], *trees[1]}):
        one, two = (tree.get(path, "").splitlines() for tree in trees)
        place = f"{name}/{path}".rstrip("/")
        if len(one) + len(two) > LINES:
            yield f"{place}: {len(one)} lines → {len(two)} lines, too many to lay beside each other"
        elif one == two:
            if trees[0].get(path) != trees[1].get(path):
                yield f"{place}: only line ends differ"
        else:
            yield from difflib.unified_diff(one, two, place, place, lineterm="", n=2)
