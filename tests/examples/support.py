"""Modules of an example, as they are imported where it runs."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@contextmanager
def modules(example: str, *names: str) -> Iterator[tuple[ModuleType, ...]]:
    """The modules of a folder; another example may have some of the same names, so they are forgotten afterwards."""
    folder = EXAMPLES / example
    own = [path.stem for path in folder.glob("*.py")]
    before, path = {name: sys.modules.pop(name) for name in own if name in sys.modules}, list(sys.path)
    sys.path.insert(0, str(folder))
    try:
        yield tuple(importlib.import_module(name) for name in names)
    finally:
        sys.path[:] = path
        for name in own:
            sys.modules.pop(name, None)
        sys.modules.update(before)
