"""Parents by row: which candidates are the best on some row of train, and how they are drawn.

The selection of GEPA (Agrawal et al. 2025, "GEPA: Reflective Prompt Evolution Can Outperform Reinforcement Learning",
arXiv 2507.19457, section 3 and algorithm 2): every row has a front of the candidates with its best score, a candidate
that others stand in for on all of its fronts is left out, and the rest are drawn by how many fronts they are on.
Other than there, a candidate may have been measured on few rows: only rows of the champion count, so that an old
champion does not live on by rows that nobody else was measured on. And where GEPA's pool takes in no child that its
few rows do not show to be better, here it is drawn less often.
"""

from __future__ import annotations

from collections.abc import Mapping

from agent.history import Trial
from agent.proposers import cards
from agent.proposers.base import Context
from agent.texts import Code, Text

BEHIND = 0.25
"""Weight of a candidate that never was the champion and is not ahead of it on the rows of both. In simulated searches
with gains of 14 points, 1 took up to a third more evaluations to the first one; 0.1 to 0.3 made no difference."""
CLOSE = 1e-9
"""Share of a score by which two that are equal may differ."""

Wins = Mapping[str, frozenset[str]]
"""Rows by candidate, on whose front it is."""


def length(context: Context, trial: Trial) -> int:
    """Characters of all texts and programs of a candidate."""
    total = 0
    for name, parameter in context.problem.space.items():
        value = trial.candidate[name]
        if isinstance(parameter, Text):
            total += len(str(value))
        elif isinstance(parameter, Code):
            total += sum(map(len, parameter.texts(value).values()))
    return total


def merit(context: Context, trial: Trial, length_cost: float = 0.0) -> float:
    """A trial's mean, larger is better, less what its length costs.

    Args:
        context: Of the decision.
        trial: With values.
        length_cost: Of 1000 characters, in units of the result.
    """
    return -cards.cost(context.problem, trial) - length_cost * length(context, trial) / 1000


def usable(trial: Trial) -> bool:
    """Whether a trial was measured on rows and may be a parent."""
    return bool(trial.rows) and trial.values is not None and trial.feasible and trial.state != "suspected"


def fronts(context: Context, length_cost: float = 0.0) -> Wins:
    """The candidates on the front of some row, without those that others stand in for; the champion when there is none.

    Args:
        context: Of the decision.
        length_cost: As in `merit`; of candidates that stand in for one another, the one with the best merit stays.
    """
    history, sign = context.history, context.problem.objective.sign
    champion = history[history.champion]
    trials = {trial.id: trial for trial in history.trials if usable(trial)}
    by_row: dict[str, set[str]] = {}
    for row in champion.rows:
        found = {
            name: sign * float(score)
            for name, trial in trials.items()
            if (score := trial.rows.get(row, (None, ""))[0]) is not None
        }
        if found:
            top = max(found.values())
            by_row[row] = {name for name, value in found.items() if value >= top - CLOSE * max(1.0, abs(top))}
    left = {name for names in by_row.values() for name in names}
    for name in sorted(left, key=lambda name: (merit(context, trials[name], length_cost), -trials[name].number)):
        own = [names & left for names in by_row.values() if name in names]
        if all(len(names) > 1 for names in own):
            left.discard(name)
    wins = {name: frozenset(row for row, names in by_row.items() if name in names) for name in left}
    return wins or {champion.id: frozenset()}


def _ahead(trial: Trial, champion: Trial, sign: int) -> bool:
    """Whether a candidate was the champion once, or is better than it on the rows of both."""
    if trial.state == "champion" or trial.reason.startswith("better") or trial.id == champion.id:
        return True
    gain = 0.0
    for row, (score, _) in trial.rows.items():
        other = champion.rows.get(row, (None, ""))[0]
        if score is not None and other is not None:
            gain += sign * (float(score) - float(other))
    return gain > CLOSE


def drawn(context: Context, wins: Wins, count: int) -> list[str]:
    """So many parents, each by the number of rows whose front it is on; one may come twice."""
    history, sign = context.history, context.problem.objective.sign
    champion, names = history[history.champion], sorted(wins)
    weights = [(len(wins[name]) or 1) * (1.0 if _ahead(history[name], champion, sign) else BEHIND) for name in names]
    return context.rng.choices(names, weights, k=count)


def standing_on(context: Context, parent: str) -> Context:
    """The same decision, where another candidate takes the champion's place in what prompts show and replies change."""
    from dataclasses import replace

    view = context.history.freeze()
    view.champion = parent
    return replace(context, history=view)
