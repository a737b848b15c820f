"""What the gate found in a run, and how far the run can be trusted: read after its end.

`standings` is a pure function of the folded state and of the tally (`agent.results.tally`). While a run is open it
tells the bits and nothing else.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from agent.gate import levels, standing
from agent.gate.means import mean_interval
from agent.results.tally import Tally

if TYPE_CHECKING:
    from agent.state import State

GAINS = (0.05, 0.1, 0.2)
"""Gains for which the power is told: shares of a score's range, or of the initial value without rows."""
CLOSED = "the run is open: until it ends nothing of the gate is shown but whether it accepted"


def standings(state: State, tally: Tally) -> dict[str, Any]:
    """What a run's gate found, as plain JSON; the bits alone while the run is open.

    Args:
        state: Folded from the run's events, those of the gate included.
        tally: Of the same events.

    Returns:
        kind ("rows", "paired" or "exact"), exams, tests, accepts, alpha, exhausted, barred, noise, power,
        candidates (initial, released, best), optimism, anytime, proposer and regret. What cannot be told is None.
    """
    bits = {"decided": len(tally.bits), "accepted": sum(bit for _, bit in tally.bits)}
    if state.ended is None:
        return {"open": True, "sentence": CLOSED, "bits": bits}
    held = [exam for exam in tally.exams if exam["kind"] in ("rows", "paired")]
    kind = "rows" if state.problem.by_rows else "exact" if state.problem.exact else "paired"
    numbers = {trial.id: trial.number for trial in state.history.trials}
    candidates = _candidates(state, tally.exams)
    return {
        "open": False,
        "kind": kind,
        "exams": [{**exam, "candidate": numbers.get(exam["champion"])} for exam in tally.exams],
        "tests": len(held),
        "accepts": sum(exam["accepted"] for exam in held),
        "alpha": _alpha(state, held, kind),
        "barred": next((exam["barred"] for exam in reversed(held) if exam["barred"]), ""),
        "noise": _noise(state),
        "power": _power(state, held, kind),
        "candidates": candidates,
        "optimism": _optimism(state, tally.exams, candidates, kind),
        "anytime": _anytime(state, tally),
        "proposer": _proposer(state, tally),
        "regret": _regret(state),
    }


def _alpha(state: State, held: list[dict[str, Any]], kind: str) -> dict[str, Any] | None:
    """What this run spent of the error level, and what the next one can have."""
    if kind == "exact":
        return None
    out: dict[str, Any] = {"level": state.settings.level, "spent": math.fsum(exam["level"] for exam in held)}
    if kind == "paired":  # each run measures anew, so nothing is used up
        return {**out, "next": state.settings.level * levels.weight(1), "exhausted": False, "sentence": ""}
    known = held[-1]["account"] if held else state.gate.standing
    following = levels.level(
        state.settings.level,
        accepts=known.get("accepts", 0) + (bool(held) and held[-1]["accepted"]),
        tests=known.get("tests", 0) + bool(held),
        run=known.get("run", 1) + bool(held),
        taken=0,
        last=True,
        pending=known.get("pending", 0),
    )
    units = state.gate.units
    spent = standing.exhausted(units, following)
    text = standing.exhausted_sentence(units, following) if spent else ""
    return {**out, "next": following, "exhausted": spent, "sentence": text}


def _noise(state: State) -> dict[str, Any] | None:
    found = state.noise_found
    if found is None:
        return None
    return {"sentence": found.sentence, "sd": found.sd, "discordance": found.discordance, "pairs": found.pairs}


