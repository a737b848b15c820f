"""Events of measuring: single evaluations, the noise they have, and the races that they decide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from agent.events.base import JSON, Event


@dataclass(frozen=True, slots=True)
class EvaluationStarted(Event):
    """One request is about to be measured.

    `pair` numbers the pair of a race or an exam that it is one half of; -1 outside of pairs.
    """

    id: int
    candidate: str
    example: str | None
    seed: int
    replicate: int
    purpose: str
    pair: int = -1
    fidelity: float = 1.0
    stage: str = "full"
    type: ClassVar[str] = "evaluation.started"

    @property
    def audience(self) -> str:
        return self.purpose


@dataclass(frozen=True, slots=True)
class EvaluationEnded(Event):
    """A request was measured: the output that is kept, and the score that was made of it.

    Args:
        id: The evaluation.
        purpose: As in its start.
        output: `Output.to_json()`.
        score: `Score.to_json()`, or None when it failed.
    """

    id: int
    purpose: str
    output: JSON
    score: JSON | None
    type: ClassVar[str] = "evaluation.ended"

    @property
    def audience(self) -> str:
        return self.purpose


@dataclass(frozen=True, slots=True)
class NoiseMeasured(Event):
    """The initial candidate was measured against itself, before anything was spent on the search.

    Args:
        pairs: Repeated measurements that were compared.
        sd: Standard deviation of one measurement's noise, in the objective's unit.
        discordance: Share of the pairs whose two halves differ.
        sentence: What it means for this run.
        wrong: The problem is declared deterministic, and is not.
    """

    pairs: int
    sd: float
    discordance: float
    sentence: str
    wrong: bool = False
    type: ClassVar[str] = "noise.measured"


@dataclass(frozen=True, slots=True)
class RaceStarted(Event):
    """A contender is now measured alternately with the champion."""

    challenger: str
    champion: str
    type: ClassVar[str] = "race.started"


@dataclass(frozen=True, slots=True)
class RaceDecided(Event):
    """The race's word on a candidate.

    Args:
        candidate: The challenger.
        champion: What it was compared with.
        decision: "promote" makes it the champion, "drop" ends it, "continue" sends it into paired measurements,
            "climb" has it measured with more of the effort (after a "drop" on a rung that may still come).
        reason: One sentence.
        evidence: Summary of the comparison: pairs, wins, losses, effect; on a rung fidelity, rank and of how many.
    """

    candidate: str
    champion: str
    decision: str
    reason: str
    evidence: JSON
    type: ClassVar[str] = "race.decided"
