"""Result files of evaluations: what is measured, then each row when it is begun and when it has ended, as JSON lines.

So a file is the record of what was spent, a command that was cut off goes on with it, and rows that several machines
have measured become one report.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from agent.errors import ConfigError, RunLocked, StoreError
from agent.evaluation import LARGEST
from agent.problem import Example
from agent.redact import MASK
from agent.space import Candidate, digest

FORMAT = 1
BEGIN = b'{"format":'
"""What a result file begins with."""
WRITER = "name files that truegain eval has written"
SAME = {
    "fingerprints": "the evaluator, the data or the problem is another one",
    "candidate": "it measured another candidate",
    "values": "it has other values for the same candidate",
    "goals": "it has other goals, or other scores for failed rows",
    "set": "its train rows are others",
    "seed": "it was measured with another seed",
    "models": "it asked other models",
    "shards": "it belongs to another number of shards",
}
"""What all shards of an evaluation share, and what is wrong where one does not."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Which share of the rows: the `number`th of `of`, from 1."""

    number: int = 1
    of: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """The shard that "2/8" names.

        Raises:
            ConfigError: It has another form, or there is no such shard.
        """
        first, mark, second = text.partition("/")
        if mark and first.isascii() and second.isascii() and first.isdigit() and second.isdigit():
            found = cls(int(first), int(second))
            if 1 <= found.number <= found.of:
                return found
        raise ConfigError(f"--shard: found {text!r}, allowed is K/N with K from 1 to N", hint="such as --shard 2/8")

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def rows(self, examples: Sequence[Example]) -> list[Example]:
        """Its rows. They depend on the ids alone; the shards of one N are disjoint, complete and about as large."""
        order = sorted(examples, key=lambda example: (digest(["shard", example.id]), example.id))
        return order[self.number - 1 :: self.of]


@dataclass(frozen=True, slots=True)
class Row:
    """One row's measurement; `values` is None where it failed."""

    id: str
    values: Mapping[str, float] | None
    failure: str = ""
    seconds: float = 0.0
    usd: float = 0.0

    def line(self) -> dict[str, Any]:
        """As it stands in a result file."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass
class Record:
    """What a result file holds.

    Args:
        head: Problem, fingerprints, candidate, `set` and number of all train rows, `shard` and `shards`, goals.
        rows: Those that have ended, by id.
        begun: Rows that were begun, those of a process that was cut off included.
    """

    head: dict[str, Any]
    rows: dict[str, Row] = field(default_factory=dict)
    begun: int = 0

    @property
    def shard(self) -> Shard:
        return Shard(self.head["shard"], self.head["shards"])

    def report(self) -> dict[str, Any]:
        """Means over the rows, failures and spend; it depends on the rows and not on the order of them."""
        rows = [self.rows[name] for name in sorted(self.rows)]
        failed = [row for row in rows if row.values is None]
        return {
            "problem": self.head["problem"],
            "candidate": self.head["candidate"],
            "values": self.head["values"],
            "shard": str(self.shard) if self.shard.of > 1 else None,
            "rows": len(rows),
            "of": self.head["rows"],
            "means": {name: self._mean(name, floor, rows) for name, floor in self.head["goals"].items()},
            "failed": len(failed),
            "failures": sorted({row.failure for row in failed})[:5],
            "spent": {
                "evaluations": len(rows),
                "possibly": self.begun - len(rows),
                "seconds": math.fsum(row.seconds for row in rows),
                "usd": math.fsum(row.usd for row in rows),
            },
        }

    @staticmethod
    def _mean(name: str, floor: float | None, rows: Sequence[Row]) -> float | None:
        """As in a run, a failed row counts with the objective's floor; without one there is no mean."""
        numbers = [floor if row.values is None else row.values[name] for row in rows]
        known = [number for number in numbers if number is not None]
        return math.fsum(known) / len(known) if known and len(known) == len(numbers) else None


def merge(paths: Sequence[Path]) -> Record:
    """The evaluation whose shards these files hold.

    Raises:
        ConfigError: A file cannot be read, or is no result file; a shard is missing, twice there, not finished, or of
            another evaluation; names the file.
    """
    records = [(path, load(path)) for path in paths]
    first_path, first = records[0]
    known: dict[int, Path] = {}
    whole = Record({**first.head, "shard": 1, "shards": 1})
    for path, record in records:
        for name, wrong in SAME.items():
            if record.head[name] != first.head[name]:
                raise ConfigError(f"{path} does not go with {first_path}: {wrong}", hint="measure that shard again")
        shard = record.shard
        if shard.number in known:
            raise ConfigError(f"{path} and {known[shard.number]} are both shard {shard}", hint="name each shard once")
        known[shard.number] = path
        count = len(range(shard.number - 1, record.head["rows"], shard.of))
        if len(record.rows) != count:
            raise ConfigError(
                f"{path}: shard {shard} has {len(record.rows)} of its {count} rows",
                hint=f"run it again with --shard {shard} --out {path}: it goes on with what is there",
            )
        whole.rows |= record.rows
        whole.begun += record.begun
    of = first.shard.of
    if missing := [f"{number}/{of}" for number in range(1, of + 1) if number not in known]:
        raise ConfigError(f"shard {', '.join(missing)} is missing", hint="name the files of all shards")
    if digest(sorted(whole.rows)) != first.head["set"]:
        raise ConfigError("the files do not hold the rows of their shards", hint="measure them again")
    return whole


