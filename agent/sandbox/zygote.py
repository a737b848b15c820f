"""A process with the libraries loaded, which forks a candidate in a few milliseconds.

It runs as a script, by its path:

    python -P -s -B zygote.py SPEC

SPEC is JSON: "control" (a socket), "cgroups" (descriptors of cgroup.procs to join), "imports", "layers",
"uid" (for the layer uid), "readable" (paths), "files" and "work" (folders of the jobs' folders) and "reach"
(paths that the uid must be able to enter).

Lines of JSON go over the control socket. To us: {"run": …} with the channel's and the log's
descriptors, {"kill": true}. From us: {"ready": true} or {"failed": …} once, {"end": …} per candidate, when
nothing of it is left. Inputs and outputs pass us by, on the channel: a fork shares our memory, so we
never hold what a candidate may not see. Whoever we cannot get rid of, our guard does after our death.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import re
import select
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.sandbox.lockdown import Lockdown

SWEEP_SECONDS = 5.0


def main() -> None:
    os.environ.pop("LD_BIND_NOW", None)  # for us alone
    spec = json.loads(sys.argv[1])
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    sys.path.insert(0, root)
    # `random` seeds itself anew in each fork. A candidate has its own seed, and registers that for its own forks.
    register, os.register_at_fork = os.register_at_fork, lambda **_: None
    import random  # noqa: F401

    os.register_at_fork = register
    import agent.sandbox.candidate
    import agent.sandbox.lockdown
    import agent.sandbox.reach  # noqa: F401

    sys.path.remove(root)
    control = socket.socket(fileno=spec["control"])
    control.set_inheritable(False)
    try:
        lockdown = prepare(spec)
    except Exception as error:
        control.sendall(json.dumps({"failed": f"{type(error).__name__}: {error}"}).encode() + b"\n")
        os._exit(1)
    control.sendall(b'{"ready": true}\n')
    Zygote(control, spec, lockdown).loop()


def prepare(spec: dict[str, Any]) -> Lockdown:
    """Everything that the candidates shall share."""
    from agent.sandbox import native, reach
    from agent.sandbox.lockdown import Lockdown

    for descriptor in spec["cgroups"]:
        os.write(descriptor, b"0")
        os.close(descriptor)
    if sys.platform == "linux":
        native.prctl(native.PR_SET_CHILD_SUBREAPER, 1)
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("-900")
    if "uid" in spec["layers"] and "bubblewrap" not in spec["layers"]:  # which shows what can be read as read-only
        try:
            reach.leave()
        except OSError:
            if spec["reach"]:
                raise
        else:
            reach.open_up(spec["reach"])
            reach.keep_no_times()
    for name in spec["imports"]:
        importlib.import_module(name)
    if "numpy" in sys.modules:
        importlib.import_module("numpy.random")  # it comes late otherwise, after the seeds are set
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a crash loses no lines
    lockdown = Lockdown(spec)
    gc.collect()
    gc.freeze()  # a collection in a fork would copy every page it looks at
    return lockdown


class Zygote:
    """Runs one candidate after the other.

    Args:
        control: The socket to our parent.
        spec: See above.
        lockdown: What a candidate gives up.
    """

    def __init__(self, control: socket.socket, spec: dict[str, Any], lockdown: Lockdown) -> None:
        self.control = control
        self.spec = spec
        self.lockdown = lockdown
        self.buffer = b""
        self.fds: list[int] = []
        self.child = 0
        self.waiting: socket.socket
        self.wake, woken = os.pipe()
        os.set_blocking(self.wake, False)
        os.set_blocking(woken, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)

    def loop(self) -> None:
        """Serve until the parent is gone."""
        self.fork()
        while True:
            message = self.message()
            if "run" not in message:
                continue  # a kill that came after the end
            child = self.start(message["run"])
            self.watch(child)
            end = self.finish(child)
            self.control.sendall(json.dumps({"end": end}).encode() + b"\n")
            self.fork()

    def message(self) -> dict[str, Any]:
        """The parent's next line; exits when there is none."""
        line, self.buffer, fds = receive(self.control, self.buffer)
        self.fds += fds
        return line

    def fork(self) -> None:
        """Fork the next candidate, which waits for its job: so much less to do when one comes."""
        self.waiting, theirs = socket.socketpair()
        self.child = os.fork()
        if self.child == 0:
            become_candidate(theirs, self.lockdown)
        theirs.close()

    def start(self, job: dict[str, Any]) -> int:
        """Hand a job to the waiting candidate."""
        line = json.dumps({**job, "others": self.lockdown.others(job)}).encode() + b"\n"
        try:
            socket.send_fds(self.waiting, [line], self.fds)
        except OSError:  # somebody killed it
            os.waitpid(self.child, 0)
            self.waiting.close()
            self.fork()
            socket.send_fds(self.waiting, [line], self.fds)
        self.waiting.close()
        for descriptor in self.fds:
            os.close(descriptor)
        self.fds = []
        if job["program"]:  # the next one may be one too, and finds what it needs loaded
            for name in ("subprocess", "tempfile"):
                importlib.import_module(name)
        return self.child

    def watch(self, child: int) -> None:
        """Return when the candidate has ended; kill it when the parent says so, or is gone."""
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        poll.register(self.wake, select.POLLIN)
        while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            for descriptor, _ in poll.poll():
                if descriptor == self.wake:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self.wake, 512)
                elif self.message().get("kill"):  # without a parent it ends us, and our guard the rest
                    os.kill(child, signal.SIGKILL)

    def finish(self, child: int) -> dict[str, Any]:
        """Remove what the ended candidate left behind; how it ended."""
        with contextlib.suppress(OSError):
            os.killpg(child, signal.SIGKILL)  # before it is reaped: until then its number is its group's alone
        _, status, usage = os.wait4(child, 0)
        if not reap():
            self.sweep()
        return {
            "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0,
            "code": os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0,
            "cpu": usage.ru_utime + usage.ru_stime,
            "peak": usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 1024),
        }

    def sweep(self) -> None:
        """Kill everything that lives on; whoever left its family has become our child."""
        until = time.monotonic() + SWEEP_SECONDS
        while time.monotonic() < until:
            if "uid" in self.spec["layers"]:
                self.kill_user()
            else:
                stopped: set[int] = set()
                while new := descendants(os.getpid()) - stopped:  # who is stopped starts nothing more
                    for pid in new:
                        send(pid, signal.SIGSTOP)
                    stopped |= new
                for pid in stopped:
                    send(pid, signal.SIGKILL)
            if reap():
                return
            time.sleep(0.001)
        os._exit(1)

    def kill_user(self) -> None:
        """Kill every process of the candidate's user at one go, which not even a fork bomb outruns."""
        killer = os.fork()
        if killer == 0:
            with contextlib.suppress(OSError):
                uid = self.spec["uid"]
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
                os.kill(-1, signal.SIGKILL)
            os._exit(0)
        os.waitpid(killer, 0)


