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
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from agent.errors import ConfigError
from agent.evaluation import Score, measurement
from agent.space import digest
from agent.untrusted import cleaned

if TYPE_CHECKING:
    from agent.llm.types import Completion, ModelRequest

Row = Mapping[str, Any]
Ask = Callable[["ModelRequest", str], Awaitable["Completion"]]
"""Calls the model of a role; the run pays for it and keeps the reply."""

TABLE: Final[Mapping[str, str]] = {
    "exact_match": "agent.metrics.text:ExactMatch",
}
"""By name, where each metric is."""

LONGEST = 200_000
"""Characters of an output beyond which it is not read: it scores `low`."""
QUOTED = 200
"""Most characters of a text that the words quote."""


class Metric:
    """What one output is worth. A subclass has `score`, or `values` where it reports several numbers.

    Args:
        answer: The row's field with the right answer: a text, a number, or a list of texts that are all accepted.
        reveal: Whether the words may quote the answer.

    Attributes:
        names: What it reports, first the number that race and gate compare.
        low, high: The range of that number.
        numerator, denominator: Of a number of the whole set, as in `agent.goals.Objective`; None where it has none
            that is exact.
        uses: Roles of the models that it asks; then only `measure` works.
        blocking: Whether it computes long enough to need a thread.
        options: What it was made with, as plain data.
    """

    names: tuple[str, ...] = ("score",)
    low: float = 0.0
    high: float = 1.0
    numerator: Mapping[str, float] | None = None
    denominator: Mapping[str, float] | None = None
    uses: tuple[str, ...] = ()
    blocking: bool = False
    name: str = ""
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

    async def measure(self, output: str, row: Row, ask: Ask | None = None) -> Score:
        """The numbers and words, whichever kind of metric it is; what evaluators call.

        Args:
            output: What the program answered.
            row: The data row.
            ask: Calls models; needed where `uses` names a role.

        Raises:
            ValueError: As for `score`.
        """
        if self.blocking:
            values, words = await asyncio.to_thread(self.values, output, row)
        else:
            values, words = self.values(output, row)
        return Score(values, words)

    @property
    def fingerprint(self) -> str:
        """Changes when what it measures changes."""
        return digest([self.name, dict(self.options)])

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
        if row.get(name) is None:
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


class FunctionMetric(Metric):
    """A user's function `metric(output, row)`, sync or async, that gives a score or `(score, feedback)`.

    It may also give a mapping of the numbers in `names`, with "feedback" among them.

    Args:
        function: The function.
        names: What it reports, first the primary.
        low: The smallest score.
        high: The largest; a score beyond either is an error.
        numerator: For a number of the whole set, as in `agent.goals.Objective`; its parts must be reported.
        denominator: The same below the line.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        names: Sequence[str] = ("score",),
        low: float = 0.0,
        high: float = 1.0,
        numerator: Mapping[str, float] | None = None,
        denominator: Mapping[str, float] | None = None,
        digest_of: str = "",
    ) -> None:
        super().__init__()
        if not names or isinstance(names, str):
            raise ConfigError("metric: names: found none, allowed is a list of names")
        if not low < high:
            raise ConfigError(f"metric: low ({low!r}) must be below high ({high!r})")
        if (numerator is None) != (denominator is None):
            raise ConfigError("metric: numerator and denominator belong together", hint="give both")
        self.function = function
        self.name = getattr(function, "__name__", type(function).__name__)
        parts = [part for item in (numerator, denominator) for part in item or ()]
        self.names = tuple(dict.fromkeys([*names, *parts]))
        self.low, self.high = float(low), float(high)
        self.numerator, self.denominator = numerator, denominator
        self._digest = digest_of
        self.is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(type(function), "__call__", None)  # noqa: B004
        )
        self.blocking = not self.is_async

    def values(self, output: str, row: Row) -> tuple[dict[str, float], str]:
        """All numbers by name, and the words. The output comes whole: the function's author knows what is too long.

        Raises:
            ValueError: The function is async, or what it gave is no score.
        """
        if self.is_async:
            raise ValueError(f"{self.name} is async; use `await metric.measure(output, row)`")
        return self._read(self.function(output, row))

    async def measure(self, output: str, row: Row, ask: Ask | None = None) -> Score:
        """As `Metric.measure`; whatever the function raises comes out."""
        if self.is_async:
            return Score(*self._read(await self.function(output, row)))
        return await super().measure(output, row, ask)

    def _read(self, found: Any) -> tuple[dict[str, float], str]:
        value = measurement(found, self.names)
        numbers: dict[str, float] = value["values"]
        first = numbers[self.names[0]]
        if not self.low <= first <= self.high:
            raise ValueError(f"{self.name} gave {first:g}, allowed is {self.low:g} to {self.high:g}")
        return numbers, value["feedback"]

    @property
    def fingerprint(self) -> str:
        """Hash of the function's source and of the options."""
        from agent.evaluators.source import callable_digest

        return digest([self._digest or callable_digest(self.function), dict(self.options)])


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
    if isinstance(metric, Metric):
        if given:
            raise ConfigError("metric_options: a metric object has its options already", hint="make it with them")
        return metric
    if not isinstance(metric, str):
        if not callable(metric):
            _unknown(metric)
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
    from agent.evaluators.loading import load_target, parse_target
    from agent.evaluators.source import module_digest

    where, path = Path(folder).resolve() if folder is not None else None, parse_target(metric)
    found = load_target(*path, where)
    if isinstance(found, Metric):
        return load(found, given)
    if isinstance(found, type) and issubclass(found, Metric):
        return _made(found, metric, given)
    return _made(FunctionMetric, metric, {**given, "digest_of": module_digest(*path, where)}, found)


def _made(kind: Callable[..., Metric], name: str, given: dict[str, Any], *first: Any) -> Metric:
    parameters = inspect.signature(kind).parameters.values()
    allowed = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "digest_of"]
    for option in given:
        if option not in allowed and option != "digest_of":
            raise ConfigError(
                f"metric {name}: there is no option {option!r}", hint=f"its options: {', '.join(allowed) or 'none'}"
            )
    try:
        made = kind(*first, **given)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"metric {name}: {error}") from error
    made.options = {key: value for key, value in given.items() if key != "digest_of"}
    made.name = made.name or name
    return made


def _unknown(metric: Any) -> NoReturn:
    near = difflib.get_close_matches(str(metric), TABLE, n=1)
    raise ConfigError(
        f"metric: found {metric!r}, allowed is {', '.join(TABLE)}, or a function",
        hint=f"did you mean {near[0]}?" if near else 'name a function of your own as "module:function"',
    )
