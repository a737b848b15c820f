"""What a metric is, the table of those that have a name, and how a user's own function becomes one.

A metric reads an output and the row that it answers, and gives a score in [0, 1] with words for the proposer. The
words quote of an answer only what `quoted` leaves, for a proposer sees those of train rows alone.
"""

from __future__ import annotations

import asyncio
import difflib
import importlib
import inspect
import json
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from agent.code.untrusted import cleaned
from agent.errors import ConfigError
from agent.evaluation import Score, measurement
from agent.space import digest

if TYPE_CHECKING:
    from agent.llm.types import Completion, ModelRequest

Row = Mapping[str, Any]
Ask = Callable[["ModelRequest", str], Awaitable["Completion"]]
"""Calls the model of a role; the run pays for it and keeps the reply."""

TABLE: Final[Mapping[str, str]] = {
    "exact_match": "agent.metrics.text:ExactMatch",
    "token_f1": "agent.metrics.text:TokenF1",
    "contains": "agent.metrics.text:Contains",
    "number_match": "agent.metrics.number:NumberMatch",
    "choice_match": "agent.metrics.choice:ChoiceMatch",
    "set_match": "agent.metrics.sets:SetMatch",
    "micro_f1": "agent.metrics.sets:MicroF1",
    "macro_f1": "agent.metrics.sets:MacroF1",
    "json_schema": "agent.metrics.structure:JsonSchema",
    "code_pass": "agent.metrics.code:CodePass",
    "judge": "agent.evaluators.judge:Judge",
    "preference": "agent.evaluators.preference:Preference",
}
"""By name, where each metric is."""
EXAMPLES: Final[Mapping[str, str]] = {
    "schema": '{"type": "object", "required": ["name"]}',
    "rubric": '"5: every claim is right. 3: one is wrong. 1: most are wrong."',
    "requirements": '"The better answer is short and friendly."',
}
"""By option that a metric of the table cannot do without, a value that it may have."""

LONGEST = 200_000
"""Characters of an output beyond which it is not read: it scores `low`."""
QUOTED = 200
"""Most characters of a text that the words quote."""


