"""Data sets: reading rows, and dividing them into train, val and test so that the gate's proof holds.

The proof needs val and test to be independent of train. So rows of one cluster stay together, copies
and near-copies count as one cluster, and where the user's own splits share rows, the stricter split
keeps them. `agent.datasets.rows` reads, `similar` beside it finds near-duplicates, `splits` divides.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from agent.datasets.rows import WRONG, read
from agent.datasets.splits import MINIMUM as MINIMUM
from agent.datasets.splits import SPLITS, Removed, divide, key
from agent.errors import ConfigError
from agent.problem import Example
from agent.space import canonical, digest

NAMED = 10
"""Line numbers that a report keeps of each kind of bad row."""

ALIASES = {"training": "train", "validation": "val", "valid": "val", "dev": "val", "testing": "test", "": "train"}
TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False, "": False, "none": False}


@dataclass(frozen=True, slots=True)
class Bad:
    """Bad rows of one kind in one source.

    Args:
        source: File name, or the split, or "" for rows that were passed.
        kind: A key of `agent.datasets.rows.WRONG`.
        count: How many.
        numbers: The first of them, from 1.
        unit: What the numbers count: "line" or "row".
    """

    source: str
    kind: str
    count: int
    numbers: tuple[int, ...]
    unit: str = "row"

    def __str__(self) -> str:
        numbers = ", ".join(map(str, self.numbers)) + (", …" if self.count > len(self.numbers) else "")
        place = f"{self.source}, " if self.source else ""
        return f"{self.count} {WRONG[self.kind]} ({place}{self.unit}{'s' if self.count > 1 else ''} {numbers})"


@dataclass(frozen=True, slots=True)
class Size:
    """Rows of a split, and clusters: what counts as independent evidence."""

    rows: int = 0
    clusters: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """What was found in the data, for people and for the record. It holds no content of a row.

    Args:
        read: Rows read, bad ones included.
        bad: Bad rows, which were left out.
        repeated: Rows with id and content of an earlier one, kept once.
        exact: Rows that equal another row of their split but for the id; they share its cluster.
        near: Further rows that nearly equal one of their split; they share its cluster.
        largest: Rows of the largest group of copies and near-copies.
        removed: Rows that were taken out because a stricter split has them.
        train, val, test: Sizes.
        divided: Whether the rows have been compared and divided.
    """

    read: int
    bad: tuple[Bad, ...] = ()
    repeated: int = 0
    exact: int = 0
    near: int = 0
    largest: int = 0
    removed: tuple[Removed, ...] = ()
    train: Size = field(default_factory=Size)
    val: Size = field(default_factory=Size)
    test: Size = field(default_factory=Size)
    divided: bool = False

    @property
    def pooled(self) -> bool:
        """Whether the gate has no rows, so that no gain can be proven."""
        return self.divided and not self.val.rows

    @property
    def missing(self) -> int:
        """How many more independent labelled examples would allow a gate by default."""
        return max(0, MINIMUM - self.train.clusters) if self.pooled else 0

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return {**plain, "pooled": self.pooled, "missing": self.missing}

    def sentences(self) -> list[str]:
        """The report for people, one finding a sentence."""
        out = [f"{self.read} rows were read."]
        out += [f"Left out: {item}." for item in self.bad]
        if self.repeated:
            out.append(f"{self.repeated} rows repeat the id and content of another and are kept once.")
        if not self.divided:
            return out
        if self.exact:
            out.append(f"{self.exact} rows copy another row under another id; each group of copies counts once.")
        if self.near:
            out.append(f"{self.near} rows nearly repeat another row; each group counts once.")
        kept = self.train.rows + self.val.rows + self.test.rows
        if self.largest > max(10, kept / 10):
            out.append(
                f"{self.largest} of them look nearly the same. If it is a long template that they share, "
                "name the fields to leave out of the comparison with ignore=…"
            )
        words = {"exact": "is also in", "near": "nearly repeats a row of", "cluster": "has a cluster with rows in"}
        for why, phrase in words.items():
            for split in SPLITS:
                for kept_in in SPLITS:
                    ids = [r.id for r in self.removed if (r.split, r.kept, r.why) == (split, kept_in, why)]
                    if ids:
                        names = ", ".join(ids[:3]) + (", …" if len(ids) > 3 else "")
                        out.append(f"Taken out of {split}, because each {phrase} {kept_in}: {len(ids)} rows ({names}).")
        sizes = ((name, getattr(self, name)) for name in SPLITS)
        out.append(", ".join(f"{name} {size.rows} rows in {size.clusters} clusters" for name, size in sizes) + ".")
        if self.missing:
            out.append(
                f"Below {MINIMUM} independent examples all are searched on, so the result will be unproven; "
                f"{self.missing} more would allow a gate."
            )
        elif self.pooled:
            out.append("No row is left for the gate, so the result will be unproven.")
        return out


@dataclass(frozen=True, slots=True)
class Dataset:
    """Examples and the report on them.

    Args:
        examples: In the order of the source.
        report: What was found.
        labels: Fields that label a row and are left out when rows are compared.
    """

    examples: tuple[Example, ...]
    report: Report
    labels: tuple[str, ...] = ("id",)

    def divide(self, shares: Mapping[str, float] | None = None) -> Dataset:
        """The data set with its final splits and clusters, as by `split`, and with a full report."""
        found = divide(self.examples, shares, self.labels)
        train, val, test = (_size(found.examples, name) for name in SPLITS)
        before = self.report
        report = Report(
            before.read,
            before.bad,
            before.repeated,
            found.exact,
            found.near,
            found.largest,
            (*before.removed, *found.removed),
            train,
            val,
            test,
            divided=True,
        )
        return Dataset(found.examples, report, self.labels)


def _size(examples: Sequence[Example], split: str) -> Size:
    rows = [example for example in examples if example.split == split]
    return Size(len(rows), len({key(example) for example in rows}))


def split(
    examples: Sequence[Example],
    shares: Mapping[str, float] | None = None,
    labels: Sequence[str] = ("id",),
) -> tuple[Example, ...]:
    """Divide examples into train, val and test.

    Clusters are ordered by the hash of their name and taken whole, val first, so the division depends on
    the rows alone and not on their order or a seed. Copies and near-copies are one cluster: they stay with
    each other and count once, since the second tells nothing new.

    Splits other than train that the examples have already are kept. Then a row of a looser split that
    a stricter one has too (a copy, a near-copy, a row of the same cluster) is taken out, and val and test
    are filled from train only where they are missing: test alone was given, or `shares` asks for it.

    Args:
        examples: With unique ids.
        shares: For val and test, a share below 1 or a number of rows; train gets the rest. Without it, by
            the number N of independent examples: all to train below `MINIMUM`; half to val up to 300;
            above, min(N/3, 500) to val and min(N/5, 500) to test.
        labels: Top-level fields of a row that are left out when rows are compared.

    Returns:
        The examples that stay, in their order, with final split and cluster.

    Raises:
        ConfigError: The shares are not possible.
    """
    return divide(examples, shares, labels).examples


def load(
    source: Any,
    *,
    id: str | None = None,
    cluster: str | None = None,
    answer: str | None = None,
    split: str | None = None,
    anchor: str | None = None,
    ignore: Sequence[str] = (),
    skip_bad: bool = False,
) -> Dataset:
    """Read examples, as they are; `Dataset.divide` then gives them their splits.

    Args:
        source: Path of a .jsonl, .json (one list) or .csv file, also with .gz; or a list or iterator of rows.
            A CSV cell that is spelt as Python writes a number becomes that number.
        id: Field of the rows' ids. Without it, "id". A row that lacks it has the hash of its content;
            id = "" uses the hash for all.
        cluster: Field that names what a row belongs to.
        answer: Field of the answer, which no candidate may contain when the row is held out.
        split: Field that says train, val or test; a row that lacks it is in train.
        anchor: Field that says whether the row must not break.
        ignore: Further fields to leave out when rows are compared, such as a long template.
        skip_bad: Leave bad rows out and report them, instead of refusing the data. Of two rows with one id
            and different content, the first is kept.

    Raises:
        ConfigError: The source cannot be read, holds bad rows or no row, or a field is in none of the rows.
    """
    reader = _Reader({"id": id, "cluster": cluster, "answer": answer, "split": split, "anchor": anchor}, ignore)
    reader.take(source)
    return reader.dataset(skip_bad)


def load_splits(
    *,
    train: Any,
    val: Any = None,
    test: Any = None,
    shares: Mapping[str, float] | None = None,
    id: str | None = None,
    cluster: str | None = None,
    answer: str | None = None,
    anchor: str | None = None,
    ignore: Sequence[str] = (),
    skip_bad: bool = False,
) -> Dataset:
    """Read one source for each split, and divide: rows that splits share stay in the stricter one.

    Args:
        train, val, test: Sources, as in `load`. Without val, val is taken from train.
        shares: As in `split`.
        id, cluster, answer, anchor, ignore, skip_bad: As in `load`.

    Raises:
        ConfigError: As in `load`, and when no row of train is left.
    """
    reader = _Reader({"id": id, "cluster": cluster, "answer": answer, "split": None, "anchor": anchor}, ignore)
    for name, source in (("train", train), ("val", val), ("test", test)):
        if source is not None:
            reader.take(source, name)
    out = reader.dataset(skip_bad).divide(shares)
    if not out.report.train.rows:
        raise ConfigError("no row of train is left: val and test have all of them", hint="give train rows of its own")
    return out


class _Reader:
    """Collects examples and what is wrong with rows."""

    def __init__(self, fields: Mapping[str, str | None], ignore: Sequence[str]) -> None:
        self.fields = {**fields, "id": "id" if fields["id"] is None else fields["id"]}
        self.asked = {role: name for role, name in fields.items() if name}
        self.found: set[str] = set()
        self.names: dict[str, None] = {}
        labels = [self.fields[role] for role in ("id", "cluster", "split", "anchor")]
        self.labels = tuple(dict.fromkeys(name for name in ("id", *labels, *ignore) if name))
        self.examples: list[Example] = []
        self.seen: dict[str, tuple[str, set[str]]] = {}
        self.read = self.repeated = 0
        self.bad: dict[tuple[str, str, str], list[int]] = {}
        self.counts: dict[tuple[str, str, str], int] = {}

    def take(self, source: Any, split: str = "") -> None:
        """Read all rows of a source."""
        name = os.path.basename(source) if isinstance(source, (str, os.PathLike)) else split
        unit = "row" if name == split or ".json" in Path(name).suffixes else "line"
        for row in read(source):
            self.read += 1
            wrong = row.wrong or self._add(row.value, split)
            if wrong:
                place = (name, wrong, unit)
                self.counts[place] = self.counts.get(place, 0) + 1
                if self.counts[place] <= NAMED:
                    self.bad.setdefault(place, []).append(row.number)

    def _field(self, row: Any, role: str) -> Any:
        name = self.fields[role]
        if not name or not isinstance(row, Mapping):
            return None
        if len(self.names) < 50:
            self.names.update(dict.fromkeys(map(str, row)))
        if name in row:
            self.found.add(role)
        return row.get(name)

    def _add(self, row: Any, given: str) -> str:
        """Keep a row; or say what is wrong with it."""
        own, cluster = self._field(row, "id"), self._field(row, "cluster")
        said = given or str(self._field(row, "split") or "").strip().lower()
        where = next((split for split in SPLITS if split == ALIASES.get(said, said)), None)
        anchor = TRUTHS.get(str(self._field(row, "anchor") or "").strip().lower())
        answer = self._field(row, "answer")
        if where is None:
            return "split"
        if anchor is None:
            return "anchor"
        name = str(own) if own is not None and own != "" else digest(row)
        bare = {k: v for k, v in row.items() if k != self.fields["split"]} if isinstance(row, Mapping) else row
        content, splits = self.seen.setdefault(name, (digest(bare), set()))
        if content != digest(bare):
            return "id"
        if where in splits:
            self.repeated += 1
            return ""
        splits.add(where)
        belongs = "" if cluster is None else cluster if isinstance(cluster, str) else canonical(cluster)
        self.examples.append(Example(name, row, belongs, where, None if answer == "" else answer, anchor))
        return ""

    def dataset(self, skip_bad: bool) -> Dataset:
        """What was read, unless it is refused."""
        bad = tuple(
            Bad(source, kind, self.counts[source, kind, unit], tuple(numbers), unit)
            for (source, kind, unit), numbers in self.bad.items()
        )
        if bad and not skip_bad:
            hint = "correct them, or leave them out with skip_bad = True"
            if any(item.kind == "id" for item in bad):
                hint += '; id = "" makes ids from the content'
            count = sum(item.count for item in bad)
            raise ConfigError(f"the data has {count} bad rows: {'; '.join(map(str, bad))}", hint=hint)
        if not self.examples:
            left = " left" if bad else ""
            raise ConfigError(f"the data has no rows{left}", hint="give at least one row")
        for role, name in self.asked.items():
            if role not in self.found:
                there = ", ".join(list(self.names)[:12]) or "no fields"
                raise ConfigError(f"{role}: no row has the field {name!r}", hint=f"the rows have: {there}")
        train, val, test = (_size(self.examples, name) for name in SPLITS)
        report = Report(self.read, bad, self.repeated, train=train, val=val, test=test)
        return Dataset(tuple(self.examples), report, self.labels)
