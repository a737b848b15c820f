"""The released candidate of a run as a change of the user's own files."""

from __future__ import annotations

import contextlib
import difflib
import errno
import fcntl
import os
import re
import stat
import tempfile
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.applying.userfiles import Change, Target
from agent.errors import ConfigError, GateError, StoreError
from agent.journal import FILE
from agent.ledger import plural
from agent.parameters import Value
from agent.results.result import Result, load_result
from agent.results.resultfiles import spent_line
from agent.space import Candidate
from agent.space import Change as Diff
from agent.texts import Code, Text

PROBLEM = "problem.toml"


@dataclass(frozen=True, slots=True)
class Patch:
    """What `apply` would do.

    Args:
        files: In the order in which they are written; none when there is nothing to do.
        message: For the commit: what was gained, in numbers, and two trailers.
        folder: Of the problem.
        run: Name of the run.
        status: Of the candidate: proven, exact or unproven; "initial" when no gain was shown.
        notes: What the user should know, one sentence each.
    """

    files: tuple[Change, ...]
    message: str
    folder: Path
    run: str
    status: str
    notes: tuple[str, ...] = ()

    def text(self, prefix: str = "") -> bytes:
        """A unified diff that `git apply` takes.

        Args:
            prefix: The problem's folder relative to the repository's top, with "/" at its end; "" at the top, and
                where there is no repository.
        """
        return b"".join(_diff(prefix + item.path, item.before, item.after) for item in self.files)


def patch(result: Result, *, unproven: bool = False, problem: Path | None = None) -> Patch:
    """The change that brings the released candidate into the files that the run began with; writes nothing.

    A text or program with a `file` of its own becomes that file's whole content, and a program of several `files` all
    of theirs. Every other value becomes the `default` in the problem file. What comes out is read back and compared
    before it is returned.

    Args:
        result: Of a run that has ended.
        unproven: Take the best candidate where no exam has shown that it is better.
        problem: The problem's folder, if it moved; or its file.

    Raises:
        GateError: The run is open, or only an unproven candidate is there.
        ConfigError: A file is missing, is not what the run began with, lies outside of the problem's folder, or
            cannot hold the candidate.
    """
    chosen, status, sentence, notes = _chosen(result, unproven)
    origin: Mapping[str, Any] = result._state.origin
    given = origin.get("files") or {}
    if chosen is None:
        return Patch((), "", Path(result.problem.folder), result.run, "initial", notes)
    folder, name = _place(result, problem, given)
    target = Target(folder, name, given, result)
    files, more = target.changes(chosen)
    if _measured_otherwise(folder / name, result):
        more += ("the evaluator is not what the run measured with, so the numbers may not hold any more",)
    message = _message(result, target.differing(chosen), status, sentence)
    return Patch(files, message, folder, result.run, status, notes + more)


def _measured_otherwise(file: Path, result: Result) -> bool:
    """Whether the evaluator has changed since the run; a problem that cannot be read says so elsewhere."""
    from agent.config import load

    try:
        return load(file).problem.evaluator.fingerprint != result._state.fingerprints.get("evaluator")
    except ConfigError:
        return False


def _chosen(result: Result, unproven: bool) -> tuple[Candidate | None, str, str, tuple[str, ...]]:
    """The candidate, its status and sentence, and what to say of it."""
    if result.status == "open":
        raise GateError(
            f"{result.run} has not ended, so nothing is released for good",
            hint=f"wait for its end, or truegain resume {result.run}",
        )
    if result.status == "initial":
        earlier = result._state.origin.get("initial_from")
        said = ["no gain was shown: there is nothing to apply"]
        said += [f"the run began with what {earlier} has released: truegain apply {earlier}"] if earlier else []
        return None, "initial", "", tuple(said)
    if result.best == result.released or unproven:
        return result.best, result.status, result.sentence, ()
    if result.released == result.initial:
        raise GateError(
            f"the best candidate is unproven, and nothing was released: {result.sentence}",
            hint=f"more evaluations or rows may show it; truegain apply {result.run} --unproven takes it as it is",
        )
    proof = result._state.gate.proof or {}
    status = "exact" if proof.get("kind") == "exact" else "proven"
    note = "this is the released candidate; the best one is another, unproven: --unproven takes that one"
    return result.released, status, str(proof.get("sentence", "")), (note,)


def _place(result: Result, problem: Path | None, given: Mapping[str, str]) -> tuple[Path, str]:
    """The problem's folder, and the name of its file."""
    folder = Path(problem or result.problem.folder)
    names = [name for name in given if name.endswith(".toml")]
    name = PROBLEM if PROBLEM in given or not names else names[0]
    if folder.suffix == ".toml":
        folder, name = folder.parent, folder.name
    if not (folder / name).is_file():
        raise ConfigError(
            f"the run's problem is not in {folder}",
            hint=f"give --problem FOLDER; what was started from Python has no file to write to: truegain export"
            f" {result.run} --to FOLDER",
        )
    return folder.resolve(), name


def write(change: Patch) -> None:
    """Put a patch into the working tree: each file at once, or, where one cannot be written, none.

    Mode and owner stay. A second call finds that all is there. A process that dies between two files leaves one
    written; the next `apply` writes the others.

    Raises:
        ConfigError: A file is read-only, or is no longer what the patch was made from.
        StoreError: A file cannot be written; all are as before.
    """
    with _locked(change.folder):
        waiting: list[tuple[Path, Path, Change]] = []
        try:
            for item in change.files:
                place = change.folder / item.path
                now = place.read_bytes() if place.exists() else None
                if now == item.after:
                    continue
                if now != item.before:
                    raise ConfigError(
                        f"{item.path} has just been changed by somebody else", hint="look at it and retry"
                    )
                waiting.append((_beside(place, item.after), place, item))
            _replace(waiting)
        except OSError as error:
            full = " (the disk is full)" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else ""
            raise StoreError(
                f"cannot write into {change.folder}: {error.strerror}{full}", hint="nothing was changed; mend it, retry"
            ) from None
        finally:
            for temporary, _, _ in waiting:
                temporary.unlink(missing_ok=True)


