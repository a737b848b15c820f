"""Every event of a run. The journal is a list of these, and everything else is a fold over it.

Fields are plain JSON. An event's `audience` says who may read it while a run is open: "search"
(proposers, tools and the terminal), "gate" (the gate alone) or "report" (after the end).
Events that end in `Started` have an effect in the world; one without its end was cut off.
Each topic has a module, and what it holds is imported from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.events.base import Event as Event
from agent.events.calls import BatchEnded as BatchEnded
from agent.events.calls import BatchStarted as BatchStarted
from agent.events.calls import BatchSubmitted as BatchSubmitted
from agent.events.calls import CallEnded as CallEnded
from agent.events.calls import CallRefused as CallRefused
from agent.events.calls import CallRetried as CallRetried
from agent.events.calls import CallStarted as CallStarted
from agent.events.candidates import CandidateAdmitted as CandidateAdmitted
from agent.events.candidates import CandidateCleared as CandidateCleared
from agent.events.candidates import CandidateConvicted as CandidateConvicted
from agent.events.candidates import CandidateRejected as CandidateRejected
from agent.events.candidates import CandidateSuspected as CandidateSuspected
from agent.events.candidates import CheckEnded as CheckEnded
from agent.events.candidates import CheckStarted as CheckStarted
from agent.events.gate import ExamDecided as ExamDecided
from agent.events.gate import ExamPlanned as ExamPlanned
from agent.events.gate import ExamStarted as ExamStarted
from agent.events.gate import HoldoutFixed as HoldoutFixed
from agent.events.gate import ReportPlanned as ReportPlanned
from agent.events.gate import ReportReached as ReportReached
from agent.events.gate import ReportStarted as ReportStarted
from agent.events.gate import VerdictReached as VerdictReached
from agent.events.measurements import EvaluationEnded as EvaluationEnded
from agent.events.measurements import EvaluationStarted as EvaluationStarted
from agent.events.measurements import NoiseMeasured as NoiseMeasured
from agent.events.measurements import RaceDecided as RaceDecided
from agent.events.measurements import RaceStarted as RaceStarted
from agent.events.person import BudgetChanged as BudgetChanged
from agent.events.person import HintGiven as HintGiven
from agent.events.person import PairJudged as PairJudged
from agent.events.person import ValueBanned as ValueBanned
from agent.events.person import ValuePinned as ValuePinned
from agent.events.proposals import LookAsked as LookAsked
from agent.events.proposals import ProposalEnded as ProposalEnded
from agent.events.proposals import ProposalStarted as ProposalStarted
from agent.events.proposals import RowRead as RowRead
from agent.events.proposals import ToolEnded as ToolEnded
from agent.events.run import RESUMABLE as RESUMABLE
from agent.events.run import EpochStarted as EpochStarted
from agent.events.run import RunContinued as RunContinued
from agent.events.run import RunEnded as RunEnded
from agent.events.run import RunPaused as RunPaused
from agent.events.run import RunResumed as RunResumed
from agent.events.run import RunStarted as RunStarted
from agent.events.run import StopRequested as StopRequested

TYPES: dict[str, type[Event]] = {kind.type: kind for kind in Event.__subclasses__()}
"""Every event by the name under which it is stored."""


def from_json(kind: str, body: Mapping[str, Any]) -> Event:
    """The event that was stored under a type; fields that a newer version added later take their defaults.

    Raises:
        KeyError: The type is unknown to this version.
    """
    return TYPES[kind](**body)
