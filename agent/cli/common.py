"""What several commands share: options, finding a run, and printing."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def json_option(function: F) -> F:
    """`--json`: exactly one JSON document on stdout, everything else on stderr."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(function)


def runs_option(function: F) -> F:
    """`--runs`: where run folders are."""
    return click.option(
        "--runs", "runs", metavar="FOLDER", help="Where run folders are ($TRUEGAIN_RUNS; else runs/ of the project)."
    )(function)


class OutFile(click.Path):
    """A file that a command will write, refused before it begins where its folder is missing or may not be written."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from agent.errors import ConfigError

        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        folder, option = path.expanduser().absolute().parent, param.opts[0] if param else "file"
        if not folder.is_dir():
            raise ConfigError(f"{option} {path}: there is no folder {folder}", hint=f"mkdir -p {folder}")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise ConfigError(f"{option} {path}: nothing can be written in {folder}", hint="name a file elsewhere")
        return path


def run_argument(function: F) -> F:
    """A run by name, unique beginning, path, or `last`."""
    return click.argument("run", default="last")(function)


def locate(run: str, runs: str | None) -> Path:
    """The folder of a run.

    Raises:
        ConfigError: There is no such run.
    """
    from agent.folders import find, runs_folder

    return find(runs_folder(None, runs), run)


def emit(document: Any) -> None:
    """Print one JSON document."""
    ascii_only = not (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")
    click.echo(json.dumps(document, ensure_ascii=ascii_only, indent=1))
