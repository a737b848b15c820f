"""What the tests of the command line share: a process away from the checkout, and small problem folders."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BOWL = """
def measure(candidate, seed=0, replicate=0):
    return (candidate["x"] - 0.3) ** 2 + 0.02 * (candidate["n"] - 6) ** 2
"""

TOML = """
[evaluator]
function = "evaluate:measure"
deterministic = true
timeout = 20

[space.x]
type = "float"
low = -1
high = 1
default = 0.9

[space.n]
type = "int"
low = 1
high = 9

[[objectives]]
name = "loss"

[budget]
evaluations = 12

[proposer]
name = "coordinate"
"""


@dataclass(frozen=True)
class Ran:
    """A finished process."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON document on stdout; anything before or behind it is an error."""
        return json.loads(self.out)


def environment(**more: str) -> dict[str, str]:
    """This process's environment without what would change a command's behaviour."""
    drop = ("TRUEGAIN_", "OPENAI_", "ANTHROPIC_", "CI", "NO_COLOR", "CLAUDECODE", "CODEX_", "PYTHONPATH", "COLUMNS")
    return {k: v for k, v in os.environ.items() if not k.startswith(drop)} | more


def cli(*arguments: object, cwd: Path, flags: tuple[str, ...] = ("-P",), **env: str) -> Ran:
    """`truegain ARGUMENTS`, in a process of its own, to its end."""
    done = subprocess.run(
        command(*arguments, flags=flags), cwd=cwd, env=environment(**env), capture_output=True, text=True, timeout=120
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def command(*arguments: object, flags: tuple[str, ...] = ("-P",)) -> list[str]:
    return [sys.executable, *flags, "-m", "agent", *map(str, arguments)]


def call(*arguments: object, cwd: Path) -> Ran:
    """The same within this process, for what needs no process of its own."""
    from agent.cli.main import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as end:
            return Ran(int(end.code or 0), out.getvalue(), err.getvalue())
    raise AssertionError("main did not end the process")


def begin(*arguments: object, cwd: Path, **env: str) -> subprocess.Popen[str]:
    """The same, left running in a process group of its own."""
    return subprocess.Popen(
        command(*arguments),
        cwd=cwd,
        env=environment(**env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> Ran:
    """Wait for a process that was left running."""
    out, err = process.communicate(timeout=60)
    return Ran(process.returncode, out, err)


def kill(process: subprocess.Popen[str]) -> None:
    """As a power cut would: nothing is saved that was not already."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)


def folder(place: Path, toml: str = TOML, evaluate: str = BOWL) -> Path:
    """A problem folder."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "problem.toml").write_text(toml)
    (place / "evaluate.py").write_text(textwrap.dedent(evaluate))
    return place


GATED = """
import pathlib, time
HERE = pathlib.Path(__file__).parent

def measure(candidate, seed=0, replicate=0):
    with open(HERE / "count", "a") as file:
        file.write(".")
    count = (HERE / "count").stat().st_size
    while count > 4 and not (HERE / "go").exists():
        time.sleep(0.02)
    return (candidate["x"] - 0.3) ** 2 + 0.02 * (candidate["n"] - 6) ** 2
"""
"""Measures four times, then waits until there is a file `go`."""


def until(path: Path, size: int, seconds: float = 30.0) -> None:
    """Wait until a file has that many bytes."""
    end = time.monotonic() + seconds
    while not path.exists() or path.stat().st_size < size:
        assert time.monotonic() < end, f"{path} never had {size} bytes"
        time.sleep(0.02)


def only_run(runs: Path) -> Path:
    """The single run in a folder of runs."""
    (found,) = (path for path in runs.iterdir() if not path.name.startswith("."))
    return found
