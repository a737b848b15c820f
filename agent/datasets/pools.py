"""Examples of a pool of demonstrations that are rows which the search may not see.

A pool is often made from the data and written anew: with a rationale beside each answer, without a long
context, as plain text. So three things are looked for, and any of them is enough: an example that nearly
repeats a row as a whole, one that does so in the fields that both have, and one whose text holds the row's or
is held by it.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from agent.datasets.similar import leaves, prefix, shingles, similar
from agent.datasets.splits import contents
from agent.errors import ConfigError
from agent.parameters import Value
from agent.problem import Problem
from agent.texts import Demos

WORDS = 3
"""Consecutive words that are looked for in another text."""
HELD = 0.9
"""Share of these that must be there. Of two texts of one length that is a Jaccard similarity of 0.8."""
FEW = 5
"""Of fewer, the words around them count too, as in "good" within a whole review."""
TELLING = 0.8
"""Fields tell rows apart when at least this share of the different rows differs in them; a label does not."""

_WORD = re.compile(r"\d+(?:\.\d+)?|\w+|[^\w\s.,;:!?'\"‘’“”…]")

_ARROW = re.compile(r"\t|[-=]+>|→")
"""Between question and answer, where both are one text."""


def overlap(pool: Sequence[Any], rows: Sequence[Any], labels: Collection[str] = ("id",)) -> list[int]:
    """Places in the pool of what copies or nearly repeats one of the rows, or shows it among other text.

    Args:
        pool: Plain JSON.
        rows: The same.
        labels: Fields that only label a row.
    """
    every = [*rows, *pool]
    # Fields that are equal everywhere, such as an instruction, make no row a copy of another.
    bare = iter(contents([item for item in every if isinstance(item, Mapping)], labels))
    every = [next(bare) if isinstance(item, Mapping) else item for item in every]
    items, held = every[len(rows) :], every[: len(rows)]
    return sorted({*_nearly(items, held), *_by_fields(items, held), *_by_text(items, held)})


def _nearly(pool: Sequence[Any], rows: Sequence[Any]) -> set[int]:
    """Places of what nearly repeats one of the rows as it stands."""
    index: defaultdict[int, list[frozenset[int]]] = defaultdict(list)
    for row in rows:
        found = shingles(row, ())
        for number in prefix(found):
            index[number].append(found)
    out = set()
    for place, item in enumerate(pool):
        mine = shingles(item, ())
        if any(similar(mine, other) for number in prefix(mine) for other in index.get(number, ())):
            out.add(place)
    return out


def _by_fields(pool: Sequence[Any], rows: Sequence[Any]) -> set[int]:
    """Places of what nearly repeats a row in the fields that both have."""
    out: set[int] = set()
    kinds: defaultdict[frozenset[Any], list[Any]] = defaultdict(list)
    for row in rows:
        if isinstance(row, Mapping):
            kinds[frozenset(row)].append(row)
    places: defaultdict[frozenset[Any], list[int]] = defaultdict(list)
    for place, item in enumerate(pool):
        if isinstance(item, Mapping):
            places[frozenset(item)].append(place)
    for names, mine in places.items():
        for others, held in kinds.items():
            both = names & others
            if both and names != others and _tells(both, names, others, held):
                found = _nearly([_only(pool[place], both) for place in mine], [_only(row, both) for row in held])
                out.update(mine[at] for at in found)
    return out


def _only(row: Mapping[Any, Any], names: Collection[Any]) -> dict[Any, Any]:
    return {name: row[name] for name in names}


def _tells(both: frozenset[Any], names: frozenset[Any], others: frozenset[Any], rows: Sequence[Any]) -> bool:
    """Whether some fields say which row it is: all that one side has, or texts (no bare label, no bare answer)."""
    cut = [_only(row, both) for row in rows]
    if both not in (names, others) and not any(len(text.split()) > 1 for row in cut for text in leaves(row)):
        return False
    return len({shingles(row, ()) for row in cut}) >= TELLING * len({shingles(row, ()) for row in rows})


@dataclass(frozen=True, slots=True)
class _Said:
    """What a text says.

    Args:
        own: Its runs of three words, and its shorter leaves whole.
        all: All of its runs of one to three words.
        numbers: Its words with digits.
        words: How many it has.
    """

    own: frozenset[str]
    all: frozenset[str]
    numbers: frozenset[str]
    words: int

    @classmethod
    def of(cls, row: Any) -> _Said:
        texts = [_WORD.findall(part) for text in leaves(row) for part in _ARROW.split(text.casefold())]
        own = chain.from_iterable(_runs(words, min(WORDS, len(words))) for words in texts if words)
        runs = (_runs(words, size) for words in texts for size in range(1, WORDS + 1))
        numbers = (word for words in texts for word in words if any(map(str.isdigit, word)))
        return cls(frozenset(own), frozenset(chain.from_iterable(runs)), frozenset(numbers), sum(map(len, texts)))


def _runs(words: Sequence[str], size: int) -> Iterable[str]:
    return (" ".join(words[at : at + size]) for at in range(len(words) - size + 1))


def _by_text(pool: Sequence[Any], rows: Sequence[Any]) -> set[int]:
    """Places of what holds the text of a row, whatever its fields are called, or is held by it."""
    items, held = [_Said.of(item) for item in pool], [_Said.of(row) for row in rows]
    count = Counter(chain.from_iterable(one.all for one in (*items, *held)))
    # What many rows say, such as a question that is always the same or a label, makes no row a copy of another.
    most = max(4, min(20, (len(items) + len(held)) // 10))
    common = {run for run, times in count.items() if times > most}
    return {place for place, _ in _within(items, held, common)} | {place for _, place in _within(held, items, common)}


def _within(ones: Sequence[_Said], others: Sequence[_Said], common: Collection[str]) -> Iterable[tuple[int, int]]:
    """Pairs of places (i, j): the text i is part of the text j."""
    rare = [one.own.difference(common) for one in ones]
    where: defaultdict[str, list[int]] = defaultdict(list)
    for i, runs in enumerate(rare):
        for run in runs:
            where[run].append(i)
    for j, other in enumerate(others):
        found = Counter(chain.from_iterable(where[run] for run in other.all if run in where))
        for i, times in found.items():
            enough = len(rare[i]) >= FEW or 2 * ones[i].words >= other.words
            if enough and times >= HELD * len(rare[i]) and ones[i].numbers <= other.numbers:
                yield i, j


def held_out(problem: Problem, removed: Sequence[Any] = ()) -> dict[str, frozenset[int]]:
    """By parameter, the places in its pool that no candidate may choose: rows of val or test, or nearly such rows.

    A prompt that shows them would be examined on what it shows.

    Args:
        problem: With its rows divided.
        removed: Rows that were taken out of the data because a stricter split has them, or their cluster.

    Raises:
        ConfigError: Nothing is left of a pool, or the initial candidate has such an example.
    """
    held = [*(example.row for example in problem.data if example.split != "train"), *removed]
    out: dict[str, frozenset[int]] = {}
    for name, item in problem.space.items():
        if not held or not isinstance(item, Demos):
            continue
        out[name] = frozenset(overlap(item.pool, held, problem.labels))
        if len(out[name]) == len(item.pool):
            raise ConfigError(
                f"space.{name}: all {len(item.pool)} examples of the pool are rows (or nearly) that are held out for"
                " the exam or the report",
                hint="add rows of train to the pool, or name other rows as data.val",
            )
        if out[name].intersection(item.default):
            raise ConfigError(
                f"space.{name}: an example of the initial candidate is a row (or nearly) that is held out for the exam"
                " or the report, and a prompt that shows it would be examined on what it shows",
                hint="begin with no examples, or name the rows as data.train and data.val",
            )
    return {name: places for name, places in out.items() if places}


def note(problem: Problem, held: dict[str, frozenset[int]], strange: Iterable[str] = ()) -> list[str]:
    """What a user is told of that, and of the parameters (`strange`) whose pools hold no row of train."""
    out = [
        f"{name}: {len(places)} of the pool's {len(getattr(problem.space[name], 'pool', ()))} examples are held-out"
        " rows, and are never shown"
        for name, places in held.items()
    ]
    if all(example.split == "train" for example in problem.data):
        return out
    return out + [
        f"{name}: no example of the pool is a row of train, so all are drawn from"
        + (" but the held-out ones" if name in held else "")
        + "; see that none says in other words what a held-out row asks"
        for name in strange
    ]


def chooses(held: dict[str, frozenset[int]], candidate: Mapping[str, Value]) -> str:
    """Why a candidate's examples are refused; "" when they are not."""
    for name, places in held.items():
        if wrong := sorted(places.intersection(candidate[name])):
            return f"{name}: {', '.join(map(str, wrong))} of the pool: held-out rows, which no prompt may show"
    return ""
