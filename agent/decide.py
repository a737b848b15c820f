"""What a run does next: a pure function of its state.

`decide` returns the events that follow, or none when the run waits for something in flight. It is
called again after each event that comes from outside, so the journal is determined by the order in
which those arrive; a replay that delivers them in the recorded order gives the recorded journal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from agent import decide_gate
from agent.curves import hopeless
from agent.events import (
    CandidateAdmitted,
    CandidateCleared,
    CandidateConvicted,
    CandidateRejected,
    CandidateSuspected,
    CheckStarted,
    EvaluationStarted,
    Event,
    ProposalStarted,
    RaceDecided,
    RaceStarted,
    RunEnded,
    StopRequested,
)
from agent.gate import race
from agent.gate.quarantine import signs
from agent.halving import Step
from agent.history import SUSPICIOUS
from agent.looking import LOOK
from agent.proposers.table import SIDE_BY_SIDE
from agent.space import digest
from agent.state import State

BARREN = 12
"""Proposals in a row without a new candidate, after which nothing is left to try."""
ERRORS = 3
"""Failures of the proposer in a row, after which the run stops."""
SHORT_RACE = 10
"""Measurements of a race on rows, at the least."""


def decide(state: State) -> list[Event]:
    """The next events, at least one at a time; empty when the run waits, is halted, or has ended."""
    if state.ended is not None:
        return []
    if state.unchecked and (state.checking is not None or not state.next_start):
        return _checked(state) or _meanwhile(state)
    if state.noise_found is None:
        told = decide_gate.noise(state)
        if told is not None:
            return [told]
    ruling = _ruling(state)
    if ruling is not None:
        return [ruling]
    if state.halt is not None or state.paused:
        return []
    return decide_gate.stopping(state, _measure) if state.stop is not None else _searching(state)


def _checked(state: State) -> list[Event]:
    found = _check(state)
    return [found] if found is not None else []


def _meanwhile(state: State) -> list[Event]:
    """While a check is under way, models that are asked side by side are asked on."""
    resting = state.halt is not None or state.paused or state.stop is not None or state.gate.open
    if state.settings.proposer not in SIDE_BY_SIDE or resting or not state.ready or len(state.errors) >= ERRORS:
        return []
    return [] if decide_gate.due(state) or _nothing_left(state) else _propose(state)


def _check(state: State) -> Event | None:
    if state.checking is not None and "checked" not in state.unchecked[0][1]:
        return None
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
    asked = state.wishes.refusal(candidate)
    if asked:
        return CandidateRejected(number, candidate.id, f"not asked for: {asked}", source)
    near = state.known.refusal(candidate, proposal.get("radius", 0), state.history, not state.problem.deterministic)
    if near:
        return CandidateRejected(number, candidate.id, near, source)
    if state.more_checks:
        if "checked" not in proposal:
            return CheckStarted(number, candidate.id)
        name, reason = proposal["checked"]
        if reason:
            return CandidateRejected(number, candidate.id, f"{name}: {reason}", source)
    return CandidateAdmitted(
        proposal=number,
        candidate=candidate.id,
        values=candidate.values_json,
        source=source,
        rationale=str(proposal.get("rationale", "")),
        parents=list(proposal.get("parents", [])),
        claim=proposal.get("claim"),
        read=list(proposal.get("read", [])),
    )


def _champion(state: State) -> Mapping[str, float] | None:
    return state.history[state.history.champion].values


def _decided(state: State, candidate: str, ruling: race.Ruling) -> Event:
    return RaceDecided(candidate, state.history.champion, ruling.decision, ruling.reason, dict(ruling.evidence))


def _first(state: State) -> Event:
    trial = state.history[state.fresh[0]]
    if trial.suspicion == "convicted":
        return _decided(state, trial.id, race.Ruling("drop", trial.failure))
    if trial.values is None and trial.stopped and not trial.failure:
        return _decided(state, trial.id, race.Ruling("drop", hopeless(trial.stopped), dict(trial.stopped)))
    if trial.values is None:
        # Where there are rungs, a failure may be one with less effort, and its repetition would be no fresh start.
        suspected = None if state.halving is not None else _suspected(state, trial.id)
        return suspected or _decided(state, trial.id, race.Ruling("drop", f"failed: {trial.failure}"))
    ruling = race.look(state.problem, trial.values, _champion(state))
    suspected = _suspected(state, trial.id) if ruling.decision != "drop" else None
    return suspected or _decided(state, trial.id, ruling)


def _suspected(state: State, candidate: str, rows: Sequence[str] = ()) -> Event | None:
    """That a candidate which would win is to be measured again first, where something about it is suspicious."""
    if not state.suspects.watched:
        return None
    trial = state.history[candidate]
    found = signs(state.problem, state.history, trial, state.settings.suspicion)
    if found is None:
        return None
    beside = state.history.champion if trial.values is not None else ""
    return CandidateSuspected(candidate, beside, found.reason, found.evidence, list(rows))


def _quarantined(state: State) -> Event | None:
    """The word on the suspect, where there is one by now."""
    suspect, arena = state.suspects.quarantine, state.arena
    assert suspect is not None
    test, scale = (arena.race, arena.scale) if arena is not None else (None, 1.0)
    found = suspect.ruling(state.problem, test, scale)
    if found.decision == "promote":
        return CandidateCleared(suspect.suspect, found.reason, found.evidence)
    if found.decision == "drop":
        return CandidateConvicted(suspect.suspect, found.reason, found.evidence)
    # What is to be claimed is no suspect: where that check cannot be paid for, nothing is said of it.
    if state.stop is not None and not state.evaluations and not suspect.again:
        return CandidateConvicted(suspect.suspect, "the search ended before it was measured again")
    return None


def _ruling(state: State) -> Event | None:
    """The race's next word, where it has one."""
    if state.suspects.quarantine is not None:
        found = _quarantined(state)
        if found is not None or state.arena is not None:
            return found
    elif state.arena is not None:
        return _row_ruling(state)
    if state.halving is not None and state.halving.rulings:
        return _rung(state, state.halving.rulings[0])
    if state.fresh and state.suspects.quarantine is None:
        return _first(state)
    if state.race is None:
        return None
    ruling = state.race.update(state.problem)
    return None if ruling.decision == "continue" else _decided(state, state.race.challenger, ruling)


