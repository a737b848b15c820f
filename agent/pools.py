"""Examples of a pool of demonstrations that are rows which the search may not see."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from agent.errors import ConfigError
from agent.problem import Problem
from agent.similar import prefix, shingles, similar
from agent.texts import Demos


def overlap(pool: Sequence[Any], rows: Sequence[Any], labels: Collection[str] = ("id",)) -> list[int]:
    """Places in the pool of what copies or nearly repeats one of the rows.

    Args:
        pool: Plain JSON.
        rows: The same.
        labels: Fields that only label a row.
    """
    index: defaultdict[int, list[frozenset[int]]] = defaultdict(list)
    for row in rows:
        found = shingles(row, labels)
        for number in prefix(found):
            index[number].append(found)
    out = []
    for place, item in enumerate(pool):
        mine = shingles(item, labels)
        if any(similar(mine, other) for number in prefix(mine) for other in index.get(number, ())):
            out.append(place)
    return out


def refuse_held_out(problem: Problem) -> None:
    """Refuse a pool that holds rows of val or test: a prompt that shows them would be examined on what it shows.

    Raises:
        ConfigError: Says how many there are, and how to make a pool of train rows alone.
    """
    pools = {name: item.pool for name, item in problem.space.items() if isinstance(item, Demos)}
    held = [example.row for example in problem.data if example.split != "train"] if pools else []
    for name, pool in pools.items():
        found = len(overlap(pool, held, problem.labels)) if held else 0
        if found:
            raise ConfigError(
                f"space.{name}: {found} of {len(pool)} examples of the pool are rows (or nearly) that are held out for"
                " the exam or the report, and a prompt that shows them would be examined on what it shows",
                hint="make the pool of other rows: rows of the file that is named as data.train; or, in Python, rows ="
                " agent.data.load(file).divide(), and then those of rows.examples whose split is train",
            )
