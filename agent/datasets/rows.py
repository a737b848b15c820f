"""Rows of data from a file, a list or an iterator, one by one, each with what is wrong with it.

No line is read into memory beyond the largest row allowed, and nothing a file holds makes reading crash.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from agent.errors import ConfigError
from agent.space import canonical

LARGEST_ROW = 1_000_000
"""Bytes of a row's JSON in UTF-8, or of its line in a file."""
LARGEST_JSON = 200_000_000
"""Bytes of a `.json` file, which has to be read as a whole."""

WRONG = {
    "empty": "empty",
    "large": "larger than 1 MB",
    "utf8": "not UTF-8",
    "json": "not JSON",
    "number": "with a number that is NaN or infinite",
    "csv": "not CSV, such as a quote that is not closed",
    "columns": "with more or fewer cells than the header",
    "id": "with the id of another row and different content",
    "split": "with a split other than train, val and test",
    "anchor": "with an anchor mark other than true and false",
}
"""What can be wrong with a row, in words."""

FORMATS = (".jsonl", ".ndjson", ".json", ".csv")


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it was read.

    Args:
        number: Line of a file, or position in a list, from 1.
        value: The row; None when it is bad.
        wrong: A key of `WRONG`; "" for a good row.
    """

    number: int
    value: Any
    wrong: str = ""


def read(source: Any) -> Iterator[Row]:
    """The rows of a source.

    Args:
        source: Path of a .jsonl, .json (one list) or .csv file, also with .gz; or a list or iterator of rows.

    Raises:
        ConfigError: The source is none of these, or cannot be read.
    """
    if isinstance(source, (str, os.PathLike)):
        return _file(Path(source))
    if isinstance(source, (Mapping, bytes)) or not isinstance(source, Iterable):
        raise ConfigError(
            f"data: found {type(source).__name__}, allowed is a path, a list or an iterator of rows",
            hint="collect what comes asynchronously, or from a mapping, in a list first",
        )
    return _given(source)


def _given(source: Iterable[Any]) -> Iterator[Row]:
    number = 0
    try:
        for number, value in enumerate(source, 1):
            yield checked(number, value)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"the data's iterator failed after {number} rows: {type(error).__name__}: {error}",
            hint="correct the iterator; it must give every row without an error",
        ) from error


def checked(number: int, value: Any) -> Row:
    """A row of plain JSON with what is wrong with it."""
    wrong = _wrong(value)
    return Row(number, None if wrong else value, wrong)


def _wrong(value: Any) -> str:
    if _empty(value) or (isinstance(value, Mapping) and all(_empty(item) for item in value.values())):
        return "empty"
    try:
        size = len(canonical(value).encode())
    except UnicodeEncodeError:
        return "utf8"
    except (TypeError, RecursionError):
        return "json"
    except ValueError:
        return "number" if _dumps(value) else "json"
    return "large" if size > LARGEST_ROW else ""


def _empty(value: Any) -> bool:
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, (list, tuple, Mapping)) and not value)


def _dumps(value: Any) -> bool:
    """Whether a value that is no strict JSON becomes JSON when NaN and infinity are allowed."""
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _file(path: Path) -> Iterator[Row]:
    name = path.name.lower().removesuffix(".gz")
    kind = next((item for item in FORMATS if name.endswith(item)), None)
    if kind is None:
        raise ConfigError(
            f"data: found {path.name}, allowed is {', '.join(FORMATS)}, also with .gz",
            hint="convert the file, or pass the rows as a list",
        )
    read_rows = {".json": _json, ".csv": _csv}.get(kind, _jsonl)
    try:
        with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
            yield from read_rows(file, path)  # type: ignore[arg-type]
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"cannot read {path}: {error}", hint="the file must exist and be complete") from None


def _lines(file: IO[bytes]) -> Iterator[bytes | None]:
    """The lines of a file without their ends; None for one that is too large, which never is in memory at once."""
    while line := file.readline(LARGEST_ROW + 2):
        bare = line.rstrip(b"\r\n")
        if len(bare) <= LARGEST_ROW:
            yield bare
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(LARGEST_ROW)
        yield None


def _jsonl(file: IO[bytes], path: Path) -> Iterator[Row]:
    blank: list[int] = []
    for number, line in enumerate(_lines(file), 1):
        if line is None:
            row = Row(number, None, "large")
        elif not (line := line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line).strip():
            blank.append(number)
            continue
        else:
            row = _parsed(number, line)
        yield from (Row(at, None, "empty") for at in blank)  # blank lines at the end are no rows
        blank.clear()
        yield row


def _parsed(number: int, line: bytes) -> Row:
    try:
        return checked(number, json.loads(line.decode()))
    except UnicodeDecodeError:
        return Row(number, None, "utf8")
    except (ValueError, RecursionError):
        return Row(number, None, "json")


def _json(file: IO[bytes], path: Path) -> Iterator[Row]:
    data = file.read(LARGEST_JSON + 1)
    if len(data) > LARGEST_JSON:
        raise ConfigError(f"{path} is larger than {LARGEST_JSON // 10**6} MB", hint="write one row a line, as .jsonl")
    try:
        rows = json.loads(data.decode("utf-8-sig")) if data.strip() else []
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8", hint="save it as UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not JSON: {error}", hint="correct it, or write one row a line") from None
    if not isinstance(rows, list):
        raise ConfigError(f"{path} holds one {type(rows).__name__}", hint="a .json file of data holds one list of rows")
    yield from (checked(number, row) for number, row in enumerate(rows, 1))


class _Large(Exception):
    """A line of a CSV file is too large."""


class _Text:
    """The lines of a CSV file as text; what is not UTF-8 becomes surrogates, which `checked` finds."""

    def __init__(self, file: IO[bytes]) -> None:
        self.lines = _lines(file)
        self.number = 0

    def __iter__(self) -> _Text:
        return self

    def __next__(self) -> str:
        line = next(self.lines)
        self.number += 1
        if line is None:
            raise _Large
        return line.decode("utf-8-sig" if self.number == 1 else "utf-8", "surrogateescape") + "\n"


def _csv(file: IO[bytes], path: Path) -> Iterator[Row]:
    text = _Text(file)
    cells = csv.reader(text, strict=True)
    try:
        header = next(cells, [])
    except (csv.Error, _Large) as error:
        raise ConfigError(f"the header of {path} cannot be read: {error}", hint="line 1 names the columns") from None
    if len(set(header)) != len(header) or (header and not all(name.strip() for name in header)):
        raise ConfigError(f"the header of {path} has an empty name or one twice", hint="line 1 names each column once")
    blank: list[int] = []
    while True:
        first = text.number + 1
        try:
            row = next(cells)
        except StopIteration:
            return
        except _Large:
            out = Row(first, None, "large")
        except csv.Error as error:
            # The csv module takes cells of at most 131,072 characters; that limit is the whole process's.
            out = Row(first, None, "large" if "field larger" in str(error) else "csv")
        else:
            if not any(cell.strip() for cell in row) and len(row) <= 1:
                blank.append(first)
                continue
            if len(row) != len(header):
                out = Row(first, None, "columns")
            else:
                out = checked(first, {name: _cell(cell) for name, cell in zip(header, row, strict=True)})
        yield from (Row(at, None, "empty") for at in blank)
        blank.clear()
        yield out


def _cell(cell: str) -> Any:
    """A CSV cell: a number when it is spelt as Python writes that number (7, -3, 0.5), or else the string itself.

    So nothing is lost: 007, 1.50, +3 and a card number of 16 digits stay as they are.
    """
    if not cell or len(cell) > 20 or not (cell[-1].isdigit() and cell.isascii()):
        return cell
    for kind in (int, float):
        try:
            number = kind(cell)
        except ValueError:
            continue
        if repr(number) == cell and abs(number) < 10**15:
            return number
    return cell