def _replace(waiting: list[tuple[Path, Path, Change]]) -> None:
    done: list[tuple[Path, Change]] = []
    folders: list[Path] = []
    try:
        for temporary, place, item in waiting:
            for folder in [p for p in reversed(place.parents) if not p.exists()]:
                folder.mkdir()
                folders.append(folder)
            os.replace(temporary, place)
            done.append((place, item))
    except OSError:
        for place, item in done:
            if item.before is None:
                place.unlink()
            else:
                os.replace(_beside(place, item.before), place)
        for folder in reversed(folders):
            folder.rmdir()
        raise


def _beside(place: Path, content: bytes) -> Path:
    """A finished file next to another one, with its mode and owner; a new one's is in the nearest folder."""
    kept = place.stat() if place.exists() else None
    if kept is not None and not kept.st_mode & stat.S_IWUSR:
        raise ConfigError(f"{place} is read-only", hint=f"chmod u+w {place}, or apply with --branch or --patch")
    near = next(folder for folder in place.parents if folder.is_dir())
    mode = stat.S_IMODE(kept.st_mode) if kept is not None else stat.S_IMODE(near.stat().st_mode) & 0o666
    handle, name = tempfile.mkstemp(prefix=f".{place.name}.", dir=near)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(handle, mode)
            if kept is not None and os.fstat(handle).st_uid != kept.st_uid:
                os.fchown(handle, kept.st_uid, kept.st_gid)
            os.fsync(handle)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One writer at a time; the lock is on the folder itself, so that it leaves no file behind."""
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def clean(text: str, width: int = 500) -> str:
    """Text on one line without control characters, for a commit message."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= width else line[: width - 1] + "…"


def _message(result: Result, differing: Sequence[Diff], status: str, sentence: str) -> str:
    """What was gained, in numbers. Texts and programs are in the diff; none of their words come in here."""
    state = result._state
    subject = clean(f"{result.problem.name}: {status} gain in {result.problem.spoken.name}", 72)
    changes = [f"- {c.name}: {_told(result, c.name, c.before, c.after)}" for c in differing]
    models = ", ".join(f"{clean(role)} {clean(name)}" for role, name in sorted(state.settings.models.items()))
    about = f"Spent: {spent_line(result.spent)}. Models: {models or 'none'}."
    body = [*textwrap.wrap(clean(sentence, 2000), 72), ""]
    for earlier in _before(result):
        said = f"Released before, by {earlier.run} ({earlier.status}): {earlier.sentence}"
        body += [*textwrap.wrap(clean(said, 2000), 72), ""]
    body += [*changes, "", *textwrap.wrap(about, 72)]
    trailers = [f"TrueGain-Run: {clean(result.run)}", f"TrueGain-Status: {status}"]
    return "\n".join([subject, "", *body, "", *trailers, ""])


def _before(result: Result) -> Iterator[Result]:
    """The runs whose released candidates this one built on, newest first, as far as they are there."""
    seen = {result.run}
    while True:
        name = str(result._state.origin.get("initial_from") or "")
        if not name or name in seen or not (result.folder.parent / name / FILE).is_file():
            return
        seen.add(name)
        result = load_result(result.folder.parent / name)
        if result.status in ("exact", "proven"):
            yield result


def _told(result: Result, name: str, before: Value, after: Value) -> str:
    parameter = result.problem.space[name]
    if isinstance(parameter, Code):
        return f"{_size(parameter.texts(before))} become {_size(parameter.texts(after))}"
    if isinstance(parameter, Text):
        return f"{_size({'': before})} become {_size({'': after})}"
    return f"{clean(str(before), 40)} → {clean(str(after), 40)}"


def _size(texts: Mapping[str, str]) -> str:
    lines, chars = sum(len(text.splitlines()) for text in texts.values()), sum(map(len, texts.values()))
    files = f"{plural(len(texts), 'file')}, " if "" not in texts else ""
    return f"{files}{plural(lines, 'line')} ({plural(chars, 'character')})"


def _diff(path: str, before: bytes | None, after: bytes) -> bytes:
    """One file's part of a patch."""
    head = [f"diff --git {_quoted('a/' + path)} {_quoted('b/' + path)}\n".encode()]
    sides = [("---", "a/"), ("+++", "b/")]
    if before is None:
        head.append(b"new file mode 100644\n")
        if after:  # git wants no more than that of an empty one
            head.append(b"--- /dev/null\n")
        sides = sides[1:] if after else []
        before = b""
    for mark, side in sides:
        # A tab behind a name with spaces tells programs where it ends, as git does it.
        head.append(
            f"{mark} {_quoted(side + path)}{chr(9) if ' ' in path else ''}\n".encode("utf-8", "surrogateescape")
        )
    old, new = (re.findall(rb"[^\n]*\n|[^\n]+", data) for data in (before, after))
    hunks = list(difflib.diff_bytes(difflib.unified_diff, old, new, lineterm=b"\n"))[2:]
    ended = [line if line.endswith(b"\n") else line + b"\n\\ No newline at end of file\n" for line in hunks]
    return b"".join(head + ended)


def _quoted(name: str) -> str:
    """A path as git writes it."""
    if not re.search(r'[\x00-\x1f"\\\x7f]', name):
        return name
    return '"' + re.sub(r'[\x00-\x1f"\\\x7f]', lambda found: f"\\{ord(found[0]):03o}", name) + '"'
