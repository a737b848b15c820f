"""What the person who runs a search has asked of its proposals: hints, values that stay, values that must not come.

A fold over their events. Proposers see it through the problem that their context holds: its space is what is left to
choose from, and `guidance` says the rest in words.
"""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.code.untrusted import cleaned
from agent.events import Event, HintGiven, PairJudged, ValueBanned, ValuePinned
from agent.parameters import Categorical, Float, Int, Numeric, Parameter, Value
from agent.space import EDGE, RESOLUTION, Candidate, Space
from agent.texts import Code, Text

if TYPE_CHECKING:
    from agent.history import History
    from agent.problem import Problem

HINT = 2000
"""Most characters of a hint."""
SHOWN, TOLD = 8, 4000
"""Hints that a prompt shows, the newest, and their characters in all."""
JUDGED = 5
"""Comparisons that a prompt tells of, the newest."""
WORDS = 100
"""Most characters of a value in a prompt."""
BESIDE = 1e-3
"""How far beside a ban, on the unit interval, a real number is put that fell into it."""
DRAWS = 100

Ban = Mapping[str, Any]
"""As in `agent.events.ValueBanned`."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """Immutable; `told` gives the next one.

    Args:
        hints: What was typed, oldest first, without terminal commands.
        pins: Values that stay, by parameter.
        bans: Values that must not come, by parameter.
        judged: Comparisons by hand in words, oldest first.
    """

    hints: tuple[str, ...] = ()
    pins: Mapping[str, Value] = field(default_factory=dict)
    bans: Mapping[str, tuple[Ban, ...]] = field(default_factory=dict)
    judged: tuple[str, ...] = ()

    def told(self, event: Event, history: History) -> Wishes:
        """The wishes after one more of the person's events."""
        if isinstance(event, HintGiven):
            return replace(self, hints=(*self.hints, cleaned(event.text, HINT)))
        if isinstance(event, ValuePinned):
            rest = {name: value for name, value in self.pins.items() if name != event.name}
            return replace(self, pins=rest if event.value is None else {**rest, event.name: event.value})
        if isinstance(event, ValueBanned):
            rest_ = {name: bans for name, bans in self.bans.items() if name != event.name}
            more = {event.name: (*self.bans.get(event.name, ()), event.ban)} if event.ban else {}
            return replace(self, bans={**rest_, **more})
        if isinstance(event, PairJudged) and event.one in history and event.two in history:
            return replace(self, judged=(*self.judged, _compared(event, history)))
        return self

    def fit(self, space: Space) -> Wishes:
        """Those that still mean something in another space."""
        pins, bans = {}, {}
        for name, value in self.pins.items():
            try:
                pins[name] = space[name].check(value)
            except (KeyError, ValueError):
                continue
        if len(pins) == len(space):
            pins = {}
        for name, known in self.bans.items():
            if name in space and all(_fits(space[name], ban) for ban in known):
                bans[name] = known
        return replace(self, pins=pins, bans=bans)

    @property
    def guidance(self) -> tuple[str, ...]:
        """What a prompt says of them, a line each."""
        hints: list[str] = []
        for hint in reversed(self.hints[-SHOWN:]):
            if sum(map(len, hints)) + len(hint) <= TOLD:
                hints.insert(0, hint)
        kept = [f"{name} stays {_brief(value)}; it is not among the parameters" for name, value in self.pins.items()]
        never = [f"never {name} {said(ban)}" for name, bans in self.bans.items() for ban in bans]
        return (*hints, *kept, *never, *self.judged[-JUDGED:])

    def view(self, problem: Problem) -> Problem:
        """The problem as proposers see it."""
        if self == Wishes():
            return problem
        seen = copy.copy(problem)  # not `replace`, which would tell the evaluator of another initial candidate
        object.__setattr__(seen, "space", self.space(problem.space))
        object.__setattr__(seen, "guidance", self.guidance)
        return seen

    def space(self, whole: Space) -> Space:
        """What is left of a space."""
        return Narrowed(whole, self) if self.pins or self.bans else whole

    def keep(self, space: Space, values: Mapping[str, Value]) -> dict[str, Value]:
        """Values with the pins, and each number and choice that is banned moved to the nearest one that is not."""
        out = {**values, **{name: value for name, value in self.pins.items() if name in values}}
        for name, bans in self.bans.items():
            parameter = space.get(name)
            if isinstance(parameter, Numeric) and name in out and any(_hits(ban, out[name]) for ban in bans):
                found = nearest(parameter, bans, out[name])
                out[name] = out[name] if found is None else found
        return out

    def refusal(self, values: Mapping[str, Value]) -> str:
        """Why values are not what the person asked for, or ""."""
        for name, value in self.pins.items():
            if values[name] != value:
                return f"the person who runs this has pinned {name} to {_brief(value)}"
        for name, bans in self.bans.items():
            for ban in bans:
                if _hits(ban, values[name]):
                    return f"the person who runs this has banned {name} {said(ban)}"
        return ""


