"""The result of a run in the words of GEPA's `GEPAResult`, with what GEPA does not tell: whether the gain was shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from agent.events import CandidateAdmitted, EvaluationStarted
from agent.journal import read_all
from agent.results.result import Result


@dataclass(frozen=True)
class GEPAResult:
    """GEPA's fields, and the gate's.

    Scores of candidates are means over the rows that the search measured them on. These are rows of train: the rows
    of val are read by the gate alone, for the exam of one candidate. So no score here is what a claim rests on; that
    is `verdict`.

    Args:
        candidates: Texts by component, of every candidate that has a score; the first is the seed candidate.
        parents: Places of the parents in `candidates`; [None] for one without.
        val_aggregate_scores: Mean scores, larger is better.
        val_subscores: Scores by row.
        per_val_instance_best_candidates: The candidates with the best score, by row.
        discovery_eval_counts: Metric calls that had been made when each candidate was found.
        total_metric_calls: Rows measured in all, by search and gate.
        best_idx: Place of the best candidate. It is the one that the race chose and the gate examined, never only
            the one with the highest mean.
        best_score: Its mean.
        status: proven, exact, unproven, or initial (no gain was shown).
        sentence: What was gained, in words.
        verdict: `agent.gate.verdict.Verdict` as JSON; None where there was nothing to examine.
        interval: Of the gain, on rows that the search never saw.
        seed_score_fresh: The seed candidate's score on those rows; None without an exam.
        best_score_fresh: The best candidate's.
        released_candidate: The last candidate that the gate accepted, or the seed candidate.
        cost: What the models were asked and cost, by role.
        run_dir: The run's folder.
        seed: Of the randomness.
        result: The run's own result; None in one that was read from JSON.
    """

    candidates: list[dict[str, str]]
    parents: list[list[int | None]]
    val_aggregate_scores: list[float]
    val_subscores: list[dict[str, float]]
    per_val_instance_best_candidates: dict[str, set[int]]
    discovery_eval_counts: list[int]
    total_metric_calls: int
    best_idx: int
    status: str
    sentence: str
    verdict: dict[str, Any] | None
    interval: list[float] | None
    seed_score_fresh: float | None
    best_score_fresh: float | None
    released_candidate: str | dict[str, str]
    cost: dict[str, dict[str, Any]]
    run_dir: str
    seed: int
    only: str | None = None
    """The component where the candidate is one text."""
    result: Result | None = field(default=None, repr=False, compare=False)

    @property
    def best_candidate(self) -> str | dict[str, str]:
        """The best candidate's texts; one text where the seed candidate was one."""
        best = self.candidates[self.best_idx]
        return best if self.only is None else best[self.only]

    @property
    def best_score(self) -> float:
        return self.val_aggregate_scores[self.best_idx]

    @property
    def num_candidates(self) -> int:
        return len(self.candidates)

    @property
    def num_val_instances(self) -> int:
        return len(self.per_val_instance_best_candidates)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, which `from_dict` reads."""
        out = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "result"}
        fronts = self.per_val_instance_best_candidates
        out["per_val_instance_best_candidates"] = {row: sorted(best) for row, best in fronts.items()}
        return {**out, "best_candidate": self.best_candidate, "best_score": self.best_score}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> GEPAResult:
        """The result that `to_dict` wrote."""
        given = {f.name: data[f.name] for f in fields(cls) if f.name in data}
        fronts = given["per_val_instance_best_candidates"]
        given["per_val_instance_best_candidates"] = {row: set(best) for row, best in fronts.items()}
        return cls(**given)


def told(result: Result, components: Mapping[str, str], only: str | None, seed: int) -> GEPAResult:
    """A run's result in GEPA's words.

    Args:
        result: Of an ended run.
        components: Parameter by component.
        only: The component where the candidate is one text.
        seed: Of the run.

    Raises:
        StoreError: The journal cannot be read.
    """
    sign, score = result.problem.objective.sign, result.problem.objective.name
    trials = [t for t in result.trials if t.values is not None or t.id in (result.initial.id, result.best.id)]
    place = {trial.id: number for number, trial in enumerate(trials)}
    texts = [{name: str(t.candidate[parameter]) for name, parameter in components.items()} for t in trials]
    rows = [{row: sign * value for row, (value, _) in t.rows.items() if value is not None} for t in trials]
    fronts: dict[str, set[int]] = {}
    for row in dict.fromkeys(row for scores in rows for row in scores):
        top = max(scores[row] for scores in rows if row in scores)
        fronts[row] = {number for number, scores in enumerate(rows) if scores.get(row) == top}
    released = {name: str(result.released[parameter]) for name, parameter in components.items()}
    found = _discovered(result)
    verdict = result.verdict or {}
    return GEPAResult(
        candidates=texts,
        parents=[[place[name] for name in t.parents if name in place] or [None] for t in trials],
        val_aggregate_scores=[float("nan") if t.values is None else sign * t.values[score] for t in trials],
        val_subscores=rows,
        per_val_instance_best_candidates=fronts,
        discovery_eval_counts=[found.get(t.id, 0) for t in trials],
        total_metric_calls=int(result.spent["evaluations"]),
        best_idx=place[result.best.id],
        status=result.status,
        sentence=result.sentence,
        verdict=result.verdict,
        interval=verdict.get("interval"),
        seed_score_fresh=verdict.get("before") if verdict.get("released") == result.initial.id else None,
        best_score_fresh=verdict.get("after") if verdict.get("champion") == result.best.id else None,
        released_candidate=released if only is None else released[only],
        cost=result.cost,
        run_dir=str(result.folder),
        seed=seed,
        only=only,
        result=result,
    )


def _discovered(result: Result) -> dict[str, int]:
    """Evaluations that had been started when each candidate was admitted."""
    out: dict[str, int] = {}
    count = 0
    for entry in read_all(result.folder):
        if isinstance(entry.event, EvaluationStarted):
            count += 1
        elif isinstance(entry.event, CandidateAdmitted):
            out[entry.event.candidate] = count
    return out
