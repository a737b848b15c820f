"""`--on-finish` and `--webhook`: who is told when a run has ended, in whatever way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from agent.cli.common import F
from agent.telling.text import plain


def finish_options(function: F) -> F:
    """Who is told at the end."""
    function = click.option(
        "--webhook", metavar="URL", help="At the end, POST the summary as JSON to an https address."
    )(function)
    return click.option(
        "--on-finish", metavar="CMD", help="At the end, run a shell command; TRUEGAIN_… variables tell it what ended."
    )(function)


def told(folder: Path, given: Mapping[str, Any], drive: Callable[[], int]) -> int:
    """Drive a run and tell that it ended; the exit code is the run's, whatever becomes of the telling.

    Args:
        folder: Of the run.
        given: The options.
        drive: Drives the run and gives its exit code.

    Raises:
        ConfigError: Nothing could be sent to the address; the run is not begun.
    """
    from agent.notify import refused

    command, webhook = given["on_finish"], given["webhook"]
    if webhook and refused(webhook):
        from agent.errors import ConfigError

        raise ConfigError(f"--webhook: {refused(webhook)}", hint="such as https://hooks.example.com/…")
    if not (command or webhook):
        return drive()
    try:
        code = drive()
    except BaseException as error:
        lost(folder, error, command, webhook)
        raise
    _tell(folder, {**_saved(folder), "exit_code": code}, command, webhook)
    return code


def lost(folder: Path, error: BaseException, command: str | None, webhook: str | None) -> None:
    """Tell that something ended by an error, before it could save what came of it."""
    _tell(folder, _failed(error), command, webhook)


def _saved(folder: Path) -> dict[str, Any]:
    import json

    try:
        found = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {"status": "unknown"}
    return found if isinstance(found, dict) else {"status": "unknown"}


def _failed(error: BaseException) -> dict[str, Any]:
    from agent.errors import AgentError

    if isinstance(error, AgentError):
        return {"status": "failed", "exit_code": error.exit_code, "error": error.to_json()}
    if isinstance(error, (click.Abort, KeyboardInterrupt)):
        return {"status": "stopped", "exit_code": 130}
    said = {"kind": "internal", "message": f"{type(error).__name__}: {error}", "hint": ""}
    return {"status": "failed", "exit_code": 1, "error": said}


def _tell(folder: Path, summary: dict[str, Any], command: str | None, webhook: str | None) -> None:
    from agent.notify import finished

    for sentence in finished(folder, {"name": folder.name, **summary}, command=command, webhook=webhook):
        click.echo(plain(sentence), err=True)
