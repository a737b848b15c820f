"""Every event type is plain data, and says who may read it."""

from __future__ import annotations

import json
import math
from dataclasses import MISSING, fields

import pytest

from agent import events
from agent.events import (
    CallStarted,
    CandidateAdmitted,
    CandidateRejected,
    EvaluationEnded,
    EvaluationStarted,
    Event,
    ExamDecided,
    ExamPlanned,
    ExamStarted,
    HoldoutFixed,
    VerdictReached,
    from_json,
)

SAMPLES = {"int": 3, "str": "wörter", "JSON": {"a": [1, None]}, "Any": {"b": 1}, "bool": True, "float": 0.5}


def example(kind: type[Event]) -> Event:
    """An event of a type, with a value in every field."""
    values = {}
    for item in fields(kind):
        name = str(item.type)
        if name.startswith("list"):
            values[item.name] = [{"values": {"x": 1}}] if "JSON" in name else ["a"]
        elif item.name == "purpose":
            values[item.name] = "search"
        else:
            values[item.name] = SAMPLES[name.split(" ")[0]]
    return kind(**values)


@pytest.mark.parametrize("kind", events.TYPES.values(), ids=lambda kind: kind.type)
def test_every_event_survives_storage(kind: type[Event]) -> None:
    event = example(kind)
    stored = json.loads(event.body())
    assert list(stored) == [item.name for item in fields(kind)]
    assert from_json(kind.type, stored) == event
    assert event.audience in ("search", "gate", "report")


@pytest.mark.parametrize("kind", events.TYPES.values(), ids=lambda kind: kind.type)
def test_an_event_of_an_older_version_still_reads(kind: type[Event]) -> None:
    """Fields with a default may have been added later, so a stored event may lack them."""
    needed = {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}
    stored = {name: value for name, value in json.loads(example(kind).body()).items() if name in needed}
    again = from_json(kind.type, stored)
    assert {name: getattr(again, name) for name in needed} == stored


def test_the_names_of_events_are_a_contract() -> None:
    assert sorted(events.TYPES) == [
        "batch.ended",
        "batch.started",
        "batch.submitted",
        "budget.changed",
        "call.ended",
        "call.refused",
        "call.retried",
        "call.started",
        "candidate.admitted",
        "candidate.cleared",
        "candidate.convicted",
        "candidate.rejected",
        "candidate.suspected",
        "check.ended",
        "check.started",
        "epoch.started",
        "evaluation.ended",
        "evaluation.started",
        "exam.decided",
        "exam.planned",
        "exam.started",
        "hint.given",
        "holdout.fixed",
        "look.asked",
        "noise.measured",
        "pair.judged",
        "proposal.ended",
        "proposal.started",
        "race.decided",
        "race.started",
        "report.planned",
        "report.reached",
        "report.started",
        "row.read",
        "run.continued",
        "run.ended",
        "run.paused",
        "run.resumed",
        "run.started",
        "stop.requested",
        "tool.ended",
        "value.banned",
        "value.pinned",
        "verdict.reached",
    ]


def test_what_the_gate_does_is_not_for_the_search() -> None:
    for purpose in ("search", "gate", "report"):
        assert EvaluationStarted(1, "c", None, 0, 0, purpose).audience == purpose
        assert EvaluationEnded(1, purpose, {}, None).audience == purpose
    assert ExamStarted(1, "a", "b", 12, 0.05).audience == "report"
    assert ExamPlanned(1, "a", "b", 12, True, {}).audience == "report"
    assert HoldoutFixed([["row", "cluster"]], []).audience == "gate"
    assert VerdictReached({}).audience == "report"
    assert ExamDecided(1, True).audience == "search"  # the one bit that leaves the gate


def test_a_number_that_is_not_finite_cannot_be_stored() -> None:
    with pytest.raises(ValueError):
        CandidateAdmitted(1, "c", {"x": math.nan}, "test").body()


def test_half_a_surrogate_pair_can_be_stored() -> None:
    event = CandidateRejected(1, "", "not allowed: '\ud83d'", "model")
    event.body().encode("utf-8")
    assert from_json(event.type, json.loads(event.body())) == event


def test_readable_text_stays_readable_in_the_store() -> None:
    assert "größer" in CallStarted(1, "s", "k", 0, "propose", "m", {}, {"text": "größer"}).body()
