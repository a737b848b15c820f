"""The proposer's contract: make candidates from the history.

A proposer keeps no state of its own between calls. What it needs next time it puts into
`context.memory`, which is journalled; randomness comes from `context.rng` alone. So a proposal that
was cut off is made again exactly, and answers that were already paid for are used again.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from agent.errors import ConfigError
from agent.history import SUSPICIOUS, History, Trial
from agent.problem import Problem
from agent.proposers.effects import Effects, Read, Work, changed
from agent.space import Candidate
from agent.tools.clock import waiting

if TYPE_CHECKING:
    from agent.llm.types import Completion, ModelRequest
    from agent.looking import Look
    from agent.tracing.spans import Trace

Ask = Callable[["ModelRequest"], Awaitable["Completion"]]
"""One model call in the proposer's role, validated when the request has a schema. Raises OutputInvalid
when the reply is unusable even after a repair turn, BudgetExceeded, or ProviderError."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A candidate and where it comes from.

    Args:
        values: A value for every parameter.
        source: Proposer, and how it was made: "evollm:llm", "coordinate" …
        rationale: Why, in words for people and for later prompts.
        parents: Ids of the candidates it was made from.
        claim: What the proposer expects the primary objective to be.
        read: Ids of rows that it was made with and that `Context.read` did not give in this decision, such as rows
            that the memory tells of. What can be known by heart says nothing for a candidate, so its race leaves
            out all that it or an ancestor was made with.
    """

    values: Mapping[str, Any]
    source: str
    rationale: str = ""
    parents: tuple[str, ...] = ()
    claim: float | None = None
    read: tuple[str, ...] = ()
    radius: float = 0.0

    def to_json(self) -> dict[str, Any]:
        values = self.values.values_json if isinstance(self.values, Candidate) else dict(self.values)
        out: dict[str, Any] = {"values": values, "source": self.source}
        if self.rationale:
            out["rationale"] = self.rationale
        if self.parents:
            out["parents"] = list(self.parents)
        if self.claim is not None:
            out["claim"] = self.claim
        if self.read:
            out["read"] = list(self.read)
        if self.radius:
            out["radius"] = self.radius
        return out


@dataclass(frozen=True, slots=True)
class RowView:
    """A row of train, and what the champion made of it.

    Args:
        id: Of the row.
        row: Its content.
        score: The champion's primary objective on it; None where it failed or was not measured yet.
        feedback: The evaluator's words about that, or why it failed.
        measured: Whether the champion was measured on it.
    """

    id: str
    row: Any
    score: float | None
    feedback: str
    measured: bool


@dataclass
class Context:
    """What a proposer may read and use.

    Args:
        problem: Space, objectives, constraints and description; no rows, no evaluator.
        history: The search view of the past, frozen at the moment of asking.
        rng: Randomness of this decision.
        ask: A model call, or None when the run has no model.
        left: What is left of the ledger by kind (infinity without a limit).
        share: Evaluations that are left to the search: without what exam and report need, and what is admitted and
            not measured yet.
        each: Evaluations that a proposal takes at the least.
        looks: Evaluations that the looks of this decision may take in all: the share without what its proposals take.
            A proposer may lower it.
        decision: Number of this decision, from 1.
        memory: JSON that the proposer left last time, None at first; set it for the next time.
        options: The user's options for this proposer.
        reader: Gives rows of train; None when the problem has none. Use `read`, which keeps account.
        reads: Ids of the rows that were read so far, in order.
        effects: The run; None where a proposer is driven without one.
    """

    problem: Problem
    history: History
    rng: random.Random
    ask: Ask | None = None
    left: Mapping[str, float] = field(default_factory=dict)
    share: float = math.inf
    each: float = 1.0
    looks: float = math.inf
    decision: int = 1
    memory: Any = None
    options: Mapping[str, Any] = field(default_factory=dict)
    rejections: list[dict[str, Any]] = field(default_factory=list)
    exhausted: bool = False
    """Set it when nothing is left to propose, now or later."""
    over: str = ""
    """Set it to words when whoever makes the candidates asks for the end of the search."""
    reader: Read | None = None
    reads: list[str] = field(default_factory=list)
    effects: Effects | None = None
    clusters: Mapping[str, str] = field(default_factory=dict)
    """What rows of train belong to, by their ids; rows that stand alone are not in it."""

    async def read(self, example: str) -> RowView:
        """A row of train, with what the champion scored on it.

        Every proposal of this decision counts as made with it, so that learning it by heart wins no race.
        It is journalled, and a replay gives the same content.

        Args:
            example: Its id; `problem.split("train")` has them all, and the champion's `rows` those it was measured on.

        Raises:
            ConfigError: There is no such row to read.
        """
        if self.reader is None or example not in {item.id for item in self.problem.split("train")}:
            raise ConfigError(f"there is no row {example!r} to read", hint="ids are in context.problem.split('train')")
        row = await self.reader(example)
        if example not in self.reads:
            self.reads.append(example)
        rows = self.history[self.history.champion].rows
        score, feedback = rows.get(example, (None, ""))
        return RowView(example, row, score, feedback, example in rows)

    async def trace(self, candidate: str, example: str | None = None) -> Trace | None:
        """What a traced program did with a candidate, in the search's newest measurement of it before this decision.

        The measurement's row counts as read.

        Args:
            candidate: Its id.
            example: Only of this row; None for any.

        Returns:
            None where nothing was traced.
        """
        found = await self.effects.trace(candidate, example) if self.effects is not None else None
        if found is None:
            return None
        trace, row = found
        self.counting([row] if row is not None else [])
        return trace

    async def look(self, values: Mapping[str, Any], examples: Sequence[str] = (), *, key: str) -> Look:
        """Measure values now. It is charged as any measurement of the search, and compared with nothing.

        The rows count as read. Asked again in this decision under its key, also after a kill, it gives what is there.
        On a deterministic problem what is known of the values on a row is taken and costs nothing.

        Args:
            values: A value for every parameter.
            examples: Rows of train; without any, all that a candidate is measured on as a whole, where candidates
                are not measured row by row.
            key: Names the look in this decision.

        Raises:
            BudgetExceeded: It is more than `looks` has, or than the search has by now; nothing was measured.
            ConfigError: There is no such row, a check refuses the values, or nothing can be measured here.
            ValueError: The values are not of the space; says why.
        """
        candidate = self.problem.space.candidate(values)
        rows = list(dict.fromkeys(examples))
        known = {item.id for item in self.problem.split("train")}
        foreign = next((row for row in rows if row not in known), None)
        if foreign is not None:
            raise ConfigError(f"there is no row {foreign!r} to measure", hint="take ids of rows of train")
        if self.problem.by_rows and not rows:
            raise ConfigError("a look names the rows that it measures", hint="take ids of rows of train")
        if self.effects is None:
            raise ConfigError("nothing can be measured here", hint="look in a run")
        with waiting():
            found = await self.effects.look(candidate, rows, key, self.looks)
        self.counting(row.example for row in found.rows if row.example is not None)
        return found

    def looked(self, begin: str) -> int:
        """Evaluations that the looks of a tool call have taken; what was known took none.

        Args:
            begin: What names the call: "conversation.turn.index".
        """
        return self.effects.looked(begin) if self.effects is not None else 0

    async def consult(self, request: ModelRequest, *, role: str, key: str) -> Completion:
        """A model call in another role, such as critic; in the proposer's own where that role has no model.

        Args:
            request: What to say; a reply to one with a schema is validated.
            role: propose, task, judge or critic.
            key: Names the asker in this decision; n equal requests under one key are n samples.

        Raises:
            OutputInvalid, BudgetExceeded, ProviderError: As for `ask`.
            ConfigError: The run has no model.
        """
        with waiting():
            if self.effects is not None:
                return await self.effects.consult(request, role, key)
            if self.ask is None:
                raise ConfigError("this run has no model to ask", hint="name one with --model provider:model")
            return await self.ask(request)

    async def step(
        self,
        conversation: str,
        turn: int,
        index: int,
        name: str,
        arguments: Mapping[str, Any] | None,
        work: Work,
        notebook: dict[str, Any] | None = None,
    ) -> tuple[str, bool]:
        """A tool call, which is run once: its answer is journalled, and given again after a kill and in a replay.

        Args:
            conversation: Name of the conversation, without dots.
            turn: Its turn in the conversation.
            index: Its place among the calls of the turn.
            name: Of the tool.
            arguments: As the model gave them; None when they were no JSON object.
            work: Runs the tool. It is given "conversation.turn.index", the beginning of the key of every look and
                every consultation that it makes.
            notebook: That the tool writes in: what it changes there is journalled too, as far as it is JSON.

        Returns:
            The answer, and whether it says that the tool failed.
        """
        if self.effects is None:
            return await work(f"{conversation}.{turn}.{index}")
        before = copy.deepcopy(notebook or {})

        def after() -> tuple[list[str], dict[str, Any]]:
            return list(self.reads), changed(before, notebook or {})

        given = (conversation, turn, index, name, arguments, work)
        text, error, rows, notes = await self.effects.step(*given, after)
        self.counting(rows)
        if notebook is not None:
            notebook.clear()
            notebook.update({**before, **copy.deepcopy(notes)})
        return text, error

    def counting(self, rows: Iterable[str]) -> None:
        """Count rows as read that are known here in another way, such as by notes of an earlier decision."""
        self.reads.extend(row for row in dict.fromkeys(rows) if row not in self.reads)

    def showing(self, *trials: Trial) -> None:
        """Say that a model is shown what these candidates consist of, or why they were made.

        What they and their ancestors were made with counts as read, since their texts may tell of it. What the
        champion's own line was made with does not: a race favours nobody by that (`agent.gate.arena`).
        """
        if any(trial.read for trial in trials):
            champion = self._line([self.history[self.history.champion]], {})
            line = self._line([trial for trial in trials if trial.read], champion)
            self.counting(sorted({row for trial in line.values() for row in trial.learned}))

    def failure(self, trial: Trial) -> str:
        """Why a candidate has no result, as far as a model may be shown it.

        Where candidates are measured row by row the words are those on one row, and may quote it: `read` shows them,
        and keeps account. So here the kind alone is told.
        """
        return trial.failure.partition(":")[0] if self.problem.by_rows else trial.failure

    def feedback(self, trial: Trial) -> str:
        """What the evaluator said of a candidate as a whole; of one that is measured row by row, nothing."""
        return "" if self.problem.by_rows else trial.feedback

    def detail(self, trial: Trial) -> str:
        """What is known of a candidate's last measurement: traceback, what it printed, time; of one on rows, nothing.

        It is as the candidate wants it to be: a prompt shows it between marks only (`agent.code.untrusted`).
        """
        return "" if self.problem.by_rows else trial.detail

    def reason(self, trial: Trial) -> str:
        """What the race said of a candidate, which may repeat its failure."""
        if self.problem.by_rows and trial.reason.startswith(("failed: ", SUSPICIOUS)):
            return ": ".join(trial.reason.split(": ")[: 1 + trial.reason.startswith("failed: ")])
        return trial.reason

    def _line(self, trials: Iterable[Trial], without: Mapping[str, Trial]) -> dict[str, Trial]:
        """Candidates and all that they were made from; `without` ends a line."""
        found: dict[str, Trial] = {}
        ahead = list(trials)
        while ahead:
            trial = ahead.pop()
            if trial.id not in found and trial.id not in without:
                found[trial.id] = trial
                ahead += [self.history[name] for name in trial.parents if name in self.history]
        return found

    def finished(self, proposal: Proposal) -> dict[str, Any]:
        """A proposal as it is journalled: with all rows that were read in this decision."""
        out = proposal.to_json()
        read = dict.fromkeys([*proposal.read, *self.reads])
        return {**out, "read": list(read)} if read else out

    def reject(self, reason: str, source: str, detail: str = "") -> None:
        """Record that a reply or a value could not be used. Nothing is ever replaced without this."""
        rejection = {"reason": reason, "source": source}
        if detail:
            rejection["detail"] = detail[:2000]
        self.rejections.append(rejection)

    @property
    def champion(self) -> Candidate:
        """The candidate that the search builds on."""
        return self.history[self.history.champion].candidate


class Proposer(Protocol):
    """Makes candidates. `agent.testing.proposers.ProposerContract` holds what every one must do.

    Attributes:
        name: As in the table.
        needs_model: Whether it is of no use without a model.

    It may also have `uses_model`, for one that asks a model where the run has one and works without, and
    `texts`, for one that changes texts too, so that a space without numbers is no mistake, and
    `any_space`, for one whose memory says nothing of places in the space: it keeps it when a parameter is pinned.
    """

    name: str
    needs_model: bool

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        """About `n` proposals: fewer when there is nothing else to say, more when they are made as a group.

        Raises:
            BudgetExceeded: A limit keeps it from calling its model.
            ProviderError: The model cannot be reached.
            ConfigError: The problem or the options are not for this proposer.
        """
        ...

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """Model calls for so many candidates, and the tokens in and out, all at most and without repairs.

        Raises:
            ConfigError: As for `propose`, so that it is found before anything is spent.
        """
        ...


def numeric(problem: Problem, proposer: str) -> tuple[str, ...]:
    """The names of the numbers and choices in a problem's space.

    Raises:
        ConfigError: There are none, so that this proposer has nothing to change.
    """
    if not problem.space.numeric:
        raise ConfigError(
            f"the proposer {proposer} changes numbers and choices, and the space has none",
            hint="declare a float, int or categorical parameter, or choose another proposer",
        )
    return problem.space.numeric
