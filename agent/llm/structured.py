"""From a model's words to a checked value: find the JSON, then fit it to what was asked. No value is guessed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from agent.errors import ConfigError, OutputInvalid
from agent.llm.jsontext import check, decoder, loads
from agent.llm.schema import Schema, problems, verify, without_nulls
from agent.llm.types import Completion

if TYPE_CHECKING:
    from pydantic import BaseModel

INSTRUCTION = "Answer with one JSON object and nothing else. It must fit this JSON schema:\n{schema}"
"""For models that take no schema on the wire."""

REPAIR = (
    "That reply cannot be used:\n{reason}\n"
    "Send the whole answer again, as one JSON object that fits the schema, without any other text."
)

MOST_REASONS = 5

_THOUGHT = re.compile(r"^\s*<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL)
_FENCE = re.compile(r"```[a-zA-Z]*[ \t]*\n(.*?)```", re.DOTALL)


def instruction(schema: Schema) -> str:
    """What to add to the system prompt where the schema cannot be sent otherwise."""
    return INSTRUCTION.format(schema=json.dumps(schema, ensure_ascii=False))


class Shape:
    """What a reply must look like: a JSON schema (an object), or a pydantic model.

    Args:
        schema: A schema of the keywords in `agent.llm.schema.CHECKED`, or a pydantic class, whose own
            validation is used, in strict mode.

    Raises:
        ConfigError: The schema uses a keyword that is not checked.
    """

    def __init__(self, schema: Schema | type[BaseModel]) -> None:
        self._model: type[BaseModel] | None = None
        if isinstance(schema, Mapping):
            verify(schema)
            self.schema: Schema = schema
        else:
            self._model = schema
            self.schema = schema.model_json_schema()

    def read(self, reply: Completion) -> Any:
        """The checked value in a reply: a dictionary, or an instance of the pydantic model.

        Raises:
            OutputInvalid: There is none, or several that differ; carries the text and what it cost.
        """
        if reply.stop == "length":
            raise self._invalid(
                reply,
                "the reply was cut off at the limit of output tokens",
                hint="raise max_output_tokens; with a reasoning model the limit includes its reasoning",
            )
        if reply.stop == "refusal":
            raise self._invalid(reply, f"the model refused: {reply.text[:200] or 'no reason given'}")
        fitting: list[tuple[Any, Any]] = []
        reasons: list[str] = []
        for found in _objects(reply.text):
            plain, value, wrong = self._fit(found)
            if wrong:
                reasons = reasons or wrong
            elif all(plain != other for other, _ in fitting):
                fitting.append((plain, value))
        if len(fitting) == 1:
            return fitting[0][1]
        if fitting:
            reasons = ["the reply holds several JSON objects that fit, and they differ"]
        raise self._invalid(reply, "\n".join(reasons[:MOST_REASONS]) or "the reply holds no JSON object")

    def _fit(self, found: dict[str, Any]) -> tuple[Any, Any, list[str]]:
        """The JSON value, what is made of it, and why it does not fit."""
        try:
            plain = without_nulls(found, self.schema) if self._model is None else self._trim(found)
            if self._model is None:
                return plain, plain, problems(plain, self.schema)
            # Strict: "3" is not 3. In JSON mode that still takes dates and enums from their texts.
            return plain, self._model.model_validate_json(json.dumps(plain), strict=True), []
        except ValueError as error:
            return found, None, _pydantic_reasons(error)

    def _trim(self, found: dict[str, Any]) -> Any:
        """Without nulls that mean "left out"; a schema of pydantic's that we cannot read is taken as it is."""
        try:
            return without_nulls(found, self.schema)
        except ConfigError:
            return found

    @staticmethod
    def _invalid(reply: Completion, reason: str, hint: str = "") -> OutputInvalid:
        return OutputInvalid(reason, raw=reply.text, usage=reply.usage, hint=hint)


def _pydantic_reasons(error: ValueError) -> list[str]:
    details = getattr(error, "errors", None)
    if details is None:
        return [str(error)]
    return [
        f"the reply{''.join(f'[{p}]' if isinstance(p, int) else f'.{p}' for p in item['loc'])}: {item['msg']}"
        for item in details(include_url=False, include_context=False)
    ]


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects in a text: the whole of it, else those in code fences, else those between other words."""
    text = _THOUGHT.sub("", text)
    whole = _load(text)
    if whole is not None:
        yield whole
        return
    fenced = [found for block in _FENCE.findall(text) if (found := _load(block)) is not None]
    if fenced:
        yield from fenced
        return
    reader = decoder()
    at = text.find("{")
    while at >= 0:
        try:
            found, end = reader.raw_decode(text, at)
            check(found)
            yield found
        except ValueError:
            end = at + 1
        except RecursionError:
            return  # nobody asked for that; trying each of its braces would take minutes
        at = text.find("{", end)


def _load(text: str) -> dict[str, Any] | None:
    try:
        found = loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
