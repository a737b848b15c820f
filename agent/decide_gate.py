"""What the gate does next: the noise at the start, exams, and the final report. Pure, as `agent.decide` is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.events import (
    CandidateSuspected,
    Event,
    ExamDecided,
    ExamPlanned,
    ExamStarted,
    NoiseMeasured,
    ReportPlanned,
    ReportReached,
    RunEnded,
    VerdictReached,
)
from agent.gate import exam, guarding, heldout, levels, planning, standing
from agent.gate.noise import Noise
from agent.gate.quarantine import CHECKS, FALLEN, SHARE
from agent.gate.verdict import unexamined
from agent.history import AGAIN
from agent.state import State


def noise(state: State) -> Event | None:
    """What the repeated measurements of the initial candidate say, once they are all there."""
    problem = state.problem
    if problem.deterministic or state.arena is not None:
        groups = [values for values in state.repeats.values.values() if len(values) > 1]
        wanted = len(state.repeats.values)
        if not groups or len(groups) < wanted or state.asks:
            return None
    else:
        groups = list(state.repeats.values.values())
        if sum(map(len, groups)) < state.baseline:
            return None
    found = Noise.of(groups, problem, state.arena.scale if state.arena is not None else 1.0)
    if problem.deterministic and found.differ:
        return NoiseMeasured(found.pairs, found.sd, found.discordance, found.contradiction(problem), True)
    units, paid = state.gate.units, _affordable(state)
    level = _level(state, last=True)
    sentence = found.sentence(problem, state.settings, paid, level)
    if paid < units:
        sentence += f", which the budget pays for out of {units}"
        if standing.exhausted(paid, level) and not standing.exhausted(units, level):
            rows = len(state.gate.val)
            sentence += f"; {standing.wasteful_sentence(paid, units, planning.paying(rows))}"
    return NoiseMeasured(found.pairs, found.sd, found.discordance, sentence)


def _affordable(state: State) -> int:
    """Independent rows that the last exam can have: those of the gate, as far as the budget's share pays for them."""
    clusters, rows = state.gate.units, len(state.gate.val)
    total = state.total
    paid = planning.reserve(None, rows=rows, total=total, level=state.settings.level) // 2
    return min(clusters, int(paid * clusters / rows)) if rows else 0


def _level(state: State, last: bool) -> float:
    """The level that the next exam on rows can expect; its account has the last word."""
    gate = state.gate
    known = gate.standing
    return levels.level(
        state.settings.level,
        accepts=known.get("accepts", 0) + sum(bool(v["accepted"]) for v in gate.verdicts if v["kind"] == "rows"),
        tests=known.get("tests", 0) + sum(v["kind"] == "rows" for v in gate.verdicts),
        run=known.get("run", 1),
        taken=gate.taken,
        last=last,
    )


def reserve(state: State) -> int:
    """Evaluations held back from the search: for the last exam, and for the final report."""
    problem, gate = state.problem, state.gate
    if state.arena is None:
        return exam.reserve(problem, state.settings.exam_pairs) + _checks_held(state)
    total = state.total
    level, held = _level(state, last=True), 0
    if not standing.exhausted(state.gate.units, level):
        held = planning.reserve(
            _seen(state),
            rows=len(gate.val),
            total=total,
            level=level,
            per_unit=len(gate.val) / max(1, state.gate.units),
        )
    if gate.test and state.settings.report:
        held += planning.reserve(None, rows=len(gate.test), total=total, level=0.05)
    return held


