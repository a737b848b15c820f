"""JSON schemas: the dialect that providers enforce, and our own check of what came back.

We never trust a provider's enforcement: servers differ in what they enforce, some enforce nothing, and a
truncated reply fits no schema. So every reply is checked here, against the caller's own schema.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from agent.errors import ConfigError

Schema = Mapping[str, Any]

_SIZES = frozenset({"minItems", "maxItems", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "pattern"})

STRUCTURE = frozenset(
    {"type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf", "$ref"}
    | {"$defs", "description"}
)
"""What every provider's strict mode takes."""
OPENAI = STRUCTURE | _SIZES
"""What OpenAI's strict mode takes besides; Anthropic's takes the structure alone."""

NOTES = frozenset(
    {"title", "description", "default", "examples", "format", "deprecated", "$schema", "$defs", "$comment"}
)
"""Keywords for readers."""
CHECKED = (STRUCTURE | _SIZES | {"minLength", "maxLength"}) - NOTES
"""Keywords that `problems` checks; `verify` refuses all others."""

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def strict(schema: Schema, keep: frozenset[str] = STRUCTURE) -> dict[str, Any] | None:
    """The schema in the form that a provider's strict mode takes; the caller's own stays as it is.

    Objects are closed and all their properties required; one that was optional may be null instead, which
    `without_nulls` takes back. Keywords that the provider does not know move into the description, where
    the model at least reads them.

    Args:
        schema: The caller's schema.
        keep: Keywords that the provider enforces.

    Returns:
        The transformed schema, or None when strict mode cannot say the same (an object with free keys).
    """
    try:
        out = _strict(_resolve(schema, schema), keep)  # strict mode wants the object itself at the root
    except _Inexpressible:
        return None
    return out if out.get("type") == "object" else None


_UNIONS = frozenset({"oneOf", "discriminator"})


class _Inexpressible(Exception):
    pass


def _strict(schema: Schema, keep: frozenset[str]) -> dict[str, Any]:
    if "$ref" in schema:
        return {"$ref": schema["$ref"]}  # no provider takes other keywords beside it
    out = {key: value for key, value in schema.items() if key in keep}
    moved = {key: value for key, value in schema.items() if key not in keep | NOTES | _UNIONS}
    if moved:
        words = ", ".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in moved.items())
        out["description"] = f"{schema.get('description', '')} ({words})".strip()
    if "object" in _types(schema):
        properties, required = schema.get("properties"), schema.get("required", ())
        if not properties or schema.get("additionalProperties", False) is not False:
            raise _Inexpressible
        out["properties"] = {
            name: _strict(item, keep) if name in required else _nullable(_strict(item, keep))
            for name, item in properties.items()
        }
        out["required"] = list(properties)
        out["additionalProperties"] = False
    if "array" in _types(schema):
        if not isinstance(schema.get("items"), Mapping):
            raise _Inexpressible
        out["items"] = _strict(schema["items"], keep)
    options = schema.get("anyOf") or schema.get("oneOf")  # pydantic writes tagged unions as oneOf
    if options:
        out["anyOf"] = [_strict(item, keep) for item in options]
    elif not _types(schema) and not {"enum", "const"} & out.keys():
        raise _Inexpressible  # anything goes
    if "$defs" in schema:
        out["$defs"] = {name: _strict(item, keep) for name, item in schema["$defs"].items()}
    return out


def _types(schema: Schema) -> tuple[str, ...]:
    found = schema.get("type", ())
    return (found,) if isinstance(found, str) else tuple(found)


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    if "null" in _types(schema) or any("null" in _types(item) for item in schema.get("anyOf", ())):
        return schema
    return {"anyOf": [schema, {"type": "null"}]}


def without_nulls(value: Any, schema: Schema, root: Schema | None = None) -> Any:
    """The value without the nulls that stand for "left out" in strict mode.

    Only optional properties whose schema does not allow null are concerned, so that nothing is guessed.
    """
    root = schema if root is None else root
    schema = _resolve(schema, root)
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        required = schema.get("required", ())
        out = {}
        for name, item in value.items():
            inner = properties.get(name)
            if inner is None:
                out[name] = item
            elif item is not None or name in required or not problems(None, inner, root):
                out[name] = without_nulls(item, inner, root)
        return out
    if isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        return [without_nulls(item, schema["items"], root) for item in value]
    if "anyOf" in schema:
        for option in schema["anyOf"]:
            trimmed = without_nulls(value, option, root)
            if not problems(trimmed, option, root):
                return trimmed
    return value


