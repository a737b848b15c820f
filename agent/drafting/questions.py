"""Questions that are asked again while their answers cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from agent.drafting import ranges
from agent.errors import ConfigError
from agent.parameters import Value

if TYPE_CHECKING:
    from agent.dialogue.talk import Talk

T = TypeVar("T")
PATIENCE = 4
"""Answers to one question that cannot be used, before it is given up."""
HIGHER = ("h", "higher", "high", "more", "max", "maximize", "maximise", "up")
LOWER = ("l", "lower", "low", "less", "min", "minimize", "minimise", "down")


class GivenUp(Exception):
    """A question was answered with nothing usable too often."""


class Back(Exception):
    """A question was answered with nothing: the one before it is asked again."""


def asked(talk: Talk, question: str, read: Callable[[str], T]) -> T:
    """The answer to a question, asked again while `read` raises ConfigError.

    Raises:
        GivenUp: It raised too often.
    """
    for _ in range(PATIENCE):
        try:
            return read(talk.ask(question))
        except ConfigError as error:
            talk.say(f"That cannot be used: {error.message}" + (f" ({error.hint})" if error.hint else ""))
    raise GivenUp(question)


def direction(talk: Talk, name: str, usual: str) -> str:
    """Which way is better, "minimize" or "maximize", asked in words."""

    def read(answer: str) -> str:
        word = answer.casefold()
        if not word:
            return usual
        if word in HIGHER or word in LOWER:
            return "maximize" if word in HIGHER else "minimize"
        raise ConfigError(f"found {answer!r}", hint="answer higher or lower")

    default = "higher" if usual == "maximize" else "lower"
    return asked(talk, f"Is a higher or a lower {name} better? (higher/lower; Enter: {default})", read)


def one(talk: Talk, name: str, default: Value) -> dict[str, Any] | None:
    """One parameter's table; None where it stays as it is."""
    hint = ranges.suggested(default)

    def read(answer: str) -> dict[str, Any] | None:
        answer = answer or hint
        if answer == "-":
            if default is None:
                raise ConfigError(f"{name} has no value of its own", hint=ranges.HOW)
            return None
        if not answer:
            raise ConfigError("nothing is suggested here", hint=ranges.HOW)
        return ranges.spec(answer, default)

    now = f" (now {default!r})" if default is not None else ""
    offer = f"Enter: {hint}" if hint else ranges.HOW
    return asked(talk, f"{name}{now}: {offer}", read)


def by_hand(talk: Talk) -> dict[str, dict[str, Any]]:
    space: dict[str, dict[str, Any]] = {}

    def read(answer: str) -> tuple[str, dict[str, Any]] | None:
        if not answer:
            if not space:
                raise ConfigError("something must change", hint="such as: lr 0.001 1 log")
            return None
        name, _, rest = answer.partition(" ")
        name = name.rstrip(":")
        if not name.isidentifier():
            raise ConfigError(f"{name!r} is not a name", hint="use letters, digits and underscores")
        return name, ranges.spec(rest.strip(), None)

    while (found := asked(talk, "Name and range, such as lr 0.001 1 log (Enter: that is all)", read)) is not None:
        space[found[0]] = found[1]
    return space


def name_of_number(talk: Talk) -> str:
    def read(answer: str) -> str:
        if answer and not answer.isidentifier():
            raise ConfigError(f"{answer!r} is not a name", hint="use letters, digits and underscores")
        return answer or "score"

    return asked(talk, "What is the number called? (Enter: score)", read)


def whole(usual: int, least: int = 1) -> Callable[[str], int]:
    def read(answer: str) -> int:
        if not answer:
            return usual
        if not answer.isdecimal() or int(answer) < least:
            raise ConfigError(f"found {answer!r}", hint=f"a whole number of at least {least}")
        return int(answer)

    return read