class Metric:
    """What one output is worth. A subclass has `_score(output, row)`, or `_values` where it reports several numbers.

    Args:
        answer: The row's field with the right answer: a text, a number, or a list of texts that are all accepted.
        reveal: Whether the words may quote the answer.

    Attributes:
        names: What it reports, first the number that race and gate compare.
        low, high: The range of that number.
        numerator, denominator: Of a number of the whole set, as in `agent.goals.Objective`; None where it has none
            that is exact.
        most: The largest sum of the quotient's parts on one row; without it nothing can be proven of the quotient.
        uses: Roles of the models that it asks; then only `measure` works.
        blocking: Whether it computes long enough to need a thread.
        note: What the gate's claim is about instead, where a number of the whole set has no exact quotient.
        source: Hash of the source of a user's own.
        whole: A user's function of all outputs and rows, for reports: the option `over`.
        options: What it was made with, as plain data.
    """

    names: tuple[str, ...] = ("score",)
    low: float = 0.0
    high: float = 1.0
    numerator: Mapping[str, float] | None = None
    denominator: Mapping[str, float] | None = None
    most: float | None = None
    uses: tuple[str, ...] = ()
    blocking: bool = False
    name: str = ""
    note: str = ""
    source: str = ""
    whole: Callable[[list[str | None], list[Row]], Any] | None = None
    options: Mapping[str, Any] = {}

    def __init__(self, *, answer: str = "answer", reveal: bool = True) -> None:
        self.needs = answer
        self.reveal = reveal

    def __call__(self, output: str, row: Row) -> tuple[float, str]:
        return self.score(output, row)

    def score(self, output: str, row: Row) -> tuple[float, str]:
        """The first number, and the words.

        Raises:
            ValueError: The row lacks what the metric needs, or the metric asks a model.
        """
        values, words = self.values(output, row)
        return values[self.names[0]], words

    def values(self, output: str, row: Row) -> tuple[dict[str, float], str]:
        """All numbers by name, and the words.

        Raises:
            ValueError: As for `score`.
        """
        if self.uses:
            raise ValueError(f"{self.name} asks a model; use `await metric.measure(output, row, ask)`")
        if len(output) > LONGEST:
            return self.failed(row), f"the output has {len(output):,} characters; more than {LONGEST:,} are not read"
        return self._values(output, row)

    def _values(self, output: str, row: Row) -> tuple[dict[str, float], str]:
        number, words = self._score(output, row)
        return {self.names[0]: number}, words

    def _score(self, output: str, row: Row) -> tuple[float, str]:
        raise NotImplementedError

    def failed(self, row: Row) -> dict[str, float]:
        """The numbers of a row whose output cannot be read at all, or is missing."""
        return {self.names[0]: self.low}

    async def measure(self, output: str, row: Row, ask: Ask | None = None, prompt: str = "") -> Score:
        """The numbers and words, whichever kind of metric it is; what evaluators call.

        Args:
            output: What the program answered.
            row: The data row.
            ask: Calls models; needed where `uses` names a role.
            prompt: The prompt that led to the output; only a judge with `show_prompt` reads it.

        Raises:
            ValueError: As for `score`.
        """
        if self.blocking:
            values, words = await asyncio.to_thread(self.values, output, row)
        else:
            values, words = self.values(output, row)
        return Score(values, words)

    def over(self, outputs: Sequence[str | None], rows: Sequence[Row]) -> float:
        """The number of a whole set of outputs, for reports: the quotient where there is one, else the mean.

        With the option `over` it is what that function gives.

        Args:
            outputs: By row; None where there is none.
            rows: The data rows.

        Raises:
            ValueError: No rows, lists of different lengths, as for `score`, or the user's function gave no number.
        """
        if not rows or len(outputs) != len(rows):
            raise ValueError("as many outputs as rows are needed, and at least one")
        if self.whole is not None:
            number: float = measurement(self.whole(list(outputs), list(rows)), ("over",))["values"]["over"]
            return number
        return self._over(outputs, rows)

    def _over(self, outputs: Sequence[str | None], rows: Sequence[Row]) -> float:
        each = [
            self.failed(row) if output is None else self.values(output, row)[0]
            for output, row in zip(outputs, rows, strict=True)
        ]
        if self.numerator is None or self.denominator is None:
            return math.fsum(values[self.names[0]] for values in each) / len(each)
        above, below = (
            math.fsum(weight * values[name] for values in each for name, weight in part.items())
            for part in (self.numerator, self.denominator)
        )
        return above / below if below else 0.0

    def guard(self) -> dict[str, Any]:
        """As an evaluator's `guard`: what a run's record says of the sandbox; {} for a metric that runs no code."""
        return {}

    @property
    def fingerprint(self) -> str:
        """Changes when what it measures changes: its name, its options, or a user's source."""
        return digest([self.name, self.source, json.loads(json.dumps(dict(self.options), default=str))])

    # ------------------------------------------------------------ for subclasses

    def answers(self, row: Row) -> tuple[str, ...]:
        """The accepted answers of a row, as texts.

        Raises:
            ValueError: There is none.
        """
        found = self.field(row, self.needs)
        if isinstance(found, (list, tuple)):
            if not found:
                raise ValueError(f"the row's {self.needs!r} is an empty list; an answer is needed")
            return tuple(as_text(item) for item in found)
        return (as_text(found),)

    def field(self, row: Row, name: str) -> Any:
        """A field of the row.

        Raises:
            ValueError: The row has none of this name, or it is null.
        """
        if not isinstance(row, Mapping):
            raise ValueError(f"{self.name or 'the metric'} needs a row with fields, not {type(row).__name__}")
        if name in row and row[name] is None:
            raise ValueError(f"the row's {name!r} is null; {self.name or 'the metric'} needs a value there")
        if name not in row:
            have = ", ".join(map(str, list(row)[:20])) or "none"
            raise ValueError(f"the row has no {name!r}, which {self.name or 'the metric'} needs; its fields: {have}")
        return row[name]

    def wrong(self, output: str, answers: Sequence[str], said: str = "the output says") -> str:
        """The words for an output that is not right."""
        if not self.reveal:
            return f"wrong: {said} {quoted(output)}"
        several = "one of " if len(answers) > 1 else ""
        return f"wrong: {said} {quoted(output)}, right is {several}{', '.join(quoted(a) for a in answers[:3])}"


