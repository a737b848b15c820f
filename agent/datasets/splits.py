"""Dividing examples into train, val and test, with what depends on each other kept together."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

from agent.datasets.similar import candidates, shingles, similar
from agent.errors import ConfigError
from agent.problem import Example, Split
from agent.space import digest

SPLITS: tuple[Split, ...] = ("train", "val", "test")
"""From loose to strict: a row that two splits share stays in the stricter one."""
MINIMUM = 80
"""Independent examples below which all of them go to train, and nothing can be proven (gate.md 2.2)."""
MANY = 300
"""Independent examples above which some go to test by default."""
MOST = 500
"""Independent examples that val, and test, get at most by default."""
SALT = b"truegain split 1\n"
"""Fixed, so that a division depends on the rows alone."""


@dataclass(frozen=True, slots=True)
class Removed:
    """A row that was taken out because a stricter split has it, or a row that depends on it.

    Args:
        id: Its id.
        split: Where it was.
        kept: The stricter split.
        why: "exact" copy, "near" copy, or row of one "cluster".
    """

    id: str
    split: str
    kept: str
    why: str


@dataclass(frozen=True, slots=True)
class Division:
    """Examples with their final splits and clusters.

    Args:
        examples: In their first order, without those removed.
        removed: Rows that a stricter split has.
        exact: Rows that only repeat another row of their split.
        near: Different rows that are counted together with a row of their split that they nearly repeat.
        largest: Rows of the largest group of copies and near-copies.
    """

    examples: tuple[Example, ...]
    removed: tuple[Removed, ...] = ()
    exact: int = 0
    near: int = 0
    largest: int = 0


def key(example: Example) -> str:
    """What an example counts as: its cluster, or itself."""
    return example.cluster or example.id


class _Groups:
    """Disjoint sets of anything hashable."""

    def __init__(self) -> None:
        self.parent: dict[Hashable, Hashable] = {}

    def find(self, item: Hashable) -> Hashable:
        parent = self.parent
        parent.setdefault(item, item)
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    def join(self, a: Hashable, b: Hashable) -> None:
        self.parent[self.find(a)] = self.find(b)


def contents(rows: Sequence[Any], labels: Collection[str]) -> list[Any]:
    """What two rows are compared by: all but the fields that label a row, and those that are equal in every row.

    A field that is equal everywhere, such as an instruction, says nothing about how much two rows differ.
    """
    bare = [_without(row, labels) for row in rows]
    if len(bare) < 2 or not all(isinstance(row, Mapping) for row in bare):
        return bare
    first = bare[0]
    same = {name for name in first if all(name in row and row[name] == first[name] for row in bare)}
    if any(same.issuperset(row) for row in bare):
        return bare  # a row has nothing else
    return [_without(row, same) for row in bare]


def _without(row: Any, names: Collection[str]) -> Any:
    bare = {name: value for name, value in row.items() if name not in names} if isinstance(row, Mapping) else row
    return row if bare == {} else bare


def divide(
    examples: Sequence[Example], shares: Mapping[str, float] | None = None, labels: Collection[str] = ("id",)
) -> Division:
    """Divide examples; see `agent.datasets.data.split`.

    Raises:
        ConfigError: The shares are not possible.
    """
    bare = contents([example.row for example in examples], labels)
    copies = [digest(content) for content in bare]
    sets = [shingles(content, ()) for content in bare]
    # Rows of one set of shingles are one unit; comparing units instead of rows keeps many copies cheap.
    units: dict[Hashable, int] = {}
    unit = [units.setdefault(sets[i] or copies[i], len(units)) for i in range(len(examples))]
    groups, crossing = _related(examples, unit, sets)
    kept, removed = _without_copies(examples, unit, copies, crossing)

    distinct = {(copies[i], examples[i].split) for i in kept}
    alike = Counter(groups.find((unit[i], examples[i].split)) for i in kept)
    for i in kept:
        groups.join(("row", i), (unit[i], examples[i].split))
        groups.join(("row", i), ("cluster", key(examples[i]), examples[i].split))
    members: defaultdict[Hashable, list[int]] = defaultdict(list)
    for i in kept:
        members[groups.find(("row", i))].append(i)
    clusters = {min(key(examples[i]) for i in rows): rows for rows in members.values()}
    chosen = _chosen(examples, clusters, shares)
    out = {}
    for name, rows in clusters.items():
        one = len({key(examples[i]) for i in rows}) == 1
        for i in rows:
            out[i] = replace(
                examples[i],
                cluster=examples[i].cluster if one else name,
                split=chosen.get(name, examples[i].split),
            )
    return Division(
        examples=tuple(out[i] for i in kept),
        removed=tuple(removed),
        exact=len(kept) - len(distinct),
        near=len(distinct) - len(alike),
        largest=max(alike.values(), default=0),
    )


_Node = tuple[int, str]
"""A unit within a split."""


def _related(
    examples: Sequence[Example], unit: Sequence[int], sets: Sequence[frozenset[int]]
) -> tuple[_Groups, dict[_Node, set[_Node]]]:
    """Near-copies within splits, as groups of nodes; and across splits: from a node to those in stricter ones."""
    groups = _Groups()
    crossing: defaultdict[_Node, set[_Node]] = defaultdict(set)
    where: defaultdict[int, set[str]] = defaultdict(set)
    by_unit: dict[int, frozenset[int]] = {}
    for i, example in enumerate(examples):
        where[unit[i]].add(example.split)
        by_unit.setdefault(unit[i], sets[i])

    def relate(a: _Node, b: _Node) -> None:
        if a[1] == b[1]:
            groups.join(a, b)
        else:
            loose, strict = sorted((a, b), key=lambda node: SPLITS.index(node[1]))
            crossing[loose].add(strict)

    for number, splits in where.items():
        for one in splits:
            for other in splits:
                relate((number, one), (number, other))
    ordered = [by_unit[number] for number in range(len(by_unit))]
    for a, b in candidates(ordered):
        if where[a] == where[b] and len(where[a]) == 1:
            (split,) = where[a]
            if groups.find((a, split)) == groups.find((b, split)):
                continue  # known to belong together, so comparing them tells nothing
        if similar(ordered[a], ordered[b]):
            for one in where[a]:
                for other in where[b]:
                    relate((a, one), (b, other))
    return groups, crossing


def _without_copies(
    examples: Sequence[Example], unit: Sequence[int], copies: Sequence[str], crossing: Mapping[_Node, set[_Node]]
) -> tuple[list[int], list[Removed]]:
    """Positions of the rows that stay, and the rows that a stricter split has."""
    kept: list[int] = []
    removed: list[tuple[int, Removed]] = []
    nodes: set[_Node] = set()
    exact: dict[str, str] = {}
    clusters: dict[str, str] = {}
    for split in reversed(SPLITS):
        stay = []
        for i, example in enumerate(examples):
            if example.split != split:
                continue
            stricter = crossing.get((unit[i], split), set()) & nodes
            if copies[i] in exact:
                removed.append((i, Removed(example.id, split, exact[copies[i]], "exact")))
            elif stricter:
                found = max((node[1] for node in stricter), key=SPLITS.index)
                removed.append((i, Removed(example.id, split, found, "near")))
            elif key(example) in clusters:
                removed.append((i, Removed(example.id, split, clusters[key(example)], "cluster")))
            else:
                stay.append(i)
        for i in stay:
            nodes.add((unit[i], split))
            exact.setdefault(copies[i], split)
            clusters.setdefault(key(examples[i]), split)
        kept += stay
    return sorted(kept), [item for _, item in sorted(removed, key=lambda pair: pair[0])]


def _chosen(
    examples: Sequence[Example], clusters: Mapping[str, Sequence[int]], shares: Mapping[str, float] | None
) -> dict[str, Split]:
    """Cluster → val or test, for the clusters of train that go there."""
    given = {example.split for example in examples if example.split != "train"}
    loose = {name: rows for name, rows in clusters.items() if examples[rows[0]].split == "train"}
    total = sum(map(len, loose.values()))
    quotas = _quotas(given, len(loose), total, shares)
    order = sorted(loose, key=lambda name: blake2b(SALT + name.encode("utf-8", "surrogatepass")).digest())
    out: dict[str, Split] = {}
    for split, quota in quotas.items():
        taken = 0
        for name in order:
            size = len(loose[name])
            # Taken when that is at least as close to the quota as leaving it: later, smaller ones may still fit.
            if name not in out and taken + size - quota <= quota - taken:
                out[name] = split
                taken += size
    if loose and len(out) == len(loose):
        raise ConfigError("no row is left for train", hint="make the shares of val and test smaller, or add rows")
    return out


def _quotas(given: Collection[Split], count: int, rows: int, shares: Mapping[str, float] | None) -> dict[Split, int]:
    """How many rows of train go to val and to test.

    Args:
        given: Splits that have rows of the user's choice.
        count: Clusters of train: what counts as independent evidence.
        rows: Rows of train.
        shares: The user's wish; None for the default by size (gate.md 2.2).
    """
    if shares is not None:
        return {name: _rows(name, shares[name], rows, given) for name in _named(shares)}
    if "val" in given or count < MINIMUM:
        return {}
    if count <= MANY:
        return {"val": rows // 2}
    parts: dict[Split, float] = {"val": min(count / 3, MOST), "test": min(count / 5, MOST)}
    return {name: int(rows * part / count + 1e-9) for name, part in parts.items() if name not in given}


def _named(shares: Mapping[str, float]) -> list[Split]:
    unknown = [str(name) for name in shares if name not in ("val", "test")]
    if unknown:
        raise ConfigError(f"shares: found {', '.join(unknown)}, allowed is val and test", hint="train gets the rest")
    return [name for name in SPLITS if name in shares]


def _rows(name: str, share: Any, rows: int, given: Collection[str]) -> int:
    number = isinstance(share, (int, float)) and not isinstance(share, bool)
    if not number or not (0 <= share < 1 or (share >= 1 and share == int(share))):
        raise ConfigError(
            f"shares: {name}: found {share!r}, allowed is a share below 1 or a whole number of rows",
            hint='such as {"val": 0.3, "test": 0.2} or {"val": 200}',
        )
    if share and name in given:
        raise ConfigError(f"shares: {name} has rows of your own choice", hint=f"leave {name} out of the shares")
    if share > rows:
        raise ConfigError(f"shares: {name}: {share} rows of {rows} are asked for", hint="ask for fewer, or add rows")
    return int(share * rows + 1e-9) if share < 1 else int(share)
