"""Values and lines as people are shown them; nothing of it drives their terminal."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

import click

NARROW = 30
"""A terminal with fewer columns gets its lines as they are."""


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
