"""The task program as a prompt: a template with placeholders, a task model, and a metric that scores its answers.

A template names parameters of the space and fields of the row. It is filled in once: nothing that a row holds is
expanded, and the field with the right answer never gets into a prompt, whatever a candidate's text asks for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.errors import ConfigError
from agent.evaluation import Ask, Output, Request, Score, measurement
from agent.evaluators.asking import shown
from agent.goals import Objective
from agent.metrics.base import Metric, as_text, load
from agent.space import Space, digest
from agent.texts import Demos, Text

if TYPE_CHECKING:
    from agent.llm.types import ModelRequest
    from agent.problem import Problem

PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*)\}")
COSTS = ("prompt_chars", "input_tokens", "output_tokens")
"""Numbers that are reported of each answer beside the metric's; objectives and constraints may name them."""
SAMPLE = 100
"""Rows that a forecast looks at."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """How a candidate and a row become what the task model is told.

    Args:
        template: The user's turn. `{name}` is a parameter or a field of the row. "" means the space's only `Text`.
        system: The system prompt, with placeholders too.
        demos: Name of a `Demos` parameter. Where the template has `{demos}` (its name) the examples stand there as
            text; otherwise each is a turn of the user and one of the assistant before the question.
        demo: How one example looks as text, with the fields of the example, the answer among them; "" for all
            fields, one a line.
        max_output_tokens: Longest answer, reasoning included.
        temperature: Of the task model; None for the model's own.
        max_chars: Longest prompt in characters; a row that makes a longer one fails, and nothing is sent.

    Raises:
        ConfigError: A value is not allowed.
    """

    template: str = ""
    system: str = ""
    demos: str = ""
    demo: str = ""
    max_output_tokens: int = 256
    temperature: float | None = 0.0
    max_chars: int = 200_000

    def __post_init__(self) -> None:
        for name in ("template", "system", "demos", "demo"):
            if not isinstance(getattr(self, name), str):
                raise ConfigError(f"prompt: {name}: found {getattr(self, name)!r}, allowed is a text")
        for name in ("max_output_tokens", "max_chars"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"prompt: {name}: found {value!r}, allowed is a whole number of at least 1")
        heat = self.temperature
        if heat is not None and (isinstance(heat, bool) or not isinstance(heat, (int, float)) or not 0 <= heat <= 2):
            raise ConfigError(f"prompt: temperature: found {heat!r}, allowed is a number from 0 to 2")

    def to_json(self) -> dict[str, Any]:
        """What differs from the defaults."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}


