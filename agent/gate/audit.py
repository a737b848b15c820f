"""What a person would say of all pairs, from the few that they judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.errors import ConfigError
from agent.evaluators.human import Labels, requirements_mark
from agent.gate.preferences import audited
from agent.space import Candidate


@dataclass(frozen=True, slots=True)
class Audit:
    """What a person would say of a candidate's outputs, estimated without the model's bias.

    Args:
        preference: The person's mean preference for the candidate's outputs where they differ from the initial ones.
            From few labels it may lie outside of [-1, 1].
        pairs: From so many pairs,
        labels: and so many of them a person judged.
    """

    preference: float
    pairs: int
    labels: int


def audit(
    labels: Labels, candidate: Mapping[str, Any], requirements: str, initial: Mapping[str, Any] | None = None
) -> Audit:
    """What a person would say of a candidate's outputs, from what `judge = "hybrid"` kept; see `audited`.

    Pairs that were not drawn with a known chance are left out, such as those of `judge = "human"`.

    Args:
        labels: Loaded.
        candidate: Its values, such as `result.best`.
        requirements: Those by which it was judged.
        initial: Values of the one that it was compared with; needed where there are several.

    Raises:
        ConfigError: There is no such pair, or it was compared with several initial candidates.
    """
    wanted, mark = Candidate(candidate).id, requirements_mark(requirements)
    kept = [
        record
        for record in labels.records
        if record.get("candidate") == wanted and record.get("requirements") == mark and "chance" in record
    ]
    if initial is not None:
        kept = [record for record in kept if record["initial"] == Candidate(initial).id]
    if not kept:
        raise ConfigError(
            f"{labels.path} has no pair of this candidate by these requirements that was drawn by chance",
            hint='load() the labels of a run with judge = "hybrid", and give its candidate and requirements',
        )
    if len({record["initial"] for record in kept}) > 1:
        raise ConfigError("this candidate was compared with several others", hint="name one of them as `initial`")
    x, factor = audited(
        [record["sign"] * record["model"] for record in kept],
        [record["sign"] * (record["human"] or 0.0) for record in kept],
        [record["chance"] for record in kept],
        [record["human"] is not None for record in kept],
    )
    return Audit(float(x.mean()) / factor, len(kept), sum(record["human"] is not None for record in kept))
