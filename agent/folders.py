"""Where runs live, and how they are found again."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.errors import ConfigError, StoreError
from agent.events import RESUMABLE
from agent.journal import FILE
from agent.lock import holder, is_locked, problem_lock
from agent.sqlitefile import connect, explain

VARIABLE = "TRUEGAIN_RUNS"
PROJECT = (".git", "pyproject.toml")


def runs_folder(problem: Path | None, chosen: str | Path | None = None) -> Path:
    """Where runs of a problem go: `chosen`, or $TRUEGAIN_RUNS, or `runs/` in the project that holds the
    problem (the nearest folder above with .git or pyproject.toml), or else `runs/` beside the problem's folder; in
    the folder itself where no problem file is, as in a script's, since commands are called there.

    Args:
        problem: The problem's folder; None means the working directory.
        chosen: What the user said.
    """
    if chosen:
        return Path(chosen).expanduser().resolve()
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE]).expanduser().resolve()
    start = (problem or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if any((folder / mark).exists() for mark in PROJECT):
            return folder / "runs"
    return (start.parent if any(start.glob("*.toml")) else start) / "runs"


def new_run(runs: Path, name: str, now: float | None = None) -> Path:
    """A path for a new run; its name sorts by time and cannot meet another's."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "run"
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
    return runs / f"{plain}-{stamp}-{os.urandom(2).hex()}"


def ignored(runs: Path) -> None:
    """Tell git to leave a new folder of runs alone: what is held out from a search lies there too."""
    with contextlib.suppress(OSError):  # whoever writes the run says what is wrong
        runs.mkdir(mode=0o700, parents=True, exist_ok=True)
        (runs / ".gitignore").write_text("*\n", encoding="utf-8")


@contextlib.contextmanager
def alone(runs: Path, problem: Path) -> Iterator[None]:
    """Be the only one that runs a problem in a folder of runs.

    Args:
        runs: The folder of runs.
        problem: The problem's file.

    Raises:
        RunLocked: A live process runs it there.
        StoreError: The folder cannot be written, or is on a network mount.
    """
    try:
        lock = problem_lock(runs, problem)
    except OSError as error:
        raise StoreError(
            f"cannot write in {runs}: {error.strerror}", hint="name another folder of runs: --runs FOLDER"
        ) from None
    try:
        yield
    finally:
        lock.release()


def find(runs: Path, name: str) -> Path:
    """The run that a name, a unique part of its beginning, a path, or "last" stands for.

    Raises:
        ConfigError: There is none, or there are several.
    """
    direct = Path(name).expanduser()
    if (direct / FILE).exists():
        return direct.resolve()
    known = list(folders(runs))
    if name == "last":
        for folder in sorted(known, key=_written, reverse=True):
            if not _stillborn(folder):
                return folder
    hits = [folder for folder in known if folder.name == name] or [f for f in known if f.name.startswith(name)]
    if len(hits) == 1:
        return hits[0]
    if hits:
        raise ConfigError(
            f"{name!r} could be {', '.join(sorted(hit.name for hit in hits)[:5])}", hint="give more of the name"
        )
    raise ConfigError(
        f"there is no run {name!r} in {runs}",
        hint="truegain list shows the runs; --runs FOLDER looks elsewhere",
    )


def _stillborn(folder: Path) -> bool:
    """Whether a run's process died before the first event: there is nothing to show of it."""
    try:
        return not is_locked(folder) and not _steering(folder)
    except StoreError:
        return False


def spoken(folder: Path) -> str:
    """What a command that is started here may call a run: its name, or its path where that would not be found."""
    return folder.name if folder.parent == runs_folder(None) else str(folder)


def _written(folder: Path) -> float:
    """When the journal was last written: what is not folded back yet is in the write-ahead log beside it.

    A reader leaves an empty log behind, which says nothing.
    """
    journal = (folder / FILE).stat()
    try:
        log = (folder / f"{FILE}-wal").stat()
    except FileNotFoundError:
        return journal.st_mtime
    return max(journal.st_mtime, log.st_mtime if log.st_size else 0.0)


