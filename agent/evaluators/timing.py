"""What a program costs: wall time measured again and again beside the initial one, or machine instructions.

Wall time is what users feel and what a busy machine blurs; instructions repeat to a few in a thousand and say nothing
about memory. Repetitions run in fresh processes, so that nothing can be kept from one for the next.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from agent.errors import ConfigError, PrerequisiteError
from agent.evaluation import Suspicious
from agent.evaluators.code_task import Measured
from agent.sandbox import seccomp

if TYPE_CHECKING:
    from agent.evaluators.code_runner import Runner
    from agent.sandbox.types import Job, Result

Cost = Literal["seconds", "instructions"]
DRIVER = "truegain_driver.py"
EMPTY = "truegain_empty"
"""A program that gives back what it gets; what it takes is what starting and reading take."""
REMEMBERED = 1000
FINEST = 1e5
"""Instructions below which nothing is told apart: so many more or fewer the start of an interpreter takes."""
SLOWEST = 1e7
"""Instructions in a second of processor time, at least: so many are made where each waits for memory for 100 ns."""
SLOWER = 60
"""So many times the time and this many more seconds a program gets while its instructions are counted."""
START = 30.0
BEGINNING = 0.5
"""Seconds of a command's time that may pass before it begins, and in which nothing is expected of it."""

_DRIVER = '''"""Calls one function of the program with the input on standard input.

It may start no process, as in the sandbox: whoever leaves the counter for another program writes its own count.
"""
import ctypes, importlib, json, os, struct, sys
code = bytes.fromhex("FILTER").replace(bytes.fromhex("PID"), struct.pack("I", os.getpid()))
buffer = ctypes.create_string_buffer(code, len(code))
header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer)))
for words in ((38, 1, 0), (22, 2, ctypes.addressof(header))):
    if ctypes.CDLL(None).prctl(words[0], *map(ctypes.c_ulong, (*words[1:], 0, 0))):
        sys.exit("the kernel has no filters for system calls")
sys.path.insert(0, sys.argv[1])
module, _, name = sys.argv[2].partition(":")
function = importlib.import_module(module)
for part in name.split("."):
    function = getattr(function, part)
answer = function(json.load(sys.stdin))
sys.stdout.write("\\n" + json.dumps(answer) + "\\n")
sys.stdout.flush()
'''


def _driver() -> bytes:
    """The driver with its filter.

    Raises:
        ValueError: There is none for this processor.
    """
    try:
        code = seccomp.template(single=True)
    except KeyError:
        raise ValueError(f"a function's instructions cannot be counted on the processor {platform.machine()}") from None
    text = _DRIVER.replace("FILTER", code.hex()).replace("PID", seccomp.PID.to_bytes(4, sys.byteorder).hex())
    return text.encode()


