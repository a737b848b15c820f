"""`truegain doctor --as-batch`: the checks again, where cron and systemd would do them.

A scheduler gives a program next to nothing: no PATH beyond the system's, no keys, no locale, no terminal, and another
working directory. So a child with just that looks around, and what it finds is what the night will find.
"""

from __future__ import annotations

import fcntl
import getpass
import json
import locale
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from agent.cli import doctor_rows
from agent.cli.doctor_rows import Row
from agent.errors import AgentError

PATH = "/usr/bin:/bin"
FREE = 500
"""Megabytes that should be free for journals."""


def rows(target: Path | None, env_file: Path | None, runs: str | None) -> Iterator[Row]:
    """All checks; those of the child come last.

    Args:
        target: A problem's folder, or a batch file.
        env_file: The file with the keys.
        runs: Where run folders are.
    """
    given: dict[str, str] = {}
    if env_file is not None:
        from agent.batch.units import read_env

        try:
            given = read_env(env_file)
            yield Row("env file", True, f"{env_file}: {', '.join(given) or 'no variables'}")
        except AgentError as error:
            yield Row("env file", False, error.message, error.hint)
    yield from _linger()
    yield from _child(target, given, runs)


def bare(given: Mapping[str, str]) -> dict[str, str]:
    """The environment that cron gives, with an env file's variables."""
    user = pwd.getpwuid(os.getuid())
    own = {"HOME": user.pw_dir, "LOGNAME": user.pw_name, "SHELL": "/bin/sh", "PATH": PATH}
    private = os.environ.get("CREDENTIALS_DIRECTORY")
    return own | ({"CREDENTIALS_DIRECTORY": private} if private else {}) | dict(given)


def _child(target: Path | None, given: Mapping[str, str], runs: str | None) -> Iterator[Row]:
    from agent.redact import redact

    environment = bare(given)
    home = environment["HOME"]
    place = str(target.resolve()) if target is not None else None
    chosen = str(Path(runs).expanduser().resolve()) if runs else None
    # Files and not pipes: an evaluator may say more than a pipe holds while nobody reads it.
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as errors:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "agent.cli.doctor_batch", json.dumps([answer.fileno(), place, chosen])],
            cwd=home if os.path.isdir(home) else "/",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            pass_fds=(answer.fileno(),),
            umask=0o022,
        )
        answer.seek(0)
        errors.seek(0)
        said, noise = answer.read(), errors.read().decode("utf-8", "replace")
    if done.returncode == 0:
        # The child's words may hold what an evaluator printed, so no value of the env file gets through.
        for item in redact(json.loads(said), given.values()):
            yield Row(item["check"], item["ok"], item["found"], item["fix"], item["needed"])
        return
    why = (redact(noise, given.values()).strip().splitlines() or ["it says nothing"])[-1]
    yield Row(
        "truegain",
        False,
        f"does not start without your environment: {why}",
        "install it into an environment of its own (pip install truegain), not by PYTHONPATH",
    )


def _linger() -> Iterator[Row]:
    """Whether the user's timers run while nobody is logged in; nothing where systemd does not run."""
    if not os.path.isdir("/run/systemd/system") or os.getuid() == 0:
        return
    name = getpass.getuser()
    good = os.path.exists(f"/var/lib/systemd/linger/{name}")
    found = "user timers run without a login" if good else "user timers stop when you log out"
    yield Row("linger", good, found, f"loginctl enable-linger {name} (cron and system units do not need it)", False)


def look(target: Path | None, runs: str | None) -> Iterator[Row]:
    """What the child finds."""
    from agent.batch.units import Machine

    yield Row("truegain", True, " ".join(Machine.here().command))
    try:
        problems, where = _problems(target, runs)
    except AgentError as error:
        yield Row("batch file", False, error.message, error.hint)
        return
    models = dict.fromkeys(name for _, path, more in problems for name in doctor_rows.asked(path, more))
    for row in doctor_rows.machine(where, models if problems else doctor_rows.asked(None)):
        if row.name.endswith(" key"):
            variable = doctor_rows.KEYS[row.name.removesuffix(" key")]
            row = Row(row.name, row.good, row.found, f"a line {variable}=… in the env file, mode 0600", row.needed)
        yield row
    yield from _surroundings(where)
    for name, path, more in problems:
        from agent.config import load

        reads = partial(load, path, more)
        yield from _commands(name, reads)
        yield from doctor_rows.problem(reads, name)
        yield _git(name, path.parent if path.suffix == ".toml" else path)


