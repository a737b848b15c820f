"""The metric "preference": outputs have no score of their own, and are compared with the initial candidate's."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.errors import ConfigError
from agent.evaluation import Evaluator
from agent.evaluators.pairwise import NAME, PairwiseEvaluator
from agent.evaluators.voting import Judge, ModelJudge, ProgramJudge, planted
from agent.metrics.base import Metric, Row
from agent.space import Space

if TYPE_CHECKING:
    from agent.evaluators.human import HumanJudge

log = logging.getLogger(__name__)
LABELS = "human-labels"
"""Folder of people's labels, in the problem's folder."""


class Preference(Metric):
    """Which output is better, without a right answer: `compared` makes of it an evaluator that compares.

    Args:
        requirements: What makes an output better, in words.
        judge: "model" (role judge), "human" at the terminal, "hybrid" (the model, and a person for some pairs), or a
            program: a function or "module:function" that gives the preference for the first of two outputs.
        votes: Of the model for each pair of outputs, half of them in each order.
        planted: Pairs that the judge must tell apart before the run begins; see `agent.evaluators.voting.planted`.
        fields: Fields of the row that the judge sees; all but the answer by default.
        temperature: Of the model.
        max_output_tokens: Of one vote of the model.
        human_labels: Labels of people at most in the search, and as many again on held-out rows; human and hybrid need
            it. Another judge asks nobody, which keeps the limit too.
        share: Of the pairs that goes to people, with hybrid.
        minimum: Smallest chance of a pair to go to people, with hybrid.
        answer: A field of the row that neither the judge nor a prompt sees, where there is one.

    Raises:
        ConfigError: An option is not allowed, or does not go with this judge.
    """

    names = (NAME, "unreadable")
    low = -1.0
    high = 1.0
    name = NAME

    def __init__(
        self,
        *,
        requirements: str,
        judge: str | Callable[..., Any] = "model",
        votes: int = 2,
        planted: Sequence[Mapping[str, Any]] = (),
        fields: Sequence[str] | None = None,
        temperature: float | None = None,
        max_output_tokens: int = 1024,
        human_labels: int | None = None,
        share: float | None = None,
        minimum: float | None = None,
        answer: str = "answer",
    ) -> None:
        super().__init__(answer=answer)
        if not isinstance(requirements, str) or not requirements.strip():
            raise ConfigError("requirements: found none", hint="say in words what makes one output better than another")
        if judge not in ("model", "human", "hybrid") and not callable(judge) and ":" not in str(judge):
            raise ConfigError(f"judge: found {judge!r}, allowed is model, human, hybrid, or module:function")
        people = judge in ("human", "hybrid")
        if people and human_labels is None:
            raise ConfigError("human_labels: missing", hint="say how many pairs a person may be asked, such as 40")
        for option, value, fits in (
            ("share", share, judge == "hybrid"),
            ("minimum", minimum, judge == "hybrid"),
        ):
            if value is not None and not fits:
                raise ConfigError(f"{option}: the judge {judge!r} asks no person for it", hint="leave it out")
        if human_labels is not None and not people:
            log.warning("metric_options.human_labels: the judge %r asks no person, so no label is used", judge)
        self.requirements, self.judge = requirements, judge
        self._votes, self._planted, self._fields = votes, planted, fields
        self._heat, self._tokens = temperature, max_output_tokens
        self._most, self._share, self._minimum = human_labels, share, minimum
        self.judged_by(None)  # what is wrong is told at once

    def _score(self, output: str, row: Row) -> tuple[float, str]:
        return 0.0, ""  # until it is compared

    def values(self, output: str, row: Row) -> tuple[dict[str, float], str]:
        """Nothing yet: no output has a preference by itself."""
        return {NAME: 0.0, "unreadable": 0.0}, ""

    def judged_by(self, folder: Path | None) -> Judge | None:
        """Who compares; a program that a name stands for is loaded from the folder, and is None without one."""
        pairs = planted(self._planted)
        if self.judge == "human":
            return self._human(folder)
        if self.judge in ("model", "hybrid"):
            model = ModelJudge(
                self.requirements,
                votes=self._votes,
                planted=pairs,
                temperature=self._heat,
                fields=self._fields,
                answer=self.needs,
                max_output_tokens=self._tokens,
            )
            if self.judge == "model":
                return model
            from agent.routing import HybridJudge, Router

            given = {"share": self._share, "minimum": self._minimum}
            router = Router(**{name: value for name, value in given.items() if value is not None})
            return HybridJudge(model, self._human(folder), router)
        if isinstance(self.judge, str) and folder is None:
            return None
        return ProgramJudge(self.judge, planted=pairs, folder=folder)

    def _human(self, folder: Path | None) -> HumanJudge:
        from agent.evaluators.human import HumanJudge

        place = (folder or Path.cwd()) / LABELS
        assert self._most is not None
        return HumanJudge(self.requirements, labels=place, most=self._most, fields=self._fields, answer=self.needs)


def compared(evaluator: Evaluator, space: Space, folder: Path | None = None) -> Evaluator:
    """The evaluator of a run: one with the metric "preference" gets into a `PairwiseEvaluator`, another one stays.

    Args:
        evaluator: Of a prompt, or of a program that gives texts.
        space: Its initial candidate is what everything is compared with.
        folder: The problem's.

    Raises:
        ConfigError: The program that compares cannot be loaded.
    """
    metric = getattr(evaluator, "metric", None)
    if not isinstance(metric, Preference):
        return evaluator
    place = Path.cwd() if folder is None else folder
    judge = metric.judged_by(place)
    assert judge is not None
    return PairwiseEvaluator(evaluator, judge, space.bound(place).initial())
