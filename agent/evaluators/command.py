"""Evaluators that are a command."""

from __future__ import annotations

import asyncio
import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from agent.errors import ConfigError
from agent.evaluation import Output, Request, Score, measurement
from agent.evaluators.source import files_digest, sources
from agent.executors.capture import Drain, HeadTail
from agent.executors.process import Ending, GuardedProcess, environment
from agent.space import digest

GRACE_SECONDS = 1.0
"""Between asking a command to end and killing it."""
LINE_BYTES = 4 * 2**20
"""Longest result line; what is longer counts as log."""
STDERR_CHARS = 2000
SECRET = re.compile("KEY|TOKEN|SECRET|PASSW", re.IGNORECASE)
OUT_OF_MEMORY = re.compile(r"MemoryError|bad_alloc|[Oo]ut of memory|Cannot allocate memory")
NOTHING = object()


class CommandEvaluator:
    """Runs a command for each request; what it prints is the measurement.

    The command gets the path of a JSON file with the request: in place of `{request}` in its
    arguments, else as its last argument, and always in the environment variable TRUEGAIN_REQUEST.
    The file holds candidate, example, row, seed, replicate, fidelity, stage and limits. Each line on
    standard output that is a JSON object, array or number is a result in a form that `measurement`
    accepts: the last one is the measurement, earlier ones are partial results. Other lines, and
    standard error, are the log. An exit code other than 0 is a failure.

    It runs under a guard, which ends it with everything it started on timeout, cancellation, or our
    death. The memory limit applies to each of its processes. Keys of model providers reach it only
    through `env`.

    Args:
        argv: The command and its arguments; no shell is involved.
        cwd: The folder it runs in.
        names: The objectives and constraints that a measurement must hold.
        exclusive: Whether nothing else of ours may compute while it measures.
        env: Environment variables to add. "$NAME" stands for our own variable NAME, so that a
            secret need not be written down.

    Raises:
        ConfigError: The command is empty.
    """

    blocking = False
    keeps_limits = True

    def __init__(
        self,
        argv: Sequence[str],
        *,
        cwd: Path | str,
        names: Sequence[str],
        exclusive: bool = False,
        env: Mapping[str, str] | None = None,
    ) -> None:
        if isinstance(argv, str) or not argv or not all(isinstance(item, str) for item in argv):
            raise ConfigError(f"command: found {argv!r}, allowed is a list of strings", hint='such as ["./bench"]')
        self.argv = tuple(argv)
        self.cwd = Path(cwd).resolve()
        self.names = tuple(names)
        self.exclusive = exclusive
        self._env = {name: _reference(name, value) for name, value in (env or {}).items()}

    @property
    def spec(self) -> Mapping[str, Any] | None:
        """Plain data to rebuild it from."""
        return {
            "kind": "command",
            "argv": list(self.argv),
            "cwd": str(self.cwd),
            "names": list(self.names),
            "exclusive": self.exclusive,
            "env": dict(self._env),
        }

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the arguments, of `env`, and of the files that the arguments name, as they are when first asked for.

        Of a Python file also the files in its folder that it imports.
        """
        files: dict[str, Path] = {}
        for item in self.argv:
            file = self.cwd / item
            if not file.is_file():
                continue
            files[item] = file
            if file.suffix == ".py":
                files |= {f"{item}:{name}": path for name, path in sources(file.stem, file.parent.resolve()).items()}
        env = {name: value for name, value in self._env.items() if not SECRET.search(name)}
        return digest([list(self.argv), files_digest(files), env])

    async def produce(self, request: Request, partial: Callable[[Any], None]) -> Output:
        """The output's value is `{"values": {name: number}, "feedback": words}`."""
        with tempfile.TemporaryDirectory(prefix="truegain-", ignore_cleanup_errors=True) as folder:
            file = os.path.join(folder, "request.json")
            with open(file, "w", encoding="utf-8") as stream:
                json.dump(request.to_json(), stream)
            return await self._run(file, request, partial)

    def score(self, output: Output) -> Score:
        """The measurement that `produce` kept."""
        value = measurement(output.value, self.names)
        return Score(value["values"], value["feedback"])

    async def _run(self, file: str, request: Request, partial: Callable[[Any], None]) -> Output:
        limits = request.limits
        loop = asyncio.get_running_loop()
        log, errors = HeadTail(limits.log_chars), HeadTail(2 * STDERR_CHARS)
        results = _Results(self.names, partial, log)

        def complain(data: bytes) -> None:
            log.feed(data)
            errors.feed(data)

        out, err = _Pipe(results.feed), _Pipe(complain)
        started = loop.time()
        try:
            argv = [item.replace("{request}", file) for item in self.argv]
            extra = {name: _resolve(value) for name, value in self._env.items()}
            process = GuardedProcess(
                "command",
                [str(limits.memory_mb or 0), *argv, *([] if argv != list(self.argv) else [file])],
                environment=environment({**extra, "TRUEGAIN_REQUEST": file}),
                cwd=self.cwd,
                stdout=out.writing,
                stderr=err.writing,
            )
        except OSError as error:
            out.close()
            err.close()
            return Output.failed("error", f"the command cannot be started: {error}")
        out.started()
        err.started()
        ending: Ending | None = None
        try:
            async with asyncio.timeout(limits.seconds):
                ending = await process.wait()
        except TimeoutError:
            pass
        finally:
            await process.stop(GRACE_SECONDS)
            out.close()
            err.close()
        seconds = loop.time() - started
        if ending is None:
            results.flush()
            text = f"it took longer than {limits.seconds:g} s and was stopped"
            return Output.failed("timeout", text, errors.text()[-STDERR_CHARS:], log=log.text(), seconds=seconds)
        output = self._judge(ending, results.last(), errors.text()[-STDERR_CHARS:], limits.memory_mb)
        return Output(output.value, output.failure, log=log.text(), seconds=seconds)

    def _judge(self, ending: Ending, last: Any, errors: str, memory_mb: int | None) -> Output:
        failed = ending.kind == "signal" or ending.number != 0
        if failed and memory_mb and (ending.out_of_memory(memory_mb) or OUT_OF_MEMORY.search(errors)):
            return Output.failed("memory", f"the command {ending}; its limit is {memory_mb} MB", errors)
        if ending.kind == "signal":
            return Output.failed("lost", f"the command {ending}", errors)
        if ending.number:
            why = errors.strip().rpartition("\n")[2]
            return Output.failed("exit", f"the command {ending}{': ' if why else ''}{why[:300]}", errors)
        if last is NOTHING:
            return Output.failed("invalid", "the command printed no result: no line is a JSON object, array or number")
        try:
            return Output(value=measurement(last, self.names))
        except ValueError as error:
            return Output.failed("invalid", str(error), errors)