def _rung(state: State, step: Step) -> Event:
    """A candidate goes up a rung, or stays where it is."""
    assert state.halving is not None
    evidence = {"fidelity": step.fidelity, "rank": step.rank, "of": step.of}
    decision = "drop" if step.to is None else "climb"
    return RaceDecided(step.candidate, state.history.champion, decision, state.halving.reason(step), evidence)


def _row_ruling(state: State) -> Event | None:
    arena, history = state.arena, state.history
    assert arena is not None
    for candidate, failure in state.broken.items():
        if candidate in arena.lanes:
            reason = failure if failure.startswith(SUSPICIOUS) else f"failed: {failure}"
            return _decided(state, candidate, race.Ruling("drop", reason))
    found = arena.ruling()
    if found is None:
        return None
    challenger, ruling = found
    trial, champion = history[challenger], history[history.champion]
    if not trial.feasible and ruling.decision == "promote":
        broken = ", ".join(str(item) for item in state.problem.violated(trial.values or {}))
        ruling = race.Ruling("drop", f"infeasible: {broken} does not hold", ruling.evidence)
    elif ruling.decision == "drop" and trial.feasible and trial.values and not champion.feasible:
        ruling = race.Ruling("promote", "first to keep every constraint", ruling.evidence)
    if ruling.decision == "promote":
        suspected = _suspected(state, challenger, arena.raced(challenger))
        if suspected is not None:
            return suspected
    return _decided(state, challenger, ruling)


def seed_for(state: State, example: str | None, key: str) -> int:
    """The seed a request carries: equal for both halves of a pair, and for equal replicates of two candidates."""
    return int(digest([state.seed, example, key], 8), 16)


def _measure(state: State) -> list[Event]:
    """Fill the free slots; a look that a proposer waits for goes first, then a race or an exam, then the others."""
    if len(state.evaluations) >= state.workers:
        return []
    left = state.ledger.left("evaluations")
    ask = state.next_ask() if left else None
    if ask is None or left < ask.fidelity:
        return []
    # Nothing else computes beside an exclusive one: no proposer, and beside the look of a proposer no model.
    if state.problem.evaluator.exclusive and (state.calls if ask.stage == LOOK else state.proposals):
        return []
    key = ask.key or (f"pair {ask.pair}" if ask.pair >= 0 else f"replicate {ask.replicate}")
    return [
        EvaluationStarted(
            id=state.next_evaluation,
            candidate=ask.candidate,
            example=ask.example,
            seed=seed_for(state, ask.example, key),
            replicate=ask.replicate,
            purpose=ask.purpose,
            pair=ask.pair,
            fidelity=ask.fidelity,
            stage=ask.stage,
        )
    ]


def look_refused(state: State, proposal: int, candidate: str, examples: Sequence[str], most: float) -> str:
    """Why a look cannot be had, or "": what the search has free must hold every evaluation of it.

    Args:
        state: Of the run.
        proposal: The decision that asks.
        candidate: Id of the values.
        examples: Rows; none for all that a candidate is measured on.
        most: Evaluations that the looks of this decision may take in all.
    """
    if state.stop is not None or state.ended is not None or state.gate.open:
        return "the search is over"
    cost = state.looks.cost(candidate, examples)
    told = f"it takes {cost} evaluation{'s' if cost > 1 else ''}, and"
    wanted = state.proposals[proposal].n if proposal in state.proposals else 1
    free = math.floor(min(search_free(state) - needed(state, wanted), 1e12))
    if cost and cost > free:
        return f"{told} {max(0, free)} are left for looks"
    left = math.floor(min(most - state.looks.taken(proposal), 1e12))
    return f"{told} {max(0, left)} are left in this decision" if cost and cost > left else ""


