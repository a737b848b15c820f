"""What is found out about a job while it runs, and what its end means."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from agent.executors.capture import HeadTail
from agent.sandbox.types import Result, Usage

PRINTED_BYTES = 16 * 2**20


class Lost(Exception):
    """The zygote died or does not answer."""


@dataclass
class Watch:
    """What is found out while a job runs: its printed bytes, and why we ended it if we did."""

    log: HeadTail
    kill: Callable[[], None]
    printed: int = 0
    verdict: str = ""
    greeted: bool = False
    zygote: int | None = None
    ready: float | None = None
    load_seconds: float = 0.0
    usages: list[Usage] = field(default_factory=list)

    def feed(self, data: bytes) -> None:
        self.printed += len(data)
        self.log.feed(data)
        if self.printed > PRINTED_BYTES:
            self.end(f"it printed more than {PRINTED_BYTES // 2**20} MB")

    def end(self, why: str) -> None:
        if not self.verdict:
            self.verdict = why
            self.kill()


def judged(result: Result, end: dict[str, Any], watch: Watch, cpu: float, extra: bool, starved: bool) -> Result:
    """The result in the light of how the process ended.

    Args:
        result: As far as the channel told.
        end: What the zygote says of the end: "signal", "code" and "cpu", in seconds.
        watch: What was found out meanwhile.
        cpu: Seconds of processor time that the job may take.
        extra: Whether there was more on the channel than answers.
        starved: Whether the job's group ran out of memory.

    Raises:
        Lost: The process ended before anything of the candidate was loaded.
    """
    if result.status == "ok":
        forged = replace(result, status="forged", outputs=(), message="it wrote more than its answers to the channel")
        return forged if extra else result
    if watch.verdict:
        return replace(result, status="forbidden", message=watch.verdict)
    if starved:
        return replace(result, status="memory", message="it used more memory than allowed")
    if result.status != "crash" or result.message:
        return result
    if not watch.greeted:
        raise Lost(watch.log.text() or "the candidate's process ended before anything was loaded")
    number = end["signal"]
    if number == signal.SIGXCPU or (number == signal.SIGKILL and end["cpu"] >= cpu):
        return replace(result, status="timeout", message=f"it used more than {cpu:g} s of processor time")
    if number == getattr(signal, "SIGSYS", None):
        return replace(result, status="forbidden", message="it made a system call that is forbidden")
    how = f"died with signal {number} ({_signal_name(number)})" if number else f"exited with code {end['code']}"
    return replace(result, message=f"it {how} before it answered")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