def _power(state: State, held: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """What could have been proven with the data and the level there were: the chance to show each gain."""
    if kind == "exact":
        return []
    last = held[-1] if held else None
    if kind == "paired":
        return _paired_power(state)
    units, level = state.gate.units, levels.alone(state.settings.level, state.gate.standing)
    if not units:
        return []
    differing = (last["wins"] + last["losses"]) / last["pairs"] if last and last["pairs"] else 0.0
    out = []
    for gain in GAINS:
        discordance = min(1.0, max(differing, levels.assumed_discordance(gain)))
        chance = levels.power(units, gain, discordance, level)
        out.append({"gain": gain, "power": chance, "units": units, "level": level, "discordance": discordance})
    return out


def _paired_power(state: State) -> list[dict[str, Any]]:
    initial = state.history[state.history.initial].values
    if state.noise_found is None or initial is None:
        return []
    n, level = state.settings.exam_pairs, state.settings.level * levels.weight(1)
    value, spread = abs(state.problem.compared(initial)), math.sqrt(2) * state.noise_found.sd
    out = []
    for share in GAINS:
        gain = share * value
        wins = NormalDist().cdf(gain / spread) if spread else float(gain > 0)
        out.append({"gain": gain, "power": levels.power(n, 2 * wins - 1, 1.0, level), "units": n, "level": level})
    return out


def _candidates(state: State, exams: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The initial, released and best candidates, with what was measured of them away from the search."""
    assert state.ended is not None
    history, gate = state.history, state.gate
    proof = "initial" if gate.proof is None else "exact" if gate.proof["kind"] == "exact" else "proven"
    roles = (
        ("initial", history.initial, "initial"),
        ("released", state.ended.released, proof),
        ("best", state.ended.best, state.ended.status),
    )
    return [
        {
            "role": role,
            "candidate": name,
            "number": history[name].number,
            "status": status,
            **_held_out(state, exams, name),
        }
        for role, name, status in roles
    ]


def _held_out(state: State, exams: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """A candidate's mean on rows that the search never saw, from the report if there is one, else from its exam."""
    report, bounds = state.gate.report, state.problem.bounds
    found = report["candidates"].get(name) if report is not None else None
    if report is not None and found is not None and found["mean"] is not None:
        return {
            "source": "report",
            "mean": found["mean"],
            "interval": mean_interval(found["mean"], found["units"], bounds),
            "n": found["units"],
            "gain": found["gain"],
            "gain_interval": found["interval"],
            "gain_confidence": report["confidence"],
        }
    for exam in reversed(exams):
        side = "after" if exam["champion"] == name else "before" if exam["released"] == name else ""
        if not side or exam[side] is None:
            continue
        against = side == "after" and exam["released"] == state.history.initial
        rows = exam["kind"] == "rows"
        return {
            "source": "exact" if exam["kind"] == "exact" else "exam",
            "mean": exam[side],
            "interval": mean_interval(exam[side], exam["pairs"], bounds) if rows else None,
            "n": exam["pairs"],
            "gain": exam["effect"] if against else None,
            "gain_interval": exam["interval"] if against else None,
            "gain_confidence": exam["confidence"] if against else None,
        }
    nothing = ("source", "mean", "interval", "n", "gain", "gain_interval", "gain_confidence")
    return dict.fromkeys(nothing)


def _optimism(
    state: State, exams: list[dict[str, Any]], candidates: list[dict[str, Any]], kind: str
) -> dict[str, Any] | None:
    """How much better the search thought of a candidate than the exam or the report did."""
    if kind == "exact":
        return None
    best = candidates[-1]
    name, found = best["candidate"], best
    examined = [exam["champion"] for exam in exams if exam["after"] is not None]
    if name == state.history.initial and examined:  # what the gate put below is where the gap is
        name, found = examined[-1], _held_out(state, exams, examined[-1])
    values = state.history[name].values
    if found["mean"] is None or values is None:
        return None
    search = state.problem.compared(values)
    gap = state.problem.objective.sign * (search - found["mean"])
    number, goal = state.history[name].number, state.problem.objective
    flattery = f"the search flattered it by {gap:.4g}" if gap > 0 else f"the search rated it {-gap:.4g} too low"
    sentence = (
        f"candidate {number} scored {search:.4g} in the search (a search score, no result) and {found['mean']:.4g}"
        f" in the {found['source']} ({goal.name}): {flattery}"
    )
    return {
        "candidate": name,
        "number": number,
        "search_score": search,
        "held_out": found["mean"],
        "source": found["source"],
        "gap": gap,
        "sentence": sentence,
    }


def _anytime(state: State, tally: Tally) -> dict[str, Any]:
    """How soon something was there."""
    kept = len(tally.path)
    return {
        "evaluations": state.ledger.evaluations,
        "first_release": next((count for count, accepted in tally.bits if accepted), None),
        "kept": kept,
        "evaluations_per_kept": state.ledger.evaluations / kept if kept else None,
    }


def _proposer(state: State, tally: Tally) -> dict[str, Any]:
    """What became of the proposals, and whether what they promised came true."""
    assert state.ended is not None
    trials = list(state.history.trials)[1:]
    kept = set(tally.path)
    refused = sum(state.history.rejected.values())
    counts = {
        "kept": len(kept),
        "dropped": sum(trial.state == "dropped" and trial.id not in kept for trial in trials),
        "failed": sum(trial.state == "failed" and trial.id not in kept for trial in trials),
        "rejected": refused,
    }
    suspicious = {
        "suspected": sum(bool(trial.suspicion) for trial in trials),
        "convicted": sum(trial.suspicion == "convicted" for trial in trials),
    }
    total = len(trials) + refused
    unfinished = total - sum(counts.values())
    best, path = state.ended.best, tally.path
    place = len(path) - 1 - path[::-1].index(best) if best in path else -1
    back = set(path[place + 1 :]) if best in path or best == state.history.initial else set()
    return {
        "proposals": total,
        **counts,
        **suspicious,
        "unfinished": unfinished,
        "repeats": tally.repeats,
        "shares": {name: count / total if total else 0.0 for name, count in counts.items()},
        "reverted": len(back),
        "calibration": _calibration(state),
    }


def _calibration(state: State) -> dict[str, Any] | None:
    """Claimed against raced gain. Both are over the same champion, whose value therefore cancels out."""
    goal = state.problem.objective
    errors = [
        goal.sign * (trial.claim - trial.values[goal.name])
        for trial in state.history.trials
        if trial.claim is not None and trial.values is not None
    ]
    if not errors:
        return None
    return {
        "claims": len(errors),
        "overclaimed": math.fsum(errors) / len(errors),
        "error": math.fsum(map(abs, errors)) / len(errors),
        "kept": sum(error <= 0 for error in errors) / len(errors),
    }


def _regret(state: State) -> dict[str, Any] | None:
    """What was lost by delivering what was delivered, on the report's rows.

    Cumulative regret is not told: it needs the mean of every champion on held-out rows, and only the
    candidates of exams and report are measured there.
    """
    report = state.gate.report
    if report is None or state.ended is None:
        return None
    means = {name: found["mean"] for name, found in report["candidates"].items() if found["mean"] is not None}
    sign = state.problem.objective.sign
    top = max((sign * mean for mean in means.values()), default=None)
    if top is None:
        return None
    return {
        role: top - sign * means[name] if name in means else None
        for role, name in (("best", state.ended.best), ("released", state.ended.released))
    }
