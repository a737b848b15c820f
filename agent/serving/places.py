"""Which problems and runs an agent may name: those below the folders that were given at launch, and no others.

A name is looked up among what is there. No path is ever made of it, so neither `..` nor a link leads anywhere.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.config import FILE
from agent.errors import ConfigError, StoreError
from agent.events import RunStarted
from agent.folders import folders, runs_folder
from agent.journal import read
from agent.ledger import KINDS
from agent.serving.guest import NAME
from agent.serving.launching import MARK

DEEP = 4
"""Levels below a folder in which problems are looked for."""
MOST = 200
"""Problems that are listed."""


class Places:
    """The problems and their runs.

    Args:
        roots: The folders.
        runs: Where runs are, for all of them; None for where each problem has them.

    Raises:
        ConfigError: A folder is not there.
    """

    def __init__(self, roots: Sequence[Path], runs: str | None = None) -> None:
        for root in roots:
            if not root.is_dir():
                raise ConfigError(f"there is no folder {root}", hint="name a problem's folder, or one that holds some")
        self._roots = [root.resolve() for root in roots]
        self._chosen = runs
        self._of: dict[Path, tuple[Path, bool, bool] | None] = {}

    def problems(self) -> dict[str, Path]:
        """Folders by name: as below their root, with the root's name before it where there are several."""
        found: dict[str, Path] = {}
        for root in self._roots:
            for folder in _below(root, DEEP):
                inside = folder.relative_to(root).as_posix()
                name = root.name if inside == "." else inside if len(self._roots) == 1 else f"{root.name}/{inside}"
                if name not in found and len(found) < MOST:
                    found[name] = folder
        return found

    def problem(self, name: str) -> Path:
        """The folder of a problem.

        Raises:
            ConfigError: There is none of that name.
        """
        known = self.problems()
        if name not in known:
            raise ConfigError(
                f"there is no problem {name[:80]!r} here", hint=f"list_problems has them: {', '.join(list(known)[:10])}"
            )
        return known[name]

    def place(self, problem: Path) -> Path:
        """Where the runs of a problem are."""
        return runs_folder(problem, self._chosen)

    def runs(self) -> dict[str, tuple[Path, str]]:
        """Run folders by name, each with the name of its problem."""
        known = self.problems()
        names = {folder: name for name, folder in known.items()}
        found: dict[str, tuple[Path, str]] = {}
        for place in sorted({self.place(folder) for folder in known.values()}):
            for folder in folders(place):
                begun = self._begun(folder)
                if begun is not None and not folder.is_symlink() and begun[0] in names:
                    found.setdefault(folder.name, (folder, names[begun[0]]))
        return found

    def started(self) -> set[str]:
        """The runs that agents have started, through whichever server."""
        found = ((name, self._begun(folder)) for name, (folder, _) in self.runs().items())
        return {name for name, begun in found if begun is not None and begun[2]}

    def run(self, name: str, ours: bool = False) -> Path:
        """The folder of a run.

        Args:
            name: Its whole name.
            ours: Only one that takes requests of agents.

        Raises:
            ConfigError: There is none of that name.
        """
        known = self.runs()
        if name not in known:
            raise ConfigError(f"there is no run {name[:80]!r} here", hint="list_runs has the names")
        folder = known[name][0]
        begun = self._begun(folder)
        if ours and (begun is None or not begun[1]):
            raise ConfigError(
                f"{name} was not started for agents, so it is only looked at here",
                hint="start begins one that takes requests",
            )
        return folder

    def _begun(self, folder: Path) -> tuple[Path, bool, bool] | None:
        """The problem's folder of a run, whether it takes requests, and whether an agent started it; None while nobody
        knows."""
        if self._of.get(folder) is None:
            try:
                first = next(read(folder), None)
            except StoreError:
                return None
            if first is None or not isinstance(first.event, RunStarted):
                return None
            event = first.event
            ours = event.settings.get("proposer") == NAME
            by_agent = ours and MARK in (event.origin.get("command") or ())
            self._of[folder] = Path(event.problem["folder"]).resolve(), ours, by_agent
        return self._of[folder]


def _below(root: Path, deep: int) -> Iterator[Path]:
    """Folders with a problem file, no link followed."""
    file = root / FILE
    if file.is_file() and not file.is_symlink():
        yield root
        return
    if not deep:
        return
    try:
        inside = sorted(path for path in root.iterdir() if path.is_dir() and not path.is_symlink())
    except OSError:
        return
    for path in inside:
        if not path.name.startswith("."):
            yield from _below(path, deep - 1)


def outline(folder: Path) -> dict[str, Any]:
    """What a problem file says of itself, without loading anything that it names."""
    try:
        raw = tomllib.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        return {"error": f"{FILE} cannot be read: {why}"}
    space, budget = raw.get("space"), raw.get("budget")
    return {
        "description": str(raw.get("description", "")).strip()[:1000],
        "parameters": {
            name: str(item.get("type", ""))
            for name, item in (space if isinstance(space, dict) else {}).items()
            if isinstance(item, dict)
        },
        "budget": {kind: budget[kind] for kind in KINDS if kind in budget} if isinstance(budget, dict) else {},
    }


def lowered(limits: Mapping[str, Any] | None, asked: Mapping[str, float | None]) -> list[str]:
    """The options that put lower limits in the place of the problem's.

    Args:
        limits: Of the problem file; None where it cannot be read, and the command will say so.
        asked: By kind; None for the problem's own.

    Raises:
        ConfigError: One is higher; or the file has none, so that the agent's own would be all there is.
    """
    options: list[str] = []
    if limits is None:
        return options
    if not limits:
        raise ConfigError(
            "the problem has no limit at all, and an agent sets none",
            hint="a person puts one into [budget] of problem.toml, such as evaluations = 200",
        )
    for kind, value in asked.items():
        if value is None:
            continue
        limit = limits.get(kind)
        if not value >= 0 or (limit is not None and value > limit):
            raise ConfigError(
                f"{kind}: found {value:g}, allowed is 0 to {'any number' if limit is None else f'{limit:g}'}",
                hint="only a person raises a limit, in problem.toml; leave it out for the limit there",
            )
        options += [f"--{kind}", str(value)]
    return options
