"""A model as judge: of one output by a rubric, or of two outputs in both orders.

The judge gets the row and the output. It never gets the prompt that is being optimized unless `show_prompt` asks for
that. A reply that cannot be read is no verdict: it is counted, told, and never replaced by a number.

Source: Zheng et al., Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena (2023): single grading and pairwise
comparison (section 3.1), position bias and swapping as its remedy (sections 3.3 and 3.4).
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.code.untrusted import cleaned
from agent.errors import ConfigError, OutputInvalid
from agent.evaluation import Score
from agent.llm.structured import Shape
from agent.llm.types import Message, ModelRequest
from agent.metrics.base import Ask, Metric, Row, as_text, quoted
from agent.prompts.render import render
from agent.space import digest

REASONS = 600
"""Most characters of a rationale."""
SHOWN = 8000
"""Most characters of an output, or of a field of the row, that a judge reads."""


@dataclass(slots=True)
class Votes:
    """Votes on one output: the verdicts with their rationales, and why others cannot be read."""

    given: list[int] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


class Judge(Metric):
    """Scores an output by a rubric: the mean verdict of its votes, moved to [0, 1].

    It reports "judge" and "unreadable", the share of votes without a verdict. Votes beyond the first are only worth
    their price with a temperature above 0.

    Args:
        rubric: What a good answer is, in words, as detailed as for a person.
        scale: The worst and the best verdict, whole numbers.
        fields: Fields of the row that are shown as the task; all but the answer by default.
        reference: Whether the row's answer is shown as the reference.
        votes: How often each output is judged, 1 to 25.
        show_prompt: Whether the judge is shown the prompt that led to the output.
        temperature: Of the judge; None leaves it to the model.
        max_output_tokens: Of one verdict with its rationale, a reasoning model's thoughts included.
        answer: The row's field with the reference.
        reveal: Whether the words for the proposer hold the rationale, which may quote the reference.

    Raises:
        ConfigError: An option is out of range.
    """

    uses = ("judge",)
    names = ("judge", "unreadable")

    def __init__(
        self,
        *,
        rubric: str,
        scale: Sequence[int] = (1, 5),
        fields: Sequence[str] | None = None,
        reference: bool = False,
        votes: int = 1,
        show_prompt: bool = False,
        temperature: float | None = 0.0,
        max_output_tokens: int = 1024,
        answer: str = "answer",
        reveal: bool = True,
    ) -> None:
        super().__init__(answer=answer, reveal=reveal)
        if not rubric.strip():
            raise ConfigError("judge: the rubric is empty", hint="say what makes an answer good, and what each end is")
        ends = [end for end in scale if isinstance(end, int) and not isinstance(end, bool)]
        if len(scale) != 2 or len(ends) != 2 or not 0 < ends[1] - ends[0] <= 100:
            raise ConfigError(f"judge: scale: found {scale!r}, allowed are two rising whole numbers, such as [1, 5]")
        if not 1 <= votes <= 25:
            raise ConfigError(f"judge: votes: found {votes!r}, allowed is 1 to 25")
        self.rubric, self.scale, self.votes = rubric, (ends[0], ends[1]), votes
        self.fields = None if fields is None else tuple(fields)
        self.reference, self.show_prompt = reference, show_prompt
        self._temperature, self._tokens = temperature, max_output_tokens
        self._shape = Shape(_schema(list(range(ends[0], ends[1] + 1))))

    def request(self, output: str, row: Row, prompt: str = "") -> ModelRequest:
        """What the judge is asked.

        Raises:
            ValueError: The row lacks a field that is shown, or the prompt is to be shown and was not given.
        """
        if self.show_prompt and not prompt:
            raise ValueError("judge: show_prompt is set, and no model was asked, so there is no prompt to show")
        reference = ("; or: ".join(self.answers(row)) if self.reference else "")[:SHOWN]
        task = task_text(self, row, self.fields)
        low, high = self.scale
        said, led = cleaned(output, SHOWN), cleaned(prompt, SHOWN) if self.show_prompt else ""
        user = render(
            "judge.txt",
            mark=_mark(self.rubric, said, led, task, reference),
            rubric=self.rubric,
            task=task,
            reference=reference,
            output=said,
            prompt=led,
            low=low,
            high=high,
        )
        return ModelRequest(
            (Message("user", user),),
            system=render("judge_system.txt", low=low, high=high, reference=reference),
            schema=self._shape.schema,
            max_output_tokens=self._tokens,
            temperature=self._temperature,
        )

    async def verdicts(self, output: str, row: Row, ask: Ask, prompt: str = "") -> Votes:
        """All votes on an output, on the scale."""
        request = self.request(output, row, prompt)
        votes = Votes()
        for _ in range(self.votes):
            try:
                found = self._shape.read(await ask(request, "judge"))
            except OutputInvalid as error:
                votes.lost.append(error.message)
            else:
                votes.given.append(int(found["verdict"]))
                votes.reasons.append(str(found["rationale"]))
        return votes

    async def measure(self, output: str, row: Row, ask: Ask | None = None, prompt: str = "") -> Score:
        """The mean verdict, and the rationales as words.

        Raises:
            ValueError: There is no `ask`, or no vote could be read: that row has no score then.
        """
        if ask is None:
            raise ValueError("judge: it asks a model; measure(output, row, ask) needs `ask`")
        votes = await self.verdicts(output, row, ask, prompt)
        verdicts, reasons, lost = votes.given, votes.reasons, votes.lost
        if not verdicts:
            raise ValueError(f"judge: none of {self.votes} votes can be read: {lost[0]}")
        low, high = self.scale
        mean = sum(verdicts) / len(verdicts)
        words = f"the judge gives {mean:.3g} on a scale from {low} to {high}"
        if lost:
            words += f" ({len(lost)} of {self.votes} votes cannot be read: {lost[0]})"
        if self.reveal:
            worst = min(range(len(verdicts)), key=verdicts.__getitem__)
            words += f": {quoted(reasons[worst], REASONS)}"
        return Score({"judge": (mean - low) / (high - low), "unreadable": len(lost) / self.votes}, words)


@dataclass(frozen=True, slots=True)
class Compared:
    """Two outputs judged in both orders.

    Args:
        first: What the judge said where `a` was shown first: "a", "b", "tie", or None when that cannot be read.
        second: The same where `b` was shown first.
        reasons: The rationales that could be read, and why a vote could not.
    """

    first: str | None
    second: str | None
    reasons: tuple[str, ...] = ()

    @property
    def unreadable(self) -> int:
        """Votes without a verdict, 0 to 2."""
        return (self.first is None) + (self.second is None)

    @property
    def preference(self) -> float | None:
        """For a over b in [0, 1]: the mean of both orders, so that a verdict which follows the order is 0.5.

        None unless both orders can be read: one alone would carry the bias of its order.
        """
        if self.first is None or self.second is None:
            return None
        worth = {"a": 1.0, "tie": 0.5, "b": 0.0}
        return (worth[self.first] + worth[self.second]) / 2

    @property
    def flipped(self) -> bool:
        """Whether the verdict followed the order."""
        return {self.first, self.second} == {"a", "b"}


class PairJudge:
    """Says which of two outputs for a row is better; the judge sees neither the prompts nor where they come from.

    Args:
        rubric: What makes an answer better.
        fields: Fields of the row that are shown as the task; all but the answer by default.
        ties: Whether the judge may call a tie.
        rationale: Whether it gives its reasons before the verdict; without, a vote is one token or two.
        answer: The row's field with the reference, which is not shown.
        temperature: Of the judge; None leaves it to the model.
        max_output_tokens: Of one verdict with its rationale.
    """

    def __init__(
        self,
        *,
        rubric: str,
        fields: Sequence[str] | None = None,
        ties: bool = True,
        rationale: bool = True,
        answer: str = "answer",
        temperature: float | None = 0.0,
        max_output_tokens: int = 1024,
    ) -> None:
        if not rubric.strip():
            raise ConfigError("judge: the rubric is empty", hint="say what makes one answer better than another")
        self.rubric, self.ties, self.rationale, self.needs = rubric, ties, rationale, answer
        self.fields = None if fields is None else tuple(fields)
        self._temperature, self._tokens = temperature, max_output_tokens
        self._shape = Shape(_schema(["1", "2", *(["tie"] if ties else [])], rationale))
        self._row = Metric(answer=answer)
        self._row.name = "judge"

    def request(self, row: Row, first: str, second: str) -> ModelRequest:
        """What the judge is asked, in one order."""
        one, two = cleaned(first, SHOWN), cleaned(second, SHOWN)
        task = task_text(self._row, row, self.fields)
        user = render(
            "judge_pair.txt",
            mark=_mark(self.rubric, one, two, task),
            rubric=self.rubric,
            task=task,
            first=one,
            second=two,
            ties=self.ties,
        )
        return ModelRequest(
            (Message("user", user),),
            system=render("judge_pair_system.txt", ties=self.ties, rationale=self.rationale),
            schema=self._shape.schema,
            max_output_tokens=self._tokens,
            temperature=self._temperature,
        )

    async def vote(self, row: Row, first: str, second: str, ask: Ask) -> tuple[float | None, str]:
        """The preference for the output shown first (1, 0.5 or 0), and why; None when the reply cannot be read."""
        try:
            found = self._shape.read(await ask(self.request(row, first, second), "judge"))
        except OutputInvalid as error:
            return None, error.message
        return {"1": 1.0, "2": 0.0, "tie": 0.5}[found["verdict"]], str(found.get("rationale", ""))[:REASONS]

    async def compare(self, row: Row, a: str, b: str, ask: Ask) -> Compared:
        """Both orders, so that each output is shown first exactly once."""
        one, why = await self.vote(row, a, b, ask)
        two, other = await self.vote(row, b, a, ask)
        said = {1.0: "a", 0.5: "tie", 0.0: "b", None: None}
        return Compared(
            said[one], said[None if two is None else 1.0 - two], tuple(text for text in (why, other) if text)
        )

    def bound(self, ask: Ask) -> Callable[[Any, Any, Any], Awaitable[float]]:
        """As a comparison in one order, `compare(example, first, second)`, for `agent.gate.preferences.judge_pairs`.

        It raises ValueError where the vote cannot be read.
        """

        async def compare(example: Any, first: Any, second: Any) -> float:
            value, why = await self.vote(example, as_text(first), as_text(second), ask)
            if value is None:
                raise ValueError(f"the judge's vote cannot be read: {why}")
            return value

        return compare


def task_text(metric: Metric, row: Row, fields: Sequence[str] | None) -> str:
    """The row as a judge reads it: the fields that are shown, never the answer unless it is named.

    Raises:
        ValueError: A field is missing.
    """
    names = [name for name in row if name not in (metric.needs, "id")] if fields is None else fields
    return "\n".join(f"{name}: {cleaned(as_text(metric.field(row, name)), SHOWN)}" for name in names)


def _mark(*texts: str) -> str:
    """What stands around foreign texts: the same for the same texts, and in none of them."""
    rng = random.Random(digest(list(texts)))
    mark = f"{rng.getrandbits(64):016x}"
    while any(mark in text for text in texts):
        mark = f"{rng.getrandbits(64):016x}"
    return mark


def _schema(verdicts: Sequence[Any], rationale: bool = True) -> dict[str, Any]:
    properties: dict[str, Any] = {"verdict": {"enum": list(verdicts)}}
    if rationale:  # before the verdict, or it would be an excuse and not a reason
        properties = {"rationale": {"type": "string", "maxLength": REASONS}, **properties}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