def _problems(target: Path | None, runs: str | None) -> tuple[list[tuple[str, Path, dict[str, Any]]], Path]:
    """Name, path and replaced keys of each problem, and the folder of runs."""
    from agent.folders import runs_folder

    if target is None:
        return [], runs_folder(None, runs)
    if target.suffix == ".toml":
        from agent.batch.place import read

        if "problems" in read(target):
            from agent.batch.plan import load

            plan = load(target, runs)
            return [(item.name, item.path, dict(item.overrides)) for item in plan.entries], plan.runs
        return [(target.parent.name, target, {})], runs_folder(target.parent, runs)
    return [(target.name, target, {})], runs_folder(target, runs)


def _surroundings(where: Path) -> Iterator[Row]:
    home = Path(os.environ["HOME"])
    good = home.is_dir() and os.access(home, os.W_OK | os.X_OK)
    yield Row("home", good, str(home) + ("" if good else " cannot be written"), "HOME=/a/folder in the env file")
    yield Row("working directory", True, f"{Path.cwd()}, so every path in a crontab must be absolute")
    coding, files = locale.getencoding(), sys.getfilesystemencoding()
    good = all(name.lower().replace("-", "") == "utf8" for name in (coding, files))
    yield Row("locale", good, f"{coding}, file names {files}", "a line LANG=C.UTF-8 in the env file")
    yield Row("terminal", True, os.environ.get("TERM", "none") + ": progress goes to the log as JSON lines")
    present = next(place for place in (where, *where.parents) if place.exists())
    free = shutil.disk_usage(present).free / 1e6
    good = free >= FREE
    yield Row("disk", good, f"{free:,.0f} MB free for {where}", "truegain prune --days 30 --keep 10")
    yield _permissions(where)
    yield _lock(present)


def _permissions(where: Path) -> Row:
    """Whether others could change what the runs hold; the umask of cron is 022."""
    if not where.is_dir():
        return Row("permissions", True, f"{where} will be made; run folders are readable by you alone")
    mode = where.stat().st_mode & 0o7777
    good = not mode & 0o002 or bool(mode & 0o1000)
    return Row("permissions", good, f"{where} has mode {mode:04o}", f"chmod o-w {where}")


def _lock(folder: Path) -> Row:
    """Whether file locks work there: they keep two nights apart."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".truegain-") as first, open(first.name) as second:
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return Row("locks", True, "two nights at once are kept apart")
        found = "a lock does not keep others out"
    except OSError as error:
        found = f"{folder}: {error.strerror}"
    return Row("locks", False, found, "--runs FOLDER on a local disk, or runs = … in the batch file")


def _commands(name: str, load: Any) -> Iterator[Row]:
    """Whether the command of an evaluator is found."""
    from agent.evaluators.command import CommandEvaluator

    try:
        setup = load()
    except AgentError:
        return  # its own row tells
    evaluator = setup.problem.evaluator
    if not isinstance(evaluator, CommandEvaluator):
        return
    word = evaluator.argv[0]
    path = {**os.environ, **(setup.env or {})}.get("PATH")
    found = word if "/" in word else shutil.which(word, path=path)
    good = found is not None and os.access(os.path.join(setup.problem.folder, found), os.X_OK)
    said = str(found) if good else f"{word} is not found with PATH={path}"
    yield Row(
        f"command {name}",
        good,
        said,
        "its absolute path in problem.toml, or a line PATH=… in the env file (printed units and crontab carry yours)",
    )


def _git(name: str, folder: Path) -> Row:
    """Whether `apply --branch` would work."""
    from agent.applying.gitbranch import Repository

    try:
        return Row(f"git {name}", True, f"apply --branch commits as {Repository(folder).author()}", "", False)
    except AgentError as error:
        return Row(f"git {name}", False, f"no apply --branch: {error.message}", error.hint, False)


def main(arguments: str) -> None:
    """The child: writes its rows as JSON into a file of its own, since an evaluator may print to stdout."""
    sink, target, runs = json.loads(arguments)
    found = [row.to_json() for row in look(Path(target) if target else None, runs)]
    with open(sink, "w", encoding="utf-8") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main(sys.argv[1])
