"""What a run does for a proposer: the functions behind its context."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.space import Candidate

if TYPE_CHECKING:
    from agent.llm.types import Completion, ModelRequest
    from agent.looking import Look
    from agent.tracing.spans import Trace

Read = Callable[[str], Awaitable[Any]]
"""The content of a row of train, by its id."""

Work = Callable[[str], Awaitable[tuple[str, bool]]]
"""Runs a tool, given the key of its call: the answer as text, and whether it failed."""


@dataclass(frozen=True, slots=True)
class Effects:
    """What a run does for a proposer that works in steps, as functions: nothing else of the run can be reached.

    `agent.proposers.base.Context` has the same for everybody; see there.
    """

    trace: Callable[[str, str | None], Awaitable[tuple[Trace, str | None] | None]]
    look: Callable[[Candidate, list[str], str, float], Awaitable[Look]]
    looked: Callable[[str], int]
    consult: Callable[[ModelRequest, str, str], Awaitable[Completion]]
    step: Callable[
        [str, int, int, str, Mapping[str, Any] | None, Work, Callable[[], tuple[list[str], dict[str, Any]]]],
        Awaitable[tuple[str, bool, list[str], dict[str, Any]]],
    ]


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The notes that are new or other than before, as plain JSON; what is none is left out."""
    out = {}
    for name, note in after.items():
        with contextlib.suppress(TypeError, ValueError, RecursionError):
            if name not in before or note != before[name]:
                out[str(name)] = json.loads(json.dumps(note, allow_nan=False))
    return out
