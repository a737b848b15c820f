"""What a person types for a value, a ban or a limit, checked before it is recorded."""

from __future__ import annotations

import json
import math
from typing import Any

from agent.decide_gate import reserve
from agent.errors import ConfigError
from agent.events import BudgetChanged, ValueBanned, ValuePinned
from agent.ledger import KINDS, Budget
from agent.parameters import Categorical, Float, Int, Numeric, Parameter, Value
from agent.redact import redact
from agent.space import Space
from agent.state import State
from agent.telling.text import brief
from agent.texts import Code, Text
from agent.wishes import Ban, Wishes, around, nearest

RANGE = ".."
WHOLE = ("evaluations", "calls", "tokens")


def pin(state: State, text: str, words: bool) -> ValuePinned:
    """The event for `name=value`, or for `name` alone, which is the champion's value.

    Args:
        state: Of the run.
        text: As it was typed.
        words: Whether the run's proposer changes texts too.

    Raises:
        ConfigError: The parameter or the value is none of the space, or nothing would be left to change.
    """
    name, mark, given = text.partition("=")
    name, space = name.strip(), state.problem.space
    parameter = _parameter(space, name)
    champion = state.history[state.history.champion].candidate
    value = _checked(name, parameter, given) if mark else champion[name]
    event = ValuePinned(name, value)
    after = state.wishes.told(event, state.history)
    for ban in state.wishes.bans.get(name, ()):
        if Wishes(bans={name: (ban,)}).refusal({name: value}):
            raise ConfigError(f"{name}: {brief(value)} is banned", hint=f"/free {name} takes its bans back")
    _enough(space, after, words)
    return event


def ban(state: State, text: str, words: bool) -> ValueBanned:
    """The event for `name=value`, or for `name=low..high` of a number; of a text, words that it must not hold.

    Raises:
        ConfigError: The parameter or the value is none of the space, or nothing would be left of it.
    """
    name, mark, given = text.partition("=")
    name, given = name.strip(), given.strip()
    parameter = _parameter(state.problem.space, name)
    if not mark or not given:
        raise ConfigError("a ban needs a value", hint="such as /ban x=0.5, /ban x=0.5..1, or /ban prompt=some words")
    if name in state.wishes.pins:
        raise ConfigError(f"{name} is pinned", hint=f"/free {name} lets go of it")
    found = _ban(name, parameter, given)
    if "words" in found and not words:
        raise ConfigError("the proposer of this run changes no texts", hint="words can be banned where it does")
    bans = (*state.wishes.bans.get(name, ()), found)
    if isinstance(parameter, Numeric) and nearest(parameter, bans, parameter.initial()) is None:
        raise ConfigError(f"nothing would be left of {name}", hint="ban less, or pin it to one value")
    return ValueBanned(name, dict(found))


def free(state: State, name: str) -> list[ValuePinned | ValueBanned]:
    """The events that let go of a parameter.

    Raises:
        ConfigError: There is no such parameter, or it is neither pinned nor banned.
    """
    _parameter(state.problem.space, name)
    out: list[ValuePinned | ValueBanned] = []
    out += [ValuePinned(name, None)] if name in state.wishes.pins else []
    out += [ValueBanned(name, {})] if name in state.wishes.bans else []
    if not out:
        raise ConfigError(f"{name} is neither pinned nor banned", hint="/status says what is")
    return out


