"""What the sandbox's tests share."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.sandbox.layers import probe
from agent.sandbox.types import Caps, Job

ROOT = Path(__file__).parents[2]
USER = 60123
ON = tuple(layer.name for layer in probe() if layer.on)
AS_ROOT = os.geteuid() == 0
PATIENT = Caps(seconds=120)


def needs(*names: str) -> pytest.MarkDecorator:
    """Skip where a layer does not work."""
    lacking = [layer for layer in probe() if layer.name in names and not layer.on]
    why = "; ".join(f"{layer.name}: {layer.why}" for layer in lacking)
    return pytest.mark.skipif(bool(lacking), reason=f"a sandbox layer is missing here: {why}")


needs_root = pytest.mark.skipif(not AS_ROOT, reason="only root can become another user")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can do this")


def job(source: str, *inputs: object, caps: Caps = PATIENT, entry: str = "candidate:solve", **more: object) -> Job:
    return Job({"candidate.py": source.encode()}, entry, inputs or (1,), caps, **more)  # type: ignore[arg-type]


def eventually(true: Callable[[], bool], seconds: float = 30.0) -> bool:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def processes(mark: str) -> list[int]:
    """Processes with a word in their command line, zombies not."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if mark.encode() in Path("/proc", name, "cmdline").read_bytes():
                found.append(int(name))
        except OSError:
            pass
    return found
