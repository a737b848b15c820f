"""What goes into a sandbox and what comes out of it. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Protocol, Self

Status = Literal["ok", "invalid", "crash", "timeout", "memory", "forged", "forbidden", "lost"]
"""How a job ended.

- ok: every input has an output.
- invalid: an output cannot be sent (its type, its size, NaN), or there is no such entry.
- crash: an exception, an exit or a fatal signal.
- timeout: wall or processor time ran out.
- memory: more memory than allowed.
- forged: something else than one answer per input came over the channel.
- forbidden: a call that the sandbox refuses ended it, or it wrote or printed more than allowed.
- lost: the sandbox itself failed, twice, or the machine ran out of memory and killed it. The candidate may be innocent.
"""


@dataclass(frozen=True, slots=True)
class Caps:
    """Limits of one job.

    Args:
        seconds: Wall time for loading the code, and for each input.
        job_seconds: Wall time of the whole job; None means `seconds` for loading and for each input.
        cpu_seconds: Processor time of each process, rounded up; None means the job's wall time and a second more.
        memory_mb: Memory beyond the libraries loaded beforehand, in MiB. For each process, and for all
            of them together where there are cgroups.
        processes: Processes at once, itself included. 1 forbids starting any, and running programs.
        disk_mb: Size of the private folder, in MiB, of any one file in it exactly.
        output_bytes: Size of one encoded output.
        log_chars: How much is kept of what it prints, half from the start and half from the end.
    """

    seconds: float = 10.0
    job_seconds: float | None = None
    cpu_seconds: float | None = None
    memory_mb: int = 512
    processes: int = 1
    disk_mb: int = 64
    output_bytes: int = 4 * 2**20
    log_chars: int = 8000


@dataclass(frozen=True)
class Job:
    """Code to run, and the inputs to run it on.

    Args:
        files: Relative path → content. They lie in the job's folder, which the code can read but, where a
            layer allows, not change; the working directory is another, writable folder.
        entry: "module:function" called with each input in turn in one process, or a command (a list of
            words) started once per input. A word "{files}" or one beginning with "{files}/" is put
            into the folder of the files. A command reads the input on its standard input (text as it is,
            anything else as JSON); its output is {"exit": code, "stdout": text}.
        inputs: JSON values, with numpy arrays anywhere in them.
        caps: Limits.
        imports: Libraries that must have been loaded beforehand; the sandbox must have been given them.
        env: Further environment variables.
        finite: Whether NaN and infinities make an output invalid.
    """

    files: Mapping[str, bytes]
    entry: str | Sequence[str]
    inputs: Sequence[Any]
    caps: Caps = Caps()
    imports: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    finite: bool = True


@dataclass(frozen=True, slots=True)
class Usage:
    """What it took.

    Args:
        seconds: Wall time by our clock.
        cpu_seconds: Processor time; None where the system does not tell, for a command, and for a job of several
            processes: any of them may have done the work.
        peak_mb: Largest resident size so far in MiB, loaded libraries included; None as above.
    """

    seconds: float
    cpu_seconds: float | None = None
    peak_mb: float | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """How a job ended.

    Args:
        status: See `Status`. A failure is a status, never a number.
        outputs: One per input; () unless ok.
        message: One sentence about the failure; it may quote the candidate, so it is untrusted text.
        detail: The last frame of the traceback inside the candidate's own files, as "file:line function".
        log: What it printed; untrusted text.
        usage: For the whole job, start included.
        usages: For each input answered, in order.
        layers: Which layers were on.
        failed_input: Index of the input that it failed on; None while loading, or when nothing failed.
        start_seconds: How long it took until the code was loaded, from when a worker took the job.
        load_seconds: Of that, what loading the candidate's own code took: whatever it does when it is imported.
    """

    status: Status
    outputs: tuple[Any, ...] = ()
    message: str = ""
    detail: str = ""
    log: str = ""
    usage: Usage = Usage(0.0)
    usages: tuple[Usage, ...] = ()
    layers: tuple[str, ...] = ()
    failed_input: int | None = None
    start_seconds: float | None = None
    load_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of protection on this machine.

    Args:
        name: "process", "rlimits", "uid", "landlock", "seccomp", "bubblewrap" or "cgroup".
        on: Whether it works here.
        why: Why not, or a note about how it works here.
        stops: What it is there for.
    """

    name: str
    on: bool
    why: str
    stops: str


class Isolation(Protocol):
    """Anything that runs jobs: the sandbox of this package, a container, a WASI runtime, another machine."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that are on."""

    async def run(self, job: Job) -> Result:
        """Run one job; nothing of it is left when this returns."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
