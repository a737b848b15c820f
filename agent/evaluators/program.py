"""The task program as any Python callable: what it returns is the answer, which a metric scores, or a score already."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.errors import ConfigError
from agent.evaluation import Ask, Output, Request, Score, measurement
from agent.evaluators import asking
from agent.evaluators.function import FunctionEvaluator, in_loop
from agent.evaluators.source import import_path
from agent.metrics.base import Metric, load
from agent.space import digest

if TYPE_CHECKING:
    from agent.problem import Problem


class ProgramEvaluator(FunctionEvaluator):
    """Calls a program with a candidate and a row; a text that it returns is scored by the metric.

    It is called as `FunctionEvaluator` calls a function. It may return a text, or what such a function returns.
    It may have as many steps as it likes, ask the run's models with `ask`, and trace them with `agent.trace`.

    Args:
        target: The callable, or "module:attr".
        metric: What scores a text: see `agent.metrics.base.load`.
        metric_options: Of the metric.
        folder: The problem's folder.
        names: The objectives and constraints that a measurement must hold; None for the metric's first number.
        exclusive: Whether nothing else of ours may compute while it measures.
        needs: Parameters that the program must declare.

    Raises:
        ConfigError: The target is no callable, or there is no such metric.
    """

    kind = "program"

    def __init__(
        self,
        target: str | Callable[..., Any],
        *,
        metric: str | Callable[..., Any],
        metric_options: Mapping[str, Any] | None = None,
        folder: Path | str | None = None,
        names: Sequence[str] | None = None,
        exclusive: bool = False,
        needs: Sequence[str] = (),
    ) -> None:
        self.metric: Metric = load(metric, metric_options, folder)
        chosen = self.metric.names[:1] if names is None else names
        super().__init__(target, folder=folder, names=chosen, exclusive=exclusive, needs=needs)
        self._name = metric if isinstance(metric, str) else None
        if self._name is None and not isinstance(metric, Metric) and (path := import_path(metric)) is not None:
            self._name = ":".join(path)

    @cached_property
    def spec(self) -> Mapping[str, Any] | None:
        """Plain data to rebuild it from; None where another process can import the program or the metric not."""
        base = super().spec
        if base is None or self._name is None:
            return None
        return {**base, "metric": self._name, "metric_options": dict(self.metric.options)}

    @cached_property
    def fingerprint(self) -> str:
        """Changes with the program's source and with the metric."""
        return digest([super().fingerprint, self.metric.fingerprint])

    @cached_property
    def uses(self) -> tuple[str, ...]:
        """Roles of the models that the program and the metric ask."""
        return tuple(dict.fromkeys((*super().uses, *self.metric.uses)))

    def guard(self) -> Mapping[str, Any]:
        """The metric's: what its sandbox is, where it runs code.

        Raises:
            PrerequisiteError: It is too weak.
        """
        return self.metric.guard()

    def ready(self, problem: Problem) -> None:
        """Refuse a judge that is to see prompts which nobody here knows.

        Raises:
            ConfigError: The program does not ask the run's models, and `show_prompt` is set.
        """
        if self._shows and "task" not in super().uses:
            raise ConfigError(
                "judge: show_prompt is set, and the program asks no model of the run, so its prompts are not known",
                hint="let the function take `ask` and call the model with it, or leave show_prompt out",
            )

    @property
    def _shows(self) -> bool:
        return bool(getattr(self.metric, "show_prompt", False))

    async def produce(self, request: Request, partial: Callable[[Any], None], ask: Ask | None = None) -> Output:
        """As `FunctionEvaluator.produce`, with the metric's numbers and the answer under "text"."""
        heard = asking.Heard(ask) if ask is not None and self._shows else ask
        return await super().produce(request, partial, heard)

    async def _judged(self, result: Any, request: Request, ask: Ask | None) -> Output:
        if result is None:
            return Output.failed("invalid", "the program returned None: return the answer's text, or a score")
        if not isinstance(result, str):
            return await super()._judged(result, request, ask)
        try:
            if self.metric.uses or not self._plain:
                score = await self._measured(result, request.row, ask)
            else:
                score = Score(*self.metric.values(result, request.row))
        except ValueError as error:
            return Output.failed("invalid", str(error))
        return Output(value={"values": dict(score.values), "feedback": score.feedback, "text": result})

    @property
    def _plain(self) -> bool:
        """Whether the metric can be computed right here."""
        return not getattr(self.metric, "is_async", False) and (not self.metric.blocking or not in_loop())

    async def _measured(self, text: str, row: Any, ask: Ask | None) -> Score:
        prompt = "\n\n".join(ask.said) if isinstance(ask, asking.Heard) else ""
        if in_loop():
            return await self.metric.measure(text, row, ask, prompt)
        return asyncio.run(self.metric.measure(text, row, None if ask is None else asking.across(ask), prompt))

    def score(self, output: Output) -> Score:
        """The numbers that `produce` kept."""
        kept = {name: output.value[name] for name in ("values", "feedback")}
        value = measurement(kept, self.names)
        return Score(value["values"], value["feedback"])
