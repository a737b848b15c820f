"""A session without a person: a goal, and what happens as JSON lines for scripts and CI."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import click

from agent.code.untrusted import cleaned
from agent.errors import ConfigError
from agent.events import HintGiven
from agent.redact import redact
from agent.wishes import HINT

if TYPE_CHECKING:
    from agent.events import Event
    from agent.loop import Run
    from agent.results.result import Result
    from agent.state import State


def checked(goal: str) -> str:
    """A goal as it is recorded.

    Raises:
        ConfigError: It is empty, or too long for a prompt.
    """
    goal = cleaned(goal, 10 * HINT).strip()
    if not goal or len(goal) > HINT:
        raise ConfigError(
            f"-p: a goal of {len(goal)} characters cannot be used", hint=f"say it in 1 to {HINT} characters"
        )
    return goal


def asked(run: Run, goal: str) -> None:
    """Record a goal as the person's hint; the same one is not recorded again by a resume."""
    # Compared as it is stored: what looks like a key is masked there.
    run.settle()  # as whatever comes from outside, it is behind what follows by itself
    if goal and redact(goal) not in run.state.wishes.hints and run.state.ended is None:
        run.record(HintGiven(goal))


class Stream:
    """An observer that prints each event which the search may see as one JSON object a line, and the result last.

    A line has `type` and `time` (seconds since 1970), and the event's fields, as `truegain events --json` gives them.
    """

    def __call__(self, event: Event, state: State) -> None:
        if event.audience == "search":
            names = [item.name for item in fields(event)]
            _line({"type": event.type, "time": state.last, **{name: getattr(event, name) for name in names}})

    def progress(self, done: int, total: int, what: str) -> None:
        """How far a download is says nothing of the run."""

    def end(self, result: Result) -> None:
        """The last line."""
        _line({"type": "result", **result.to_json()})


def _line(document: dict[str, Any]) -> None:
    click.echo(json.dumps(redact(document)))
