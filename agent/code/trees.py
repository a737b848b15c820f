"""Programs of several files: which paths they may have, and how the scorer puts one together."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

LONGEST_PATH = 200
MOST_FILES = 500
MOST_CHARS = 4_000_000
"""Of all files of a tree together."""
IMPORTED = (".py", ".pyc", ".so", ".pyd")
"""How files end that Python imports."""


def bad_path(path: object) -> str:
    """Why a path is not one of a program's file: it is not plain, or leaves its folder; "" when it is."""
    if not isinstance(path, str) or not path:
        return f"{path!r} is not a path"
    if len(path) > LONGEST_PATH:
        return f"the path {path[:40]}… has {len(path)} characters, {LONGEST_PATH} are allowed"
    if path != unicodedata.normalize("NFC", path) or not path.isprintable():
        return f"the path {path!r} has characters that are not allowed"
    if "\\" in path or ":" in path or path.startswith(("/", "~")):
        return f"the path {path!r} is not relative, with /"
    if "__pycache__" in path.split("/"):
        return f"the path {path} is where Python keeps what it compiled"
    if any(part in ("", ".", "..") or part != part.strip() or part.endswith(".") for part in path.split("/")):
        return f"the path {path!r} has an empty part, . or .."
    return ""


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Whether a path fits a pattern: `*` stands for part of a name, `**` for any number of folders."""
    return any(_fits(path.split("/"), pattern.split("/")) for pattern in patterns)


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_fits(parts[skip:], pattern[1:]) for skip in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])


def check(tree: object, patterns: Sequence[str], protected: Sequence[str], known: Iterable[str]) -> dict[str, str]:
    """A tree in canonical form.

    Args:
        tree: What was proposed.
        patterns: Paths that may be in it.
        protected: Paths that may not, although a pattern fits.
        known: Paths that must be in it: those of the initial tree.

    Raises:
        ValueError: Names the path and what is wrong with it.
    """
    if not isinstance(tree, Mapping):
        raise ValueError(f"a mapping of paths to texts is needed, not {type(tree).__name__}")
    folded: dict[str, str] = {}
    for path, text in tree.items():
        if wrong := bad_path(path):
            raise ValueError(wrong)
        if not isinstance(text, str):
            raise ValueError(f"{path}: a text is needed, not {type(text).__name__}")
        if matches(path, protected):
            raise ValueError(f"{path} is protected: it stays as it is")
        if hidden := [f"{module}.py" for module in _imported_as(path) if matches(f"{module}.py", protected)]:
            raise ValueError(f"{path} would be imported in place of {hidden[0]}, which is protected")
        if not matches(path, patterns):
            raise ValueError(f"{path} is not one of the files that may change: {', '.join(patterns)}")
        other = folded.setdefault(path.casefold(), path)
        if other != path:
            raise ValueError(f"{other} and {path} differ in case only")
    for path in tree:
        for folder in _folders(path):
            if folder.casefold() in folded:
                raise ValueError(f"{folder} is a file and a folder")
    lost = sorted(set(known) - set(tree))
    if lost:
        raise ValueError(f"{', '.join(lost)} is missing; a file may be emptied, not removed")
    size = sum(map(len, tree.values()))
    if len(tree) > MOST_FILES or size > MOST_CHARS:
        raise ValueError(f"{len(tree)} files with {size} characters, allowed are {MOST_FILES} with {MOST_CHARS}")
    return {path: tree[path] for path in sorted(tree)}


def _imported_as(path: str) -> set[str]:
    """The modules, as paths without a suffix, in whose place a file may be imported: its own, and its folders."""
    folder, slash, name = path.rpartition("/")
    own = {f"{folder}{slash}{name.partition('.')[0]}"} if path.endswith(IMPORTED) else set()
    return {*_folders(path), *own}


def _folders(path: str) -> Iterable[str]:
    parts = path.split("/")
    return ("/".join(parts[:end]) for end in range(1, len(parts)))


def find(folder: Path, patterns: Sequence[str], protected: Sequence[str]) -> list[str]:
    """The files of a folder that may change, by path; what a link names counts only where it stays in the folder."""
    root = folder.resolve()
    out = []
    for file in sorted(root.rglob("*")):
        path = file.relative_to(root).as_posix()
        if not matches(path, patterns) or matches(path, protected):
            continue
        real = file.resolve()
        if not real.is_relative_to(root):
            raise ValueError(f"{path} is a link that leaves the folder")
        if real != file and matches(real.relative_to(root).as_posix(), protected):
            raise ValueError(f"{path} is a link to what may not change")
        if file.is_file():
            out.append(path)
        elif not file.is_dir():
            raise ValueError(f"{path} is a link to nothing, or no plain file")
    return out


def assembled(evolvable: Mapping[str, str], fixed: Mapping[str, bytes]) -> dict[str, bytes]:
    """All files of a program: the candidate's own and the scorer's.

    Raises:
        ValueError: A file of the candidate stands where the scorer has one, or the other way round a folder; or it
            would be imported in place of one of the scorer's, as `config/__init__.py` is before `config.py`.
    """
    taken = {path.casefold() for path in fixed}
    folders = {folder.casefold() for path in fixed for folder in _folders(path)}
    packages = {folder.casefold() for path in fixed if path.endswith(".py") for folder in _folders(path)}
    for path in evolvable:
        above = {folder.casefold() for folder in _folders(path)}
        if path.casefold() in taken | folders or above & taken:
            raise ValueError(f"{path} belongs to the evaluator")
        hidden = {f"{module}.py" for module in _imported_as(path.casefold())} & taken
        if hidden or not packages.isdisjoint(_imported_as(path.casefold()) - above):
            raise ValueError(f"{path} would be imported in place of a file that belongs to the evaluator")
    return {**{path: text.encode("utf-8", "surrogatepass") for path, text in evolvable.items()}, **fixed}
