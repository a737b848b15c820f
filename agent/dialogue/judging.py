"""`/judge`: the person compares what two candidates made of a row, by the judge that a run may have too."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from agent.dialogue.why import named
from agent.errors import ConfigError
from agent.evaluators.human import HumanJudge
from agent.evaluators.voting import Occasion
from agent.events import EvaluationEnded, EvaluationStarted, PairJudged
from agent.history import History, Trial
from agent.journal import read
from agent.loop import Run

FOLDER = "judged"
"""In the run's folder: the answers, so that a pair is asked about once."""
MOST = 1000
OWN = "whatever you find better"


class AtSession(HumanJudge):
    """The person of a session: pairs are shown above the line that they type in.

    Args:
        requirements: What makes an output better.
        labels: Folder of the answers.
        line: The next line that the person types; None when there are no more.
        say: Shows text.
    """

    def __init__(
        self, requirements: str, labels: Path, line: Callable[[], Awaitable[str]], say: Callable[[str], None]
    ) -> None:
        super().__init__(requirements, labels=labels, most=MOST, screen=_Screen(say))
        self._next = line

    async def _line(self) -> str | None:
        return await self._next()


class _Screen(io.StringIO):
    """Says what is written to it, at each flush."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._show = say

    def flush(self) -> None:
        text = self.getvalue().rstrip("\n")
        self.seek(0)
        self.truncate()
        if text:
            self._show(text)


async def judge(
    run: Run, names: list[str], line: Callable[[], Awaitable[str]], say: Callable[[str], None]
) -> PairJudged:
    """Have a pair compared.

    Args:
        run: Of the candidates.
        names: Two candidates; the champion and the initial one where nothing is named, or one of them.
        line: The next line that the person types.
        say: Shows text.

    Raises:
        ConfigError: There are no such candidates, or nothing of theirs to compare.
        EOFError: Nobody answers.
    """
    history, problem = run.state.history, run.problem
    one, two = _pair(history, names)
    await run.flush()
    outputs = _outputs(run.journal.folder, {one.id, two.id})
    both = sorted((row for row in outputs[one.id] if row in outputs[two.id]), key=str)
    if not both:
        raise ConfigError(
            f"#{one.number} and #{two.number} have no texts for the same row that could be compared",
            hint="only problems whose outputs are texts, as those of prompts, have something to compare",
        )
    differing = [row for row in both if outputs[one.id][row] != outputs[two.id][row]]
    if not differing:
        raise ConfigError(f"#{one.number} and #{two.number} gave the same texts wherever both were measured")
    row = differing[0]
    train = {example.id: example.row for example in problem.split("train")}
    metric = getattr(getattr(problem.evaluator, "program", problem.evaluator), "metric", None)
    wanted = str(getattr(metric, "requirements", "") or problem.description or OWN)
    asked = AtSession(wanted, run.journal.folder / FOLDER, line, say)
    asked.labels.load()
    about = Occasion(candidate=one.id, initial=two.id)
    shown = train[row] if row is not None else {}
    found = await asked.label(shown, outputs[one.id][row], outputs[two.id][row], about)
    if found is None:
        raise ConfigError(f"nobody compared them: at most {MOST} pairs are")
    return PairJudged(one.id, two.id, row, found)


def _pair(history: History, names: list[str]) -> tuple[Trial, Trial]:
    if len(names) > 2:
        raise ConfigError("two candidates are compared", hint="such as /judge 3 7")
    found = [named(history, name) for name in names]
    for role in (history.champion, history.initial):
        if len(found) < 2 and all(trial.id != role for trial in found):
            found.append(history[role])
    if len(found) < 2 or found[0].id == found[1].id:
        raise ConfigError("there is no second candidate to compare with", hint="name two, such as /judge 3 7")
    return found[0], found[1]


def _outputs(folder: Path, candidates: set[str]) -> dict[str, dict[str | None, str]]:
    """The newest texts of candidates by row, as the search may see them."""
    out: dict[str, dict[str | None, str]] = {name: {} for name in candidates}
    open_: dict[int, EvaluationStarted] = {}
    for entry in read(folder):
        event = entry.event
        if isinstance(event, EvaluationStarted) and event.candidate in candidates:
            open_[event.id] = event
        elif isinstance(event, EvaluationEnded) and event.id in open_:
            started = open_.pop(event.id)
            text = _text(event.output.get("value"))
            if text is not None:
                out[started.candidate][started.example] = text
    return out


def _text(value: Any) -> str | None:
    """The text in an output, where it holds one."""
    found = value.get("text") if isinstance(value, dict) else value
    return found if isinstance(found, str) else None
