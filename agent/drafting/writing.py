"""Showing a draft and writing it: the person sees all of it, and nothing is replaced without a yes."""

from __future__ import annotations

import contextlib
import difflib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from agent.code.untrusted import cleaned
from agent.errors import StoreError
from agent.ledger import plural

if TYPE_CHECKING:
    from agent.dialogue.talk import Talk
    from agent.drafting.proposal import Draft


def preview(draft: Draft, folder: Path) -> str:
    """Every line that would be written, beside what is there."""
    out = []
    for name, text in draft.files.items():
        old = _old(folder / name)
        if old == text:
            out.append(f"── {name} · stays as it is")
            continue
        if old is None:
            out.append(f"── {name} · new, {plural(len(text.splitlines()), 'line')}")
            out += [f"+ {line}" for line in text.splitlines()]
            continue
        out.append(f"── {name} · changes a file that is there")
        lines = list(difflib.unified_diff(old.splitlines(), text.splitlines(), lineterm="", n=2))[2:]
        out += [f"{line[:1]} {line[1:]}" if line[:1] in "+- " else line for line in lines]
    return "\n".join(out)


def _old(path: Path) -> str | None:
    """The text of a file that is there, fit to be shown; None where there is none."""
    if not os.path.lexists(path):
        return None
    try:
        return path.read_text(encoding="utf-8") if path.is_file() and path.stat().st_size < 1_000_000 else ""
    except (OSError, UnicodeDecodeError):
        return ""


def put(draft: Draft, folder: Path, talk: Talk, ours: frozenset[str] = frozenset()) -> list[str] | None:
    """Write the files, after a question for each one that is there and not ours; all of them or none.

    Args:
        draft: Was shown.
        folder: Where; made if need be.
        talk: Asks.
        ours: Files that an earlier call wrote for the same person.

    Returns:
        The names of those that were written, or None where the person wants to keep one.

    Raises:
        StoreError: One cannot be written; those before it are there.
    """
    new = {name: text for name, text in draft.files.items() if _old(folder / name) != text}
    for name in new:
        _within(folder, name)
        if (folder / name).exists() and name not in ours and not talk.confirm(f"{name} exists. Replace it?"):
            talk.say(f"{name} stays as it is, so nothing is written.")
            return None
    for name, text in new.items():
        path = folder / name
        temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "x", encoding="utf-8", newline="\n") as file:
                file.write(text)
            os.replace(temporary, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise StoreError(
                f"cannot write {path}: {error.strerror}", hint="name a folder that can be written, and start again"
            ) from None
    return list(new)


def _within(folder: Path, name: str) -> None:
    """Refuse a path that a link leads out of the folder, or to another file.

    Raises:
        StoreError: It does.
    """
    root = folder.resolve()
    if Path(os.path.realpath(root / name)) != root / name:
        raise StoreError(
            f"{cleaned(name, 200)} is a link, or lies behind one", hint="remove the link, or name another folder"
        )
