"""Syntax trees, read in several threads at once."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

TRIES = 100

T = TypeVar("T")


def syntax(text: str | bytes) -> ast.Module:
    """`ast.parse` for programs that are read in several threads.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: As `ast.parse`.
    """
    return _threaded(lambda: ast.parse(text))


def literal(text: str) -> Any:
    """`ast.literal_eval` likewise."""
    return _threaded(lambda: ast.literal_eval(text))


def _threaded(read: Callable[[], T]) -> T:
    """Python 3.11 counts how deep a tree is in one place for all threads. When the garbage collector lets another one
    build its tree meanwhile, the first fails with a SystemError, about a program that is right: so it is tried again.
    """
    for _ in range(TRIES):
        with contextlib.suppress(SystemError):
            return read()
    return read()
