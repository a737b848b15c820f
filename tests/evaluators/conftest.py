"""Commands to measure with."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.evaluators.command import CommandEvaluator


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., CommandEvaluator]:
    """Writes measure.py into the folder; a command that runs it."""

    def make(source: str, *arguments: str, **options: Any) -> CommandEvaluator:
        (tmp_path / "measure.py").write_text(textwrap.dedent(source))
        argv = [sys.executable, "measure.py", *arguments]
        return CommandEvaluator(argv, cwd=tmp_path, **{"names": ["value"], **options})

    return make
