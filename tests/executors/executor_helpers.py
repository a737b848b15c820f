"""What the tests of executors share: requests, and a look at which processes are alive."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from agent.evaluation import Limits, Request
from agent.space import Candidate

PATIENCE = 60.0
"""Seconds after which a test gives up; long, because test machines are busy."""
NO_LIMITS = Limits()
LINUX = sys.platform == "linux"


def request(limits: Limits = NO_LIMITS, **values: Any) -> Request:
    return Request(Candidate(values), limits=limits)


def alive(pid: int) -> bool:
    """Whether the process exists and is not just waiting to be reaped."""
    if LINUX:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return False
    else:
        state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return state[:1] not in ("", "Z", "X")


def gone(*pids: int, within: float = PATIENCE) -> bool:
    """Wait until none of the processes is alive."""
    until = time.monotonic() + within
    while any(alive(pid) for pid in pids):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


async def written(path: Path, count: int = 1) -> list[int]:
    """The process ids that the evaluation writes, one file each, once there are so many."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        found = [int(text) for file in path.glob("*.pid") if (text := file.read_text())]
        if len(found) >= count:
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(f"fewer than {count} process ids in {PATIENCE:g} s")
