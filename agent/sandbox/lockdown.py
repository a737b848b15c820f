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
OWN = ("/proc/self/maps",)
"""What a program may read about itself: valgrind needs it. The rule is made by the process that becomes the program,
so it stands for that process and for no other."""
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/urandom", "/dev/random")


class Lockdown:
    """The layers, prepared once by the zygote, so that a candidate has little left to do.

    Args:
        spec: The zygote's: "layers", "uid", "readable" (paths), and "files" and "work", below which the
            jobs' folders of the two kinds lie.

    Raises:
        OSError: A layer does not work.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.layers = spec["layers"]
        self.uid = spec["uid"]
        self.readable = [*spec["readable"], *SYSTEM, spec["files"]]
        self.writable = [spec["work"], *DEVICES]
        self.rules: tuple[int, ...] = ()
        """Descriptors of landlock's rules: for a candidate's process, and for one that starts a program."""
        if "landlock" in self.layers:
            self.rules = (self._rules(), self._rules("/proc"))
        if "seccomp" in self.layers:
            self.filters = {single: seccomp.template(single) for single in (True, False)}
        if sys.platform == "linux":
            native.prctl(native.PR_SET_NO_NEW_PRIVS, 1)  # nothing below us needs any
            self.mapped = mapped()

    def _rules(self, *more: str) -> int:
        return landlock.ruleset([*self.readable, *more], self.writable, landlock.abi())

    def before(self) -> None:
        """Give up what no job needs.

        Raises:
            OSError: A layer cannot be put on; nothing may run then.
        """
        os.umask(0o077)
        if "cgroup" in self.layers:  # when memory runs out, it is us, not the zygote
            with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
                file.write("1000")
        if "uid" in self.layers:
            os.setgroups([])
            os.setresgid(self.uid, self.uid, self.uid)
            os.setresuid(self.uid, self.uid, self.uid)
        elif sys.platform == "linux" and os.geteuid() == 0:
            native.drop_capabilities()
        if sys.platform == "linux":
            native.prctl(native.PR_SET_PDEATHSIG, 9)  # not before: a change of user takes it back

    def after(self, job: Mapping[str, Any]) -> None:
        """Give up what this job does not need.

        Args:
            job: "work" (its folder), "caps", "program" (whether the entry is a command), "others" (see there).

        Raises:
            OSError: A layer cannot be put on; nothing may run then.
        """
        caps, processes = job["caps"], tasks(job)
        os.chdir(job["work"])
        if "rlimits" in self.layers:
            limit(caps, processes + THREADS + job["others"], self.mapped)
        if self.rules:
            landlock.restrict(self.rules[job["program"]])
            os.close(self.rules[not job["program"]])  # all candidates share it, and whoever holds it can add to it
        if "seccomp" in self.layers:
            seccomp.restrict(self.filters[processes == 1])

    def program(self) -> None:
        """In the fork that becomes a program, before foreign code runs: give up what it does not need.

        Raises:
            OSError: A layer cannot be put on; nothing may run then.
        """
        if self.rules:
            landlock.restrict(self._rules(*OWN))

    def others(self, job: Mapping[str, Any]) -> int:
        """Tasks of the candidate's user that are not the candidate's, but which its limit counts."""
        if "uid" in self.layers or "bubblewrap" in self.layers or "rlimits" not in self.layers:
            return 3
        if tasks(job) == 1 and "seccomp" in self.layers:
            return 2**16  # it starts none, and counting takes milliseconds
        return running(os.getuid()) if sys.platform == "linux" else 0


def tasks(job: Mapping[str, Any]) -> int:
    """Processes at once; the one that starts a program comes on top."""
    return int(job["caps"]["processes"]) + bool(job["program"])


def limit(caps: Mapping[str, Any], tasks: int, mapped: int) -> None:
    """Set the resource limits.

    Args:
        caps: As in `Caps`, with `cpu_seconds` filled in.
        tasks: Processes and threads of our user at once.
        mapped: Bytes of address space that do not count.
    """
    mb = 2**20
    seconds = max(1, -int(-caps["cpu_seconds"] // 1))
    lower(resource.RLIMIT_CPU, seconds, seconds + 1)
    lower(resource.RLIMIT_FSIZE, caps["disk_mb"] * mb)
    lower(resource.RLIMIT_NOFILE, FILES)
    lower(resource.RLIMIT_CORE, 0)
    if sys.platform != "linux":
        return  # macOS has the rest in name only
    lower(resource.RLIMIT_AS, mapped + caps["memory_mb"] * mb)
    lower(resource.RLIMIT_MEMLOCK, 0)
    lower(resource.RLIMIT_MSGQUEUE, 0)
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