def load(path: Path) -> Record:
    """What a result file holds.

    Raises:
        ConfigError: It cannot be read, or is no result file.
    """
    try:
        with path.open("rb") as file:
            record = read(path, file)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", hint=WRITER) from None
    if record is None:
        raise ConfigError(f"{path} is empty", hint=WRITER)
    return record


def read(path: Path, file: IO[bytes]) -> Record | None:
    """The whole lines of a file; what a kill left of the last one does not count."""
    record: Record | None = None
    begun: set[str] = set()
    try:
        for number, line in enumerate(file.read().split(b"\n")[:-1], 1):
            try:
                item = json.loads(line)
            except ValueError:
                raise ValueError(f"its line {number} is no JSON") from None
            if record is None:
                if item["format"] != FORMAT:
                    raise ConfigError(f"{path} is of another version of TrueGain", hint="measure it again")
                _check(item)
                record = Record(item)
            elif "begun" in item:
                record.begun += 1
                begun.add(item["begun"])
            else:
                row = _row(item, record.head["goals"])
                if row.id not in begun:  # else it would be measured without being paid
                    raise ValueError(f"row {row.id!r} has ended and was never begun")
                record.rows.setdefault(row.id, row)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ConfigError(f"{path} is no result file: {error}", hint=WRITER) from None
    return record


def _check(item: Mapping[str, Any]) -> None:
    Shard.parse(f"{item['shard']}/{item['shards']}")
    for name in ("problem", "fingerprints", "candidate", "values", "set", "seed", "models", "rows", "goals"):
        item[name]
    counts = [item[name] for name in ("shard", "shards", "rows")]
    if {type(count) for count in counts} != {int} or item["shards"] > item["rows"]:
        raise ValueError("shard, shards and rows are {!r}, {!r} and {!r}".format(*counts))
    for name, floor in item["goals"].items():
        if floor is not None:
            _finite(name, floor)
    # Where a value was masked, the file cannot tell whose it is.
    if MASK not in json.dumps(item["values"]) and Candidate(item["values"]).id != item["candidate"]:
        raise ValueError("its values are not those of its candidate")


def _row(item: dict[str, Any], goals: Collection[str]) -> Row:
    """A row as it stands in a file, with a finite number for each goal, or failed."""
    row = Row(**item)
    if not isinstance(row.id, str) or not isinstance(row.failure, str):
        raise ValueError("a row without a name, or with another failure than words")
    if row.values is not None:
        if lacking := sorted(set(goals) - set(row.values)):
            raise ValueError(f"row {row.id!r} has no {lacking[0]}")
        for name, value in row.values.items():
            _finite(f"{name} of row {row.id!r}", value)
    for name, value in (("seconds", row.seconds), ("usd", row.usd)):
        if _finite(f"{name} of row {row.id!r}", value) < 0:
            raise ValueError(f"{name} of row {row.id!r} is {value!r}")
    return row


def _finite(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{name} is {value!r}, which is no finite number")
    if abs(value) > LARGEST:
        raise ValueError(f"{name} is {value!r}, and no measurement is beyond ±{LARGEST:g}")
    return value


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The file, for this process alone; an unfinished last line is cut off."""
    try:
        file = path.open("a+b")
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}", hint="name another file with --out") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunLocked(
                str(path), None, message=f"another process writes {path}", hint="wait for it, or name another file"
            ) from None
        file.seek(0)
        content = file.read()
        if not content.startswith(BEGIN[: len(content)]):  # it is somebody's, and its last line may be all of it
            raise ConfigError(f"{path} is no result file", hint="name another file with --out")
        file.truncate(content.rfind(b"\n") + 1)
        file.seek(0)
        yield file


def write(file: IO[bytes], item: Mapping[str, Any]) -> None:
    """Append a line that lasts."""
    try:
        file.write(json.dumps(item, separators=(",", ":")).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    except OSError as error:
        raise StoreError(
            f"the result file cannot be written: {error.strerror}", hint="free some space, then go on"
        ) from None
