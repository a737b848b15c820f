"""What a portfolio knows of its arms: counts, shares and bonuses that code works out from the history."""

from __future__ import annotations

from collections.abc import Mapping

from agent.bandits import Arm, guide
from agent.history import Trial

WINDOW = 300
"""Trials that are looked at; what lies further back counts nothing any more."""
FADE = 0.96
"""What a trial counts after one more, and so on."""
PRIOR: dict[str, tuple[float, float]] = {
    "trust": (0.4, 6.0),
    "gp": (0.3, 6.0),
    "coordinate": (0.15, 4.0),
    "gameopt": (0.15, 4.0),
    "cmaes": (0.1, 4.0),
    "catcma": (0.1, 4.0),
    "llambo": (0.3, 2.0),
    "evollm": (0.3, 2.0),
    "opro": (0.2, 2.0),
    "evolve": (0.3, 3.0),
    "optoprime": (0.3, 3.0),
    "tune": (0.3, 6.0),
    "reflect": (0.3, 3.0),
    "mipro": (0.3, 3.0),
    "bootstrap": (0.2, 3.0),
}
"""Share of an arm's points that are expected to help, and for how many points that counts."""
OTHER = (0.2, 3.0)


def arm_of(trial: Trial) -> str:
    """The arm that made a candidate: the first part of its source."""
    return trial.source.partition(":")[0]


def helped(trial: Trial) -> bool:
    """Whether a candidate was better than all before."""
    return trial.state == "champion" or trial.reason.startswith(("better", "first"))


def counted(trials: list[Trial], arms: list[str]) -> tuple[dict[str, float], dict[str, float]]:
    """How many points each arm made and how many of them helped; recent ones count more.

    Args:
        trials: Oldest first.
        arms: Names of the arms.
    """
    made, good = dict.fromkeys(arms, 0.0), dict.fromkeys(arms, 0.0)
    weight = 1.0
    for trial in reversed(trials):
        arm = arm_of(trial)
        if arm in made:
            made[arm] += weight
            good[arm] += weight * helped(trial)
            weight *= FADE
    return made, good


def standings(
    trials: list[Trial], arms: list[str], exploration: float, wanted: Mapping[str, int] | None = None
) -> list[Arm]:
    """Each arm's count, share of help and bonus, with the prior; best first.

    Args:
        trials: The recent ones, oldest first.
        arms: Names of the arms.
        exploration: Weight of the bonus.
        wanted: Points that were asked of arms already and have no result.
    """
    made, good = counted(trials, arms)
    for arm in arms:
        expected, strength = PRIOR.get(arm, OTHER)
        made[arm] += strength + (wanted or {}).get(arm, 0)
        good[arm] += expected * strength
    return guide(made, good, exploration)


def misses(trials: list[Trial], vetoed: list[int]) -> float:
    """How often a model did not help since it last did: a failure counts twice, a point that was not paid for half."""
    out, last = 0.0, 0
    for trial in reversed(trials):
        if ":llm" not in trial.source and not trial.source.startswith("evollm:"):
            continue
        if helped(trial):
            last = trial.number
            break
        if trial.state != "queued":
            out += 2.0 if trial.state == "failed" else 1.0
    return out + 0.5 * sum(place > last for place in vetoed)
