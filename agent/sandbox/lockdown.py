"""What a freshly forked candidate gives up before it runs a line of foreign code."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from collections.abc import Mapping
from typing import Any

from agent.sandbox import landlock, native, seccomp

THREADS = 32
"""Threads beyond the processes allowed; the system counts both as tasks."""
FILES = 128
SYSTEM = (
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/bin",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/alternatives",
    "/etc/passwd",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/sys/devices/system/cpu",
)
"""What programs read of a Linux system, beside Python and its libraries."""
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/urandom", "/dev/random")


def lock_down(spec: Mapping[str, Any], job: Mapping[str, Any]) -> None:
    """Apply the layers, in the order in which the later ones are still possible.

    Args:
        spec: The zygote's: "layers", "uid", "readable".
        job: "files" and "work" (folders), "caps", "program" (whether the entry is a command).

    Raises:
        OSError: A layer cannot be put on; nothing may run then.
    """
    layers, caps = spec["layers"], job["caps"]
    processes = caps["processes"] + bool(job["program"])  # we are one, and start the program
    os.umask(0o077)
    os.chdir(job["work"])
    if sys.platform == "linux":
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")  # when memory runs out, it is us, not the zygote
        native.prctl(native.PR_SET_NO_NEW_PRIVS, 1)
    if "landlock" in layers:
        readable = [*spec["readable"], *SYSTEM, job["files"], "/proc/self"]
        landlock.restrict(readable, [job["work"], *DEVICES], landlock.abi())
    if "rlimits" in layers:
        limit(caps, processes, counted="uid" in layers or "bubblewrap" in layers)
    if "uid" in layers:
        uid = spec["uid"]
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    elif sys.platform == "linux" and os.geteuid() == 0:
        native.drop_capabilities()
    if sys.platform == "linux":
        native.prctl(native.PR_SET_PDEATHSIG, 9)  # not before: a change of user takes it back
    if "seccomp" in layers:
        seccomp.restrict(single=processes == 1)


def limit(caps: Mapping[str, Any], processes: int, counted: bool) -> None:
    """Set the resource limits.

    Args:
        caps: As in `Caps`, with `cpu_seconds` filled in.
        processes: Processes at once.
        counted: Whether the user's number is this job's alone; else the user's other processes count too.
    """
    mb = 2**20
    seconds = max(1, -int(-caps["cpu_seconds"] // 1))
    lower(resource.RLIMIT_CPU, seconds, seconds + 1)
    lower(resource.RLIMIT_FSIZE, caps["disk_mb"] * mb)
    lower(resource.RLIMIT_NOFILE, FILES)
    lower(resource.RLIMIT_CORE, 0)
    if sys.platform != "linux":
        return  # macOS has the rest in name only
    lower(resource.RLIMIT_AS, mapped() + caps["memory_mb"] * mb)
    lower(resource.RLIMIT_MEMLOCK, 0)
    lower(resource.RLIMIT_MSGQUEUE, 0)
    tasks = processes + THREADS + (1 if counted else running(os.getuid()))
    lower(resource.RLIMIT_NPROC, tasks)


def lower(which: int, soft: int, hard: int | None = None) -> None:
    """Set a limit, but never above what we have."""
    most = resource.getrlimit(which)[1]
    hard = soft if hard is None else hard
    if most != resource.RLIM_INFINITY:
        soft, hard = min(soft, most), min(hard, most)
    resource.setrlimit(which, (soft, hard))


def mapped() -> int:
    """Bytes of address space in use, the libraries loaded beforehand for the most part."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def running(uid: int) -> int:
    """How many tasks a user has now, which its limit counts as well."""
    count = 0
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if entry.stat().st_uid == uid:
                    count += len(os.listdir(f"/proc/{entry.name}/task"))
    return count