class Narrowed(Space):
    """What the person has left of a space: its names are those that may still change.

    Candidates are whole: they have the pinned values too, and a pinned parameter can still be asked for by name.

    Args:
        whole: The space.
        wishes: With pins or bans.
    """

    def __init__(self, whole: Space, wishes: Wishes) -> None:
        super().__init__({name: item for name, item in whole.items() if name not in wishes.pins})
        self._whole, self._wishes = whole, wishes

    def __getitem__(self, name: str) -> Parameter:
        return self._whole[name]

    def bound(self, folder: Path) -> Space:
        return self

    def initial(self) -> Candidate:
        return Candidate(self._wishes.keep(self._whole, self._whole.initial()))

    def candidate(self, values: Mapping[str, Value]) -> Candidate:
        """As of a space, moved to what is allowed; a text with banned words is refused when it is proposed.

        Proposers check known candidates by this too, and a ban makes none of them invalid.
        """
        made = self._whole.candidate({**values, **self._wishes.pins})
        return Candidate(self._wishes.keep(self._whole, made))

    def sample(self, rng: random.Random) -> Candidate:
        for _ in range(DRAWS):
            draw = {**super().sample(rng), **self._wishes.pins}
            if not self._wishes.refusal(draw):
                break
        return Candidate(self._wishes.keep(self._whole, draw))

    def decode(self, unit: Sequence[float], base: Mapping[str, Value]) -> Candidate:
        return Candidate(self._wishes.keep(self._whole, super().decode(unit, base)))

    def from_bins(self, bins: Sequence[int], base: Mapping[str, Value], resolution: int = RESOLUTION) -> Candidate:
        return Candidate(self._wishes.keep(self._whole, super().from_bins(bins, base, resolution)))


def nearest(parameter: Parameter, bans: Sequence[Ban], value: Value) -> Value | None:
    """The value next to one that no ban holds; None where nothing is left of the parameter.

    Args:
        parameter: A number or a choice.
        bans: Of it.
        value: Of it.
    """
    assert isinstance(parameter, Numeric)
    if isinstance(parameter, Categorical):
        ahead = list(parameter.choices)
    elif isinstance(parameter, Int):
        edges = [edge for ban in bans for edge in (ban["low"] - 1, ban["high"] + 1)]
        ahead = [parameter.low, parameter.high, *edges]
    else:
        assert isinstance(parameter, Float)
        edges = [at for ban in bans for at in _beside(parameter, ban)]
        ahead = [parameter.low, parameter.high, *edges]
    good = [item for item in (value, *ahead) if _inside(parameter, item) and not any(_hits(ban, item) for ban in bans)]
    here = parameter.encode(value)
    return min(good, key=lambda item: abs(parameter.encode(item) - here), default=None)


def _beside(parameter: Float, ban: Ban) -> list[float]:
    """The real numbers just outside of a ban."""
    out = []
    for edge, step in ((ban["low"], -BESIDE), (ban["high"], BESIDE)):
        if parameter.low <= edge <= parameter.high:
            out.append(parameter.decode(parameter.encode(edge) + step))
    return out


def around(parameter: Float, value: float) -> Ban:
    """The ban of one real number: of all that lies within a hundredth of the scale."""
    here = parameter.encode(value)
    return {"low": parameter.decode(here - EDGE), "high": parameter.decode(here + EDGE)}


def _inside(parameter: Parameter, value: Value) -> bool:
    try:
        parameter.check(value)
    except ValueError:
        return False
    return True


def _hits(ban: Ban, value: Value) -> bool:
    if "choice" in ban:
        return type(value) is type(ban["choice"]) and bool(value == ban["choice"])
    if "words" in ban:
        texts = value.values() if isinstance(value, Mapping) else [value]
        return any(ban["words"] in str(text) for text in texts)
    return isinstance(value, (int, float)) and bool(ban["low"] <= value <= ban["high"])


def _fits(parameter: Parameter, ban: Ban) -> bool:
    kind = (Text, Code) if "words" in ban else Categorical if "choice" in ban else (Float, Int)
    return isinstance(parameter, kind)


def said(ban: Ban) -> str:
    """A ban in words: "from 0.1 to 0.2"."""
    if "choice" in ban:
        return _brief(ban["choice"])
    if "words" in ban:
        return f"with the words {_brief(ban['words'])}"
    low, high = ban["low"], ban["high"]
    if math.isclose(low, high):
        return f"{low:g}"
    return f"from {low:g} to {high:g}"


def _brief(value: Value) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= WORDS else text[: WORDS - 1] + "…"


def _compared(event: PairJudged, history: History) -> str:
    one, two = history[event.one].number, history[event.two].number
    liked = "neither" if not event.preference else f"#{one if event.preference > 0 else two}"
    return f"they compared what #{one} and #{two} made of one row, and preferred {liked}"