def budget(state: State, text: str) -> BudgetChanged:
    """The event for `evaluations=200 usd=3`; `none` lifts a limit.

    Raises:
        ConfigError: There is no such limit, it is no number, less than what is spent and held back for the exam, or
            neither evaluations nor seconds would be limited.
    """
    limits: dict[str, Any] = state.ledger.budget.to_json()
    if state.stop is not None or state.ended is not None:
        raise ConfigError(
            "the search is over, and the limits stay",
            hint=f"more budget continues it afterwards: truegain session --resume {state.run} --evaluations N",
        )
    for word in text.split():
        kind, _, given = word.partition("=")
        if kind not in KINDS:
            raise ConfigError(f"there is no limit {brief(kind)}", hint=f"there are {', '.join(KINDS)}")
        if given == "none":
            limits.pop(kind, None)
            continue
        limits[kind] = _amount(kind, given)
        least = _least(state, kind)
        if limits[kind] < least:
            raise ConfigError(
                f"{kind}: {given} is less than what is spent and held back for the exam",
                hint=f"at least {least:g}; /finish ends the search now",
            )
    if "evaluations" not in limits and "seconds" not in limits:
        raise ConfigError("then nothing would end the search", hint="limit evaluations or seconds")
    return BudgetChanged(Budget(**limits).to_json())


def _least(state: State, kind: str) -> float:
    if kind == "evaluations":
        return math.ceil(state.ledger.evaluations) + reserve(state)
    return math.ceil(state.ledger.committed(kind) * 1e6) / 1e6


def _amount(kind: str, given: str) -> float:
    try:
        return int(given) if kind in WHOLE else _finite(float(given))
    except ValueError:
        what = "a whole number" if kind in WHOLE else "a number"
        raise ConfigError(f"{kind}: found {brief(given)}, allowed is {what}", hint=f"such as {kind}=200") from None


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError
    return value


def _parameter(space: Space, name: str) -> Parameter:
    if name not in space:
        raise ConfigError(f"there is no parameter {brief(name)}", hint=f"there are {', '.join(space)}")
    return space[name]


def _checked(name: str, parameter: Parameter, given: str) -> Value:
    """A value as it was typed, in canonical form."""
    if not isinstance(parameter, (Numeric, Text)):
        raise ConfigError(
            f"{name} is no number, choice or text that could be typed", hint=f"/pin {name} keeps the champion's"
        )
    try:
        value = _choice(parameter, given) if isinstance(parameter, Categorical) else _typed(parameter, given)
        value = parameter.check(value)
    except ValueError as error:
        raise ConfigError(f"{name}: {error}", hint="give a value of its range") from None
    return _open(name, value)


def _open(name: str, value: Any) -> Any:
    if redact(value) != value:
        raise ConfigError(f"{name}: that looks like a key or a credential, and the journal would mask it")
    return value


def _typed(parameter: Parameter, given: str) -> Value:
    text = given.strip()
    if isinstance(parameter, Text):
        return json.loads(text) if text.startswith('"') else text
    try:
        return int(text) if isinstance(parameter, Int) else float(text)
    except ValueError:
        raise ValueError(f"{brief(text)} is not a number") from None


def _choice(parameter: Categorical, given: str) -> Value:
    text = given.strip()
    for choice in parameter.choices:
        if text in (str(choice), json.dumps(choice)):
            return choice
    raise ValueError(f"{brief(text)} is not one of {', '.join(map(str, parameter.choices))}")


def _ban(name: str, parameter: Parameter, given: str) -> Ban:
    if isinstance(parameter, Categorical):
        return {"choice": _checked(name, parameter, given)}
    if isinstance(parameter, (Text, Code)):
        return {"words": _open(name, given)}
    if not isinstance(parameter, (Float, Int)):
        raise ConfigError(f"{name} cannot be banned in part", hint=f"/pin {name} keeps the champion's")
    low, mark, high = given.partition(RANGE)
    first = _checked(name, parameter, low)
    if not mark:
        return around(parameter, first) if isinstance(parameter, Float) else {"low": first, "high": first}
    last = _checked(name, parameter, high)
    if last < first:
        raise ConfigError(f"{name}: {low.strip()} is above {high.strip()}", hint="give the lower end first")
    return {"low": first, "high": last}


def _enough(space: Space, after: Wishes, words: bool) -> None:
    left = [name for name in space if name not in after.pins]
    numbers = [name for name in left if isinstance(space[name], Numeric)]
    if not left or not (numbers or words):
        raise ConfigError(
            "nothing would be left that the proposer can change", hint="/free NAME lets go of another parameter first"
        )
