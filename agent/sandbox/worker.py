"""One worker: a guarded zygote, and the jobs that run in its forks one after the other."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from agent.executors.capture import Drain, HeadTail
from agent.executors.process import GuardedProcess
from agent.sandbox import bubblewrap, cgroups, codec, layers, reach
from agent.sandbox.channel import Channel, Closed, Failure
from agent.sandbox.types import Caps, Job, Result, Usage
from agent.sandbox.verdict import Lost, Watch, judged
from agent.sandbox.workspace import WorkerFolder
from agent.sandbox.zygote import cpu_seconds, descendants, memory_kills, parent, peak_mb

ZYGOTE = Path(__file__).with_name("zygote.py")
START_SECONDS = 60.0
END_SECONDS = 15.0
"""How long the zygote may take to start, and to clear up after a candidate; then it is given up."""
WATCH_SECONDS = 0.25
READ_AT_ONCE_BYTES = 16 * 2**10
"""An answer up to this size is read in a millisecond or two, which a thread is not worth."""
PYTHON_FLAGS = ("-P", "-s", "-B")


def environment() -> dict[str, str]:
    """The variables that candidates see, without their own folder and those of the job."""
    folder = os.path.dirname(sys.executable)
    one = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB_MAXIMUM")}
    path = os.pathsep.join([folder, "/usr/local/bin", "/usr/bin", "/bin"])
    return {"PATH": path, "LANG": "C.UTF-8", "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", **one}


class Worker:
    """Starts a zygote and runs jobs in it.

    Args:
        on: Names of the layers.
        imports: Libraries to load beforehand.
        jobs: Folder for the jobs' folders.

    Attributes:
        served: How many jobs it has run.
    """

    def __init__(self, on: Sequence[str], imports: Sequence[str], jobs: Path) -> None:
        self.served = 0
        self._on = tuple(on)
        self._imports = tuple(imports)
        self._user = layers.User() if "uid" in on else None
        self._folder = WorkerFolder(jobs, self._user.number if self._user else None)
        self._group: cgroups.Group | None = None
        self._process: GuardedProcess | None = None
        self._control: socket.socket | None = None
        self._lines = bytearray()
        self._complaint = HeadTail(2000)
        self._drain: Drain | None = None
        self._zygote: int | None = None
        self._kills = memory_kills()
        """Processes that the kernel had killed for want of memory when we last looked: what is more now is recent."""

    async def start(self) -> None:
        """Start the zygote and wait until it has loaded the libraries.

        Raises:
            Lost: It cannot; the text says why.
        """
        loop = asyncio.get_running_loop()
        if "cgroup" in self._on and self._group is None:
            self._group = cgroups.Group.make()
        paths = layers.python_paths()
        self._control, theirs = socket.socketpair()
        self._control.setblocking(False)
        joining = self._group.join() if self._group else []
        read, write = os.pipe()
        spec = {
            "control": theirs.fileno(),
            "cgroups": joining,
            "imports": self._imports,
            "layers": self._on,
            "uid": self._user.number if self._user else None,
            "readable": [path for path in paths if path != str(Path(__file__).parents[1])],
            "files": str(self._folder.files),
            "work": str(self._folder.work),
            "reach": [],
        }
        wrap: list[str] = []
        if "bubblewrap" in self._on:
            wrap = bubblewrap.command(paths, [str(self._folder.folder)])
        elif self._user:
            needed = [*paths, str(self._folder.folder.parent)]
            spec["reach"] = needed if reach.unreachable(needed) else []
        try:
            argv = [*wrap, sys.executable, *PYTHON_FLAGS, str(ZYGOTE), json.dumps(spec)]
            folders = ["\n".join(map(str, self._group.folders))] if self._group else []
            self._process = GuardedProcess(
                "grouped" if self._group else "command",
                [*folders, "0", *argv],
                # What the linker finds out late, each candidate would find out again.
                environment={**environment(), "LD_BIND_NOW": "1"},
                stdout=write,
                stderr=write,
                cwd=Path("/"),
                descriptors=[theirs.fileno(), *joining],
            )
        finally:
            theirs.close()
            for descriptor in (*joining, write):
                os.close(descriptor)
            self._drain = Drain(read, self._complaint.feed)
        try:
            async with asyncio.timeout(START_SECONDS):
                said = await self._line()
        except (TimeoutError, Lost):
            said = {"failed": "it did not start"}
        if "ready" not in said:
            await self._process.stop()
            self._drain.rest()
            raise Lost(f"{said.get('failed')} {self._complaint.text()}".strip())
        if self._group:
            await loop.run_in_executor(None, self._group.started)

    async def _line(self) -> dict[str, Any]:
        """The zygote's next line."""
        assert self._control is not None
        while b"\n" not in self._lines:
            try:
                data = await asyncio.get_running_loop().sock_recv(self._control, 65536)
            except OSError:
                data = b""
            if not data:
                raise Lost("the process that starts candidates died")
            self._lines += data
        line, _, rest = bytes(self._lines).partition(b"\n")
        self._lines[:] = rest
        return json.loads(line)  # type: ignore[no-any-return]

    def _kill(self) -> None:
        with contextlib.suppress(OSError):
            assert self._control is not None
            self._control.send(b'{"kill": true}\n')

    async def run(self, job: Job, inputs: Sequence[bytes]) -> Result:
        """Run a job; nothing of it is left when this returns, or is cancelled.

        Args:
            job: What to run.
            inputs: Its inputs, encoded.

        Raises:
            Lost: The worker is of no more use; close it.
        """
        self.served += 1
        started = time.monotonic()
        files, work = self._folder.job(job.files)
        try:
            return await self._run(job, inputs, files, work, started)
        finally:
            self._folder.clear()

    async def _run(self, job: Job, inputs: Sequence[bytes], files: Path, work: Path, started: float) -> Result:
        caps = job.caps
        total = caps.job_seconds or caps.seconds * (len(inputs) + 1)
        cpu = caps.cpu_seconds or total + 1  # else a busy program might meet either limit first
        program = not isinstance(job.entry, str)
        if self._group:
            self._group.limit(caps.memory_mb, caps.processes + program)
        channel = Channel(caps.output_bytes)
        read, write = os.pipe()
        watch = Watch(HeadTail(caps.log_chars), self._kill)
        drain = Drain(read, watch.feed)
        run = {
            "nonce": channel.hello.hex(),
            "work": str(work),
            "program": program,
            "caps": {**_plain(caps), "cpu_seconds": cpu},
        }
        try:
            assert self._control is not None
            try:
                socket.send_fds(
                    self._control, [json.dumps({"run": run}).encode() + b"\n"], [channel.theirs.fileno(), write]
                )
            except OSError:
                raise Lost("the process that starts candidates died") from None
            finally:
                channel.theirs.close()
                os.close(write)
            watching = asyncio.ensure_future(self._watch(caps.disk_mb, watch))
            talking = asyncio.ensure_future(self._talk(job, inputs, files, work, channel, watch, started + total))
            try:
                result = await talking
            finally:  # also when we are cancelled: nothing of it may be left
                watching.cancel()
                talking.cancel()
                self._kill()
                end = await self._ended()
            drain.rest()
            starved = self._group is not None and self._group.killed()  # asked each time: the next is not to blame
            silent = not result.message  # whoever told of an exception is killed by us
            result = judged(result, end, watch, cpu, channel.extra(), starved)
            if result.status == "crash" and silent and end["signal"] == signal.SIGKILL and self._more_kills():
                raise Lost("the machine ran out of memory, and the kernel killed the candidate")
        finally:
            drain.close()
            channel.close()
        return replace(
            result,
            log=watch.log.text(),
            usage=Usage(time.monotonic() - started, *((end["cpu"], end["peak"]) if _alone(job) else ())),
            usages=tuple(watch.usages),
            layers=self._on,
            start_seconds=None if watch.ready is None else watch.ready - started,
            load_seconds=watch.load_seconds,
        )

    def _more_kills(self) -> bool:
        """Whether memory ran out since we last looked; if that was before this job, it is run once more for nothing."""
        before, self._kills = self._kills, memory_kills()
        return self._kills > before

    async def _ended(self) -> dict[str, Any]:
        """Wait until the candidate and all it started are gone; cancelling waits as well."""
        waiting = asyncio.ensure_future(asyncio.wait_for(self._end_line(), END_SECONDS))
        cancelled = False
        while not waiting.done():
            try:
                await asyncio.wait({waiting})
            except asyncio.CancelledError:
                cancelled = True
        try:
            end = waiting.result()
        except TimeoutError:
            raise Lost("the process that starts candidates does not answer") from None
        if cancelled:
            raise asyncio.CancelledError
        return end

    async def _end_line(self) -> dict[str, Any]:
        while "end" not in (line := await self._line()):
            pass
        return line["end"]  # type: ignore[no-any-return]

    async def _watch(self, disk_mb: int, watch: Watch) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            pids = descendants(watch.zygote) if watch.zygote else ()
            if excess := self._folder.excess(disk_mb, pids):
                watch.end(excess)

    async def _talk(
        self,
        job: Job,
        inputs: Sequence[bytes],
        files: Path,
        work: Path,
        channel: Channel,
        watch: Watch,
        until: float,
    ) -> Result:
        """Load the code and send it the inputs; the result as far as the channel tells."""
        outputs: list[Any] = []
        at: int | None = None
        try:
            variables = {"HOME": str(work), "TMPDIR": str(work), **job.env}
            load = {
                "entry": job.entry if isinstance(job.entry, str) else list(job.entry),
                "files": str(files),
                "names": list(job.files),
                "finite": job.finite,
                "output_bytes": job.caps.output_bytes,
                "env": variables,
            }
            async with asyncio.timeout(START_SECONDS):
                pid = await channel.greeted(json.dumps(load).encode())
            if pid and self._zygote is None:
                self._zygote = parent(pid)  # of all our candidates
            watch.greeted, watch.zygote = True, self._zygote
            measured = pid if _alone(job) else None
            greeted = time.monotonic()
            await self._within(job.caps.seconds, until, channel.loaded())
            watch.ready = time.monotonic()
            watch.load_seconds = watch.ready - greeted
            for at, data in enumerate(inputs):  # noqa: B007
                before, cpu = time.monotonic(), cpu_seconds(measured)
                answer = await self._within(job.caps.seconds, until, channel.ask(data))
                seconds, now = time.monotonic() - before, cpu_seconds(measured)
                spent = None if now is None or cpu is None else now - cpu
                watch.usages.append(Usage(seconds, spent, peak_mb(measured)))
                try:
                    outputs.append(await self._decoded(answer, job.finite, until))
                except ValueError as error:
                    raise Failure("invalid", str(error)) from None
            return Result("ok", tuple(outputs))
        except Failure as failure:
            return Result(failure.status, message=failure.message, detail=failure.detail, failed_input=at)
        except TimeoutError as error:
            return Result("timeout", message=str(error) or "it did not start", failed_input=at)
        except Closed:
            return Result("crash", failed_input=at)

    async def _decoded(self, answer: bytes, finite: bool, until: float) -> Any:
        """The output; others go on while a large one is read, in the time of the job whose it is."""
        if len(answer) <= READ_AT_ONCE_BYTES:
            return codec.decode(answer, finite)
        return await self._within(math.inf, until, asyncio.to_thread(codec.decode, answer, finite))

    async def _within(self, seconds: float, until: float, answer: Any) -> Any:
        left = until - time.monotonic()
        try:
            async with asyncio.timeout(min(seconds, max(left, 0.0))):
                return await answer
        except TimeoutError:
            text = f"it took longer than {seconds:g} s" if seconds <= left else "the job took longer than allowed"
            raise TimeoutError(text) from None

    async def close(self) -> None:
        """End the zygote and everything beneath it; may be called twice."""
        try:
            if self._process is not None:
                await self._process.stop()
        finally:
            if self._control is not None:
                self._control.close()
            if self._drain is not None:
                self._drain.close()
            if self._group is not None:
                self._group.remove()
            self._folder.close()
            if self._user is not None:
                self._user.release()


def _alone(job: Job) -> bool:
    """Whether all the work is done in the process that answers: only then is it known what it takes."""
    return isinstance(job.entry, str) and job.caps.processes == 1


@lru_cache(maxsize=8)
def _plain(caps: Caps) -> dict[str, Any]:
    """The limits as JSON; nobody may change it."""
    return asdict(caps)
