"""What a run does next: a pure function of its state.

`decide` returns the events that follow, or none when the run waits for something in flight. It is
called again after each event that comes from outside, so the journal is determined by the order in
which those arrive; a replay that delivers them in the recorded order gives the recorded journal.
"""

from __future__ import annotations

from collections.abc import Mapping

from agent.events import (
    CandidateAdmitted,
    CandidateRejected,
    EvaluationStarted,
    Event,
    ExamDecided,
    ExamStarted,
    ProposalStarted,
    RaceDecided,
    RaceStarted,
    RunEnded,
    StopRequested,
    VerdictReached,
)
from agent.gate import exam, race
from agent.space import digest
from agent.state import State

BARREN = 12
"""Proposals in a row without a new candidate, after which nothing is left to try."""
ERRORS = 3
"""Failures of the proposer in a row, after which the run stops."""


def decide(state: State) -> list[Event]:
    """The next events, at least one at a time; empty when the run waits, is halted, or has ended."""
    if state.ended is not None:
        return []
    if state.unchecked:
        return [_check(state)]
    if state.looks:
        return [_look(state)]
    if state.race is not None:
        ruling = _race(state)
        if ruling is not None:
            return [ruling]
    if state.halt is not None:
        return []
    return _stopping(state) if state.stop is not None else _searching(state)


def _check(state: State) -> Event:
    number, proposal = state.unchecked[0]
    source = str(proposal.get("source", ""))
    try:
        candidate = state.problem.space.candidate(proposal["values"])
    except ValueError as error:
        return CandidateRejected(number, "", f"not allowed: {error}", source)
    if candidate.id in state.history:
        trial = state.history[candidate.id]
        return CandidateRejected(
            number, candidate.id, f"seen before, as candidate {trial.number} ({trial.state})", source
        )
    return CandidateAdmitted(
        proposal=number,
        candidate=candidate.id,
        values=candidate.values_json,
        source=source,
        rationale=str(proposal.get("rationale", "")),
        parents=list(proposal.get("parents", [])),
        claim=proposal.get("claim"),
    )


def _champion(state: State) -> Mapping[str, float] | None:
    return state.history[state.history.champion].values


def _decided(state: State, candidate: str, ruling: race.Ruling) -> Event:
    return RaceDecided(candidate, state.history.champion, ruling.decision, ruling.reason, dict(ruling.evidence))


def _look(state: State) -> Event:
    trial = state.history[state.looks[0]]
    if trial.values is None:
        return _decided(state, trial.id, race.Ruling("drop", f"failed: {trial.failure}"))
    return _decided(state, trial.id, race.look(state.problem, trial.values, _champion(state)))


def _race(state: State) -> Event | None:
    current = state.race
    assert current is not None
    ruling = current.update(state.problem)
    return None if ruling.decision == "continue" else _decided(state, current.challenger, ruling)


def seed_for(state: State, example: str | None, key: str) -> int:
    """The seed a request carries: equal for both halves of a pair, and for equal replicates of two candidates."""
    return int(digest([state.seed, example, key], 8), 16)


def _measure(state: State) -> list[Event]:
    """Fill the free slots; a race or an exam goes before first looks."""
    if len(state.evaluations) >= state.workers or (state.problem.evaluator.exclusive and state.proposals):
        return []
    queue = state.urgent or state.asks
    if not queue or state.ledger.left("evaluations") < 1:
        return []
    ask = queue[0]
    key = f"pair {ask.pair}" if ask.pair >= 0 else f"replicate {ask.replicate}"
    return [
        EvaluationStarted(
            id=state.next_evaluation,
            candidate=ask.candidate,
            example=ask.example,
            seed=seed_for(state, ask.example, key),
            replicate=ask.replicate,
            purpose=ask.purpose,
            pair=ask.pair,
        )
    ]


def search_left(state: State) -> float:
    """Evaluations that the search may still start; what the final exam needs is held back."""
    return state.ledger.left("evaluations") - exam.reserve(state.problem, state.settings.exam_pairs)