def become_candidate(jobs: socket.socket, lockdown: Lockdown) -> None:
    """In the fork: give everything up, wait for the job, run it. Never returns."""
    trouble = ""
    try:
        from agent.sandbox.candidate import serve

        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        kept = [jobs.fileno(), *lockdown.rules]
        for low, high in zip([2, *sorted(kept)], [*sorted(kept), 4096], strict=True):
            if low + 1 < high:  # given an empty range, it closes everything
                os.closerange(low + 1, high)
        lockdown.before()
    except BaseException as error:
        trouble = f"{type(error).__name__}: {error}"
    log = 2
    try:
        job, _, (channel, log) = receive(jobs, b"")
        jobs.close()
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        os.set_inheritable(channel, False)
        if trouble:
            raise OSError(trouble)
        lockdown.after(job)
        serve(channel, bytes.fromhex(job["nonce"]), lockdown.program)
    except BaseException as error:
        with contextlib.suppress(BaseException):
            os.write(2, f"the sandbox cannot be put on: {error}\n".encode())
    os._exit(70)


def receive(connection: socket.socket, buffer: bytes) -> tuple[dict[str, Any], bytes, list[int]]:
    """The next line, what came after it, and the descriptors with it; exits when there is none."""
    fds: list[int] = []
    while b"\n" not in buffer:
        data, more, _, _ = socket.recv_fds(connection, 65536, 2)
        if not data:
            os._exit(0)
        buffer += data
        fds += more
    line, _, buffer = buffer.partition(b"\n")
    return json.loads(line), buffer, fds


def reap() -> bool:
    """Collect children that have ended; whether there are no others."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
        return False
    except ChildProcessError:
        return True


def send(pid: int, number: int) -> None:
    """Send a signal to a process, if it is still there."""
    with contextlib.suppress(OSError):
        os.kill(pid, number)


def descendants(ancestor: int) -> set[int]:
    """All processes beneath one that are not dead."""
    found: set[int] = set()
    todo = [ancestor]
    while todo:
        pid = todo.pop()
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/children") as file:
                    new = {int(word) for word in file.read().split()} - found
                found |= new
                todo += new
    return found


def parent(pid: int) -> int | None:
    """A process's parent; None when it has ended."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[1])  # its own name may hold anything
    return None


def cpu_seconds(pid: int | None) -> float | None:
    """Processor time of another process so far: its clock, as the C library numbers it."""
    if pid is None:
        return None
    try:
        return time.clock_gettime(~pid << 3 | 2)
    except OSError:
        return None


def peak_mb(pid: int | None) -> float | None:
    """Another process's largest resident size so far, in MiB; None where the system does not tell."""
    if pid is None:
        return None
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status", "rb", buffering=0) as file:
        found = re.search(rb"VmHWM:\s*(\d+)", file.read(4096))
        return int(found[1]) / 1024 if found else None
    return None


def memory_kills() -> int:
    """How many processes of the machine the kernel has killed for want of memory; 0 where the system does not tell."""
    with contextlib.suppress(OSError), open("/proc/vmstat", "rb", buffering=0) as file:
        found = re.search(rb"^oom_kill (\d+)", file.read(2**16), re.MULTILINE)
        return int(found[1]) if found else 0
    return 0


if __name__ == "__main__":
    main()
