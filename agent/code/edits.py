"""Changes to a program as a model writes them: search/replace blocks, or the whole text in a fence.

Nothing is repaired in silence. A change is applied exactly as it stands, or rejected as a whole with a reason that
can be told to the model. The form:

    <<<<<<< SEARCH
    lines as they are in the program
    =======
    lines that take their place
    >>>>>>> REPLACE

In a program of several files the first line names the file: `<<<<<<< SEARCH pkg/solve.py`. A whole text stands in a
fence, ```` ```python ````, with the file's path after the language where there are several.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from agent.code import trees

HEAD, MIDDLE, TAIL = "<<<<<<< SEARCH", "=======", ">>>>>>> REPLACE"
SHOWN = 6
"""Lines of the program that a reason quotes."""
WIDEST = 160
LOOKED_AT = 20_000
"""Lines beyond which nobody looks for the nearest place."""

_FENCE = re.compile(r"^(`{3,}|~{3,})[ \t]*([^\n`]*)$")
_STRAY = re.compile(r"^(<{5,}|>{5,})\s*(SEARCH|REPLACE)\b|^<{7}|^>{7}")


class EditRejected(ValueError):
    """Why a change was not applied, in words for the model that made it."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Some lines of a file, and what takes their place.

    Args:
        search: Whole lines as they are now; they must occur exactly once.
        replace: The lines that take their place; "" removes them.
        path: The file, in a program of several.
    """

    search: str
    replace: str
    path: str = ""


def revised(reply: str, parent: str) -> str:
    """The program that a model's reply makes of its parent.

    Args:
        reply: With search/replace blocks, or one fenced block with the whole program.
        parent: What is changed.

    Raises:
        EditRejected: The reply has neither, or both, or cannot be applied, or changes nothing.
    """
    return revised_tree(reply, {"": parent})[""]


def revised_tree(reply: str, parent: Mapping[str, str]) -> dict[str, str]:
    """The files that a model's reply makes of its parent's; see `revised`.

    Raises:
        EditRejected: As there, or a file is unknown to a search/replace block.
    """
    edits, rest = blocks(reply)
    wholes = fences(rest)
    if edits:
        # A fence around the blocks is left empty by them; a program beside them leaves open what is meant.
        if any(text.strip() for _, text in wholes):
            raise EditRejected("the reply has both search/replace blocks and a whole program; give one of the two")
        made = apply(parent, edits)
    elif wholes:
        made = _whole(wholes, parent)
    else:
        raise EditRejected(f"the reply has neither a search/replace block ({HEAD} …) nor a fenced program")
    if made == dict(parent):
        raise EditRejected("the program is the same as before")
    return made


def blocks(reply: str) -> tuple[list[Edit], str]:
    """The search/replace blocks of a reply, and what is left of it.

    Raises:
        EditRejected: A block is not complete, or a marker stands where none may be.
    """
    found: list[Edit] = []
    rest: list[str] = []
    search: list[str] | None = None
    replace: list[str] | None = None
    path = ""
    for number, line in enumerate(_lines(reply), 1):
        bare = line.rstrip()
        if bare == HEAD or bare.startswith(HEAD + " "):
            if search is not None:
                raise EditRejected(f"line {number} of the reply: a block begins before the last one ended with {TAIL}")
            search, replace, path = [], None, bare[len(HEAD) :].strip()
        elif bare == MIDDLE and search is not None:
            if replace is not None:
                raise EditRejected(f"line {number} of the reply: a second {MIDDLE} in one block")
            replace = []
        elif bare == TAIL:
            if search is None or replace is None:
                raise EditRejected(f"line {number} of the reply: {TAIL} without {HEAD} and {MIDDLE} before it")
            found.append(Edit("\n".join(search), "\n".join(replace), path))
            search = replace = None
        elif _STRAY.match(line):
            raise EditRejected(f"line {number} of the reply: {bare[:60]!r} is no marker; they are {HEAD} and {TAIL}")
        else:
            (rest if search is None else search if replace is None else replace).append(line)
    if search is not None:
        raise EditRejected(f"the last block is not complete: {TAIL if replace is not None else MIDDLE} is missing")
    return found, "\n".join(rest)


def fences(reply: str) -> list[tuple[str, str]]:
    """The fenced blocks of a reply: what stands after the opening fence, and the text.

    Raises:
        EditRejected: The last one is not closed: the reply was cut off.
    """
    found: list[tuple[str, str]] = []
    opened: tuple[str, str] | None = None
    inside: list[str] = []
    for line in _lines(reply):
        matched = _FENCE.match(line.rstrip())
        if opened is None:
            if matched:
                opened, inside = (matched[1], matched[2].strip()), []
        elif matched and not matched[2] and matched[1].startswith(opened[0]):
            found.append((opened[1], "\n".join(inside) + "\n"))
            opened = None
        else:
            inside.append(line)
    if opened is not None:
        raise EditRejected("the fenced program has no end: the reply was cut off")
    return found


def _whole(wholes: list[tuple[str, str]], parent: Mapping[str, str]) -> dict[str, str]:
    if list(parent) == [""]:
        if len(wholes) > 1:
            raise EditRejected(f"the reply has {len(wholes)} fenced blocks; give the whole program in one")
        return {"": wholes[0][1]}
    out = dict(parent)
    for info, text in wholes:
        path = info.partition(" ")[2].strip()
        if not path:
            raise EditRejected(f"a fenced file without its path; write ```python {next(iter(parent))}")
        if sum(other.partition(" ")[2].strip() == path for other, _ in wholes) > 1:
            raise EditRejected(f"{path} is given twice")
        out[path] = text
    return out


def apply(files: Mapping[str, str], edits: list[Edit]) -> dict[str, str]:
    """The files with all edits, each found in the files as they are now.

    Args:
        files: Path → text; a program of one file has the path "".
        edits: Applied together or not at all.

    Raises:
        EditRejected: A search text does not occur, or more than once; two edits overlap; one changes nothing.
    """
    places: dict[str, list[tuple[int, int, list[str], int]]] = {}
    for number, edit in enumerate(edits, 1):
        if edit.path not in files:
            known = ", ".join(files) or "none"
            said = f"names {edit.path}, and the program is one file" if list(files) == [""] else f"{edit.path!r}"
            wrong = f"block {number}: there is no such file: {said}; there is {known or 'one program'}"
            if list(files) != [""] and edit.path and not trees.bad_path(edit.path):
                wrong += f"; a new file is given whole, in a fence with its path: ```python {edit.path}"
            raise EditRejected(wrong)
        if not edit.search.strip():
            raise EditRejected(f"block {number}: nothing to search for; quote the lines that it replaces")
        lines, wanted = _lines(files[edit.path]), _lines(edit.search)
        at = [i for i in range(len(lines) - len(wanted) + 1) if lines[i : i + len(wanted)] == wanted]
        if not at:
            raise EditRejected(f"block {number}: {_nearest(lines, wanted)}")
        if len(at) > 1:
            where = ", ".join(str(i + 1) for i in at[:8])
            raise EditRejected(
                f"block {number}: the search text occurs {len(at)} times, at lines {where}; quote more lines around it"
            )
        new = _lines(edit.replace) if edit.replace else []
        if new == wanted:
            raise EditRejected(f"block {number}: it replaces lines {at[0] + 1} ff. by themselves")
        places.setdefault(edit.path, []).append((at[0], at[0] + len(wanted), new, number))
    out = dict(files)
    for path, found in places.items():
        found.sort()
        for (_, end, _, first), (start, _, _, second) in pairwise(found):
            if start < end:
                raise EditRejected(f"blocks {first} and {second} overlap at line {start + 1}")
        lines = _lines(files[path])
        for start, end, new, _ in reversed(found):
            lines[start:end] = new
        out[path] = "\n".join(lines)
    return out


def _lines(text: str) -> list[str]:
    return text.replace("\r\n", "\n").split("\n")


def _nearest(lines: list[str], wanted: list[str]) -> str:
    """That a text does not occur, and the lines that are nearest to it."""
    loose = ["".join(line.split()) for line in lines]
    ask = ["".join(line.split()) for line in wanted]
    for at in range(len(lines) - len(wanted) + 1):
        if loose[at : at + len(wanted)] == ask:
            return (
                f"the search text occurs at line {at + 1} with other spaces; quote it exactly:\n"
                f"{_quoted(lines, at, len(wanted))}"
            )
    if len(lines) > LOOKED_AT or len(lines) * len(wanted) > 50 * LOOKED_AT:
        return "the search text does not occur in the program"
    # The line that says most is looked for first, and the block is laid along it.
    key = max(range(len(wanted)), key=lambda i: len(ask[i]))
    matcher = difflib.SequenceMatcher(autojunk=False)
    matcher.set_seq2(wanted[key][:WIDEST])
    best, place = 0.0, -1
    for number, line in enumerate(lines):
        matcher.set_seq1(line[:WIDEST])
        if matcher.real_quick_ratio() > best and matcher.quick_ratio() > best and matcher.ratio() > best:
            best, place = matcher.ratio(), number
    if best < 0.5:
        return "the search text does not occur in the program, nor anything near it"
    at = max(0, min(place - key, len(lines) - 1))
    return f"the search text does not occur; nearest are the lines from {at + 1}:\n{_quoted(lines, at, len(wanted))}"


def _quoted(lines: list[str], at: int, count: int) -> str:
    return "\n".join(line[:WIDEST] for line in lines[at : at + min(count, SHOWN)])