def _checks_held(state: State) -> int:
    """Evaluations that are held back for checks before an exact claim: a few, since whoever is checked may fall."""
    if not state.suspects.confirms:
        return 0
    each, budget = len(state.rows), state.ledger.budget.evaluations
    checks = CHECKS if budget is None else min(CHECKS, max(1, budget // (SHARE * each)))
    return int(checks * each)


def _seen(state: State) -> planning.Seen | None:
    champion, released = state.history.champion, state.released
    if state.arena is None or champion == released:
        return None
    return state.arena.seen(champion, released)


def _planned(state: State, last: bool) -> planning.Plan | None:
    """The exam on rows that is due now, from search evidence alone."""
    arena, problem, settings = state.arena, state.problem, state.settings
    seen = _seen(state)
    if arena is None or seen is None:
        return None
    bounded = problem.bounds is not None
    margin = _margin(state)
    return planning.plan(
        seen,
        rows=len(state.gate.val),
        left=_left(state, last),
        total=state.total,
        level=_level(state, last),
        last=last,
        test=planning.choose(
            seen,
            bounded=bounded,
            null=settings.null,
            noise=settings.noise,
            margin=margin,
            of_set=problem.of_set,
            most=problem.objective.most,
            clustered=state.gate.units < len(state.gate.val),
        ),
        scale=arena.scale,
        margin=margin,
        previous=state.gate.previous,
        spent=state.gate.spent,
        per_unit=len(state.gate.val) / max(1, state.gate.units),
    )


def _left(state: State, last: bool) -> float:
    """Evaluations that an exam may take: the last one leaves those of the report."""
    if last and state.gate.test and state.settings.report:
        return state.affordable - planning.reserve(None, rows=len(state.gate.test), total=state.total, level=0.05)
    return state.affordable


def _margin(state: State) -> float:
    """The gain that is too small to count, as a share of a score's range."""
    if state.arena is None or state.problem.claim == "sum":
        return 0.0
    return state.problem.objective.margin(_initial_mean(state)) / state.arena.scale


def _initial_mean(state: State) -> float:
    values = state.history[state.history.initial].values
    return state.problem.compared(values) if values else 0.0


def interim(state: State) -> Event | None:
    """An exam before the search is over, when the evidence is already strong enough for one that is small."""
    arena, gate, history = state.arena, state.gate, state.history
    if arena is None or gate.open or not gate.val or not state.settings.interim or state.evaluations or state.proposals:
        return None
    if history.champion == gate.released or (history.champion, gate.released) in gate.pairs_seen:
        return None
    if not history[history.champion].feasible:
        return None
    plan = _planned(state, last=False)
    return _plan_event(state, plan) if plan is not None else None


def due(state: State) -> bool:
    """Whether an interim exam would be held if nothing were in flight; then nothing more is started."""
    arena, gate, history = state.arena, state.gate, state.history
    if arena is None or gate.open or not gate.val or not state.settings.interim:
        return False
    if history.champion == gate.released or (history.champion, gate.released) in gate.pairs_seen:
        return False
    return history[history.champion].feasible and _planned(state, last=False) is not None


def _plan_event(state: State, plan: planning.Plan) -> Event:
    number = state.gate.exams + 1
    return ExamPlanned(number, state.history.champion, state.released, plan.pairs, plan.last, plan.to_json())


def stopping(state: State, measure: Any) -> list[Event]:
    """The search is over: the last exam, then the report, then the end."""
    gate = state.gate
    if gate.accepted is not None:
        return _report(state, measure)
    if gate.open:
        return examining(state, measure)
    if state.evaluations:
        return []
    champion, released = state.history.champion, state.released
    if champion == released:
        return _report(state, measure)
    if state.arena is not None:
        return [_last(state)]
    plan = exam.plan(state.problem, state.settings.exam_pairs, state.settings.level * levels.weight(gate.exams + 1))
    if plan is None:
        before, after = state.history[released].values, state.history[champion].values
        found = exam.compare(state.problem, champion, after or {}, released, before)
        ahead = found.accepted or (found.effect or 0.0) > 0
        if ahead and state.suspects.confirms and champion not in state.suspects.sure:
            return _confirming(state, measure)
        return [VerdictReached(found.to_json())]
    return [ExamStarted(gate.exams + 1, champion, released, plan.pairs, plan.level)]


def _confirming(state: State, measure: Any) -> list[Event]:
    """The check of what is to be claimed as exact; without one it keeps its score, and nothing is claimed of it."""
    champion, released, fallen = state.history.champion, state.released, state.suspects.fallen
    left, gone = state.ledger.left("evaluations"), f"{fallen} that looked better still did not score the same again"
    why = "it could not be run again with the evaluations left; resume with more evaluations"
    why += f" ({gone})" if fallen else ""
    if state.suspects.last:
        following: list[Event] = measure(state)
        if following or (state.suspects.next is not None and left >= 1):  # an exclusive one waits for the proposer
            return following
    elif fallen >= FALLEN:
        why = f"{gone}, so no more are tried; leave out deterministic = true where programs may differ from run to run"
    elif left >= len(state.rows):
        more = f", and more often where {fallen} did not score the same" if fallen else ""
        return [CandidateSuspected(champion, "", AGAIN, f"an exact claim about a program is checked first{more}")]
    return [VerdictReached(unexamined(state.problem.spoken, champion, released, why).to_json())]


def _last(state: State) -> Event:
    champion, released = state.history.champion, state.released
    plan = None
    if (champion, released) in state.gate.pairs_seen:
        why = "the gate has examined it already and did not accept it"
    elif not state.gate.val:
        rows = len(state.problem.split("train"))
        why = standing.pooled(rows, state.gate.standing.get("units", rows))
    elif standing.exhausted(state.gate.units, _level(state, last=True)):
        why = standing.exhausted_sentence(state.gate.units, _level(state, last=True))
    else:
        plan = _planned(state, last=True)
        seen = _seen(state)
        why = "the search saw no gain on common rows"
        if seen is not None and seen.mean > 0:
            rows = len(state.gate.val)
            per_unit = rows / max(1, state.gate.units)
            why = planning.lacking(seen, rows=rows, left=_left(state, True), margin=_margin(state), per_unit=per_unit)
    if plan is not None:
        return _plan_event(state, plan)
    return VerdictReached(unexamined(state.problem.spoken, champion, released, why).to_json())


def examining(state: State, measure: Any) -> list[Event]:
    """An exam is under way."""
    gate = state.gate
    if gate.verdict is not None:
        # Where rows have an account, it is written first; see the loop.
        return [] if gate.verdict["kind"] == "rows" else [ExamDecided(gate.exams + 1, gate.verdict["accepted"])]
    started, pairs, plan = gate.exam, gate.pairs, gate.plan
    if started is None or pairs is None:
        return []  # its level is being asked for
    stopped = plan is not None and _settled(state, plan)
    if pairs.complete < started.pairs and not stopped:
        following: list[Event] = measure(state)
        if following or _waiting(state):
            return following
        # The budget is spent: the verdict is reached on the pairs there are.
    if plan is not None:
        return [_verdict(state, plan)] if not state.evaluations else []
    champion, released = _mean(pairs.of(started.champion)), _mean(pairs.of(started.released))
    verdict = exam.examine(state.problem, pairs, exam.Plan(started.pairs, started.level), champion, released)
    return [VerdictReached(verdict.to_json())]


def _waiting(state: State) -> bool:
    """Whether measurements are under way or can still be paid for; an exclusive evaluator waits for the proposer."""
    return bool(state.evaluations) or bool(state.asks.urgent and state.ledger.left("evaluations") >= 1)


def _sequential(state: State, plan: planning.Plan) -> bool:
    return state.settings.sequential and plan.last and state.problem.claim != "dominance"


def _settled(state: State, plan: planning.Plan) -> bool:
    gate = state.gate
    if not _sequential(state, plan) or gate.exam is None:
        return False
    new, old, clusters = _complete(state)
    rows = len(new)
    if rows < min(gate.exam.pairs, len(gate.val)):
        # A look at part of a cluster would be one look more than the test allows for.
        while rows and clusters[rows - 1] == gate.val[len(new)][1]:
            rows -= 1
    new, old, clusters = new[:rows], old[:rows], clusters[:rows]
    if not heldout.settled(heldout.Units.of(state.problem, new, old, clusters), plan, gate.exam.level):
        return False
    # What is not shown of a constraint yet may be with more rows.
    return all(item["passed"] for item in guarding.findings(state.problem, gate.exam.level, new, old, clusters))


def _complete(state: State) -> tuple[list[Any], list[Any], list[str]]:
    """Values of both candidates on the rows measured so far, in the planned order up to the first that is missing."""
    gate = state.gate
    assert gate.exam is not None and gate.pairs is not None
    new, old, clusters = [], [], []
    for number, (_, cluster) in zip(gate.pairs.numbers, gate.val, strict=False):
        both = gate.pairs.halves.get(number, {})
        if len(both) < 2:
            break
        new.append(both[gate.exam.champion])
        old.append(both[gate.exam.released])
        clusters.append(cluster)
    return new, old, clusters


def _verdict(state: State, plan: planning.Plan) -> Event:
    started = state.gate.exam
    assert started is not None
    new, old, clusters = _complete(state)
    verdict = heldout.examine(
        state.problem,
        plan,
        started.level,
        started.champion,
        started.released,
        new,
        old,
        clusters,
        started.account,
        _sequential(state, plan),
    )
    return VerdictReached(verdict.to_json())


def _mean(values: list[Mapping[str, float] | None]) -> dict[str, float] | None:
    there = [v for v in values if v is not None]
    return {name: sum(v[name] for v in there) / len(there) for name in there[0]} if there else None


def _report(state: State, measure: Any) -> list[Event]:
    gate, history = state.gate, state.history
    if gate.report is not None or not gate.test or not state.settings.report:
        return [_end(state)]
    candidates = list(dict.fromkeys([history.initial, gate.released, _best(state)[0]]))
    if gate.report_planned is None:
        most = min(len(gate.test), int(min(state.affordable, 1e12)) // len(candidates))
        if len(candidates) < 2 or most < 2:
            return [_end(state)]
        return [ReportPlanned(candidates, most)]
    if gate.report_started is None:
        return []
    following: list[Event] = measure(state) if state.asks.urgent else []
    if following or _waiting(state):
        return following
    rows = gate.test[: gate.report_planned.rows]
    there = [row for row in rows if all(row[0] in values for values in gate.report_values.values())]
    values = {name: [known[row] for row, _ in there] for name, known in gate.report_values.items()}
    scale = state.arena.scale if state.arena is not None else 1.0
    found = heldout.report(
        state.problem, scale, gate.report_started.level, values, history.initial, [cluster for _, cluster in there]
    )
    return [ReportReached({**found, "opening": gate.report_started.opening})]


def _best(state: State) -> tuple[str, bool]:
    """The best candidate, and whether it is better than what was released as far as one can tell."""
    gate, champion = state.gate, state.history.champion
    if champion == gate.released:
        return champion, False
    pair = (champion, gate.released)
    held = [item for item in gate.verdicts if (item["champion"], item["released"]) == pair and item["kind"] != "none"]
    verdict = held[-1] if held else None
    if verdict is None:
        # Nothing but the search has seen it; and where even that saw no gain, there is none to speak of.
        seen = _seen(state)
        return (champion, True) if seen is None or seen.mean > 0 else (gate.released, False)
    effect = verdict.get("effect")
    better = effect is not None and effect > 0
    return (champion if better else gate.released), better


def _end(state: State) -> Event:
    gate, initial = state.gate, state.history.initial
    reason = state.stop.reason if state.stop is not None else "finished"
    detail = state.stop.detail if state.stop is not None else ""
    code = 1 if reason == "proposer" else 0
    best, ahead = _best(state)
    if ahead:
        return RunEnded(reason, "unproven", best, gate.released, code, detail)
    # The champion is the released candidate, or the exam put it below: nothing better than released is known.
    shown = "initial" if gate.proof is None else "exact" if gate.proof["kind"] == "exact" else "proven"
    return RunEnded(
        reason, shown if gate.released != initial else "initial", gate.released, gate.released, code, detail
    )
