"""Outputs compared instead of scored: each row's output against the initial candidate's output on that row.

No answer is needed. The initial candidate is 0 by definition, and another one has on each row the judge's preference
for its output, from -1 (worse in every vote) to 1 (better in every vote). Rows, race and gate read that as any score.

Source: Xiang et al., Self-Supervised Prompt Optimization (2025, arXiv 2502.06855), section 3: outputs are compared in
several votes in swapped places. Here the places are balanced exactly, and the judge never sees a prompt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent.errors import ConfigError
from agent.evaluation import Ask, Evaluator, Output, Request, Score, measurement
from agent.evaluators.voting import Judge, Judged, Occasion
from agent.executors.inline import InlineExecutor
from agent.metrics.base import quoted
from agent.space import Candidate, digest

if TYPE_CHECKING:
    from agent.problem import Problem

NAME = "preference"
REPEATS = "noise"
"""Stage in which the initial candidate is measured again, to be compared with itself."""
TOLD = 1200
"""Most characters of an output that the words for the proposer hold."""


class PairwiseEvaluator:
    """Compares each output of a program with the initial candidate's output on the same row.

    The output's value is that of the program, with the preference among its numbers. An output that equals the
    initial one is a tie without a vote. Where the initial candidate failed there is nothing to compare with: whoever
    answers there has 0, and a failure counts -1 as it does everywhere.

    The initial candidate's outputs are kept in memory, by row and replicate; after a restart they are made again.

    Args:
        program: An evaluator whose output has a "text".
        judge: Who compares.
        initial: Values of the candidate that everything is compared with; a problem says its own (`begins`).
        name: Of the objective.
    """

    blocking = False
    keeps_limits = False
    spec = None
    """The outputs that it compares with are in this process."""

    def __init__(self, program: Evaluator, judge: Judge, initial: Mapping[str, Any], *, name: str = NAME) -> None:
        self.program, self.judge, self.name = program, judge, name
        self.initial = initial if isinstance(initial, Candidate) else Candidate(initial)
        self.exclusive = program.exclusive
        self.uses: tuple[str, ...] = tuple(dict.fromkeys((*getattr(program, "uses", ()), *judge.uses)))
        self.names: tuple[str, ...] = (name,)
        self.at_terminal: bool = getattr(judge, "at_terminal", False)
        self._kept: dict[tuple[str | None, int], Output] = {}
        self._making: dict[tuple[str | None, int], asyncio.Lock] = {}
        self._inner = InlineExecutor(program)

    @property
    def fingerprint(self) -> str:
        """Changes with the program, the judge, and what everything is compared with."""
        return digest(["pairwise", self.program.fingerprint, self.judge.fingerprint, self.initial.values_json])

    def begins(self, initial: Candidate) -> None:
        """What everything is compared with from now on: the problem's initial candidate."""
        if initial.id != self.initial.id:
            self.initial = initial
            self._kept.clear()

    def ready(self, problem: Problem) -> None:
        """Refuse objectives that are no preference, before anything is paid.

        Raises:
            ConfigError: Says what the objective must be.
        """
        goal = problem.objective
        if (goal.name, goal.direction, goal.low, goal.high) != (self.name, "maximize", -1, 1):
            raise ConfigError(
                f"objectives: compared outputs have the objective {self.name!r}, to be maximized, from -1 to 1",
                hint=f'[[objectives]] name = "{self.name}", direction = "maximize", low = -1, high = 1',
            )
        self.names = problem.reported
        program = getattr(self.program, "ready", None)
        if program is not None:
            program(problem)

    def guard(self) -> Mapping[str, Any]:
        """What the program's sandbox is; refuses a judge that cannot work here.

        Raises:
            PrerequisiteError, ConfigError: As `Judge.guard`.
        """
        self.judge.guard()
        program = getattr(self.program, "guard", None)
        found: Mapping[str, Any] = program() if program is not None else {}
        return found

    def forecast(self, problem: Problem) -> dict[str, tuple[float, float, float]]:
        """Of one evaluation at most, by role: model calls, tokens in, tokens out. The initial output is one more."""
        program = getattr(self.program, "forecast", None)
        asked: dict[str, tuple[float, float, float]] = program(problem) if program is not None else {}
        task = asked.get("task", (0.0, 0.0, 0.0))
        out = {role: (2 * calls, 2 * heard, 2 * said) for role, (calls, heard, said) in asked.items()}
        if "judge" in self.judge.uses:
            from agent.llm.estimate import input_bound

            judge: Any = getattr(self.judge, "model", self.judge)
            rows = [example.row for example in problem.split("train")[:100]]
            blank = [input_bound(judge.judge.request(row, "", "")) for row in rows]
            heard = sum(blank) / max(1, len(blank)) + 2 * task[2]
            own = out.get("judge", (0.0, 0.0, 0.0))
            said = float(judge.judge.request(rows[0] if rows else {}, "", "").max_output_tokens)
            votes = float(judge.votes)
            out["judge"] = (own[0] + votes, own[1] + votes * heard, own[2] + votes * said)
        return out

    async def self_test(self, ask: Ask | None) -> None:
        """The judge's; a run makes it before anything is measured."""
        await self.judge.self_test(ask)

    async def produce(self, request: Request, partial: Callable[[Any], None], ask: Ask | None = None) -> Output:
        """The program's output, and what the judge says of it beside the initial one."""
        first = request.candidate.id == self.initial.id and request.stage != REPEATS
        output = await self._reference(request, ask) if first else await self._made(request, partial, ask)
        if output.failure is not None:
            return output
        text = output.value["text"]
        if first:
            return self._told(output, text, Judged(0.0, "this is what others are compared with", by="nobody"))
        # Noise is how far the initial candidate is from itself: what it says again, beside what it said at first.
        old = await self._reference(replace(request, replicate=0) if request.stage == REPEATS else request, ask)
        if old.failure is not None:
            return self._told(output, text, Judged(0.0, "the initial candidate failed here", by="nobody"))
        if text == old.value["text"]:
            return self._told(output, text, Judged(0.0, "the same output as the initial candidate's", by="nobody"))
        occasion = Occasion(request.candidate.id, self.initial.id, held_out=request.purpose != "search")
        try:
            judged = await self.judge.compare(request.row, text, old.value["text"], ask, occasion)
            return self._told(output, text, judged)
        except ValueError as error:
            return Output.failed("invalid", f"the outputs cannot be compared: {error}")

    def score(self, output: Output) -> Score:
        """The numbers that `produce` kept."""
        kept = output.value
        value = measurement({"values": kept["values"], "feedback": kept["feedback"]}, self.names)
        return Score(value["values"], value["feedback"])

    def _told(self, output: Output, text: str, judged: Judged) -> Output:
        d, kept = judged.difference, output.value
        how = "better" if d > 0 else "worse" if d < 0 else "no better and no worse"
        said = [f"{how} than the initial candidate's output ({d:+.2g})", judged.words, kept.get("feedback", "")]
        words = "; ".join(part for part in said if part) + f"\noutput: {quoted(text, TOLD)}"
        values = {**kept["values"], self.name: d, "unreadable": judged.unreadable}
        # Without its seconds, so that those of the judge are counted as well.
        return replace(output, value={**kept, "values": values, "feedback": words, "judged_by": judged.by}, seconds=0.0)

    async def _made(self, request: Request, partial: Callable[[Any], None], ask: Ask | None) -> Output:
        output = await self._inner.submit(request, partial, ask if getattr(self.program, "uses", ()) else None)
        kept = output.value
        if output.failure is None and not (isinstance(kept, Mapping) and isinstance(kept.get("text"), str)):
            return Output.failed("invalid", "the program gave no text to compare")
        return output

    async def _reference(self, request: Request, ask: Ask | None) -> Output:
        """The initial candidate's output on this row: made once, also when several wait for it."""
        place = request.example, request.replicate
        async with self._making.setdefault(place, asyncio.Lock()):
            found = self._kept.get(place)
            if found is None:
                asked = replace(request, candidate=self.initial, stage="full")
                found = await self._made(asked, lambda _: None, ask)
                if found.failure is None:  # a failure may pass, and another row's evaluation may have more luck
                    self._kept[place] = found
        self._making.pop(place, None)
        return found
