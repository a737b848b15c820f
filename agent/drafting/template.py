"""A problem from a few questions, without any model: what gives the number, and what may change."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.drafting.callees import of_command, of_function
from agent.drafting.proposal import PROBLEM, TIMEOUT, Draft
from agent.drafting.questions import PATIENCE, Back, GivenUp, asked, direction, whole
from agent.errors import ConfigError

if TYPE_CHECKING:
    from agent.dialogue.talk import Talk

EVALUATIONS, FEWEST = 60, 30
"""Measurements of a search: what is suggested, and what pays for the exam of a noisy problem and a few candidates."""

SAMPLE = '''"""Measures a candidate. The numbers are made up: put what you want to measure into their place."""


def measure(candidate):
    x, n = candidate["x"], candidate["n"]
    return {"loss": (x - 0.3) ** 2 + 0.1 * (n - 7) ** 2}
'''
SPACE: dict[str, dict[str, Any]] = {
    "x": {"type": "float", "low": 0.0, "high": 1.0, "default": 0.8},
    "n": {"type": "int", "low": 1, "high": 10, "default": 3},
}
MADE_UP = (
    "This works as it is, with made-up numbers: the loss is smallest at x = 0.3 and n = 7. Then edit it: what is"
    " measured in evaluate.py, what may change in problem.toml under [space]."
)


def fill_in(folder: Path, talk: Talk, goal: str) -> Draft:
    """Ask until a problem is complete.

    Args:
        folder: Of the problem.
        talk: Asks.
        goal: What shall be better, for the description.

    Raises:
        GivenUp: A question had no usable answer.
    """
    source_here = any(folder.rglob("*.py")) if folder.is_dir() else False

    def which(answer: str) -> str:
        if answer not in ("", "1", "2"):
            raise ConfigError(f"found {answer!r}", hint="answer 1 or 2")
        return answer or "1"

    first = "a Python function of yours, in a file in this folder"
    if not source_here:
        talk.say(f"There is no Python file in {folder} yet.")
        first = "a small evaluate.py that works, written now for you to edit"
    for _ in range(PATIENCE):
        talk.say(
            f"What gives the number that shall be better?\n  1  {first}\n  2  a command that prints it, in any language"
        )
        chosen = asked(talk, "1 or 2? (Enter: 1)", which)
        if chosen == "1" and not source_here:
            return _sample(goal)
        try:
            space, source, target, name = (of_function if chosen == "1" else of_command)(folder, talk)
            break
        except Back:
            continue
    else:
        raise GivenUp("what gives the number")
    better = direction(talk, name, "minimize")
    evaluations = asked(
        talk,
        f"How many measurements may a search make? ({FEWEST} or more; Enter: {EVALUATIONS})",
        whole(EVALUATIONS, FEWEST),
    )
    seconds = asked(talk, f"Seconds after which one measurement is stopped? (Enter: {TIMEOUT})", whole(TIMEOUT))
    toml = problem(goal, target, seconds, space, name, better, evaluations)
    return Draft({PROBLEM: toml, **source}, trusted=True)


def _sample(goal: str) -> Draft:
    """A problem that works, to be edited."""
    toml = problem(goal, "evaluate:measure", TIMEOUT, SPACE, "loss", "minimize", EVALUATIONS)
    return Draft({PROBLEM: toml, "evaluate.py": SAMPLE}, MADE_UP, trusted=True)


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
