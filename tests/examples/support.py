"""Modules of an example as they are imported where it runs, and what its evaluator and a run of it give."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from agent.cli.run import session_of
from agent.config import load
from agent.evaluation import Output, Request
from tests.cli_helpers import command, environment

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@contextmanager
def modules(example: str, *names: str) -> Iterator[tuple[ModuleType, ...]]:
    """The modules of a folder; another example may have some of the same names, so they are forgotten afterwards."""
    folder = EXAMPLES / example
    own = [path.stem for path in folder.glob("*.py")]
    before, path = {name: sys.modules.pop(name) for name in own if name in sys.modules}, list(sys.path)
    sys.path.insert(0, str(folder))
    try:
        yield tuple(importlib.import_module(name) for name in names)
    finally:
        sys.path[:] = path
        for name in own:
            sys.modules.pop(name, None)
        sys.modules.update(before)


def ran(example: str, runs: Path, *options: object) -> dict[str, Any]:
    """The result of a run of an example, in a process of its own, its programs in whatever sandbox there is."""
    done = subprocess.run(
        command("run", EXAMPLES / example, "--runs", runs, "--json", *options),
        capture_output=True,
        text=True,
        timeout=280,
        cwd=runs,
        env=environment(PYTHONPATH=str(EXAMPLES.parent)),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


async def outputs(example: str, *requests: Request) -> list[Output]:
    """What the evaluator of an example gives, its programs in a sandbox as strong as this machine has."""
    setup = load(EXAMPLES / example, {"evaluator.sandbox.unsafe": True})
    executor = session_of(setup).make_executor(setup.settings)
    try:
        return [await executor.submit(request) for request in requests]
    finally:
        await executor.close()


def rows(example: str, name: str) -> list[dict[str, Any]]:
    """The rows of a file."""
    return [json.loads(line) for line in (EXAMPLES / example / name).read_text(encoding="utf-8").splitlines()]
