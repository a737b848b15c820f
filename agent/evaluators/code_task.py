"""What the author of a code problem writes: which inputs a program gets, and what its outputs are worth."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from agent.errors import ConfigError
from agent.evaluation import Score, Suspicious, measurement
from agent.evaluators.loading import load_target
from agent.llm.schema import problems, verify

SMOKE, TRAIN, CONFIRM = "smoke", "train", "confirm"
"""Stages: a few cheap inputs that every candidate must pass first; those that the search goes by; those that nobody
sees, on which the gate examines and the report is written."""
PUBLIC = (SMOKE, TRAIN)
"""Stages whose inputs a proposer may be told of."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What an output took.

    Args:
        seconds: Wall time by the scorer's clock, an equal share of what loading the program took included; of several
            repetitions the shortest.
        cpu_seconds: Processor time, where the system tells it.
        peak_mb: Largest resident size so far in MiB, where the system tells it.
        instructions: Machine instructions, where they are counted.
        reference: What `cost` is for the initial program on the same input, where that is measured beside it.
    """

    seconds: float
    cpu_seconds: float | None = None
    peak_mb: float | None = None
    instructions: float | None = None
    reference: float | None = None

    @property
    def cost(self) -> float:
        """Instructions where they are counted, else seconds."""
        return self.seconds if self.instructions is None else self.instructions

    @property
    def speedup(self) -> float:
        """How many times as fast as the initial program.

        Raises:
            ValueError: That was not measured.
        """
        if self.reference is None:
            raise ValueError('the initial program was not measured; set against = "initial" in [evaluator.timing]')
        return self.reference / max(self.cost, 1e-9)


class Task:
    """A user's task, with its optional parts filled in.

    The user's class, made without arguments in the scorer's process and never in a candidate's, has

    - `inputs(seed, stage)`: the list of inputs, JSON or numpy arrays. With a third parameter, the row of the data.
    - `score(input, output)` or `score(input, output, usage)`: what one output is worth, in a form that `measurement`
      accepts; `usage` is a `Measured`.

    and may have

    - `entry`: "module:function", or a command as a list of words, where no code parameter says it.
    - `question(input)`: what the program gets of an input, where the input itself holds the answer.
    - `files(candidate)`: further files, or all of them where the space has no code parameter.
    - `schema`: a JSON schema that every output must fit.
    - `bounds`: by name, (low, high) beyond which a score is impossible; None for an open end.
    - `combine(scores)`: one mapping of numbers from those of the inputs; by default their means.
    - `variants(input, seed)`: the same question in other words (renamed, permuted …), and `agree(input, output,
      variant, other)`: whether two answers to it say the same.
    - `public`: False where not even the inputs of smoke and train may be told to a proposer.

    Args:
        target: "module:Class" in the folder.
        folder: The problem's.
        names: The objectives and constraints that a score must hold.

    Raises:
        ConfigError: Says what is missing or wrong.
    """

    def __init__(self, target: tuple[str, str] | type, folder: Path | None, names: Sequence[str]) -> None:
        self.names = tuple(names)
        made = target if isinstance(target, type) else load_target(*target, folder)
        self.user: Any = made() if isinstance(made, type) else made
        called = target.__name__ if isinstance(target, type) else ":".join(target)
        for name in ("inputs", "score"):
            if not callable(getattr(self.user, name, None)):
                raise ConfigError(f"{called} has no method {name}", hint=f"def {HINTS[name]}")
        for name in ("variants", "agree"):
            if hasattr(self.user, "variants") != hasattr(self.user, "agree"):
                raise ConfigError(f"{called}: variants and agree belong together", hint=f"def {HINTS[name]}")
        self._takes_row = self._parameters("inputs") > 2
        self._takes_usage = self._parameters("score") > 2
        self.schema: Mapping[str, Any] | None = getattr(self.user, "schema", None)
        if self.schema is not None:
            verify(self.schema, f"{called}: schema")
        self.bounds: Mapping[str, tuple[float | None, float | None]] = getattr(self.user, "bounds", None) or {}
        for name, pair in self.bounds.items():
            ends = pair if isinstance(pair, (tuple, list)) and len(pair) == 2 else ("",)
            if name not in self.names or not all(end is None or isinstance(end, (int, float)) for end in ends):
                raise ConfigError(
                    f"{called}: bounds: found {{{name!r}: {pair!r}}}, allowed are {', '.join(self.names)}",
                    hint=f"such as bounds = {{{self.names[0]!r}: (None, 1.0)}}; None is an open end",
                )
        self.public = bool(getattr(self.user, "public", True))
        self.entry: str | Sequence[str] | None = getattr(self.user, "entry", None)
        self.files: Callable[[Any], Mapping[str, str]] | None = getattr(self.user, "files", None)
        self.has_variants = hasattr(self.user, "variants")

    def _parameters(self, method: str) -> int:
        found = inspect.signature(getattr(self.user, method)).parameters.values()
        return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in found)

    @cached_property
    def timed(self) -> bool:
        """Whether a score may depend on what an output took, and not on the output alone."""
        return self._takes_usage

    def inputs(self, seed: int, stage: str, row: Any) -> list[Any]:
        """The inputs of a stage; [] where it has none.

        Raises:
            ConfigError: It is not a list, or a stage that counts has none.
        """
        given = self.user.inputs(seed, stage, row) if self._takes_row else self.user.inputs(seed, stage)
        if not isinstance(given, (list, tuple)):
            raise ConfigError(f"inputs() returned {type(given).__name__}", hint="return a list of inputs")
        if not given and stage != SMOKE:
            raise ConfigError(f"inputs() has nothing for the stage {stage!r}", hint="return at least one input")
        return list(given)

    def fixed(self, candidate: Any, stage: str) -> dict[str, bytes]:
        """The scorer's own files beside the candidate's, by path."""
        given = self.files(candidate) if self.files is not None else {}
        return {path: text.encode() if isinstance(text, str) else bytes(text) for path, text in given.items()}

    def question(self, given: Any) -> Any:
        """What the program gets of an input."""
        ask = getattr(self.user, "question", None)
        return given if ask is None else ask(given)

    def reject(self, output: Any) -> str:
        """Why an output is none at all, whatever it is worth; "" when it may be scored."""
        if not _finite(output):
            return "the output has a number that is not finite"
        if self.schema is not None:
            found = problems(output, self.schema, at="the output")
            return "; ".join(found[:3])
        return ""

    def score(self, given: Any, output: Any, usage: Measured) -> dict[str, Any]:
        """The measurement that one output is.

        Raises:
            ValueError: It is none.
        """
        found = self.user.score(given, output, usage) if self._takes_usage else self.user.score(given, output)
        # What is needed of all inputs together need not be there for each.
        loose = hasattr(self.user, "combine") and isinstance(found, (Mapping, Score, tuple, list))
        return measurement(found, () if loose else self.names)

    def combined(self, scores: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """The numbers of all inputs together.

        Raises:
            ValueError: One is missing or not finite; Suspicious: or lies beyond a bound that the author declared.
        """
        each = [dict(item["values"]) for item in scores]
        combine = getattr(self.user, "combine", None)
        if combine is not None:
            values = measurement(combine(each), self.names)["values"]
        else:
            values = {name: math.fsum(item[name] for item in each) / len(each) for name in each[0]}
        for name, (low, high) in self.bounds.items():
            if name in values and not (-math.inf if low is None else low) <= values[name] <= (
                math.inf if high is None else high
            ):
                raise Suspicious(f"{name} is {values[name]:.12g}, beyond its bounds {low} to {high}: impossible")
        return dict(values)

    def variants(self, given: Any, seed: int) -> list[Any]:
        """The same question in other words."""
        return list(self.user.variants(given, seed))

    def agree(self, given: Any, output: Any, variant: Any, other: Any) -> bool:
        """Whether two answers to one question say the same."""
        return bool(self.user.agree(given, output, variant, other))


HINTS = {
    "inputs": "inputs(self, seed, stage): return [...]",
    "score": "score(self, input, output): return a number",
    "variants": "variants(self, input, seed): return [...]",
    "agree": "agree(self, input, output, variant, other): return True or False",
}


def _finite(value: Any) -> bool:
    """Whether no number in plain data is infinite or not a number."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, float):
            if not math.isfinite(item):
                return False
        elif isinstance(item, Mapping):
            waiting += item.values()
        elif isinstance(item, (list, tuple)):
            waiting += item
        elif hasattr(item, "dtype"):
            import numpy as np

            if item.dtype.kind in "fc" and not bool(np.isfinite(item).all()):
                return False
    return True


def shown(value: Any, limit: int = 400) -> str:
    """An input as it may be told: JSON, cut."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
