"""`--detach`: the same command in the background, with a log in the run folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli.common import F, emit
from agent.control.detach import LOG, announce, launch

if TYPE_CHECKING:
    from agent.cli.jsonlines import JsonLines
    from agent.results.result import Result


def detach_option(function: F) -> F:
    """`--detach`."""
    return click.option(
        "--detach", is_flag=True, help="Run in the background: return when it has begun, and log to RUN/log.jsonl."
    )(function)


def start(arguments: Sequence[str], as_json: bool) -> int:
    """Start the command in the background and tell how to follow it; the exit code.

    Args:
        arguments: Of this command.
        as_json: Print the launch record.
    """
    record, code = launch(arguments)
    if record is None:
        return code
    if as_json:
        emit(record)
    else:
        click.echo(f"Started {record['run']} in the background (process {record['pid']}).")
        click.echo(f"Log: {record['log']}")
        click.echo("Next: " + "   ".join(record["next"]))
    return 0


class Log:
    """Drives a run of this background process, with a log instead of a terminal.

    Args:
        folder: Of the run.
        pipe: Where whoever started it waits for the launch record.
    """

    def __init__(self, folder: Path, pipe: int) -> None:
        from agent.cli.jsonlines import JsonLines, LogFile

        self.folder = folder
        self._pipe = pipe
        self._file = LogFile()
        self._lines = JsonLines(self._file, folder.name)
        self._begun = False

    def begin(self, run: Any = None) -> None:
        """The run is about to be driven: from here on this process writes to its log alone."""
        import logging

        from agent.cli.jsonlines import Prints, Warnings
        from agent.control.wire import Control
        from agent.folders import spoken

        descriptor = self._file.open(self.folder / LOG)
        null = os.open(os.devnull, os.O_RDWR)
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(null, 1)
        os.dup2(descriptor, 2)  # what ends Python itself is said there
        os.close(null)
        sys.stdout, sys.stderr = Prints(self._lines), Prints(self._lines, "warning")
        logging.getLogger().addHandler(Warnings(self._lines))
        self._begun = True
        control = Control.read(self.folder)
        name = spoken(self.folder)
        announce(
            self._pipe,
            {
                "run": self.folder.name,
                "folder": str(self.folder),
                "pid": os.getpid(),
                "socket": control.socket if control is not None else None,
                "log": str(self.folder / LOG),
                "next": [f"truegain {verb} {name}" for verb in ("status", "watch", "stop")],
            },
        )

    def drive(
        self,
        make: Callable[[JsonLines, Callable[[Any], None]], Coroutine[Any, Any, Result]],
        code: Callable[[Result], int],
    ) -> int:
        """Drive the run to its end, or until it rests; the last line of the log, after whatever the command does
        then, tells the exit code.

        Args:
            make: The run, given who watches it and what to call when it is about to be driven.
            code: The exit code of a result.

        Raises:
            AgentError: It could not begin.
        """
        import asyncio

        try:
            result = asyncio.run(make(self._lines, self.begin))
        except BaseException as error:
            if not self._begun:
                raise
            return self._failed(error)
        if not self._begun:  # there was only a summary to write
            self.begin()
        ending = code(result)
        level = "info" if ending == 0 else "warning"
        return self._done(level, result.sentence, ending, status=result.status, reason=result.reason)

    def _done(self, level: str, text: str, code: int, **fields: Any) -> int:
        click.get_current_context().call_on_close(
            lambda: self._lines.say(level, "done", text, exit_code=code, **fields)
        )
        return code

    def _failed(self, error: BaseException) -> int:
        import asyncio
        import traceback

        from agent.errors import AgentError

        if isinstance(error, asyncio.CancelledError):
            return self._done("warning", "stopped at once; truegain resume goes on", 130)
        if isinstance(error, AgentError):
            return self._done("error", error.message, error.exit_code, error=error.to_json())
        self._lines.say("error", "failed", "".join(traceback.format_exception(error)))
        text = f"{type(error).__name__}: {error}"
        return self._done("error", text, 1, error={"kind": "internal", "message": text, "hint": "this is a defect"})