def as_text(value: Any) -> str:
    """A field of a row as a text: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def quoted(text: str, limit: int = QUOTED) -> str:
    """A text on one line between quotation marks, without hidden characters, at most `limit` characters of it."""
    flat = " ".join(cleaned(text[: 4 * limit], 4 * limit).split())
    return json.dumps(
        flat if len(flat) <= limit and len(text) <= 4 * limit else flat[: limit - 1] + "…", ensure_ascii=False
    )


def load(
    metric: str | Callable[..., Any], options: Mapping[str, Any] | None = None, folder: Path | str | None = None
) -> Metric:
    """The metric of a name in `TABLE`, of a "module:function" in the folder, or of a function.

    Args:
        metric: The name, the target, the function, or a `Metric`, which is returned as it is.
        options: What the metric is made with.
        folder: The problem's, for a target.

    Raises:
        ConfigError: There is no such metric, or it has no such option.
    """
    given = dict(options or {})
    where = Path(folder).resolve() if folder is not None else None
    whole = given.pop("over", None)
    made = _loaded(metric, given, where)
    if whole is not None:
        if made is metric:
            raise ConfigError("metric_options: `over` is no option of a metric object", hint="set its `whole`")
        made.whole, said = _function(whole, where)
        made.options = {**made.options, "over": said}
        made.note = (
            "the number of all outputs that `over` gives has no parts by row: it is in the report, and what is examined"
            f" and claimed is {made.names[0]}"
        )
    return made


def _loaded(metric: str | Callable[..., Any], given: dict[str, Any], where: Path | None) -> Metric:
    if isinstance(metric, Metric):
        if given:
            raise ConfigError("metric_options: a metric object has its options already", hint="make it with them")
        return metric
    if not isinstance(metric, str):
        if not callable(metric):
            _unknown(metric)
        from agent.metrics.function import FunctionMetric

        return _made(FunctionMetric, str(getattr(metric, "__name__", "metric")), given, metric)
    if metric in TABLE:
        module, _, attribute = TABLE[metric].partition(":")
        made = _made(getattr(importlib.import_module(module), attribute), metric, given)
        made.name = metric
        if made.names == Metric.names:
            made.names = (metric,)
        return made
    if ":" not in metric:
        _unknown(metric)
    found, said = _function(metric, where)
    if isinstance(found, Metric):
        return _loaded(found, given, where)
    if isinstance(found, type) and issubclass(found, Metric):
        made = _made(found, metric, given)
    else:
        from agent.metrics.function import FunctionMetric

        made = _made(FunctionMetric, metric, given, found)
    made.source = said
    return made


def _function(target: Any, where: Path | None) -> tuple[Any, str]:
    """A user's function, and the hash of its source."""
    from agent.evaluators.loading import load_target, parse_target
    from agent.evaluators.source import callable_digest, module_digest

    if callable(target):
        return target, callable_digest(target)
    path = parse_target(str(target))
    return load_target(*path, where), module_digest(*path, where)


def _made(kind: Callable[..., Metric], name: str, given: dict[str, Any], *first: Any) -> Metric:
    parameters = inspect.signature(kind).parameters.values()
    allowed = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    for option in given:
        if option not in allowed:
            raise ConfigError(
                f"metric {name}: there is no option {option!r}", hint=f"its options: {', '.join(allowed) or 'none'}"
            )
    for p in parameters:
        if p.kind is p.KEYWORD_ONLY and p.default is p.empty and p.name not in given:
            such = f", such as {EXAMPLES[p.name]}" if name in TABLE else ""
            raise ConfigError(
                f"metric {name} needs the option {p.name}{such}", hint=f"metric_options = {{ {p.name} = … }}"
            )
    try:
        made = kind(*first, **given)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"metric {name}: {error}") from error
    made.options = given
    made.name = made.name or name
    return made


def _unknown(metric: Any) -> NoReturn:
    near = difflib.get_close_matches(str(metric), TABLE, n=1)
    raise ConfigError(
        f"metric: found {metric!r}, allowed is {', '.join(TABLE)}, or a function",
        hint=f"did you mean {near[0]}?" if near else 'name a function of your own as "module:function"',
    )