def search_free(state: State) -> float:
    """What is left to the search besides what is admitted, or looked at, and not measured yet."""
    asked = sum(ask.fidelity for ask in (*state.asks.urgent, *state.asks.later))
    ahead = state.arena.ahead if state.arena is not None else 0
    return max(0.0, search_left(state) - asked - ahead - len(state.looks.wanted))


def needed(state: State, n: int) -> float:
    """Evaluations that so many proposals take at the least: each as a whole, or on rows a short race of two."""
    if state.arena is not None:
        return n * min(SHORT_RACE, len(state.arena.rows))
    return n * len(state.rows) * (state.halving.rungs[0] if state.halving is not None else 1)


def search_left(state: State) -> float:
    """Evaluations that the search may still start; what the last exam and the report need is held back."""
    return state.ledger.left("evaluations") - decide_gate.reserve(state)


def _searching(state: State) -> list[Event]:
    if state.gate.open:
        return decide_gate.examining(state, _measure)
    failed = _unusable(state)
    if failed is not None:
        return [failed]
    if len(state.errors) >= ERRORS:
        return [StopRequested("proposer", f"the proposer failed {ERRORS} times in a row: {state.errors[-1]}")]
    if search_left(state) < 1:
        return [] if state.evaluations else [StopRequested("evaluations", "the search's share of the budget is spent")]
    if state.looks.wanted:
        looked = _measure(state)
        if looked:
            return looked
    if decide_gate.due(state):  # what is in flight comes home first, so that the exam tells nobody when it ends
        planned = decide_gate.interim(state)
        return [planned] if planned is not None else []
    started = _measure(state)
    if started:
        return started
    if not state.ready:
        return []
    if state.next_start and state.waiting < min(state.workers, search_left(state)):
        return _checked(state)
    if state.arena is None and state.race is None and state.contenders:
        return [_contend(state)]
    spent = _nothing_left(state)
    if not spent:
        return _propose(state)
    racing = state.race is not None or bool(state.arena is not None and state.arena.lanes)
    if state.idle and not state.asks and not racing:
        left = state.halving.spare() if state.halving is not None else None  # the best of them, while it can be paid
        why = "finished" if state.over else "exhausted"
        return [_rung(state, left)] if left is not None else [StopRequested(why, spent)]
    return []


def _unusable(state: State) -> Event | None:
    """The end of a run whose initial candidate cannot be scored, or whose declaration is wrong."""
    initial = state.history[state.history.initial]
    failure = state.broken.get(initial.id, "")
    if not initial.count and (state.arena is None or state.noise_found is not None):
        failure = failure or initial.failure  # on rows, a failure on one of the first is no reason to give up
    if failure:
        return RunEnded("evaluator", "initial", initial.id, initial.id, 3, failure)
    if state.noise_found is not None and state.noise_found.wrong:
        return RunEnded("evaluator", "initial", initial.id, initial.id, 3, state.noise_found.sentence)
    return None


def _contend(state: State) -> Event:
    # The champion may have changed since the contender's first look.
    trial = state.history[state.contenders[0]]
    ruling = race.look(state.problem, trial.values or {}, _champion(state))
    if ruling.decision == "continue":
        return RaceStarted(trial.id, state.history.champion)
    return _decided(state, trial.id, ruling)


def _nothing_left(state: State) -> str:
    if state.over or state.exhausted:
        return state.over or state.exhausted
    return f"{BARREN} proposals in a row brought nothing new" if state.barren >= BARREN else ""


def _propose(state: State) -> list[Event]:
    """Ask for more candidates early enough that the slots stay busy, and not earlier: later proposals know more."""
    beside = state.settings.proposer in SIDE_BY_SIDE
    if state.opening or (state.proposals and not beside):
        return []  # one at a time: side by side they would share their memory and make the same candidates
    waiting, asked = state.waiting, len(state.unchecked) + len(state.proposals)
    if state.problem.evaluator.exclusive:
        wanted = 0 if state.evaluations or waiting or asked else 1
    elif beside:  # each is a question to a model, and none waits for the slowest of a group
        free = state.workers - len(state.evaluations)  # what is to start in these at once waits for nothing
        wanted = min(1, state.workers - len(state.proposals) - max(0, waiting + len(state.unchecked) - free))
    else:
        wanted = state.workers - waiting
    each = state.halving.rungs[0] if state.halving is not None else 1
    if wanted < 1 or (waiting + asked) * each >= search_left(state):
        return []
    return [ProposalStarted(state.next_proposal, wanted, state.settings.proposer)]
