"""What the doors say of arguments that they do not take, or that cannot pay for a run: in the words of their users."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from agent.api import make_session
from agent.errors import ConfigError

FILLED = {"evaluate", "space", "data", "objectives", "model", "budget", "runs", "metric", "metric_options"}
"""Arguments of `agent.optimize` that a door fills in from its own."""


def own(*functions: Callable[..., Any], without: Collection[str] = ()) -> list[str]:
    """Names of the arguments that functions take, each once."""
    found = (p for function in functions for p in inspect.signature(function).parameters.values())
    return list(dict.fromkeys(p.name for p in found if p.kind is not p.VAR_KEYWORD and p.name not in without))


def check(given: Collection[str], named: Collection[str], package: str) -> None:
    """Refuse arguments that nothing reads.

    Args:
        given: Names in a call.
        named: The door's own arguments.
        package: Whose door it is: GEPA or DSPy.

    Raises:
        ConfigError: There is one; lists those that the door takes.
    """
    passed = {*own(make_session, without=FILLED), "resume", "accept_change"}
    for name in given:
        if name not in named and name not in passed:
            raise ConfigError(
                f"{name} is no argument of this door: not all that {package} has is taken",
                hint=f"leave it out, see docs/{package.lower()}.md; taken are {', '.join(named)}, and of what"
                f" agent.optimize takes: {', '.join(sorted(passed.difference(named)))}",
            )


def affordable(error: ConfigError, settings: Mapping[str, Any], *, suite: bool, rows: bool) -> ConfigError:
    """An error about too few evaluations with what a user of GEPA can do about it; any other as it is.

    Args:
        error: As the run raised it.
        settings: What the call said besides, such as deterministic.
        suite: Whether the rows are the goal themselves.
        rows: Whether there are rows.
    """
    found = re.match(r"allow at least (\d+) evaluations", error.hint)
    if found is None:
        return error
    ways = [f"allow max_metric_calls={found[1]}"]
    if suite and not settings.get("deterministic"):
        ways.append("say deterministic=True if the same text always gets the same score, so that nothing is repeated")
        if rows:
            ways.append("give a valset: further rows, each of which is then measured once")
    return ConfigError(error.message, hint="; or ".join(ways))
