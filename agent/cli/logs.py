"""`truegain logs`"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from agent.cli.common import locate, run_argument, runs_option
from agent.telling.text import plain

EVERY = 0.2
"""Seconds between two looks at a log that is followed."""


@click.command("logs", help="The log of a RUN that was started with --detach or by a batch, oldest line first.")
@run_argument
@click.option("--follow", "-f", is_flag=True, help="Wait for more until the run's process has gone.")
@click.option("--json", "as_json", is_flag=True, help="The lines as they are: one JSON document a line.")
@runs_option
def command(run: str, follow: bool, as_json: bool, runs: str | None) -> None:
    folder = locate(run, runs)
    try:
        for line in lines(folder, follow):
            click.echo(json.dumps(line) if as_json else _words(line))
    except KeyboardInterrupt:
        return


def lines(folder: Path, follow: bool) -> Iterator[dict[str, Any]]:
    """The lines of a run's log; one that is no JSON comes as `event` "printed".

    Args:
        folder: Of the run.
        follow: Wait for more, until the run's process has gone.

    Raises:
        ConfigError: The run has no log.
    """
    from agent.control.detach import LOG
    from agent.errors import ConfigError
    from agent.folders import spoken
    from agent.lock import is_locked
    from agent.redact import redact

    if not (folder / LOG).exists():
        raise ConfigError(
            f"{folder.name} has no log: it was not started with --detach",
            hint=f"truegain watch {spoken(folder)} shows what happened",
        )
    rest = b""
    with open(folder / LOG, "rb") as file:
        while True:
            live = is_locked(folder) or is_locked(folder, LOG)
            *whole, rest = (rest + file.read()).split(b"\n")
            for line in whole:
                text = line.decode("utf-8", "backslashreplace")
                try:
                    found = json.loads(text)
                except (ValueError, RecursionError):
                    found = None
                if isinstance(found, dict):
                    yield found
                elif text.strip():
                    yield {"event": "printed", "text": redact(text)}
            if not follow or not live:
                return
            time.sleep(EVERY)


def _words(line: dict[str, Any]) -> str:
    stamp = str(line.get("ts", ""))[11:19]
    level = str(line.get("level", "info"))
    mark = "" if level == "info" else f"{level}: "
    code = f" (exit code {line['exit_code']})" if "exit_code" in line else ""
    return plain(f"{stamp:8}  {mark}{line.get('text', '')}{code}")
