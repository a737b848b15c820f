"""What proposers know: units made of rows, trials made of units, and views that stay as they were."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.events import (
    CandidateAdmitted,
    CandidateRejected,
    EvaluationEnded,
    EvaluationStarted,
    ProposalEnded,
    RaceDecided,
)
from agent.goals import Objective
from agent.history import REMEMBERED, History
from agent.measuring import Measuring, Unit
from agent.space import Candidate

TIME = Objective("time", "minimize")
INITIAL = Candidate({"x": 0})


def start(number: int, row: str | None, candidate: str = "c", replicate: int = 0, pair: int = -1) -> EvaluationStarted:
    return EvaluationStarted(number, candidate, row, 0, replicate, "search", pair)


def good(number: int, feedback: str = "", **values: float) -> EvaluationEnded:
    return EvaluationEnded(number, "search", {"seconds": 0.5}, {"values": values, "feedback": feedback})


def bad(number: int) -> EvaluationEnded:
    return EvaluationEnded(
        number, "search", {"seconds": 0.5, "failure": {"kind": "timeout", "message": "too slow"}}, None
    )


def measure(measuring: Measuring, *ends: EvaluationEnded, **where: Any) -> Unit | None:
    unit = None
    for end in ends:
        assert unit is None
        unit = measuring.add(start(end.id, f"row {end.id}", **where), end)
    return unit


def test_a_unit_is_the_mean_over_all_rows() -> None:
    measuring = Measuring([TIME], ["error"], rows=3)
    unit = measure(
        measuring,
        good(1, "slow", time=1, error=0.25),
        good(2, time=2, error=0.5),
        good(3, "fast", time=6, error=0),
        pair=7,
    )
    assert unit == Unit("c", 0, 7, "search", {"time": 3.0, "error": 0.25}, "", "slow\nfast", 1.5)


def test_rows_of_several_units_arrive_in_any_order() -> None:
    measuring = Measuring([TIME], [], rows=2)
    assert measuring.add(start(1, "a", "c", 0), good(1, time=1)) is None
    assert measuring.add(start(2, "a", "c", 1), good(2, time=10)) is None
    assert measuring.add(start(3, "b", "d", 0), good(3, time=100)) is None
    unit = measuring.add(start(4, "b", "c", 1), good(4, time=20))
    assert unit is not None and (unit.replicate, unit.values) == (1, {"time": 15.0})
    unit = measuring.add(start(5, "b", "c", 0), good(5, time=3))
    assert unit is not None and (unit.replicate, unit.values) == (0, {"time": 2.0})


def test_a_failed_row_counts_with_the_worse_end_of_a_declared_range() -> None:
    ranged = Measuring([replace(TIME, low=0.0, high=40.0)], [], rows=2)
    unit = measure(ranged, good(1, time=10), bad(2))
    assert unit is not None and unit.values == {"time": 25.0}


def test_a_failed_row_counts_with_the_floors_when_there_are_some() -> None:
    floored = Measuring([replace(TIME, floor=100.0)], [], rows=2)
    unit = measure(floored, good(1, time=10), bad(2))
    assert unit is not None and unit.values == {"time": 55.0} and unit.failure == ""
    assert unit.feedback == "timeout: too slow"


@pytest.mark.parametrize(
    ("objectives", "constraints", "rows"),
    [
        ([TIME], [], 2),
        ([replace(TIME, floor=100.0), Objective("size")], [], 2),
        ([replace(TIME, floor=100.0)], ["error"], 2),
        ([replace(TIME, floor=100.0)], [], 1),
    ],
    ids=["no floor", "one without a floor", "a constraint has no value", "the only row"],
)
def test_a_failed_row_fails_the_unit_otherwise(objectives: list[Objective], constraints: list[str], rows: int) -> None:
    measuring = Measuring(objectives, constraints, rows)
    unit = measure(measuring, *[good(1, time=10, size=1, error=0), bad(2)][2 - rows :])
    assert unit is not None and unit.values is None and unit.failure == "timeout: too slow"


def history(*candidates: Candidate, objective: Objective = TIME) -> History:
    out = History(INITIAL, objective)
    for number, candidate in enumerate(candidates, 1):
        out.apply(CandidateAdmitted(number, candidate.id, candidate.values_json, "test", "why", [INITIAL.id], 1.5))
    return out


def unit(candidate: Candidate, time: float | None, failure: str = "error: no") -> Unit:
    return Unit(
        candidate.id, 0, -1, "search", None if time is None else {"time": time}, "" if time is not None else failure
    )


A, B, C = (Candidate({"x": x}) for x in (1, 2, 3))


def test_a_trial_knows_where_it_comes_from() -> None:
    trial = history(A)[A.id]
    assert (trial.candidate, trial.number, trial.proposal, trial.source) == (A, 1, 1, "test")
    assert (trial.rationale, trial.parents, trial.claim, trial.state) == ("why", (INITIAL.id,), 1.5, "queued")


@settings(deadline=None, max_examples=100)
@given(st.lists(st.none() | st.floats(-1e6, 1e6), min_size=1, max_size=12))
def test_a_trials_value_is_the_mean_of_its_measurements_that_worked(times: list[float | None]) -> None:
    known = history(A)
    for time in times:
        known.measured(unit(A, time), feasible=True)
    trial, worked = known[A.id], [time for time in times if time is not None]
    assert trial.count == len(worked)
    if worked:
        assert known.value(trial) == pytest.approx(sum(worked) / len(worked), abs=1e-6)
        assert trial.state != "failed" or times[0] is None
    else:
        assert trial.state == "failed" and trial.failure == "error: no" and trial.values is None


def test_the_best_come_first_and_only_feasible_ones_with_a_value() -> None:
    known = history(A, B, C)
    for candidate, time, feasible in [(INITIAL, 5, True), (A, 3, True), (B, 1, False)]:
        known.measured(unit(candidate, time), feasible)
    assert [trial.candidate for trial in known.ranked()] == [A, INITIAL]
    assert [trial.candidate for trial in known.ranked(1)] == [A]
    other = history(A, objective=Objective("time", "maximize"))
    for candidate, time in [(INITIAL, 5), (A, 3)]:
        other.measured(unit(candidate, time), True)
    assert [trial.candidate for trial in other.ranked()] == [INITIAL, A]


def test_equal_values_rank_in_the_order_of_admission() -> None:
    known = history(A, B)
    for candidate in (B, INITIAL, A):
        known.measured(unit(candidate, 1.0), True)
    assert [trial.candidate for trial in known.ranked()] == [INITIAL, A, B]


def test_the_race_moves_the_champion() -> None:
    known = history(A, B)
    known.measured(unit(A, 2.0), True)
    known.measured(unit(B, 1.0), True)
    known.apply(RaceDecided(A.id, INITIAL.id, "promote", "better", {}))
    assert known.champion == A.id and known[A.id].state == "champion" and known[A.id].reason == "better"
    known.apply(RaceDecided(B.id, A.id, "continue", "looks better", {}))
    assert known.champion == A.id and known[B.id].state == "racing"
    known.apply(RaceDecided(B.id, A.id, "promote", "better in 3 of 3", {}))
    assert (known.champion, known[A.id].state, known[B.id].state) == (B.id, "dropped", "champion")
    known.apply(RaceDecided(A.id, B.id, "drop", "not better", {}))
    assert known.champion == B.id and known[A.id].reason == "not better"


def test_proposers_are_told_what_could_not_be_used() -> None:
    known = history()
    known.apply(ProposalEnded(1, [], [{"reason": "no JSON", "source": "evollm:llm", "detail": "…"}]))
    known.apply(CandidateRejected(1, A.id, "seen before", "random"))
    assert [item["reason"] for item in known.rejections] == ["no JSON", "seen before"]
    for _ in range(REMEMBERED):
        known.apply(CandidateRejected(1, A.id, "seen before", "random"))
    assert len(known.rejections) == REMEMBERED and known.rejected == {"evollm:llm": 1, "random": REMEMBERED + 1}


def snapshot(known: History) -> tuple[Any, ...]:
    ids = [trial.id for trial in known.trials]
    return list(known.trials), known.champion, list(known.rejections), dict(known.rejected), [known[i] for i in ids]


CHANGES = [
    lambda known: known.measured(unit(A, 1.0), True),
    lambda known: known.apply(CandidateAdmitted(9, C.id, C.values_json, "test")),
    lambda known: known.apply(CandidateRejected(9, "", "no", "test")),
    lambda known: known.apply(ProposalEnded(9, [], [{"reason": "no", "source": "test"}])),
    lambda known: known.apply(RaceDecided(A.id, INITIAL.id, "promote", "better", {})),
    lambda known: known.apply(RaceDecided(A.id, INITIAL.id, "drop", "worse", {})),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_view_stays_as_it_was_while_the_history_goes_on(change: Any) -> None:
    known = history(A, B)
    early = known.freeze()
    before = snapshot(early)
    change(known)
    late = known.freeze()
    after = snapshot(late)
    assert snapshot(early) == before != after == snapshot(known)
    for further in CHANGES:
        further(known)
    assert (snapshot(early), snapshot(late)) == (before, after)
    assert A.id in early and len(early) == 3


def test_a_view_that_is_changed_changes_nothing_else() -> None:
    known = history(A)
    view, other = known.freeze(), known.freeze()
    before = snapshot(known)
    view.apply(CandidateRejected(1, "", "no", "test"))
    view.measured(unit(A, 1.0), True)
    assert snapshot(known) == before == snapshot(other)


def test_a_view_does_not_know_what_was_admitted_later_there_or_elsewhere() -> None:
    known = history(A)
    early, other = known.freeze(), known.freeze()
    known.apply(CandidateAdmitted(2, B.id, B.values_json, "test"))
    other.apply(CandidateAdmitted(2, C.id, C.values_json, "test"))
    for view, has, lacks in [(early, [A], [B, C]), (known, [A, B], [C]), (other, [A, C], [B])]:
        assert all(item.id in view and view[item.id].candidate == item for item in has)
        for item in lacks:
            assert item.id not in view
            with pytest.raises(KeyError):
                view[item.id]


def test_nothing_is_copied_while_nobody_holds_a_view() -> None:
    known = history(A, B)
    view = known.freeze()
    held = known.trials
    known.measured(unit(A, 1.0), True)
    assert known.trials is not held
    copied = known.trials
    known.measured(unit(B, 1.0), True)
    assert known.trials is copied  # one copy for each view, not for each event
    del view
    known.freeze()
    gc.collect()
    known.measured(unit(A, 2.0), True)
    assert known.trials is copied
