"""Drift: what changed since the earlier nights, although nobody changed it on purpose.

Four things are watched: the scores of one candidate on the same rows, the data, the evaluator's source, and
the names of the models that answered.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from agent.batch.permutation import LEVEL, Compared, compare, moved
from agent.events import CallEnded, CallStarted
from agent.gate.noise import SAME
from agent.goals import Objective
from agent.journal import read
from agent.problem import Example
from agent.space import digest

Kind = Literal["score", "failure", "data", "evaluator", "model"]
MISSING = math.nan
"""Stands for a night in which a row was not measured."""
NAMED = 5
"""Rows that are named in the evidence."""
FEWEST = 10
"""Rows that came or went, below which their distribution is not looked at."""
CATEGORIES = 50
"""More different answers than these are texts, and not classes."""


@dataclass(frozen=True, slots=True)
class Drift:
    """Something that changed.

    Args:
        kind: "score": same rows, same evaluator, other scores, so the model behind the evaluator or the machine
            changed. "failure": rows fail that did not, or no longer do. "data": rows came, went or changed.
            "evaluator": its source changed. "model": a provider answered with another model than before.
        night: In which it was found.
        sentence: For people.
        evidence: The numbers behind it, as plain JSON.
    """

    kind: Kind
    night: str
    sentence: str
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "night": self.night, "sentence": self.sentence, "evidence": dict(self.evidence)}


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured of one row, or of one repeat where there are no rows.

    Args:
        name: Its id.
        tonight: The compared score; None when it failed.
        earlier: Those of the nights before, oldest first.
        failure: What tonight's failure said.
        scored_from: Place in `earlier` of the first score that tonight's is compared with.
        failed_from: The same of the first result that says whether the row used to fail.
    """

    name: str
    tonight: float | None
    earlier: tuple[float | None, ...] = ()
    failure: str = ""
    scored_from: int = 0
    failed_from: int = 0

    @classmethod
    def of(
        cls, name: str, tonight: float | None, past: Sequence[tuple[float | None, Collection[str]]], failure: str = ""
    ) -> Row:
        """A row with what was found in the nights before.

        A night with a drift of the scores begins a new reference, for the rows that have a score since then; the
        others still have the old one. A drift of the failures begins one for the failures alone.

        Args:
            past: By night: what was measured of the row, or `MISSING`, and the kinds of drift that were found then.
        """
        earlier: list[float | None] = []
        scored = begins = failed = 0
        for value, kinds in past:
            if "score" in kinds:
                begins = len(earlier)
            if not {"score", "failure"}.isdisjoint(kinds):
                failed = len(earlier)
            if value is None or not math.isnan(value):
                earlier.append(value)
            if value is not None and not math.isnan(value):
                scored = begins
        return cls(name, tonight, tuple(earlier), failure, scored, failed)

    @property
    def known(self) -> list[float]:
        """The scores that tonight's is compared with."""
        return [value for value in self.earlier[self.scored_from :] if value is not None]

    @property
    def failures(self) -> list[float]:
        """Of each earlier night: 1 for a failure, 0 for a score."""
        return [float(value is None) for value in self.earlier[self.failed_from :]]


@dataclass(frozen=True, slots=True)
class Scores:
    """What a night's scores say.

    Args:
        rows: Rows with a score tonight and before; these are compared.
        failed: Rows that failed tonight.
        mean: Of tonight's scores: on the compared rows, or on all while there is nothing to compare with.
        before: Of the earlier scores on the compared rows.
        nights: Earlier nights with a score of a compared row, at most.
        found: The comparison of a noisy problem.
        drift: What changed, or None.
    """

    rows: int
    failed: int
    mean: float | None
    before: float | None
    nights: int
    found: Compared | None = None
    drift: Drift | None = None


def scores(
    rows: Sequence[Row],
    goal: Objective,
    *,
    deterministic: bool,
    night: str,
    repeats: bool = False,
    level: float = LEVEL,
    seed: int = 0,
) -> Scores:
    """Compare a night's scores with those of the nights before.

    Args:
        rows: As measured.
        goal: Whose scores they are.
        deterministic: Then any difference is drift; otherwise a test decides.
        night: Tonight.
        repeats: Whether the rows are repeated measurements of one thing, which has no rows.
        level: Chance of a false alarm on a noisy problem.
        seed: Of the test's random draws.
    """
    both = [(row.name, row.tonight, known) for row in rows if row.tonight is not None and (known := row.known)]
    before = _mean([_mean(known) for _, _, known in both])
    there = [now for _, now, _ in both] or [row.tonight for row in rows if row.tonight is not None]
    failed = sum(row.tonight is None for row in rows)
    nights = max((len(row.known) for row in rows), default=0)
    base = Scores(len(both), failed, _mean(there), before, nights)
    if deterministic:
        unlike = _unlike(rows, goal, night) if repeats else None
        return _with(base, unlike or _exact(rows, goal, night, base, "repeats" if repeats else "rows"))
    # Where something failed there are two tests, which share the level. That depends on how often a row failed
    # and not on when, so it takes nothing from either.
    fails = [row for row in rows if row.failures]
    some = any(row.tonight is None or any(row.failures) for row in fails)
    level = level / 2 if some else level
    found = compare([now for _, now, _ in both], [known for _, _, known in both], level=level, seed=seed)
    base = _with(base, None, found)
    if found.p <= level:
        return _with(base, _shifted(goal, night, base, found, rows))
    if some:
        lost = compare(
            [float(row.tonight is None) for row in fails], [row.failures for row in fails], level=level, seed=seed
        )
        if lost.p <= level:
            return _with(base, _failing(goal, night, fails, lost))
    return base


