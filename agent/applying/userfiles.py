"""The user's own files as they are, and as they would be with a candidate in them."""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.errors import ConfigError
from agent.parameters import Value
from agent.results.result import Result
from agent.space import Candidate, Space
from agent.space import Change as Diff
from agent.texts import Code
from agent.tomlfile import decoded, encoded, with_defaults

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


class Target:
    """The user's files as they are now.

    Args:
        folder: Of the problem.
        name: Of its file there.
        given: SHA-256 of the files that the run began with, by path; {} where it does not know them.
        result: Of the run.

    Raises:
        ConfigError: The problem file, or one that it names, cannot be read.
    """

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
