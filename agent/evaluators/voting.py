"""Who compares two outputs: what every judge does, a model, and a program. Each is tested before it is believed."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from agent.errors import ConfigError, EvaluatorError
from agent.evaluation import Ask
from agent.evaluators.judge import PairJudge
from agent.metrics.base import Row, quoted
from agent.space import digest

FIRST = "candidate's output as answer 1"
NEUTRAL = "The better answer is correct, does what the task asks, and can be understood."
PLANTED: tuple[Mapping[str, Any], ...] = (
    {
        "row": {"question": "What is the capital of France?"},
        "good": "The capital of France is Paris.",
        "bad": "The capital of France is a kind of soup.",
    },
    {
        "row": {"question": "How many minutes are in two hours? Answer with the number."},
        "good": "120",
        "bad": "I like trains.",
    },
    {
        "row": {"question": "Write one polite sentence that declines an invitation to dinner."},
        "good": "Thank you very much for the invitation, but I am sorry that I cannot come to dinner.",
        "bad": "dinner dinner dinner dinner dinner",
    },
)
"""What every judge must tell apart, when the user names nothing of the task's own."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What came of comparing two outputs.

    Args:
        difference: The preference for the new output, in [-1, 1]; 0 is a tie.
        words: Why, for people and proposers.
        unreadable: Share of the votes that could not be read, each of which made a tie of its pair of votes.
        by: Who said so: model, program, human, or nobody.
    """

    difference: float
    words: str = ""
    unreadable: float = 0.0
    by: str = "model"


@dataclass(frozen=True, slots=True)
class Occasion:
    """What two outputs are compared for. Nobody who decides is shown it.

    Args:
        candidate: Id of the candidate that gave the new output.
        initial: Id of the one that gave the old output.
        held_out: Whether the row is one that the search must learn nothing of.
    """

    candidate: str = ""
    initial: str = ""
    held_out: bool = False


SEARCH = Occasion()


class Judge(Protocol):
    """Says which of two outputs is better.

    Attributes:
        uses: Roles of the models that it asks.
        fingerprint: Changes when its verdicts may.
    """

    @property
    def uses(self) -> tuple[str, ...]: ...

    @property
    def fingerprint(self) -> str: ...

    async def compare(self, row: Row, new: str, old: str, ask: Ask | None, occasion: Occasion = SEARCH) -> Judged:
        """The preference for `new`; neither the prompts nor which of the two is new are known to who decides."""
        ...

    async def self_test(self, ask: Ask | None) -> None:
        """See whether it prefers a good output over a planted bad one, in both orders.

        Raises:
            EvaluatorError: It does not.
        """
        ...

    def guard(self) -> None:
        """Refuse what cannot work here, before anything is spent.

        Raises:
            PrerequisiteError, ConfigError: Say what is lacking.
        """
        ...


def planted(given: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """The user's own pairs for the self-test, checked.

    Args:
        given: Mappings with "row", "good" and "bad": two outputs for the row, one of them clearly better.

    Raises:
        ConfigError: One is not of that form.
    """
    for number, item in enumerate(given, 1):
        fine = isinstance(item, Mapping) and set(item) == {"row", "good", "bad"}
        if not (fine and all(isinstance(item[name], str) for name in ("good", "bad"))):
            raise ConfigError(
                f"planted: item {number} is not of the form row, good, bad",
                hint='such as { row = { question = "2 + 2?" }, good = "4", bad = "a fish" }',
            )
        if item["good"] == item["bad"]:
            raise ConfigError(f"planted: item {number} has one text for good and bad", hint="plant a bad answer")
    return tuple(given)


async def passed(vote: Callable[[Row, str, str], Awaitable[float | None]], pairs: Sequence[Mapping[str, Any]]) -> None:
    """Have a judge tell good outputs from planted bad ones, each pair in both orders.

    Args:
        vote: The preference for the output that is shown first; None where it cannot be read.
        pairs: As in `planted`.

    Raises:
        EvaluatorError: A vote went to the bad output, to none, or cannot be read.
    """
    right = wrong = 0
    for item in pairs:
        row, good, bad = item["row"], item["good"], item["bad"]
        found = await vote(row, good, bad), await vote(row, bad, good)
        right += (found[0] == 1.0) + (found[1] == 0.0)
        wrong += (found[0] == 0.0) + (found[1] == 1.0)
    if right < 2 * len(pairs):
        what = "its preferences are upside down" if wrong == 2 * len(pairs) else "it cannot be relied on"
        raise EvaluatorError(
            f"the judge prefers the better of two outputs in {right} of {2 * len(pairs)} votes, and the planted bad one"
            f" in {wrong}: {what}",
            hint="take a stronger judge, make its requirements clearer, or correct the planted pairs",
        )


class ModelJudge:
    """A model as judge, in the role "judge": as many votes with the new output first as with the old one.

    A pair of votes of which one cannot be read is a tie, for the other one alone would carry the bias of its order.

    Args:
        requirements: What makes an output better, in words.
        votes: Per pair of outputs: even, 2 to 20. More than 2 need a temperature above 0 to say anything new.
        planted: Pairs for the self-test, judged by the requirements; without any, `PLANTED` by a neutral rubric.
        temperature: Of the judge; None for 0 with 2 votes, and 0.3 with more.
        options: Further ones of `PairJudge`.

    Raises:
        ConfigError: An option is not allowed.
    """

    uses = ("judge",)

    def __init__(
        self,
        requirements: str,
        *,
        votes: int = 2,
        planted: Sequence[Mapping[str, Any]] = (),
        temperature: float | None = None,
        **options: Any,
    ) -> None:
        if isinstance(votes, bool) or not isinstance(votes, int) or votes % 2 or not 2 <= votes <= 20:
            raise ConfigError(
                f"votes: found {votes!r}, allowed is an even number from 2 to 20", hint="each order gets half of them"
            )
        self.votes = votes
        self._planted = _planted(planted)
        self._heat = (0.0 if votes == 2 else 0.3) if temperature is None else temperature
        self._said = [requirements, votes, self._heat, {name: options[name] for name in sorted(options)}]
        self.judge = PairJudge(rubric=requirements, temperature=self._heat, **options)

    @property
    def fingerprint(self) -> str:
        """Hash of what it is told to look at."""
        return digest(["model", self._said])

    def guard(self) -> None:
        """Whether there is a model, the session sees."""

    async def compare(self, row: Row, new: str, old: str, ask: Ask | None, occasion: Occasion = SEARCH) -> Judged:
        """As `Judge`."""
        assert ask is not None, "a run asks"
        differences, reasons, lost = [], [], []
        for _ in range(self.votes // 2):
            one, why = await self.judge.vote(row, new, old, ask)
            two, other = await self.judge.vote(row, old, new, ask)
            differences.append(0.0 if one is None or two is None else one - two)
            if one is not None and why:
                reasons.append(why)
            lost += [words for value, words in ((one, why), (two, other)) if value is None]
        words = f"the judge, with the {FIRST}: {quoted(reasons[0], 600)}" if reasons else ""
        if lost:
            unread = f"{len(lost)} of {self.votes} votes cannot be read and count as ties: {quoted(lost[0])}"
            words = f"{words}; {unread}" if words else unread
        return Judged(sum(differences) / len(differences), words, len(lost) / self.votes)

    async def self_test(self, ask: Ask | None) -> None:
        """As `Judge`: every vote must go to the good output."""
        assert ask is not None, "a run asks"
        judge = self.judge if self._planted else PairJudge(rubric=NEUTRAL, temperature=self._heat, answer="")

        async def vote(row: Row, first: str, second: str) -> float | None:
            return (await judge.vote(row, first, second, ask))[0]

        await passed(vote, self._planted or PLANTED)


_planted = planted


class ProgramJudge:
    """A program's order: `compare(row, a, b)` gives the preference for a over b in [0, 1], sync or async.

    It is asked in both orders, as a model is.

    Args:
        target: "module:function" in the folder, or the function.
        planted: Pairs for the self-test; at least one, for nothing else shows that its preferences are not upside down.
        folder: The problem's.

    Raises:
        ConfigError: There is no such function, or no planted pair.
    """

    uses: tuple[str, ...] = ()

    def __init__(
        self,
        target: str | Callable[..., Any],
        *,
        planted: Sequence[Mapping[str, Any]],
        folder: Path | str | None = None,
    ) -> None:
        from agent.evaluators.loading import load_target, parse_target
        from agent.evaluators.source import callable_digest, module_digest

        self._planted = _planted(planted)
        if not self._planted:
            raise ConfigError(
                "planted: a program that compares needs a pair of outputs that it must tell apart",
                hint='such as planted = [{ row = { question = "2 + 2?" }, good = "4", bad = "a fish" }]',
            )
        if isinstance(target, str):
            place = Path(folder).resolve() if folder is not None else None
            path = parse_target(target)
            self._call = load_target(*path, place)
            self.fingerprint = module_digest(*path, place)
        else:
            self._call, self.fingerprint = target, callable_digest(target)
        self._waits = inspect.iscoroutinefunction(self._call)

    def guard(self) -> None:
        """There is nothing that a program lacks."""

    async def vote(self, row: Row, first: str, second: str) -> float:
        """The preference for the output that is given first.

        Raises:
            ValueError: The program gave no number in [0, 1].
        """
        given = (row, first, second)
        found = await self._call(*given) if self._waits else await asyncio.to_thread(self._call, *given)
        number = float(found) if isinstance(found, (bool, int, float)) else float("nan")
        if not 0 <= number <= 1:
            raise ValueError(f"a preference is a number from 0 (the second is better) to 1, not {found!r}")
        return number

    async def compare(
        self, row: Row, new: str, old: str, ask: Ask | None = None, occasion: Occasion = SEARCH
    ) -> Judged:
        """As `Judge`."""
        one, two = await self.vote(row, new, old), await self.vote(row, old, new)
        return Judged(one - two, by="program")

    async def self_test(self, ask: Ask | None = None) -> None:
        """As `Judge`: at least the better half of the preference must go to the good output, in both orders."""

        async def vote(row: Row, first: str, second: str) -> float | None:
            value = await self.vote(row, first, second)
            return 1.0 if value > 0.5 else 0.0 if value < 0.5 else None

        await passed(vote, self._planted)
