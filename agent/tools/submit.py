"""The tool that ends a conversation: it takes a proposal, or says why it cannot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.llm.schema import problems
from agent.proposers import cards, typed
from agent.proposers.base import Context, Proposal
from agent.space import Candidate
from agent.tools.base import Desk, Tool, ToolError
from agent.tools.shared import find

RATIONALE = 600
"""Characters of the reason for a proposal."""
SOURCE = "agentic:llm"

DESCRIPTION = """Propose one configuration. It is checked at once: the answer says that it was taken, or what is wrong.
Everything that `changes` leaves out is as in `base`. To propose several, call it once for each."""


@dataclass
class Submissions:
    """The proposals of one conversation.

    Args:
        context: Of the decision.
        wanted: How many end the conversation.
        taken: So far, each with the number of the hypothesis that it tests, or None.
    """

    context: Context
    wanted: int
    taken: list[tuple[Proposal, int | None]] = field(default_factory=list)

    def tool(self) -> Tool:
        """The tool `submit`, with a schema that names the parameters."""
        space, champion = self.context.problem.space, self.context.champion
        fields: dict[str, Any] = {
            "changes": {
                **typed.schema(space, champion)["properties"]["changes"],
                "description": "New values by parameter. A program is whole, or comes as search/replace blocks.",
            },
            "rationale": {
                "type": "string",
                "maxLength": RATIONALE,
                "description": "Why it should be better, in a sentence or two.",
            },
            "claim": {"type": "number", "description": "The result that you expect of it."},
            "base": {
                "type": "string",
                "description": "What the changes are made to: champion (the default), # and a number, or an id.",
            },
            "hypothesis": {"type": "integer", "description": "Number of the recorded hypothesis that it tests."},
        }
        schema = {**cards.closed(fields), "required": ["changes"]}
        return Tool("submit", DESCRIPTION, schema, self._submit, lambda given: _read(given, schema), pure=True)

    @property
    def done(self) -> bool:
        """Whether as many as wanted were taken."""
        return len(self.taken) >= self.wanted

    async def _submit(
        self,
        desk: Desk,
        /,
        changes: Mapping[str, Any],
        rationale: str = "",
        claim: float | None = None,
        base: str = "champion",
        hypothesis: int | None = None,
    ) -> str:
        if self.done:
            raise ToolError("nothing more is wanted")
        if hypothesis is not None and not any(item["number"] == hypothesis for item in recorded(desk)):
            raise ToolError(f"there is no hypothesis {hypothesis}", hint="record it first, or leave it out")
        parent = find(desk, base)
        candidate = changed(self.context, parent.candidate, changes)
        if candidate.id in self.context.history:
            trial = self.context.history[candidate.id]
            raise ToolError(
                f"it repeats candidate #{trial.number} ({trial.state})", hint="propose one that was not measured yet"
            )
        if any(candidate == made.values for made, _ in self.taken):
            raise ToolError("it is the same as one that you submitted before")
        proposal = Proposal(candidate, SOURCE, rationale.strip()[:RATIONALE], (parent.id,), claim)
        self.taken.append((proposal, hypothesis))
        missing = self.wanted - len(self.taken)
        return f"taken; {missing} more may be submitted" if missing else "taken"


def changed(context: Context, base: Candidate, changes: Mapping[str, Any]) -> Candidate:
    """The candidate that changes make of another one.

    Raises:
        ToolError: One of them cannot be made; says why.
    """
    space = context.problem.space
    good, refused = typed.taken(space, base, changes)
    if refused:
        raise ToolError("; ".join(cards.clip(reason, 600) for reason in refused[:5]))
    try:
        return space.candidate({**base.values_json, **good})
    except ValueError as error:
        raise ToolError(str(error)) from None


def recorded(desk: Desk) -> list[dict[str, Any]]:
    """The hypotheses on record, oldest first."""
    found: list[dict[str, Any]] = desk.notebook.setdefault("hypotheses", [])
    return found


def _read(given: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: item for name, item in given.items() if item is not None or name in schema["required"]}
    # Parameters are checked one by one, in words of their own.
    wrong = problems({**found, "changes": {}}, schema, at="submit") if isinstance(found.get("changes"), dict) else []
    wrong = wrong or ([] if isinstance(found.get("changes"), dict) else ["changes: an object is needed"])
    if wrong:
        raise ValueError("; ".join(reason.removeprefix("submit").lstrip(".: ") for reason in wrong[:5]))
    if isinstance(found.get("hypothesis"), float):
        found["hypothesis"] = int(found["hypothesis"])
    return found
