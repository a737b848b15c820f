"""Whose fault it is that the initial candidate cannot be scored: the program's own, or the evaluator's."""

from __future__ import annotations

import re
from pathlib import Path

from agent.evaluators.code_failures import KINDS
from agent.problem import Problem
from agent.texts import Code

_ENDED = re.compile(rf"(?:\w+: )?(?:{'|'.join(KINDS)}) on the \w+ inputs")
"""How `agent.evaluators.code_failures.failed` words the end of a program's job."""
_PLACE = re.compile(r"(\S+):(\d+)(?: \S+)?")
"""A line of a program, as a runner names the last one that was reached."""
_FRAME = re.compile(r'^  File "([^"\n]+)", line (\d+)', re.MULTILINE)


def place(detail: str, folder: Path) -> str:
    """Where a traceback says that it went wrong, as "FILE, line N"; "" where it does not.

    Args:
        detail: Of a failure.
        folder: Of the problem: its own files come before those of the packages that they call.
    """
    frames = [(Path(name), line) for name, line in _FRAME.findall(detail)]
    own = [frame for frame in frames if frame[0].is_relative_to(folder)]
    if not frames:
        return ""
    path, line = (own or frames)[-1]
    return f"{path.relative_to(folder) if own else path}, line {line}"


def mending(problem: Problem, failure: str, detail: str) -> str:
    """What to do about an initial candidate that cannot be scored, as an order without a full stop.

    Args:
        problem: As it is, or as a journal has it.
        failure: Kind and message.
        detail: What is known of the failure beside: its first line may name a file and a line.
    """
    programs = {name: item for name, item in problem.space.items() if isinstance(item, Code)}
    if not programs or not _ENDED.match(failure):
        return "mend the evaluator so that it can score the initial candidate"
    place = _PLACE.fullmatch(detail.partition("\n")[0])
    if place is not None:
        return f"mend {place[1]}, line {place[2]}: the initial program fails there"
    paths = {name: item.get("path") for name, item in ((problem.evaluator.spec or {}).get("programs") or {}).items()}
    files = [paths.get(name) or ", ".join(item.files) or f"space.{name}" for name, item in programs.items()]
    return f"mend {' or '.join(files)}: the initial program fails before one of its own lines is reached"