def verify(schema: Schema, at: str = "the schema") -> None:
    """Check that a schema can be checked, before a reply is paid for.

    Raises:
        ConfigError: It uses a keyword that is not checked here; names the keyword and its place.
    """
    unknown = schema.keys() - CHECKED - NOTES
    if unknown:
        raise ConfigError(
            f"{at} uses {', '.join(sorted(unknown))}, which is not supported",
            hint=f"use only {', '.join(sorted(CHECKED))}, or give a pydantic model",
        )
    for name in ("properties", "$defs"):
        for key, item in schema.get(name, {}).items():
            verify(item, f"{at}.{key}")
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), Mapping):
            verify(schema[name], f"{at}.{name}")
    for option in schema.get("anyOf", ()):
        verify(option, f"{at}.anyOf")


def problems(value: Any, schema: Schema, root: Schema | None = None, at: str = "the reply") -> list[str]:
    """Where a value does not fit a schema, in sentences that a model can act on; empty when it fits.

    Args:
        value: What `json.loads` gave.
        schema: The keywords in `CHECKED`; those in `NOTES` are for readers.
        root: Where `$ref` looks for `$defs`; by default the schema itself.
        at: Names the value in the sentences.

    Raises:
        ConfigError: A `$ref` leads nowhere.
    """
    root = schema if root is None else root
    schema = _resolve(schema, root)
    if "anyOf" in schema:
        tries = [problems(value, option, root, at) for option in schema["anyOf"]]
        if all(tries):
            return min(tries, key=len)
    kinds = _types(schema)
    if kinds and not any(_is(value, kind) for kind in kinds):
        return [f"{at}: {' or '.join(kinds)} is needed, found {_show(value)}"]
    if "const" in schema and not _same(value, schema["const"]):
        return [f"{at}: must be {_show(schema['const'])}, found {_show(value)}"]
    if "enum" in schema and not any(_same(value, option) for option in schema["enum"]):
        return [f"{at}: must be one of {', '.join(map(_show, schema['enum']))}; found {_show(value)}"]
    if isinstance(value, dict):
        return _object(value, schema, root, at)
    if isinstance(value, list):
        return _array(value, schema, root, at)
    if isinstance(value, str):
        return _size(len(value), schema, "Length", "characters", at) + _pattern(value, schema, at)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _range(value, schema, at)
    return []


def _resolve(schema: Schema, root: Schema) -> Schema:
    seen = set()
    while "$ref" in schema:
        name = str(schema["$ref"])
        target = root.get("$defs", {}).get(name.removeprefix("#/$defs/"))
        if target is None or name in seen:
            raise ConfigError(f"the schema refers to {name}, which it does not define")
        seen.add(name)
        schema = {**target, **{key: item for key, item in schema.items() if key != "$ref"}}
    return schema


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES.get(kind, ()))


def _same(a: Any, b: Any) -> bool:
    return a == b and isinstance(a, bool) == isinstance(b, bool)  # in JSON, true is not 1


def _object(value: dict[str, Any], schema: Schema, root: Schema, at: str) -> list[str]:
    properties = schema.get("properties", {})
    out = [f"{at}: {name!r} is missing" for name in schema.get("required", ()) if name not in value]
    other = schema.get("additionalProperties", True)
    for name, item in value.items():
        if name in properties:
            out += problems(item, properties[name], root, f"{at}.{name}")
        elif other is False:
            out.append(f"{at}: {name!r} is not asked for")
        elif isinstance(other, Mapping):
            out += problems(item, other, root, f"{at}.{name}")
    return out


def _array(value: list[Any], schema: Schema, root: Schema, at: str) -> list[str]:
    out = _size(len(value), schema, "Items", "items", at)
    inner = schema.get("items")
    if isinstance(inner, Mapping):
        for index, item in enumerate(value):
            out += problems(item, inner, root, f"{at}[{index}]")
    return out


def _size(found: int, schema: Schema, word: str, unit: str, at: str) -> list[str]:
    low, high = schema.get(f"min{word}", 0), schema.get(f"max{word}", math.inf)
    if found < low:
        return [f"{at}: at least {low} {unit} are needed, found {found}"]
    return [f"{at}: at most {high} {unit} are allowed, found {found}"] if found > high else []


def _pattern(value: str, schema: Schema, at: str) -> list[str]:
    pattern = schema.get("pattern")
    if pattern is None or re.search(pattern, value):
        return []
    return [f"{at}: must match the pattern {pattern}, found {_show(value)}"]


def _range(value: float, schema: Schema, at: str) -> list[str]:
    bounds = (
        ("minimum", "at least", value >= schema.get("minimum", -math.inf)),
        ("maximum", "at most", value <= schema.get("maximum", math.inf)),
        ("exclusiveMinimum", "above", value > schema.get("exclusiveMinimum", -math.inf)),
        ("exclusiveMaximum", "below", value < schema.get("exclusiveMaximum", math.inf)),
    )
    return [f"{at}: must be {words} {schema[key]}, found {value}" for key, words, good in bounds if not good]


def _show(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
