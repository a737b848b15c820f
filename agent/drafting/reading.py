"""What the person lets the model read: files by name, small enough, without keys, and nothing else."""

from __future__ import annotations

import os
import shlex
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from agent.datasets.rows import FORMATS
from agent.errors import ConfigError
from agent.ledger import plural
from agent.redact import redact
from agent.tools.files import FOLDERS, RUN, refused

LARGEST = 64_000
"""Bytes of a file that is read."""
TOTAL = 150_000
"""Characters of all files together."""
MOST = 40
"""Files."""
LOOKED_AT = 5_000
"""Entries of a folder that are looked at."""
ROWS_BYTES = 50_000_000
"""Of a file of rows that is described."""
LABELS, LABEL_CHARS = 20, 40
"""Different values of a field, and characters of each, up to which they are told: they are classes, not rows."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One file that the person named.

    Args:
        name: As a problem file names it: relative to its folder with /, or the whole path of one that lies elsewhere.
        text: What is shown of it: its text without keys, or what is known of its rows.
        rows: How many rows it has; None for a text.
        masked: Whether something that looked like a key was masked.
    """

    name: str
    text: str
    rows: int | None = None
    masked: bool = False

    @property
    def line(self) -> str:
        """For the list that the person sees."""
        if self.rows is not None:
            return f"{self.name}: fields and labels of {plural(self.rows, 'row')}; no row is shown"
        return f"{self.name}: {len(self.text):,} characters{', keys in it are masked' if self.masked else ''}"


@dataclass(frozen=True, slots=True)
class Files:
    """What was named: what may be shown, and what may not, one sentence each."""

    shown: tuple[Shown, ...] = ()
    left_out: tuple[str, ...] = ()


def read(named: str, folder: Path, here: Path) -> Files:
    """Read what the person named, and nothing else.

    Args:
        named: Files and folders, as one would type them in a shell; a folder means what is in it, without hidden files,
            links, runs, and what its name says is a key.
        folder: Of the problem; it need not exist yet.
        here: Where names are looked for besides.
    """
    shown: list[Shown] = []
    left: list[str] = []
    room = TOTAL
    for path, inside in _paths(named, folder, here, left):
        name = _name(path, folder)
        if any(item.name == name for item in shown):
            continue
        if len(shown) >= MOST:
            left.append(f"{name} and what comes after it: {MOST} files are the most")
            break
        try:
            found = _one(path, name)
        except ConfigError as error:
            if not inside or _texty(path):  # of a folder nobody expects pictures and archives
                left.append(error.message)
            continue
        if len(found.text) > room:
            left.append(f"{name}: together the files would have more than {TOTAL:,} characters")
            continue
        room -= len(found.text)
        shown.append(found)
    return Files(tuple(shown), tuple(left))


def _paths(named: str, folder: Path, here: Path, left: list[str]) -> Iterator[tuple[Path, bool]]:
    """Paths in the order they were named, and whether each was found in a folder rather than named itself."""
    try:
        words = shlex.split(named)
    except ValueError:
        words = named.split()
    for word in words:
        given = Path(word.rstrip(",")).expanduser()
        choices = [place / given for place in dict.fromkeys((folder, here))]
        path = next((place for place in choices if os.path.lexists(place)), None)
        if path is None:
            left.append(f"{word}: there is no such file in {' or '.join(str(p.parent) for p in choices)}")
        elif path.is_symlink():
            left.append(f"{word} is a link, and links are not followed: name the file itself")
        elif path.is_dir():
            yield from ((file, True) for file in _within(path.resolve()))
        else:
            yield path.parent.resolve() / path.name, False


def _within(folder: Path) -> Iterator[Path]:
    seen = 0
    for place, inner, names in os.walk(folder, followlinks=False):
        inner[:] = sorted(name for name in inner if not name.startswith(".") and name.casefold() not in FOLDERS)
        if any(name in RUN for name in names):
            inner[:] = []
            continue
        for name in sorted(names):
            seen += 1
            if seen > LOOKED_AT:
                return
            path = Path(place, name)
            if not name.startswith(".") and stat.S_ISREG(os.lstat(path).st_mode):
                yield path


def _name(path: Path, folder: Path) -> str:
    root = folder.resolve()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _texty(path: Path) -> bool:
    return path.suffix in (".py", ".md", ".txt", ".toml", ".sh", *FORMATS)


def _one(path: Path, name: str) -> Shown:
    """One file.

    Raises:
        ConfigError: It may not be shown, or is no text; says why.
    """
    rows = path.name.casefold().endswith((*FORMATS, *(f"{kind}.gz" for kind in FORMATS)))
    # Rows are described and not shown, so their format is no reason; what the rest of the name says is one.
    plainly = PurePosixPath(path.name.partition(".")[0] + ".txt" if rows else path.name)
    if why := refused(str(plainly)):
        raise ConfigError(f"{name}: {why}")
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(number, "rb") as file:
            found = os.fstat(number)
            if not stat.S_ISREG(found.st_mode):
                raise ConfigError(f"{name} is no file")
            if rows:
                data = b""
            elif found.st_size > LARGEST:
                raise ConfigError(f"{name} has {found.st_size:,} bytes; at most {LARGEST:,} are read")
            else:
                data = file.read(LARGEST)
    except OSError as error:
        raise ConfigError(f"{name} cannot be read: {error.strerror}") from None
    if rows:
        if found.st_size > ROWS_BYTES:
            raise ConfigError(f"{name} has {found.st_size:,} bytes; rows of at most {ROWS_BYTES:,} are looked at")
        return _described(path, name)
    try:
        text = data.decode("utf-8")
        if "\0" in text:
            raise ValueError
    except ValueError:
        raise ConfigError(f"{name} is no text") from None
    clean = str(redact(text))
    return Shown(name, clean, masked=clean != text)


def _described(path: Path, name: str) -> Shown:
    """The fields of a file of rows. Its rows stay unseen, since a part of them will be held out from every model."""
    from agent.datasets.data import load

    try:
        rows: list[Any] = [example.row for example in load(path, skip_bad=True).examples]
    except ConfigError as error:
        raise ConfigError(f"{name}: {error.message.removeprefix('data: ')}") from None
    rows = [row for row in rows if isinstance(row, dict)]
    lines = [f"{len(rows)} rows. Fields:"]
    for field in dict.fromkeys(field for row in rows for field in row):
        lines.append(f"- {field}: {_field([row[field] for row in rows if field in row])}")
    return Shown(name, str(redact("\n".join(lines))), len(rows))


def _field(values: Sequence[Any]) -> str:
    kinds = "/".join(sorted({type(value).__name__ for value in values}))
    if all(isinstance(value, str) for value in values):
        counts = Counter(values)
        short = all(len(value) <= LABEL_CHARS for value in counts)
        if short and len(counts) <= LABELS and len(counts) * 3 <= len(values):
            return "one of " + ", ".join(repr(value) for value, _ in counts.most_common())
        return f"text of {min(map(len, values))} to {max(map(len, values))} characters"
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        return f"{kinds} from {min(values):g} to {max(values):g}"
    return kinds
