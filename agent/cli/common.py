"""What several commands share: options, finding a run, and printing."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO, TypeVar

import click

NARROW = 30
"""A terminal with fewer columns gets its lines as they are."""
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


def table(rows: Iterable[Sequence[Any]], head: Sequence[str]) -> None:
    """Print aligned columns; the last one is not padded. Control characters are shown."""
    body = [[plain(str(cell)) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(head), *body]) for i in range(len(head) - 1)]
    for row in [list(head), *body]:
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)]
        click.echo("  ".join([*cells, row[-1]]).rstrip())


def brief(value: Any, width: int = 60) -> str:
    """A value on one line; control characters are shown, never sent to the terminal."""
    if isinstance(value, float):
        value = float(f"{value:.6g}")
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = plain(text).replace("\n", "⏎")
    return text if len(text) <= width else text[: width - 1] + "…"


def fitted(text: str, stream: TextIO) -> str:
    """Text for a stream: on a terminal, lines that are too long for it break between words.

    Lines of a file that is shown, which begin with "+ " or "- ", stay as they are.
    """
    try:
        width = os.get_terminal_size(stream.fileno()).columns if stream.isatty() else 0
    except (OSError, ValueError):
        width = 0
    return "\n".join(_broken(line, width) for line in text.split("\n")) if width >= NARROW else text


def _broken(line: str, width: int) -> str:
    if len(line) <= width or line.startswith(("+ ", "- ")):
        return line
    indent = " " * (len(line) - len(line.lstrip(" ")) + 4)
    return textwrap.fill(
        line,
        width,
        subsequent_indent=indent if line.startswith(" ") else "",
        break_long_words=False,
        break_on_hyphens=False,
        expand_tabs=False,
        replace_whitespace=False,
    )


def plain(text: str) -> str:
    """Text with its control characters made visible: model output must not drive the terminal."""
    return "".join(char if char.isprintable() or char in "\n\t" else f"\\x{ord(char):02x}" for char in text)


def amount(value: float | None, unit: str = "") -> str:
    """A number with its unit, or a dash."""
    return "–" if value is None else f"{value:.4g}{' ' + unit if unit else ''}"
