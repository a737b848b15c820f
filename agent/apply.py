"""The released candidate of a run as a change of the user's own files."""

from __future__ import annotations

import contextlib
import difflib
import errno
import fcntl
import hashlib
import os
import re
import stat
import tempfile
import textwrap
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.errors import ConfigError, GateError, StoreError
from agent.journal import FILE
from agent.ledger import plural
from agent.parameters import Value
from agent.result import Result, load_result
from agent.resultfiles import spent_line
from agent.space import Candidate, Space
from agent.space import Change as Diff
from agent.texts import Code, Text
from agent.tomlfile import decoded, encoded, with_defaults

PROBLEM = "problem.toml"
BOM = "\ufeff"


@dataclass(frozen=True, slots=True)
class Change:
    """One file.

    Args:
        path: Relative to the problem's folder, with "/" between its parts.
        before: Its bytes now; None for a file that is not there yet.
        after: Its bytes with the candidate in it.
    """

    path: str
    before: bytes | None
    after: bytes


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
    target = _Target(folder, name, given, result)
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


class _Target:
    """The user's files as they are now."""

    def __init__(self, folder: Path, name: str, given: Mapping[str, str], result: Result) -> None:
        self.folder, self.name, self.given, self.result = folder, name, given, result
        self.problem = self._read(name)
        try:
            raw = tomllib.loads(decoded(self.problem))
            self.specs: dict[str, Any] = raw["space"]
            self.files = {key: spec["file"] for key, spec in self.specs.items() if isinstance(spec.get("file"), str)}
            space = Space.from_spec(self.specs)
            programs = {key: item for key, item in space.items() if isinstance(item, Code)}
            self.trees = {key for key, item in programs.items() if item.tree and item.default is None}
            self.space = space.bound(folder)
            self.now = self.space.initial()
        except ConfigError as error:
            raise ConfigError(f"{folder / name}: space.{error.message}", hint=error.hint) from None
        except (ValueError, KeyError, AttributeError) as error:
            raise ConfigError(f"{folder / name} cannot be read: {error}", hint=self._again) from None

    @property
    def _again(self) -> str:
        return "undo the change (git stash keeps it aside), or run again from the files as they are: truegain run"

    def changes(self, wanted: Candidate) -> tuple[tuple[Change, ...], tuple[str, ...]]:
        """The files that differ from a candidate; none when they hold it already."""
        lost = [name for name in wanted if name not in self.space]
        if lost:
            raise ConfigError(
                f"{self.name}: the run changed {', '.join(lost)}, and there is no such parameter any more",
                hint=self._again,
            )
        try:
            full = self.space.candidate({**self.now, **wanted})
        except ValueError as error:
            raise ConfigError(f"{self.name} does not allow the run's candidate: {error}", hint=self._again) from None
        differ = [change.name for change in self.space.diff(self._bare(self.now), self._bare(full))]
        notes = self._compare(differ, full)
        contents: dict[str, bytes] = {}
        for name in differ:
            for place, text in self._places(name, full).items():
                content = self._content(place, text)
                if contents.setdefault(place, content) != content:
                    raise ConfigError(
                        f"two parameters say file = {place!r} and want different contents",
                        hint="give each a file of its own, then run again",
                    )
        inline = {name: full[name] for name in differ if name not in self.files and name not in self.trees}
        if inline:
            try:
                contents[self.name] = with_defaults(self.problem, inline)
            except (ValueError, UnicodeError) as error:
                raise self._cannot(self.name, str(error)) from None
        self._verify(contents, full)
        made = [Change(self._path(name), self._now(name), content) for name, content in contents.items()]
        return tuple(made), notes

    def differing(self, wanted: Candidate) -> list[Diff]:
        """What a candidate that fits changes in the files; that may be the work of several runs."""
        return self.space.diff(self._bare(self.now), self._bare({**self.now, **wanted}))

    def _bare(self, candidate: Mapping[str, Value]) -> dict[str, Value]:
        """The values as files hold them: a byte order mark in front is the file's, not the text's."""

        def bare(name: str, value: Value) -> Value:
            if name in self.trees:
                return {path: text.removeprefix(BOM) for path, text in value.items()}
            return value.removeprefix(BOM) if name in self.files else value

        return {name: bare(name, value) for name, value in candidate.items()}

    def _places(self, name: str, full: Mapping[str, Value]) -> dict[str, str]:
        """The files that a parameter's value changes, and their texts; none where it stands in the problem file."""
        if name in self.files:
            return {self.files[name]: str(full[name])}
        if name not in self.trees:
            return {}
        old, new = (self._bare(values)[name] for values in (self.now, full))
        return {path: text for path, text in new.items() if old.get(path) != text}

    def _compare(self, differ: list[str], full: Candidate) -> tuple[str, ...]:
        """Refuse what is not as the run found it; a file that it did not find must not be there."""
        for name in dict.fromkeys(place for item in differ for place in self._places(item, full) or [self.name]):
            now = self._now(name)
            if self.given and (None if now is None else hashlib.sha256(now).hexdigest()) != self.given.get(name):
                raise ConfigError(f"{name} is not what the run began with", hint=self._again)
        if self.given or not differ:
            return ()
        initial = self._bare({**self.now, **self.result.initial})
        for name in differ:
            if self._bare(self.now)[name] != initial[name]:
                raise ConfigError(f"{name}: the value is not what the run began with", hint=self._again)
        return ("the run does not know the bytes it began with: only the values could be compared",)

    def _content(self, place: str, text: str) -> bytes:
        before = self._now(place) or b""
        if before.startswith(BOM.encode()) and not text.startswith(BOM):
            text = BOM + text
        try:
            return encoded(text, before)
        except UnicodeError as error:
            raise self._cannot(place, str(error)) from None

    def _verify(self, contents: Mapping[str, bytes], full: Candidate) -> None:
        """Read back what would be written: the problem must begin with the candidate."""
        raw = tomllib.loads(decoded(contents.get(self.name, self.problem)))
        for name, file in self.files.items():
            spec = {key: value for key, value in raw["space"][name].items() if key != "file"}
            raw["space"][name] = {**spec, "default": decoded(contents.get(file, self._read(file)))}
        for name in self.trees:
            texts = {path: decoded(contents[path] if path in contents else self._read(path)) for path in full[name]}
            raw["space"][name]["default"] = {path: text.removeprefix(BOM) for path, text in texts.items()}
        found = Space.from_spec(raw["space"]).initial()
        for name, value in self._bare(full).items():
            if self._bare(found)[name] != value:
                why = (
                    "a carriage return would come back as a newline" if "\r" in str(value) else "it reads back changed"
                )
                raise self._cannot(self.files.get(name, self.name), f"{name}: {why}")

    def _cannot(self, file: str, why: str) -> ConfigError:
        return ConfigError(f"{file} cannot hold the candidate: {why}", hint=f"truegain export {self.result.run} --to X")

    def _path(self, name: str) -> str:
        return self._inside(name).relative_to(self.folder).as_posix()

    def _inside(self, name: str) -> Path:
        place = (self.folder / name).resolve()
        if not place.is_relative_to(self.folder):
            raise ConfigError(
                f"{name} is {place}, outside of the problem's folder",
                hint="apply writes nothing there; put the file into the folder, or truegain export and copy it",
            )
        return place

    def _now(self, name: str) -> bytes | None:
        """A file's bytes; None where a program gets one more."""
        return self._read(name) if os.path.lexists(self.folder / name) else None

    def _read(self, name: str) -> bytes:
        place = self._inside(name)
        try:
            return place.read_bytes()
        except OSError as error:
            raise ConfigError(f"cannot read {place}: {error.strerror}", hint="the run began with this file") from None


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
