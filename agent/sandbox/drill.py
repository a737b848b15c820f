"""Run the hostile set for real, with honest candidates beside it, and judge from outside what was stopped."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from agent.sandbox.attacks import ATTACKS, Attack
from agent.sandbox.pool import Sandbox
from agent.sandbox.types import Caps, Job, Result

FORKS = 120
WORKERS = 2
GONE_SECONDS = 10.0
HONEST = "def solve(x):\n    return sum(i * i for i in range(x))\n"
EVALUATOR = "def score(output): return -1.0\n"


def score(output: Any, expected: Any) -> float:
    """The drill's scorer, in our process as every scorer: 1 for the right answer."""
    return 1.0 if type(output) is type(expected) and output == expected else 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an attack.

    Args:
        attack: Which.
        stopped: Whether it got nothing.
        by: Those of its stoppers that were on, when it was stopped.
        said: Status and message of its job, or what it got.
    """

    attack: Attack
    stopped: bool
    by: tuple[str, ...]
    said: str


class Scene:
    """What the attacks should not reach: a run folder, a process with a key, a server, an answer."""

    def __enter__(self) -> Self:
        self.key = f"truegain-key-{secrets.token_hex(8)}"
        self.needle = f"truegain-{secrets.token_hex(8)}"
        self.answer = f"{self.needle}-answer"
        self.shm = secrets.randbelow(2**30) + 1
        self.folder = Path(tempfile.mkdtemp(prefix="truegain-drill-"))  # 0700, as a run folder is
        (self.folder / "evaluator.py").write_text(EVALUATOR)
        (self.folder / "gate.sqlite").write_text(self.answer)
        self.victim = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", "import time; time.sleep(3600)"], env={"EXAMPLE_API_KEY": self.key}
        )
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.unix = f"/tmp/truegain-socket-{secrets.token_hex(8)}"
        self.named, self.abstract = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
        self.named.bind(self.unix)
        os.chmod(self.unix, 0o666)  # as the system's log is
        if sys.platform == "linux":
            self.abstract.bind("\0" + self.needle)
        for server in (self.tcp, self.udp, self.named, self.abstract):
            server.setblocking(False)
        self.segment = self._remember(self.answer.encode() + b"\0")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.victim.kill()
        self.victim.wait()
        for server in (self.tcp, self.udp, self.named, self.abstract):
            server.close()
        os.unlink(self.unix)
        if self.segment >= 0:
            self._libc.shmdt(ctypes.c_void_p(self._at))
        for path in [*self._left(), *self.folder.iterdir()]:
            path.unlink()
        self.folder.rmdir()
        if self._segment():
            subprocess.run(["ipcrm", "-M", str(self.shm)], check=False, capture_output=True)

    def told(self) -> dict[str, Any]:
        """What an attack is told."""
        return {
            "key": self.key,
            "needle": self.needle,
            "folder": str(self.folder),
            "pid": self.victim.pid,
            "tcp": self.tcp.getsockname()[1],
            "udp": self.udp.getsockname()[1],
            "unix": self.unix,
            "shm": self.shm,
            "segment": self.segment,
            "forks": FORKS,
        }

    def harm(self) -> str:
        """What has been reached, as far as it shows here; empty when nothing was."""
        if (self.folder / "bomb").exists():
            return "its code ran in our process"
        mode = (self.folder / "evaluator.py").stat().st_mode & 0o777
        if mode == 0:
            return "it changed the mode of the evaluator's file"
        if (self.folder / "evaluator.py").read_text() != EVALUATOR:
            return "it changed the evaluator"
        if self.victim.poll() is not None:
            return "it killed our process"
        with contextlib.suppress(BlockingIOError):
            self.tcp.accept()[0].close()
            return "it connected over TCP"
        with contextlib.suppress(BlockingIOError):
            self.udp.recv(16)
            return "it sent over UDP"
        for server in (self.named, self.abstract):
            with contextlib.suppress(OSError):
                server.recv(16)
                return "it wrote to another program's socket"
        if left := self._left():
            return f"it left {left[0].parent}/…"
        return "it left shared memory" if self._segment() else ""

    def _remember(self, data: bytes) -> int:
        """The number of a shared memory segment of ours that holds these bytes; -1 where there are none."""
        self._libc: Any = ctypes.CDLL(None)
        self._libc.shmat.restype = ctypes.c_void_p
        segment: int = self._libc.shmget(0, 4096, 0o1600)
        if segment >= 0:
            self._at = self._libc.shmat(segment, None, 0)
            self._libc.shmctl(segment, 0, None)  # it goes when we let go of it, or die
            ctypes.memmove(self._at, data, len(data))
        return segment

    def _left(self) -> list[Path]:
        return [place for folder in ("/dev/shm", "/tmp", "/var/tmp") if (place := Path(folder, self.needle)).exists()]

    def _segment(self) -> bool:
        with contextlib.suppress(OSError):
            return any(line.split()[0] == str(self.shm) for line in Path("/proc/sysvipc/shm").read_text().splitlines())
        return False


async def drill(
    layers: Sequence[str] | None = None,
    without: Sequence[str] = (),
    names: Sequence[str] = (),
    report: Callable[[Outcome], None] = lambda _: None,
) -> tuple[list[Outcome], bool, tuple[str, ...]]:
    """Run the hostile set.

    Args:
        layers: Layers to use; None means all that work here.
        without: Layers to leave out.
        names: Attacks to run; none means all.
        report: Called with each outcome as it comes.

    Returns:
        The outcomes, whether every honest candidate beside them had its right score, and the layers.
    """
    from agent.sandbox.layers import probe

    on = [layer.name for layer in probe() if layer.on] if layers is None else list(layers)
    outcomes, honest = [], True
    async with Sandbox(workers=WORKERS, layers=[name for name in on if name not in without], unsafe=True) as sandbox:
        for attack in ATTACKS:
            if names and attack.name not in names:
                continue
            with Scene() as scene:
                job = Job({"attack.py": attack.source.encode()}, "attack:solve", [scene.told()], attack.caps)
                result, good = await asyncio.gather(sandbox.run(job), _honest(sandbox))
                got = _got(attack, result, scene) or scene.harm()
                if not got and not await _gone(sandbox):
                    got = "it left a process behind"
                honest = honest and good and await _honest(sandbox)
            by = stoppers(attack, sandbox.layers, os.geteuid() == 0)
            said = got or f"{result.status}: {result.message or 'it got nothing'}"
            outcomes.append(Outcome(attack, not got, () if got else by, said))
            report(outcomes[-1])
        return outcomes, honest, sandbox.layers


def stoppers(attack: Attack, layers: Iterable[str], root: bool) -> tuple[str, ...]:
    """Those of the layers that stop an attack, each by itself.

    Args:
        attack: Which.
        layers: Those that are on.
        root: Whether we are root.
    """
    on = set(layers)
    found = [name for name in attack.stoppers if name in on]
    if attack.name == "environment read" and root:
        found.insert(0, "process")  # it has lost root's capabilities, and without them cannot look into our processes
    if attack.name == "fork bomb" and root and "uid" not in on and "rlimits" in found:
        found.remove("rlimits")  # the limit on processes does not hold for root
    return tuple(found)


async def _honest(sandbox: Sandbox) -> bool:
    """Whether an honest candidate gets the score that it deserves."""
    result = await sandbox.run(Job({"honest.py": HONEST.encode()}, "honest:solve", [10, 1000], Caps(seconds=120)))
    return result.status == "ok" and [score(result.outputs[0], 285), score(result.outputs[1], 332833500)] == [1, 1]


def _got(attack: Attack, result: Result, scene: Scene) -> str:
    """What the attack's own job shows that it got; empty when nothing."""
    if result.status == "lost":
        return f"the sandbox itself failed: {result.message}"
    said = str(result.outputs)
    if scene.key in said:
        return "it found a key"
    if scene.answer in said:
        return "it read a hidden row"
    if any(score(output, 10**9) for output in result.outputs) and attack.name == "atexit rewrite":
        return "its forged result was taken"
    if score(0, 1) != 0:
        return "it replaced the scorer"
    if attack.name == "fork bomb" and result.outputs and result.outputs[0] >= FORKS:
        return f"it started {FORKS} processes"
    if attack.name == "signals" and result.status == "ok":
        return "it killed our process"
    if attack.name == "4 GB" and result.outputs:
        return "it used more memory than allowed"
    if result.status == "ok" and attack.name in ("infinite loop", "SIGTERM ignored", "segfault", "os._exit", "NaN"):
        return "it was taken for good"
    if len(result.log) > 2 * attack.caps.log_chars:
        return "it flooded the log"
    if attack.name in ("disk full", "deleted files") and result.status == "timeout":
        return "it filled the disk"
    if attack.name == "files in flight" and result.status == "ok":
        return "it filled the disk"
    return ""


def _processes(sandbox: Sandbox) -> int:
    """How many processes of the sandbox there are: all carry its folder in their command line."""
    count = 0
    for entry in os.scandir("/proc") if os.path.isdir("/proc/self") else ():
        if re.fullmatch(r"\d+", entry.name):
            with contextlib.suppress(OSError), open(f"/proc/{entry.name}/cmdline", "rb") as file:
                count += str(sandbox.folder).encode() in file.read()
    return count


async def _gone(sandbox: Sandbox) -> bool:
    """Whether no more processes are left than a guard, a zygote and the next candidate for each worker."""
    until = time.monotonic() + GONE_SECONDS
    while _processes(sandbox) > WORKERS * (5 if "bubblewrap" in sandbox.layers else 3):
        if time.monotonic() > until:
            return False
        await asyncio.sleep(0.02)
    return True
