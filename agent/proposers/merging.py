"""Merging two candidates that changed different things of a common ancestor, without a model.

The merge of GEPA (Agrawal et al. 2025, arXiv 2507.19457, appendix on system-aware merge) takes whole components. Here
two texts that were changed in different lines are merged line by line as well, as version control does, so that it
has something to merge where the prompt is one text.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.history import History
from agent.proposers.base import Context
from agent.proposers.fronts import Wins, merit
from agent.space import Candidate, Space, canonical
from agent.texts import Text


@dataclass(frozen=True, slots=True)
class Pair:
    """Two candidates that are each ahead on rows of their own, and the newest candidate that both come from."""

    one: str
    other: str
    ancestor: str

    @property
    def key(self) -> str:
        """Names the pair, whichever comes first."""
        return " ".join(sorted((self.one, self.other)))


def line_of(history: History, candidate: str) -> set[str]:
    """A candidate and all that it was made from."""
    found: set[str] = set()
    ahead = [candidate]
    while ahead:
        name = ahead.pop()
        if name not in found and name in history:
            found.add(name)
            ahead.extend(history[name].parents)
    return found


def ahead(context: Context, one: str, other: str) -> list[str]:
    """The rows that both were measured on and the first does better on."""
    history, sign = context.history, context.problem.objective.sign
    rows, others = history[one].rows, history[other].rows
    pairs = ((row, score, others[row][0]) for row, (score, _) in rows.items() if row in others)
    return [row for row, a, b in pairs if a is not None and (b is None or sign * (a - b) > 0)]


def pairs(context: Context, wins: Wins, tried: Sequence[str] = ()) -> Iterator[Pair]:
    """Candidates on the fronts that complement one another, in a random order; none that was tried.

    Args:
        context: Of the decision.
        wins: As `fronts` gives them.
        tried: Keys of pairs.
    """
    history, names = context.history, sorted(wins)
    found = [(one, other) for place, one in enumerate(names) for other in names[place + 1 :]]
    context.rng.shuffle(found)
    for one, other in found:
        lines = line_of(history, one), line_of(history, other)
        if one in lines[1] or other in lines[0] or not lines[0] & lines[1]:
            continue
        if not ahead(context, one, other) or not ahead(context, other, one):
            continue
        pair = Pair(one, other, max(lines[0] & lines[1], key=lambda name: history[name].number))
        if pair.key not in tried:
            yield pair


def merged(context: Context, pair: Pair) -> tuple[dict[str, Any], list[str]]:
    """What both changed, together.

    Returns:
        A value for every parameter, and the names of texts that both changed in the same place. Those, and all else
        that both changed, are as in the one with the better mean.
    """
    space, history = context.problem.space, context.history
    trials = [history[pair.one], history[pair.other]]
    trials.sort(key=lambda trial: (-merit(context, trial) if trial.values is not None else 0.0, trial.number))
    return together(space, history[pair.ancestor].candidate, trials[0].candidate, trials[1].candidate)


def together(space: Space, base: Candidate, one: Candidate, other: Candidate) -> tuple[dict[str, Any], list[str]]:
    """As `merged`, of values; the first of the two goes before the second."""
    values: dict[str, Any] = dict(one)
    disputed = []
    for name, parameter in space.items():
        if canonical(one[name]) == canonical(base[name]):
            values[name] = other[name]
        elif isinstance(parameter, Text) and canonical(other[name]) not in map(canonical, (base[name], one[name])):
            both = lines_together(str(base[name]), str(one[name]), str(other[name]))
            if both is None or _wrong(parameter, both):
                disputed.append(name)
            else:
                values[name] = both
    return values, disputed


def _wrong(parameter: Text, text: str) -> bool:
    try:
        parameter.check(text)
    except ValueError:
        return True
    return False


def lines_together(base: str, one: str, other: str) -> str | None:
    """A text with the changes of two others; None where they changed the same lines in two ways.

    What both put in at the same place comes one after the other.
    """
    old = base.split("\n")
    both = dict.fromkeys([*_edits(old, one.split("\n")), *_edits(old, other.split("\n"))])
    edits = sorted(both, key=lambda edit: edit[:2])
    out: list[str] = []
    place = 0
    for start, end, lines in edits:
        if start < place:
            return None
        out += [*old[place:start], *lines]
        place = end
    return "\n".join([*out, *old[place:]])


def _edits(old: Sequence[str], new: Sequence[str]) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    for kind, start, end, first, last in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind != "equal":
            yield start, end, tuple(new[first:last])


def mixed(space: Space, one: Mapping[str, Any], other: Mapping[str, Any], pick: Any) -> dict[str, Any]:
    """Every value from one of two candidates, as `pick()` says: uniform crossover (Syswerda 1989)."""
    return {name: (one if pick() < 0.5 else other)[name] for name in space}