@dataclass
class Timing:
    """How a program's cost is measured.

    Args:
        cost: "seconds" (wall time, on the scorer's clock), "instructions", or None: once, as a by-product.
        repeats: How often each input is timed; the shortest counts. At least 1.
        against: "initial": the initial program is measured on the same inputs, in turn with the candidate.
    """

    cost: Cost | None = None
    repeats: int = 3
    against: Literal["initial"] | None = None
    _counter: Counter | None = field(default=None, init=False, repr=False)
    _counted: dict[str, list[float]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.cost not in (None, "seconds", "instructions"):
            raise ConfigError(f"timing.cost: found {self.cost!r}, allowed is seconds or instructions")
        if self.against not in (None, "initial"):
            raise ConfigError(f"timing.against: found {self.against!r}, allowed is initial")
        if type(self.repeats) is not int or self.repeats < 1:
            raise ConfigError(f"timing.repeats: found {self.repeats!r}, allowed is a whole number of at least 1")
        if self.against is not None and self.cost is None:
            raise ConfigError("timing.against measures a cost", hint='say which: cost = "seconds" or "instructions"')

    def to_json(self) -> dict[str, Any]:
        return {"cost": self.cost, "repeats": self.repeats, "against": self.against}

    def prepare(self, runner: Runner, job: Job) -> None:
        """Find what counts instructions, where they are wanted, and try it in the sandbox.

        Args:
            runner: Where programs run.
            job: With the limits of one.

        Raises:
            PrerequisiteError: Nothing here can, or the sandbox's layers keep it from working.
        """
        if self.cost != "instructions" or self._counter is not None:
            return
        why = ""
        for found in counters():
            try:
                found.counts(runner, replace(job, entry=["/bin/true"], inputs=[""]), None)
            except ValueError as error:
                why = f"{why}; {error}".removeprefix("; ")
            else:
                self._counter = found
                return
        raise PrerequisiteError(
            f"instructions cannot be counted in the sandbox: {why}",
            fix='install valgrind (apt-get install valgrind), or take cost = "seconds"',
        )

    def measure(
        self, runner: Runner, job: Job, first: Sequence[Measured], beside: Job | None, outputs: Sequence[Any]
    ) -> list[Measured]:
        """The costs of a candidate on its inputs.

        Args:
            runner: Where it runs.
            job: The candidate's.
            first: What its first run took.
            beside: The initial program's job, on the same inputs.
            outputs: What its first run gave; a later one must give the same.

        Raises:
            ValueError: A later run failed, or gave other outputs.
            Suspicious: Its instructions are far too few for the time that its first run took.
        """
        if self.cost is None:
            return list(first)
        if self.cost == "instructions":
            assert self._counter is not None
            counts = self._counter.counts(runner, job, outputs)
            for usage, count in zip(first, counts, strict=True):
                _plausible(usage, count)
            initial = self._initial(runner, beside) if beside is not None else [None] * len(counts)
            return [
                replace(usage, instructions=count, reference=other)
                for usage, count, other in zip(first, counts, initial, strict=True)
            ]
        return self._timed(runner, job, first, beside, outputs)

    def _initial(self, runner: Runner, job: Job) -> list[float]:
        """The initial program's instructions, counted once for each list of inputs."""
        assert self._counter is not None
        key = _text(list(job.inputs))
        if key not in self._counted:
            if len(self._counted) >= REMEMBERED:
                self._counted.clear()
            self._counted[key] = self._counter.counts(runner, job, None)
        return self._counted[key]

    def _timed(
        self, runner: Runner, job: Job, first: Sequence[Measured], beside: Job | None, outputs: Sequence[Any]
    ) -> list[Measured]:
        mine = [[usage.seconds for usage in first]]
        other: list[list[float]] = []
        # In turn, and each goes first as often as the other: a slow drift of the machine meets both.
        for number in range(self.repeats):
            turns = [job, beside] if number % 2 else [beside, job]
            for turn in turns:
                if turn is job and number:
                    mine.append(_seconds(runner, job, "the candidate", outputs))
                elif turn is beside and beside is not None:
                    other.append(_seconds(runner, beside, "the initial program", None))
        best = [min(times) for times in zip(*mine, strict=True)]
        reference = [min(times) for times in zip(*other, strict=True)] if other else [None] * len(best)
        return [
            replace(usage, seconds=seconds, reference=base)
            for usage, seconds, base in zip(first, best, reference, strict=True)
        ]


def _seconds(runner: Runner, job: Job, who: str, outputs: Sequence[Any] | None) -> list[float]:
    result = runner.run(job)
    if result.status != "ok":
        raise ValueError(f"{who} failed when it was timed again: {result.status}: {result.message}")
    if outputs is not None and not _same(result.outputs, outputs):
        raise ValueError(f"{who} gave other outputs when it was timed again")
    return times(result)


def times(result: Result) -> list[float]:
    """Wall-clock seconds for each input: what a program does when it is loaded counts in equal shares."""
    share = result.load_seconds / max(1, len(result.usages))
    return [usage.seconds + share for usage in result.usages]


def _plausible(usage: Measured, count: float) -> None:
    """Raise Suspicious where a count of instructions cannot be that of a run that took so long."""
    seconds = usage.seconds - BEGINNING if usage.cpu_seconds is None else usage.cpu_seconds
    if count + FINEST < SLOWEST * seconds:
        raise Suspicious(
            f"{count:,.0f} instructions were counted of a run of {seconds:.3g} s: some were kept from the counter",
            sign="bound",
        )


def _same(one: Sequence[Any], two: Sequence[Any]) -> bool:
    return _text(list(one)) == _text(list(two))


def _text(value: Any) -> str:
    def plain(item: Any) -> Any:
        return [str(item.dtype), list(item.shape), hashlib.sha256(item.tobytes()).hexdigest()]

    return json.dumps(value, sort_keys=True, default=plain)


@dataclass(frozen=True)
class Counter:
    """A program that counts the machine instructions of another one.

    Args:
        name: "perf" or "valgrind".
        argv: What stands before the other program's command.
        found: Finds the counts in what it prints; the last one is its own, whatever the candidate printed before.
    """

    name: str
    argv: tuple[str, ...]
    found: re.Pattern[str]

    def read(self, log: str) -> float | None:
        """The count in a log; None when there is none."""
        every = self.found.findall(log)
        return float(every[-1]) if every else None

    def counts(self, runner: Runner, job: Job, outputs: Sequence[Any] | None) -> list[float]:
        """Instructions for each input of a job, less those of an interpreter that starts and does nothing.

        Raises:
            ValueError: A run failed, counted nothing, or gave another output than before.
        """
        seconds = START + SLOWER * job.caps.seconds
        caps = replace(job.caps, seconds=seconds, cpu_seconds=None, memory_mb=job.caps.memory_mb + 1024)
        counting = replace(
            job,
            caps=replace(caps, processes=max(2, caps.processes)),
            env={**job.env, "PYTHONHASHSEED": "0"},
        )
        other = "the program gave another output while its instructions were counted"
        out = []
        if not isinstance(job.entry, str):
            for number, given in enumerate(job.inputs):
                count, answer = self._one(runner.run(replace(counting, entry=[*self.argv, *job.entry], inputs=[given])))
                if outputs is not None and not _same([answer], [outputs[number]]):
                    raise ValueError(other)
                out.append(max(FINEST, count))
            return out
        bare = [] if job.imports else ["-S"]  # without the installed packages the start is a tenth
        driver = [*self.argv, sys.executable, "-I", *bare, f"{{files}}/{DRIVER}", "{files}"]
        own = {DRIVER: _driver(), f"{EMPTY}.py": b"def solve(given):\n    return given\n"}
        program = replace(counting, files={**job.files, **own}, entry=[*driver, job.entry])
        nothing = replace(counting, files=own, entry=[*driver, f"{EMPTY}:solve"])
        for number, given in enumerate(job.inputs):
            count, answer = self._one(runner.run(replace(program, inputs=[given])))
            if outputs is not None and not _told(str(answer.get("stdout", "")), outputs[number]):
                raise ValueError(other)
            empty, _ = self._one(runner.run(replace(nothing, inputs=[given])))
            out.append(max(FINEST, count - empty))
        return out

    def _one(self, result: Result) -> tuple[float, dict[str, Any]]:
        """The count and what the command that was counted gave."""
        count = self.read(result.log)
        if result.status != "ok" or count is None:
            said = result.message or f"{self.name} said {result.log.strip()[-200:]!r}"
            raise ValueError(f"the program failed while its instructions were counted: {said}")
        answer: dict[str, Any] = result.outputs[0]
        if answer.get("exit"):
            raise ValueError(f"the program exited with {answer['exit']} while its instructions were counted")
        return count, answer


def _told(stdout: str, output: Any) -> bool:
    """Whether the last line that a driver wrote is an output."""
    try:
        return bool(_text(json.loads(stdout.rstrip("\n").rpartition("\n")[2])) == _text(output))
    except ValueError:
        return False


PERF = re.compile(r"^(\d+),[^,\n]*,instructions", re.MULTILINE)
CALLGRIND = re.compile(r"Collected\s*:\s*(\d+)")


@cache
def counters() -> tuple[Counter, ...]:
    """What can count instructions here: `perf stat` where the machine lets it, and valgrind.

    Raises:
        PrerequisiteError: Neither; says what to install.
    """
    perf, valgrind = shutil.which("perf"), shutil.which("valgrind")
    choices = []
    if perf:
        choices.append(Counter("perf", (perf, "stat", "-x,", "-e", "instructions:u", "--"), PERF))
    if valgrind:
        argv = (valgrind, "--tool=callgrind", "--vgdb=no", "--callgrind-out-file=/dev/null", "--")
        choices.append(Counter("valgrind", argv, CALLGRIND))
    works = []
    for choice in choices:
        try:
            tried = subprocess.run([*choice.argv, "/bin/true"], capture_output=True, text=True, timeout=60, check=False)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if tried.returncode == 0 and choice.read(tried.stderr) is not None:
            works.append(choice)
    if works:
        return tuple(works)
    raise PrerequisiteError(
        'cost = "instructions" needs a counter, and neither perf nor valgrind works here',
        fix='install valgrind (apt-get install valgrind), or take cost = "seconds"',
    )
