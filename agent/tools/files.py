"""Tools that list, read and search the files that a problem exposes. Without the option `files` there are none.

What could hold rows, keys or a run is refused whatever a pattern says: the rows of val and test lie in the problem's
folder like everything else. These are plain functions: they run in threads, so that a slow disk holds nobody up.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from agent.code.trees import bad_path, matches
from agent.datasets.rows import FORMATS
from agent.redact import redact
from agent.tools.base import Desk, ToolError
from agent.tools.shared import FILE, listed, marked, short

LARGEST = 1_000_000
"""Bytes of a file; a larger one is not shown."""
LOOKED_AT = 20_000
"""Entries of folders that are looked at in one call."""
READ = 20_000_000
"""Bytes that a search reads at most."""
CHARS = 4000
LISTED = 100
WIDEST = 300
"""Characters of a line of a file."""

DATA = (*FORMATS, ".gz", ".tsv", ".parquet", ".arrow", ".feather", ".xlsx", ".npy", ".npz", ".pkl", ".pickle", ".zip")
STORES = (".sqlite", ".sqlite3", ".db", ".sqlite-wal", ".sqlite-shm")
KEYS = (".pem", ".key", ".p12", ".pfx", ".jks", ".kdbx", ".env")
SECRET = ("secret", "credential", "password", "id_rsa", "id_ed25519", "id_ecdsa")
"""Words in a name that say that a file is not for others."""
HANDED = {"token", "tokens", "key", "keys", "apikey", "passwd", "auth"}
"""Words that say so of a file that is no program or text about one: token.py cuts texts up, token.txt is a token."""
TOLD = (".c", ".cc", ".cpp", ".go", ".h", ".java", ".js", ".md", ".py", ".pyi", ".rs", ".rst", ".sh", ".ts")
FOLDERS = ("runs", "node_modules", "__pycache__")
RUN = ("journal.sqlite", "gate.sqlite")


def files(desk: Desk, under: str = "") -> str:
    """The files that the problem lets you read, with their sizes.

    Args:
        under: Only those in this folder, such as "src".
    """
    root, patterns = _exposed(desk)
    if under and (wrong := bad_path(under)):
        raise ToolError(short(wrong, 200), hint='give a folder of the problem, such as "src"')
    found = [(path, size) for path, size in _walk(root, patterns) if not under or path.startswith(f"{under}/")]
    lines = [f"{path} ({size} bytes)" for path, size in found[:LISTED]]
    if not lines:
        return "no file here fits what the problem exposes: " + ", ".join(patterns)
    head = f"{len(found)} files" + (f", the first {LISTED}" if len(found) > LISTED else "")
    return f"{head}:\n{marked(desk, chr(10).join(lines), origin=FILE)}"


def read_file(desk: Desk, path: str, start: int = 1, lines: int = 80) -> str:
    """Some lines of a file that the problem exposes.

    Args:
        path: As `files` shows it.
        start: First line, from 1.
        lines: How many, 1 to 200.
    """
    root, patterns = _exposed(desk)
    count = listed(lines, "lines", 200)
    if start < 1:
        raise ToolError(f"start: found {start}, allowed is a line from 1")
    text = _text(root, _allowed(root, patterns, path)).splitlines()
    if start > max(1, len(text)):
        raise ToolError(f"{path} has {len(text)} lines", hint="begin with one of them")
    shown, room = [], CHARS
    for number, line in enumerate(text[start - 1 : start - 1 + count], start):
        shown.append(f"{number}: {line[:WIDEST]}{'…' * (len(line) > WIDEST)}")
        room -= len(shown[-1]) + 1
        if room < 0:
            break
    end = start + len(shown) - 1
    return f"{path}, lines {start} to {end} of {len(text)}:\n{marked(desk, chr(10).join(shown), origin=FILE)}"


def search_files(desk: Desk, text: str, under: str = "", n: int = 10) -> str:
    """Lines of the exposed files in which a text occurs.

    Args:
        text: What to look for, in any case; no pattern.
        under: Only in this folder, or in this file.
        n: How many lines, 1 to 30.
    """
    root, patterns = _exposed(desk)
    most, wanted = listed(n), text.casefold()
    if not wanted or "\n" in wanted:
        raise ToolError("text is empty, or more than one line", hint="say what to look for in a line")
    found: list[str] = []
    total, room = 0, READ
    for path, size in _walk(root, patterns):
        if (under and path != under and not path.startswith(f"{under}/")) or size > LARGEST:
            continue
        room -= size
        if room < 0:
            break
        try:
            lines = _text(root, path).splitlines()
        except ToolError:
            continue
        for number, line in enumerate(lines, 1):
            if wanted in line.casefold():
                total += 1
                if len(found) < most:
                    found.append(f"{path}:{number}: {line.strip()[:WIDEST]}")
    head = f"{total} lines have {short(text, 60)!r}" + (" (not all files were looked at)" if room < 0 else "")
    return f"{head}\n{marked(desk, chr(10).join(found), origin=FILE)}" if found else head


def _exposed(desk: Desk) -> tuple[Path, Sequence[str]]:
    """The problem's folder, and the patterns of what it exposes."""
    patterns = desk.options.get("files", ())
    if not patterns:
        raise ToolError("the problem exposes no files", hint="go on without them")
    folder = desk.context.problem.folder
    if not folder.is_dir():
        raise ToolError("the problem's folder is not there", hint="go on without its files")
    return folder.resolve(), list(patterns)