def folders(runs: Path) -> Iterator[Path]:
    """All run folders, by name."""
    if runs.is_dir():
        yield from sorted(folder for folder in runs.iterdir() if (folder / FILE).is_file())


@dataclass(frozen=True, slots=True)
class Listing:
    """One line of `truegain list`.

    Args:
        state: With a live process running, paused (nothing new starts) or stopping (what is in flight is finished);
            without one finished, stopped (on request or at a provider's refusal), lost (its process died), or damaged.
            What is stopped or lost can be resumed.
        status: What a finished run found: proven, exact, unproven or initial.
        pid: The live process.
        detail: Why it was stopped or is damaged, or that it has ended without measuring anything.
    """

    name: str
    folder: Path
    problem: str
    state: str
    status: str
    started: float
    pid: int | None
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "run": self.name,
            "folder": str(self.folder),
            "problem": self.problem,
            "state": self.state,
            "status": self.status,
            "started": self.started,
            "pid": self.pid,
            "detail": self.detail,
        }


STEERING = ("run.started", "run.resumed", "run.paused", "run.continued", "stop.requested", "run.ended")
"""Events that say in what state a run is."""


WHY = {"interrupted": "by Ctrl-C", "terminated": "on request"}
"""What is said of reasons to stop; a provider's is its own words."""
BROKEN = "the initial candidate cannot be scored"
"""What is said of a run that ended because of that."""


def listing(folder: Path) -> Listing:
    """What `list` shows of a run, by its lock and by the few events that begin, rest and end it."""
    live = is_locked(folder)
    try:
        events = _steering(folder)
        if is_locked(folder) != live:  # its process came or went meanwhile
            live = not live
            events = _steering(folder)
    except StoreError as error:
        return Listing(folder.name, folder, "", "damaged", "", 0.0, holder(folder) if live else None, error.message)
    pid = holder(folder) if live else None
    if not events or events[0][1] != "run.started":
        return Listing(folder.name, folder, "", "running" if live else "damaged", "", 0.0, pid, "no events yet")
    (begun, _, started), halt, paused = events[0], "", False
    for _, kind, body in events:
        if kind == "stop.requested":
            halt = (WHY.get(body["reason"]) or str(body["detail"])) if body["reason"] in RESUMABLE else halt
        else:
            halt = BROKEN if kind == "run.ended" and body["reason"] == "evaluator" else ""
            paused = kind == "run.paused"
    _, newest, body = events[-1]
    problem = str(started["problem"]["name"])
    if newest == "run.ended":
        state = "finished"
    elif live:
        state = "stopping" if halt else "paused" if paused else "running"
    else:
        state = "stopped" if halt else "lost"
    status = str(body["status"]) if newest == "run.ended" else ""
    return Listing(folder.name, folder, problem, state, status, begun, pid, halt)


def _steering(folder: Path) -> list[tuple[float, str, dict[str, Any]]]:
    """Time, type and body of the events that say in what state a run is."""
    marks = ", ".join("?" * len(STEERING))
    query = f"SELECT time, type, body FROM events WHERE type IN ({marks}) ORDER BY seq"
    try:
        with contextlib.closing(connect(folder / FILE, read_only=True)) as db:
            return [(time, kind, json.loads(body)) for time, kind, body in db.execute(query, STEERING)]
    except (sqlite3.Error, ValueError) as error:
        if "no such table" in str(error) and is_locked(folder):  # a live process is about to make it
            return []
        raise explain(error, folder) from None


def prune(runs: Path, *, days: float | None, keep: int | None, now: float) -> list[Path]:
    """Which runs would be removed: older than `days`, and not among the newest `keep`; never a running one."""
    known = sorted(folders(runs), key=_written, reverse=True)
    out = []
    for place, folder in enumerate(known):
        old = days is None or now - _written(folder) > days * 86400
        if old and (keep is None or place >= keep) and not is_locked(folder):
            out.append(folder)
    return out


def remove(folder: Path) -> None:
    """Delete a run folder."""
    shutil.rmtree(folder)
