"""Which rows are train, val and test: fixed at their first use, for all runs of a folder.

A row that a search has read proves nothing any more, whatever it is called later, and a row that the
gate has used stays with the gate. So a split belongs to the row's content and is kept in the file of
`agent.gate.accounts`, where later runs find it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from agent.datasets.splits import divide
from agent.gate.accountfile import ROLES, Features, Twins, insert, select, stored
from agent.gate.accountfile import features as fingerprints
from agent.problem import Example, Split

Splitter = Callable[[Sequence[Example]], Sequence[Example]]


@dataclass(frozen=True, slots=True)
class Assigned:
    """Examples with their splits.

    Args:
        examples: In the order given, with split and cluster; without those that a stricter split has.
        notes: What the user should know, one sentence each.
        searched: Ids of val rows that a search has read before; a claim on them is not proven.
    """

    examples: tuple[Example, ...]
    notes: tuple[str, ...]
    searched: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Known:
    """What the file says of an example: by itself, or of its near-duplicates together."""

    number: int | None
    role: Split
    searched: bool
    run: str


@dataclass(frozen=True, slots=True)
class Change:
    """What an assignment adds to the file.

    Args:
        new: Rows as (features, role, searched).
        raised: Stored rows as (stricter role, number).
    """

    new: tuple[tuple[Features, Split, bool], ...]
    raised: tuple[tuple[Split, int], ...]

    def write(self, db: sqlite3.Connection, run: str) -> None:
        """Store it."""
        for features, role, searched in self.new:
            insert(db, features, role, searched, run)
        db.executemany("UPDATE rows SET role = ? WHERE id = ?", self.raised)


def assign(
    db: sqlite3.Connection, examples: Sequence[Example], labels: Sequence[str], splitter: Splitter
) -> tuple[Assigned, Change]:
    """The splits of examples, and what the file has to learn; see `Accounts.assign`."""
    features = fingerprints(examples, labels)
    known = _known(db, examples, features)
    if not any(known):
        placed = tuple(splitter(examples))
        notes: list[str] = []
    else:
        placed, notes = _placed(examples, known, labels, splitter)
    split = {example.id: example.split for example in placed}
    read = {example.cluster for example, item in zip(examples, known, strict=True) if item and item.searched}
    new: dict[bytes, tuple[Features, Split, bool]] = {}
    raised: dict[int, Split] = {}
    searched: dict[str, _Known | None] = {}
    for example, item, own in zip(examples, known, features, strict=True):
        if example.id not in split:
            continue
        role, seen = split[example.id], bool(item and item.searched) or (example.cluster in read - {""})
        if role != "train" and seen:
            searched[example.id] = item
        if item is None or item.number is None:
            new.setdefault(own.keys[0], (own, role, seen or role == "train"))
        elif role != item.role:
            raised[item.number] = role
    notes += _searched(searched, split)
    assigned = Assigned(placed, tuple(notes), tuple(name for name in searched if split[name] == "val"))
    return assigned, Change(tuple(new.values()), tuple((role, number) for number, role in raised.items()))


def _known(db: sqlite3.Connection, examples: Sequence[Example], features: Sequence[Features]) -> list[_Known | None]:
    """What the file says of each example.

    A copy of a row that the user put into a stricter split among these examples is not known by that: it
    stays where it is, from where `divide` takes it out, in the first run and in every later one alike.
    """
    numbers = stored(db, features)
    table = {
        number: _Known(number, role, bool(searched), run)
        for number, role, searched, run in select(
            db, "SELECT id, role, searched, run FROM rows WHERE id IN ({})", sorted({n for n in numbers if n})
        )
    }
    chosen: dict[int, int] = {}
    for example, number in zip(examples, numbers, strict=True):
        if number is not None:
            chosen[number] = max(chosen.get(number, 0), ROLES.index(example.split))

    def copies(example: Example, stored: Sequence[int]) -> bool:
        """Whether one of these stored rows is in a stricter split by the user's choice."""
        return any(ROLES.index(example.split) < chosen.get(n, 0) for n in stored)

    twins = Twins(db)
    out: list[_Known | None] = []
    for example, own, number in zip(examples, features, numbers, strict=True):
        if number is not None:
            copy = copies(example, [number])
            out.append(replace(table[number], role=example.split) if copy else table[number])
            continue
        near = twins.of(own.shingles)
        if not near:
            out.append(None)
            continue
        rows = select(db, "SELECT role, searched, run FROM rows WHERE id IN ({}) ORDER BY id", near)
        role = max((role for role, _, _ in rows), key=ROLES.index)
        if copies(example, near):
            role = example.split
        out.append(_Known(None, role, any(searched for _, searched, _ in rows), rows[0][2]))
    return out


def _placed(
    examples: Sequence[Example], known: Sequence[_Known | None], labels: Sequence[str], splitter: Splitter
) -> tuple[tuple[Example, ...], list[str]]:
    """Examples of which some are known, with their splits and clusters, and sentences on them."""
    gate = any(item and item.role == "val" for item in known)
    clusters = {example.cluster for example, item in zip(examples, known, strict=True) if item} - {""}
    free = [
        example
        for example, item in zip(examples, known, strict=True)
        if item is None and example.split == "train" and example.cluster not in clusters
    ]
    chosen = {} if gate or not free else {example.id: example.split for example in splitter(free)}
    out = []
    for example, item in zip(examples, known, strict=True):
        role = chosen.get(example.id, example.split)
        if item is not None:
            role = max(role, item.role, key=ROLES.index)
        out.append(replace(example, split=role))
    placed = divide(out, {}, labels)
    notes = []
    new = [example for example in free if gate]
    if new:
        notes.append(
            f"{len(new)} new rows went to train, because the gate's rows are fixed at their first use; "
            "open a new gate to split rows that no run has seen."
        )
    near = [item for item in known if item and item.number is None]
    if near:
        notes.append(f"{len(near)} new rows nearly repeat rows of {_runs(near)} and take their split.")
    if placed.removed:
        names = ", ".join(item.id for item in placed.removed[:3]) + (", …" if len(placed.removed) > 3 else "")
        notes.append(
            f"{len(placed.removed)} rows were taken out, because a stricter split has them, a near-copy, or their "
            f"cluster ({names})."
        )
    return placed.examples, notes


def _searched(found: dict[str, _Known | None], split: dict[str, Split]) -> list[str]:
    """Sentences on rows of val and test that a search has read."""
    notes = []
    for role, means in (("val", "what the gate accepts is not proven"), ("test", "a report on them flatters")):
        items = [item for name, item in found.items() if split[name] == role]
        if items:
            runs = _runs([item for item in items if item]) or "an earlier run"
            notes.append(f"{len(items)} rows of {role} were train in {runs}, so a search has read them: {means}.")
    return notes


def _runs(items: Sequence[_Known]) -> str:
    names = list(dict.fromkeys(item.run for item in items))
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