def refused(path: str) -> str:
    """Why a file is never shown, whatever is exposed; "" for one that may be."""
    parts = PurePosixPath(path.casefold()).parts
    name = parts[-1]
    suffixes = PurePosixPath(name).suffixes
    if any(part.startswith(".") for part in parts):
        return "hidden files are not shown"
    # A copy that an editor or a person keeps has the suffix still, and something after it: .jsonl~, .csv_old, .db-old.
    if any(part in FOLDERS for part in parts[:-1]) or any(suffix.startswith(STORES) for suffix in suffixes):
        return "runs and data bases are not shown"
    handed = HANDED & set(re.findall("[a-z]+", name)) and not name.endswith(TOLD)
    if handed or any(part in name for part in SECRET) or any(suffix.startswith(KEYS) for suffix in suffixes):
        return "keys and passwords are not shown"
    if any(suffix.startswith(DATA) for suffix in suffixes):
        return "files that can hold rows of data are not shown; rows and read_row show rows of train"
    return ""


def _allowed(root: Path, patterns: Sequence[str], path: str) -> str:
    """A path that may be read.

    Raises:
        ToolError: It leaves the folder, is not exposed, or is never shown.
    """
    why = bad_path(path) or refused(path)
    if not why and (path in _rows(root) or _within_run(root, path)):
        why = "files of rows and runs are not shown"
    if not why and not matches(path, patterns):
        why = f"{path} is not exposed; files lists those that are"
    if why:
        raise ToolError(short(why, 300), hint="take a path that files shows")
    return path


def _rows(root: Path) -> set[str]:
    """The files of rows that the problem's own file names."""
    out: set[str] = set()
    for file in root.glob("*.toml"):
        try:
            data: Any = tomllib.loads(file.read_text(encoding="utf-8")).get("data")
        except (OSError, ValueError, RecursionError):
            continue
        named = [data] if isinstance(data, str) else list(data.values()) if isinstance(data, dict) else []
        out |= {os.path.normpath(item) for item in named if isinstance(item, str)}
    return out


def _within_run(root: Path, path: str) -> bool:
    return any((root / folder / name).exists() for folder in PurePosixPath(path).parents for name in RUN)


def _walk(root: Path, patterns: Sequence[str]) -> Iterator[tuple[str, int]]:
    """The files that may be read, by path, with their sizes; links are not followed, nor those with several names."""
    rows, seen = _rows(root), 0
    for folder, inner, names in os.walk(root, followlinks=False):
        place = Path(folder).relative_to(root)
        inner[:] = sorted(name for name in inner if not name.startswith(".") and name.casefold() not in FOLDERS)
        if any(name in RUN for name in names):
            inner[:] = []
            continue
        for name in sorted(names):
            seen += 1
            if seen > LOOKED_AT:
                return
            path = (place / name).as_posix()
            if path in rows or bad_path(path) or refused(path) or not matches(path, patterns):
                continue
            found = os.lstat(os.path.join(folder, name))
            if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
                yield path, found.st_size


def _text(root: Path, path: str) -> str:
    """The text of a file, without keys; never through a link.

    Raises:
        ToolError: There is none, or it is not a text of a size that can be read.
    """
    place = root / path
    if Path(os.path.realpath(place)) != place:
        raise ToolError(f"{path} is a link, and links are not followed", hint="take a path that files shows")
    try:
        # Not to wait for a pipe that somebody put there.
        number = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(number, "rb") as file:
            found = os.fstat(number)
            if found.st_nlink > 1:  # its other name may be one that is not shown
                raise ToolError(f"{path} is a link, and links are not followed", hint="take a path that files shows")
            if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST:
                raise ToolError(f"{path} is no file, or has more than {LARGEST} bytes", hint="take another one")
            data = file.read(LARGEST)
        text: str = redact(data.decode("utf-8"))
    except OSError as error:
        raise ToolError(f"{path} cannot be read: {error.strerror}", hint="files lists what is there") from None
    except UnicodeDecodeError:
        raise ToolError(f"{path} is no text", hint="take another one") from None
    return text
