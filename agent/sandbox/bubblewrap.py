"""Bubblewrap: the worker sees its own files, processes, network and nothing else.

Source: bwrap(1), version 0.5 and later.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from agent.sandbox.lockdown import SYSTEM

CHECK = """
import os, socket
assert len([name for name in os.listdir("/proc") if name.isdigit()]) <= 3, "it sees other processes"
assert not [name for _, name in socket.if_nameindex() if name != "lo"], "it sees a network"
try:
    open("/etc/truegain", "w")
except OSError:
    pass
else:
    raise AssertionError("it can write")
print("works")
"""


def command(readable: Iterable[str], writable: Iterable[str]) -> list[str]:
    """The words to put before a command.

    Args:
        readable: Paths that it may read, beside the system's own.
        writable: Folders that it may write.
    """
    words = [
        _path() or "bwrap",
        *("--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
        *("--die-with-parent", "--proc", "/proc", "--dev", "/dev"),
    ]
    for path in SYSTEM:
        if not path.startswith("/proc"):
            words += ["--ro-bind-try", path, path]
    readable, writable = sorted(set(readable)), sorted(set(writable))  # a folder comes before what lies in it
    for place in sorted({parent for path in (*readable, *writable) for parent in Path(path).parents[:-1]}):
        if not place.is_relative_to("/usr"):  # otherwise only root could pass through
            words += ["--perms", "0755", "--dir", str(place)]
    for path in readable:
        words += ["--ro-bind-try", path, path]
    for path in writable:
        words += ["--bind", path, path]
    return [*words, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/", "--"]


def _path() -> str | None:
    return shutil.which("bwrap")


@cache
def check(readable: tuple[str, ...]) -> str:
    """Why it cannot be used; empty when it can."""
    if sys.platform != "linux":
        return "only on Linux"
    if _path() is None:
        return "bwrap is not installed (Debian, Fedora: package bubblewrap)"
    try:
        done = subprocess.run(
            [*command(readable, []), sys.executable, "-I", "-S", "-c", CHECK],
            capture_output=True,
            text=True,
            timeout=20,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"its test failed: {error}"
    if done.stdout.strip() == "works":
        return ""
    return "its test failed: " + (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
