"""A problem from a few questions, without any model: what gives the number, and what may change."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.drafting.callees import of_command, of_function
from agent.drafting.proposal import PROBLEM, TIMEOUT, Draft
from agent.drafting.questions import asked, direction, whole
from agent.errors import ConfigError

if TYPE_CHECKING:
    from agent.dialogue.talk import Talk

EVALUATIONS, FEWEST = 60, 30
"""Measurements of a search: what is suggested, and what pays for the exam of a noisy problem and a few candidates."""


def fill_in(folder: Path, talk: Talk, goal: str) -> Draft:
    """Ask until a problem is complete.

    Args:
        folder: Of the problem.
        talk: Asks.
        goal: What shall be better, for the description.

    Raises:
        GivenUp: A question had no usable answer.
    """

    def which(answer: str) -> str:
        if answer not in ("", "1", "2"):
            raise ConfigError(f"found {answer!r}", hint="answer 1 or 2")
        return answer or "1"

    talk.say(
        "What gives the number that shall be better?\n"
        "  1  a Python function of yours, in a file in this folder\n"
        "  2  a command that prints it, in any language"
    )
    chosen = asked(talk, "1 or 2? (Enter: 1)", which)
    make = of_function if chosen == "1" else of_command
    space, source, target, name = make(folder, talk)
    better = direction(talk, name, "minimize")
    evaluations = asked(
        talk,
        f"How many measurements may a search make? ({FEWEST} or more; Enter: {EVALUATIONS})",
        whole(EVALUATIONS, FEWEST),
    )
    seconds = asked(talk, f"Seconds after which one measurement is stopped? (Enter: {TIMEOUT})", whole(TIMEOUT))
    toml = problem(goal, target, seconds, space, name, better, evaluations)
    return Draft({PROBLEM: toml, **source}, trusted=True)


def problem(
    goal: str,
    function: str,
    timeout: int,
    space: Mapping[str, Mapping[str, Any]],
    name: str,
    better: str,
    evaluations: int,
) -> str:
    """A problem file."""
    import tomlkit

    document = tomlkit.document()
    document["description"] = goal
    document["evaluator"] = {"function": function, "timeout": timeout}
    parameters = tomlkit.table(is_super_table=True)
    for parameter, table in space.items():
        parameters[parameter] = dict(table)
    document["space"] = parameters
    objectives = tomlkit.aot()
    objectives.append(tomlkit.item({"name": name, "direction": better}))
    document["objectives"] = objectives
    document["budget"] = {"evaluations": evaluations}
    text: str = tomlkit.dumps(document)
    return text