def _reference(name: str, value: str) -> str:
    """The value as it may be written down: a secret that our environment holds is named, not told."""
    return f"${name}" if SECRET.search(name) and os.environ.get(name) == value else value


def _resolve(value: str) -> str:
    return os.environ.get(value[1:], "") if value.startswith("$") and value[1:].isidentifier() else value


class _Results:
    """Finds the results among the lines of standard output; the last one is held back, for it may be the final one."""

    def __init__(self, names: Sequence[str], partial: Callable[[Any], None], log: HeadTail) -> None:
        self._names = names
        self._partial = partial
        self._log = log
        self._line = bytearray()
        self._skipping = False
        self._held: Any = NOTHING
        self._raw = b""

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._add(line)
            self._end()
        self._add(rest)

    def last(self) -> Any:
        """The last result, or NOTHING; there must be no more to come."""
        self._end()
        return self._held

    def flush(self) -> None:
        """Report the held result as a partial one: there will be no final one."""
        self._end()
        self._report()

    def _add(self, piece: bytes) -> None:
        self._line += piece
        if len(self._line) > LINE_BYTES or self._skipping:
            self._skipping = True
            self._log.feed(bytes(self._line))
            self._line.clear()

    def _end(self) -> None:
        line = bytes(self._line)
        self._line.clear()
        if self._skipping:
            self._skipping = False
            self._log.feed(line + b"\n")
            return
        found = _result(line)
        if found is NOTHING:
            self._log.feed(line + b"\n" if line else b"")
            return
        self._report()
        self._held, self._raw = found, line

    def _report(self) -> None:
        held, self._held = self._held, NOTHING
        if held is NOTHING:
            return
        try:
            # A learning curve need not hold every constraint.
            self._partial(measurement(held, () if isinstance(held, Mapping) else self._names))
        except ValueError:
            self._log.feed(self._raw + b"\n")  # JSON, but no result of ours


def _result(line: bytes) -> Any:
    """The JSON object, array or number that a line is, or NOTHING."""
    if line.strip()[:1] not in b"{[-0123456789NI" or not line.strip():
        return NOTHING
    try:
        # NaN is let through, so that a measurement of NaN is refused and not taken for a line of the log.
        value = json.loads(line)
    except (ValueError, RecursionError):
        return NOTHING
    return value if isinstance(value, (dict, list, int, float)) else NOTHING


class _Pipe:
    """A pipe from a process that is about to start."""

    def __init__(self, feed: Callable[[bytes], None]) -> None:
        reading, self.writing = os.pipe()
        self._drain = Drain(reading, feed)

    def started(self) -> None:
        """Our copy of the writing end is not needed any more."""
        os.close(self.writing)
        self.writing = -1

    def close(self) -> None:
        """Read what is left, and stop reading."""
        if self.writing >= 0:
            self.started()
        self._drain.rest()
        self._drain.close()
