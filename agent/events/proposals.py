"""Events of a proposer at work: what it is asked, what it reads, looks at and calls, and what it comes up with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from agent.events.base import JSON, Event


@dataclass(frozen=True, slots=True)
class ProposalStarted(Event):
    """A proposer is asked for `n` candidates. `id` numbers the decision and seeds its random numbers."""

    id: int
    n: int
    proposer: str
    type: ClassVar[str] = "proposal.started"


@dataclass(frozen=True, slots=True)
class RowRead(Event):
    """A proposer read a row of train; what it proposes in this decision was made with it.

    Args:
        proposal: The decision.
        example: Id of the row.
        row: Its content, as it was told.
    """

    proposal: int
    example: str
    row: Any
    type: ClassVar[str] = "row.read"


@dataclass(frozen=True, slots=True)
class LookAsked(Event):
    """A proposer wants values measured while it works. What that says is compared with nothing.

    Args:
        proposal: The decision.
        key: Names the look in the decision; asked again under it, the decision gets what is there.
        candidate: Id of the values.
        values: In canonical form.
        examples: Rows of train; empty for all that a candidate is measured on as a whole.
        check: Name of the check that refuses the values, and its reason, or "".
        refused: Why nothing is measured although no check refuses it, or "".
    """

    proposal: int
    key: str
    candidate: str
    values: JSON
    examples: list[str] = field(default_factory=list)
    check: str = ""
    refused: str = ""
    type: ClassVar[str] = "look.asked"

    @property
    def leaked(self) -> bool:
        """Whether it was refused because the values repeat held-out answers."""
        return self.check.startswith("leak:")


@dataclass(frozen=True, slots=True)
class ToolEnded(Event):
    """A tool that the model called has answered; a resumed decision uses the answer and does not run it again.

    Args:
        proposal: The decision.
        conversation: Name of the conversation in it.
        turn: Its turn in the conversation.
        index: Its place among the calls of the turn.
        name: Of the tool.
        arguments: As the model gave them; None when they were no JSON object.
        text: The answer.
        error: Whether it says that the tool failed.
        seconds: How long it took.
        reads: Rows of train that it read or measured, so that a decision which takes its answer from here counts as
            made with them too.
        notes: What it wrote in the notebook, by name.
    """

    proposal: int
    conversation: str
    turn: int
    index: int
    name: str
    arguments: JSON | None
    text: str
    error: bool
    seconds: float
    reads: list[str] = field(default_factory=list)
    notes: JSON = field(default_factory=dict)
    type: ClassVar[str] = "tool.ended"


@dataclass(frozen=True, slots=True)
class ProposalEnded(Event):
    """What a proposer came up with.

    Args:
        id: The decision.
        proposals: As the proposer gave them: values, source, rationale, parents, claim, read. The checks decide
            about each in an event of its own.
        rejections: Replies or values that could not be used, each with reason, source and detail.
        state: What the proposer wants to be given back next time, as JSON.
        error: Why the proposer failed as a whole, or "".
        exhausted: Whether the proposer has nothing left to propose.
        over: Words, where the search is to end because whoever makes the candidates asked for it.
    """

    id: int
    proposals: list[JSON]
    rejections: list[JSON] = field(default_factory=list)
    state: Any = None
    error: str = ""
    exhausted: bool = False
    over: str = ""
    type: ClassVar[str] = "proposal.ended"