def _searching(state: State) -> list[Event]:
    initial = state.history[state.history.initial]
    if initial.failure and not initial.count:
        return [RunEnded("evaluator", "initial", initial.id, initial.id, 3, initial.failure)]
    if len(state.errors) >= ERRORS:
        return [StopRequested("proposer", f"the proposer failed {ERRORS} times in a row: {state.errors[-1]}")]
    if search_left(state) < 1:
        return [] if state.evaluations else [StopRequested("evaluations", "the search's share of the budget is spent")]
    if initial.count < state.baseline or (state.urgent or state.asks):
        started = _measure(state)
        if started:
            return started
    if initial.count < state.baseline:
        return []
    if state.race is None and state.contenders:
        return [_contend(state)]
    spent = _nothing_left(state)
    if not spent:
        return _propose(state)
    if state.idle and not state.asks and state.race is None:
        return [StopRequested("exhausted", spent)]
    return []


def _contend(state: State) -> Event:
    # The champion may have changed since the contender's first look.
    trial = state.history[state.contenders[0]]
    ruling = race.look(state.problem, trial.values or {}, _champion(state))
    if ruling.decision == "continue":
        return RaceStarted(trial.id, state.history.champion)
    return _decided(state, trial.id, ruling)


def _nothing_left(state: State) -> str:
    if state.exhausted:
        return state.exhausted
    return f"{BARREN} proposals in a row brought nothing new" if state.barren >= BARREN else ""


def _propose(state: State) -> list[Event]:
    """Ask for more candidates early enough that the slots stay busy, and not earlier: later proposals know more."""
    if state.proposals:
        return []  # one at a time: side by side they would share their memory and make the same candidates
    waiting = len(state.asks) // len(state.rows)
    if state.problem.evaluator.exclusive:
        wanted = 0 if state.evaluations or waiting else 1
    else:
        wanted = state.workers - waiting
    if wanted < 1 or waiting >= search_left(state):
        return []
    return [ProposalStarted(state.next_proposal, wanted, state.settings.proposer)]


def _stopping(state: State) -> list[Event]:
    champion, released = state.history.champion, state.released
    if state.accepted is not None:
        return [_end(state)]
    number = state.exams + 1
    if state.verdict is not None:
        return [ExamDecided(number, state.verdict["accepted"])]
    if state.exam is not None:
        return _examining(state)
    if state.evaluations:
        return []
    if champion == released:
        return [_end(state)]
    plan = exam.plan(state.problem, state.settings.exam_pairs, state.settings.level * exam.share(number))
    if plan is None:
        verdict = exam.compare(
            state.problem, champion, _champion(state) or {}, released, state.history[released].values
        )
        return [VerdictReached(verdict.to_json())]
    return [ExamStarted(number, champion, released, plan.pairs, plan.level)]


def _examining(state: State) -> list[Event]:
    started, pairs = state.exam, state.exam_race
    assert started is not None and pairs is not None
    if pairs.complete < started.pairs:
        following = _measure(state)
        if following or state.evaluations:
            return following
        # The budget is spent: the verdict is reached on the pairs there are.
    champion, released = _exam_mean(state, started.champion), _exam_mean(state, started.released)
    plan = exam.Plan(started.pairs, started.level)
    verdict = exam.examine(state.problem, pairs, plan, champion, released, _mended(state))
    return [VerdictReached(verdict.to_json())]


def _mended(state: State) -> tuple[int, int]:
    """Pairs of the exam in which only the champion kept every constraint, and only the released candidate did."""
    assert state.exam is not None
    kept = {
        (unit.candidate, unit.pair): unit.values is not None and not state.problem.violated(unit.values)
        for units in state.exam_units.values()
        for unit in units
    }
    champion, released = state.exam.champion, state.exam.released
    both = [(kept[champion, n], kept[released, n]) for c, n in kept if c == champion and (released, n) in kept]
    return sum(new and not old for new, old in both), sum(old and not new for new, old in both)


def _exam_mean(state: State, candidate: str) -> dict[str, float] | None:
    values = [unit.values for unit in state.exam_units.get(candidate, []) if unit.values is not None]
    return {name: sum(v[name] for v in values) / len(values) for name in values[0]} if values else None


def _end(state: State) -> Event:
    champion, released, initial = state.history.champion, state.released, state.history.initial
    reason = state.stop.reason if state.stop is not None else "finished"
    detail = state.stop.detail if state.stop is not None else ""
    code = 1 if reason == "proposer" else 0
    shown = "initial" if state.proof is None else "exact" if state.proof["kind"] == "exact" else "proven"
    effect = (state.verdict or {}).get("effect")
    if champion != released and effect is not None and effect > 0:
        return RunEnded(reason, "unproven", champion, released, code, detail)
    # The champion is the released candidate, or the exam put it below: nothing better than released is known.
    return RunEnded(reason, shown if released != initial else "initial", released, released, code, detail)