def _with(base: Scores, drift: Drift | None, found: Compared | None = None) -> Scores:
    return replace(base, drift=drift, found=found or base.found)


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return math.fsum(there) / len(there) if there else None


def _unit(goal: Objective) -> str:
    return f" {goal.unit}" if goal.unit else ""


def _unlike(rows: Sequence[Row], goal: Objective, night: str) -> Drift | None:
    """Two answers in one night, where there should be one."""
    values = [row.tonight for row in rows]
    there = [value for value in values if value is not None]
    if not there or (len(there) == len(values) and math.isclose(min(there), max(there), rel_tol=SAME)):
        return None
    two = " and ".join("a failure" if value is None else f"{value:.6g}{_unit(goal)}" for value in values)
    sentence = f"{goal.name} was {two} in one night, but the problem is declared deterministic"
    return Drift("score", night, sentence, {"tonight": values})


def _exact(rows: Sequence[Row], goal: Objective, night: str, base: Scores, what: str) -> Drift | None:
    """Any difference from a row's last score is drift, and so is a failure that was none in the last night."""
    known = [row for row in rows if row.earlier]
    changed = [
        (row.name, row.known[-1], row.tonight)
        for row in known
        if row.tonight is not None and row.known and not math.isclose(row.tonight, row.known[-1], rel_tol=SAME)
    ]
    lost = [(row.name, row.failure) for row in known if row.tonight is None and row.earlier[-1] is not None]
    back = [row.name for row in known if row.tonight is not None and row.earlier[-1] is None]
    if not (changed or lost or back):
        return None
    parts = []
    if changed:
        name, old, now = max(changed, key=lambda item: abs(item[2] - item[1]))
        means = f" (mean {base.before:.6g} → {base.mean:.6g}{_unit(goal)})" if len(known) > 1 else ""
        parts.append(
            f"{goal.name} differs on {len(changed)} of {len(known)} {what}{means},"
            f" most on {name}: {old:.6g} → {now:.6g}"
        )
    if lost:
        parts.append(f"{len(lost)} of {len(known)} {what} failed that had a score ({lost[0][0]}: {lost[0][1]})")
    if back:
        parts.append(f"{len(back)} of {len(known)} {what} have a score that failed before")
    sentence = f"{'; '.join(parts)}. The source is the same, so what it rests on changed, or it is not deterministic"
    evidence = {
        "rows": len(known),
        "changed": len(changed),
        "failed": len(lost),
        "recovered": len(back),
        "mean": base.mean,
        "before": base.before,
        "examples": [{"row": name, "before": old, "now": now} for name, old, now in changed[:NAMED]],
    }
    return Drift("score" if changed else "failure", night, sentence, evidence)


def _shifted(goal: Objective, night: str, base: Scores, found: Compared, rows: Sequence[Row]) -> Drift:
    assert base.mean is not None and base.before is not None
    low, high = found.interval
    side = found.above - found.below if found.by_rank else base.mean - base.before
    word = "better" if goal.gain(side, 0) > 0 else "worse"
    rank = f"above the middle on {found.above} and below it on {found.below} of " if found.by_rank else ""
    sentence = (
        f"{goal.name} is {word}: {base.mean:.4g}{_unit(goal)} now, {base.before:.4g}{_unit(goal)} before"
        f" ({found.effect:+.4g}, 95 % {low:+.4g} to {high:+.4g}; {rank}{found.rows} rows,"
        f" {_nights(base.nights)}, p = {found.p:.2g}). The source is the same, so the model behind the evaluator"
        " or the machine changed"
    )
    apart = sorted(
        ((row.name, _mean(row.known), row.tonight) for row in rows if row.tonight is not None and row.known),
        key=lambda item: -abs((item[2] or 0.0) - (item[1] or 0.0)),
    )
    evidence = {
        "rows": found.rows,
        "nights": base.nights,
        "mean": base.mean,
        "before": base.before,
        "effect": found.effect,
        "interval": list(found.interval),
        "p": found.p,
        "above": found.above,
        "below": found.below,
        "smallest": found.smallest,
        "examples": [{"row": name, "before": old, "now": now} for name, old, now in apart[:NAMED]],
    }
    return Drift("score", night, sentence, evidence)