class Rendering:
    """A prompt with the space whose candidates fill it.

    Args:
        prompt: The prompt.
        space: The parameters.
        answer: The field of a row that no prompt may show; "" for none. Of an example it is what the assistant says.

    Raises:
        ConfigError: The template or the parameter with the examples is not there, or the template shows the answer.
    """

    def __init__(self, prompt: Prompt, space: Space, answer: str) -> None:
        self.prompt, self.space, self.answer = prompt, space, answer
        self.template = prompt.template or f"{{{_only_text(space)}}}"
        if prompt.demos and not isinstance(dict(space).get(prompt.demos), Demos):
            raise ConfigError(
                f"prompt: demos: {prompt.demos!r} is no Demos parameter of the space",
                hint="name one, as in demos = Demos(pool, k=4), or leave it out",
            )
        written = self._names(self.template) | self._names(prompt.system)
        self.fields = written - set(space)
        """Fields that every row must have."""
        if answer in self.fields:
            raise ConfigError(
                f"prompt: the template has {{{answer}}}, the field with the right answer",
                hint="take it out: the task model would only have to repeat it",
            )
        unused = [name for name, item in space.items() if isinstance(item, (Text, Demos)) and name not in written]
        unused = [name for name in unused if name != prompt.demos]
        if unused:
            near = get_close_matches(unused[0], self.fields, 1)
            meant = f"; the template has {{{near[0]}}}: did you mean {{{unused[0]}}}?" if near else ""
            raise ConfigError(
                f"prompt: nothing shows the parameter {unused[0]}, so changing it would change nothing{meant}",
                hint=f"write {{{unused[0]}}} into the template or the system prompt",
            )

    @staticmethod
    def _names(text: str) -> set[str]:
        return set(PLACEHOLDER.findall(text))

    def turns(self, values: Mapping[str, Any], row: Any) -> Iterator[tuple[str, str]]:
        """What is said, as (role, text): system, user, assistant; with None for the row its placeholders stay.

        Raises:
            ValueError: The row lacks a field, or the prompt gets too long.
        """
        given = None if row is None else row if isinstance(row, Mapping) else {"row": row}
        size = 0
        for role, text in self._turns(values, given):
            size += len(text)
            if size > self.prompt.max_chars:
                raise ValueError(
                    f"the prompt has {size:,} characters or more, {self.prompt.max_chars:,} are allowed (max_chars)"
                )
            yield role, text

    def _turns(self, values: Mapping[str, Any], row: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
        if self.prompt.system:
            yield "system", self._filled(self.prompt.system, values, row)
        name = self.prompt.demos
        if name and f"{{{name}}}" not in self.template + self.prompt.system:
            for example in self._demos(name, values):
                if self.answer not in example:
                    raise ValueError(f"an example of {name} has no {self.answer!r}, which the assistant would say")
                yield "user", self._filled(self.template, values, example)
                yield "assistant", as_text(example[self.answer])
        yield "user", self._filled(self.template, values, row)

    def _demos(self, name: str, values: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        item = self.space[name]
        assert isinstance(item, Demos)
        found = item.chosen(values[name])
        return [example if isinstance(example, Mapping) else {"row": example} for example in found]

    def _filled(self, template: str, values: Mapping[str, Any], row: Mapping[str, Any] | None) -> str:
        def outer(match: re.Match[str]) -> str:
            name = match[1]
            if name in self.space:
                return self._parameter(name, values, row)
            if row is None:
                return match[0]
            if name not in row:
                have = ", ".join(map(str, list(row)[:20])) or "none"
                raise ValueError(f"the row has no field {name!r}; it has {have}")
            return as_text(row[name])

        return PLACEHOLDER.sub(outer, template)

    def _parameter(self, name: str, values: Mapping[str, Any], row: Mapping[str, Any] | None) -> str:
        item = self.space[name]
        if isinstance(item, Demos):
            return "\n\n".join(map(self._shown, self._demos(name, values)))
        if not isinstance(item, Text) or row is None:
            return as_text(values[name])
        # Only what the parameter declares; where its text is the whole template, any field of the row.
        known = item.placeholders or (() if self.prompt.template else tuple(row))

        def inner(match: re.Match[str]) -> str:
            field = match[1]
            if field not in known or field == self.answer:
                return match[0]
            if field not in row:
                raise ValueError(f"the row has no field {field!r}, which {name} shows")
            return as_text(row[field])

        return PLACEHOLDER.sub(inner, str(values[name]))

    def _shown(self, example: Mapping[str, Any]) -> str:
        if not self.prompt.demo:
            return "\n".join(f"{name}: {as_text(value)}" for name, value in example.items())
        return PLACEHOLDER.sub(lambda m: as_text(example[m[1]]) if m[1] in example else m[0], self.prompt.demo)

    def request(self, values: Mapping[str, Any], row: Any) -> ModelRequest:
        """The call of the task model.

        Raises:
            ValueError: As for `turns`.
        """
        from agent.llm.types import Message, ModelRequest

        turns = list(self.turns(values, row))
        return ModelRequest(
            messages=tuple(Message(role, text) for role, text in turns if role != "system"),  # type: ignore[arg-type]
            system="".join(text for role, text in turns if role == "system"),
            max_output_tokens=self.prompt.max_output_tokens,
            temperature=self.prompt.temperature,
        )


def _only_text(space: Space) -> str:
    texts = [name for name, item in space.items() if isinstance(item, Text)]
    if len(texts) != 1:
        raise ConfigError(
            f"prompt: there is no template, and the space has {len(texts)} texts that could be one",
            hint='write one, such as template = "{instruction}\\n\\n{question}"',
        )
    return texts[0]


def behind(evaluator: Any) -> dict[str, Any]:
    """What `RunStarted.origin` keeps of a prompt whose outputs another evaluator compares; {} where there is none."""
    spec = getattr(getattr(evaluator, "program", None), "spec", None) or {}
    return {"prompt": {name: spec[name] for name in ("prompt", "answer")}} if spec.get("kind") == "prompt" else {}


def objective(metric: Metric) -> Objective:
    """What a run compares when nothing else is said: the metric's first number."""
    return Objective(
        metric.names[0],
        "maximize",
        low=metric.low,
        high=metric.high,
        numerator=metric.numerator,
        denominator=metric.denominator,
        most=metric.most,
    )


class PromptEvaluator:
    """Asks the task model (role "task") each row's question with the candidate's prompt, and scores the answer.

    The output's value is {"values": numbers by name, "feedback": the metric's words, "text": the answer}.

    Args:
        prompt: A `Prompt`, a mapping of its fields, or the template's text.
        space: The parameters, with files read; or their spec.
        metric: What scores an answer: see `agent.metrics.base.load`.
        metric_options: Of the metric.
        folder: The problem's, where a metric of the user's own is.
        names: Objectives and constraints that a measurement must hold; None for the metric's first number.
        answer: The row's field that no prompt may show; None for the one that the metric compares with.

    Raises:
        ConfigError: Prompt, space and metric do not fit together.
    """

    exclusive = False
    blocking = False
    keeps_limits = False
    only_asks = True

    def __init__(
        self,
        prompt: Prompt | Mapping[str, Any] | str,
        *,
        space: Space | Mapping[str, Mapping[str, Any]],
        metric: str | Callable[..., Any],
        metric_options: Mapping[str, Any] | None = None,
        folder: Path | str | None = None,
        names: Sequence[str] | None = None,
        answer: str | None = None,
    ) -> None:
        made = {"template": prompt} if isinstance(prompt, str) else prompt
        self.prompt = made if isinstance(made, Prompt) else Prompt(**made)
        known = space if isinstance(space, Space) else Space.from_spec(space)
        self.metric = load(metric, metric_options, folder)
        self.names = tuple(names) if names is not None else self.metric.names[:1]
        for name in self.names:
            if name not in (*self.metric.names, *COSTS):
                raise ConfigError(
                    f"nothing reports {name!r}: the metric gives {', '.join(self.metric.names)}",
                    hint=f"the costs of an answer are {', '.join(COSTS)}",
                )
        self.rendering = Rendering(self.prompt, known, self.metric.needs if answer is None else answer)
        self.uses = tuple(dict.fromkeys(("task", *self.metric.uses)))
        self._folder = folder
        self._given = metric if isinstance(metric, str) else self.metric.name

    @property
    def spec(self) -> Mapping[str, Any]:
        """What the record keeps of it; a metric that is a function is there by its name alone."""
        return {
            "kind": "prompt",
            "prompt": self.prompt.to_json(),
            "space": self.rendering.space.spec(),
            "metric": self._given,
            "metric_options": dict(self.metric.options),
            "folder": None if self._folder is None else str(self._folder),
            "names": list(self.names),
            "answer": self.rendering.answer,
        }

    @property
    def fingerprint(self) -> str:
        """Changes with the prompt around the candidate's texts, and with the metric."""
        return digest([asdict(self.prompt), self.metric.fingerprint])

    def ready(self, problem: Problem) -> None:
        """Refuse rows that the prompt cannot show, before anything is paid.

        Raises:
            ConfigError: There are no rows, or the first ones lack a field or all make the same prompt.
        """
        rows = [example.row for example in problem.data[:SAMPLE]]
        if not rows:
            raise ConfigError(
                "data is empty, and a prompt needs rows to fill its placeholders", hint="give at least two rows"
            )
        values = problem.initial()
        shown, wrong = set(), ""
        for row in rows:
            try:
                shown.add(tuple(self.rendering.turns(values, row)))
            except ValueError as error:
                wrong = wrong or str(error)
        if not shown:
            raise ConfigError(f"prompt: none of the first rows fits it: {wrong}", hint="correct the template")
        if len(rows) > 1 and len(shown) == 1 and not wrong:
            raise ConfigError(
                "prompt: it shows nothing of the rows, so that every question would be the same",
                hint=f"write a field's name in braces: {', '.join(map(str, self._fields(rows)))}",
            )

    def _fields(self, rows: Sequence[Any]) -> list[str]:
        names = dict.fromkeys(name for row in rows if isinstance(row, Mapping) for name in row)
        return [f"{{{name}}}" for name in names if name != self.rendering.answer] or ["{row}"]

    def forecast(self, problem: Problem) -> dict[str, tuple[float, float, float]]:
        """Of one evaluation, by role: model calls, and tokens in and out at most, where they can be told."""
        from agent.llm.estimate import input_bound

        sizes = []
        for example in problem.split("train")[:SAMPLE]:
            try:
                sizes.append(input_bound(self.rendering.request(problem.initial(), example.row)))
            except ValueError:
                continue
        heard = sum(sizes) / max(1, len(sizes))
        # A judge reads the answer, and whatever its rubric shows of the row.
        judged = heard + self.prompt.max_output_tokens
        others = {role: (1.0, judged, float(self.prompt.max_output_tokens)) for role in self.metric.uses}
        return {"task": (1.0, heard, float(self.prompt.max_output_tokens)), **others}

    def guard(self) -> Mapping[str, Any]:
        """The metric's: what its sandbox is, where it runs code.

        Raises:
            PrerequisiteError: It is too weak.
        """
        return self.metric.guard()

    async def produce(self, request: Request, partial: Callable[[Any], None], ask: Ask | None = None) -> Output:
        """Ask, and score the answer; what the metric cannot read is a failure of this row."""
        if ask is None:
            return Output.failed("error", "a prompt is measured within a run, which pays for the task model")
        try:
            asked = self.rendering.request(request.candidate, request.row)
        except ValueError as error:
            return Output.failed("invalid", str(error))
        reply = await ask(asked, "task")
        try:
            score = await self.metric.measure(reply.text, request.row, ask, prompt=shown(asked))
        except ValueError as error:
            return Output.failed("invalid", str(error))
        said = [score.feedback] if score.feedback else []
        if reply.stop == "length":
            said.append(f"the answer was cut off at {asked.max_output_tokens} tokens")
        elif reply.stop == "refusal":
            said.append("the model refused to answer")
        chars = len(asked.system) + sum(len(message.text) for message in asked.messages)
        costs = {"prompt_chars": chars, "input_tokens": reply.usage.input, "output_tokens": reply.usage.output}
        values = {**dict.fromkeys(COSTS, 0.0), **costs, **score.values}
        return Output(value={"values": values, "feedback": "; ".join(said), "text": reply.text})

    def score(self, output: Output) -> Score:
        """The numbers that `produce` kept."""
        kept = output.value
        value = measurement({"values": kept["values"], "feedback": kept["feedback"]}, self.names)
        return Score(value["values"], value["feedback"])
