"""What the tests of runs in the background share."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.control.detach import LOG
from agent.lock import is_locked
from tests.cli_helpers import GATED, cli, folder, until

PATIENCE = 60.0


def wait(ready: Callable[[], Any], what: str) -> Any:
    """Poll until something is there."""
    end = time.monotonic() + PATIENCE
    while not (found := ready()):
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.02)
    return found


def gone(run: Path) -> None:
    wait(lambda: not is_locked(run) and not is_locked(run, LOG), "the run's process has gone")


@pytest.fixture
def launched(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """A run in the background that waits for a file `go` in its fifth measurement."""
    done = cli("run", folder(tmp_path / "bowl", evaluate=GATED), "--detach", "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    record = done.json
    try:
        until(tmp_path / "bowl" / "count", 5)
        yield record
    finally:
        run = Path(record["folder"])
        if is_locked(run):
            with contextlib.suppress(ProcessLookupError):
                os.kill(record["pid"], signal.SIGKILL)
            gone(run)


def log(record: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(record["log"]).read_text().splitlines()]