def _failing(goal: Objective, night: str, rows: Sequence[Row], found: Compared) -> Drift:
    lost = [row for row in rows if row.tonight is None]
    share = math.fsum(math.fsum(row.failures) / len(row.failures) for row in rows) / len(rows)
    word = "more" if found.effect > 0 else "less"
    why = f" ({lost[0].name}: {lost[0].failure})" if lost else ""
    sentence = (
        f"{goal.name} fails {word} often: on {len(lost)} of {len(rows)} rows now{why}, on {share:.0%} before"
        f" (p = {found.p:.2g}). The source is the same, so what the evaluator rests on changed"
    )
    return Drift("failure", night, sentence, {"rows": found.rows, "failed": len(lost), "before": share, "p": found.p})


def _nights(count: int) -> str:
    return "1 earlier night" if count == 1 else f"{count} earlier nights"


def evaluator(before: str, now: str, night: str) -> Drift | None:
    """Whether the evaluator's source changed, by its fingerprint."""
    if before == now:
        return None
    sentence = "the evaluator's source changed, so tonight's scores are compared with no earlier ones"
    return Drift("evaluator", night, sentence, {"before": before, "now": now})


# Data


def described(data: Sequence[Example], seen: Mapping[str, Example]) -> dict[str, list[str]]:
    """What is remembered of the rows: hashes alone.

    Args:
        data: All rows, as they were read.
        seen: Those that may be looked at, by id. Of the others nothing is kept but that they are there, and what
            their content hashes to.

    Returns:
        By the hash of a row's id: the hash of its content, and of a row that may be looked at those of its
        answer and its cluster.
    """
    out = {}
    for example in data:
        entry = [digest(example.row)]
        if example.id in seen:
            answer = "" if example.answer is None else digest(example.answer, 8)
            entry += [answer, digest(example.cluster, 8) if example.cluster else ""]
        out[digest(example.id)] = entry
    return out


def data(
    before: Mapping[str, Sequence[str]], now: Mapping[str, Sequence[str]], night: str, *, level: float = LEVEL
) -> Drift | None:
    """What changed in the rows, and whether those that came or went are of another kind than the rest.

    Args:
        before: As `described` gave it in an earlier night.
        now: The same of tonight.
        night: Tonight.
        level: Chance of a false alarm about the kinds; it is shared by answers and clusters.
    """
    added = [name for name in now if name not in before]
    removed = [name for name in before if name not in now]
    changed = [name for name, entry in now.items() if name in before and before[name][0] != entry[0]]
    if not (added or removed or changed):
        return None
    counts = {"added": len(added), "removed": len(removed), "changed": len(changed)}
    words = [f"{count} {word}" for word, count in counts.items() if count]
    sentence = f"rows were {', '.join(words)}; there are {len(now)}, and were {len(before)}"
    evidence: dict[str, Any] = {**counts, "rows": len(now), "before": len(before)}
    came = [now[name] for name in (*added, *changed)]
    went = [before[name] for name in removed]
    stayed = [before[name] for name in before if name not in removed]
    for place, what in ((1, "answers"), (2, "clusters")):
        for group, rest, verb in ((came, list(before.values()), "came"), (went, stayed, "went")):
            new, old = (
                [entry[place] for entry in part if len(entry) > place and entry[place]] for part in (group, rest)
            )
            if len(new) < FEWEST or not 1 < len({*new, *old}) <= CATEGORIES:
                continue
            p = moved(old, new)
            if p <= level / 4:  # two questions about two groups
                sentence += f"; the {what} of those that {verb} are distributed differently (p = {p:.2g})"
                evidence[f"{what}_{verb}"] = p
    return Drift("data", night, sentence, evidence)


# Models


def served(folder: Path) -> dict[str, set[str]]:
    """The models that answered in a run, by the name that was asked for.

    Such as {"openai:gpt-5": {"gpt-5-2025-08-07"}}.

    Raises:
        StoreError: The run's journal cannot be read.
    """
    asked: dict[int, str] = {}
    out: dict[str, set[str]] = {}
    for entry in read(folder):
        event = entry.event
        if isinstance(event, CallStarted):
            asked[event.id] = event.model
        elif isinstance(event, CallEnded) and event.id in asked and (event.reply or {}).get("model"):
            out.setdefault(asked[event.id], set()).add(str((event.reply or {})["model"]))
    return out


def model(before: Mapping[str, set[str]], now: Mapping[str, set[str]], night: str) -> list[Drift]:
    """Names under which a provider had not answered before; one that is asked for the first time is no drift.

    Args:
        before: As `served` gave it, of all earlier nights together.
        now: Of tonight.
        night: Tonight.
    """
    out = []
    for asked, names in sorted(now.items()):
        old, new = before.get(asked, set()), sorted(names - before.get(asked, set()))
        if old and new:
            sentence = f"{asked} is answered by {', '.join(new)} now, and was by {', '.join(sorted(old))}"
            out.append(Drift("model", night, sentence, {"asked": asked, "before": sorted(old), "now": sorted(names)}))
    return out
