"""Whether an output is JSON that fits a schema."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from typing import Any

from agent.errors import ConfigError
from agent.evaluators.code_runner import Runner
from agent.llm.jsontext import loads
from agent.llm.schema import problems, verify
from agent.metrics.base import Metric, Row, quoted
from agent.sandbox.types import Caps, Job

SECONDS = 5.0
"""What a check may take where an output could make it long."""
TOLD = 3
TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
_MODULE = "agent.llm.schema"
_CHECK = f"""
from {_MODULE} import problems

def check(given):
    return problems(given["value"], given["schema"], at="the output")[:{TOLD}]
"""
_FENCE = re.compile(r"```[a-zA-Z]*[ \t]*\n(.*?)```", re.DOTALL)


class JsonSchema(Metric):
    """1 when the output is JSON that fits the schema, else 0. Strict JSON: no NaN, and no key twice.

    A schema with regular expressions or references to itself can take for ever on an output that somebody made for
    that, so that such a check runs in a process of its own, with a limit.

    Args:
        schema: The schema, of the keywords in `agent.llm.schema.CHECKED`; or the name of the row's field that has it.
        fenced: Whether the JSON may stand in a code fence, the only one of the output; else the output is JSON alone.

    Raises:
        ConfigError: The schema uses a keyword that is not checked, or a type that JSON does not have.
    """

    def __init__(self, *, schema: Mapping[str, Any] | str, fenced: bool = True) -> None:
        super().__init__()
        self._given, self._fenced = schema, fenced
        # It starts when it is needed. No foreign code runs there, so that weak layers do no harm.
        self._runner = Runner(None, {"workers": 1, "imports": [_MODULE], "unsafe": True})
        self.needs = schema if isinstance(schema, str) else ""
        if not isinstance(schema, str):
            if not isinstance(schema, Mapping):
                raise ConfigError(f"schema: found {type(schema).__name__}, allowed is a table or the name of a field")
            _verify(schema)
            self.blocking = _long(schema)
        else:
            self.blocking = True

    def _score(self, output: str, row: Row) -> tuple[float, str]:
        schema = self._given
        if isinstance(schema, str):
            schema = self.field(row, schema)
            if not isinstance(schema, Mapping):
                raise ValueError(f"the row's {self.needs!r} is {type(schema).__name__}, not a schema")
            try:
                _verify(schema)
            except ConfigError as error:
                raise ValueError(f"the row's {self.needs!r}: {error.message}") from None
        text = output.strip()
        blocks = _FENCE.findall(text) if self._fenced else []
        try:
            value = loads(blocks[0] if len(blocks) == 1 else text)
        except ValueError as error:
            return 0.0, f"wrong: the output {quoted(output)} is not JSON: {quoted(str(error))}"
        found = self._checked(value, schema)
        return (0.0, f"wrong: {'; '.join(found)}") if found else (1.0, "right")

    def _checked(self, value: Any, schema: Mapping[str, Any]) -> list[str]:
        if not _long(schema):
            try:
                return problems(value, schema, at="the output")[:TOLD]
            except RecursionError:
                return ["the output is nested too deeply"]
        job = Job(
            {"check.py": _CHECK.encode()},
            "check:check",
            [{"value": value, "schema": schema}],
            Caps(seconds=SECONDS),
            imports=(_MODULE,),
        )
        try:
            result = self._runner.run(job)
        except (ValueError, RecursionError) as error:
            return [f"the output cannot be checked: {quoted(str(error))}"]
        if result.status == "ok":
            return list(result.outputs[0])
        return [f"the output cannot be checked: {result.message}"]


def _verify(schema: Mapping[str, Any]) -> None:
    """As `verify`, and every `type` is one of JSON's: no value would fit another.

    Raises:
        ConfigError: A keyword or a type is not checked.
    """
    verify(schema)
    parts: list[Any] = [schema]
    while parts:
        part = parts.pop()
        given = part.get("type", [])
        for kind in given if isinstance(given, (list, tuple)) else [given]:
            if kind not in TYPES:
                near = difflib.get_close_matches(str(kind), TYPES, n=1)
                raise ConfigError(
                    f"schema: found the type {kind!r}, allowed is {', '.join(TYPES)}",
                    hint=f"did you mean {near[0]}?" if near else "leave the type out where every value fits",
                )
        inner = [part.get("items"), part.get("additionalProperties"), *part.get("anyOf", ())]
        inner += [item for name in ("properties", "$defs") for item in part.get(name, {}).values()]
        parts += [item for item in inner if isinstance(item, Mapping)]


def _long(schema: Mapping[str, Any]) -> bool:
    """Whether the time of a check may grow faster than the output."""
    return any(f'"{word}":' in json.dumps(schema) for word in ("pattern", "$ref"))
