"""What may change and has no place on a scale: texts, programs, and choices of few-shot examples."""

from __future__ import annotations

import ast
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar

from agent.errors import ConfigError
from agent.parameters import LABEL, Categorical, Float, Int, Parameter, Value, check_default, items


@dataclass(frozen=True, slots=True)
class Text(Parameter):
    """A text such as a prompt.

    Args:
        default: The initial text; or `file`, the path of a UTF-8 file that holds it,
            relative to the problem's folder.
        max_chars: The longest text allowed, in characters.
        placeholders: Names that every version must keep as `{name}`. Only these are
            placeholders; any other brace is literal.
    """

    default: str | None = None
    file: str | None = None
    max_chars: int | None = None
    placeholders: tuple[str, ...] = ()
    type: ClassVar[str] = "text"

    def __post_init__(self) -> None:
        object.__setattr__(self, "placeholders", items("Text: placeholders", self.placeholders))
        _check_source(self, self.default, self.file)
        for name in self.placeholders:
            if not isinstance(name, str) or not name.isidentifier():
                raise ConfigError(f"Text: the placeholder {name!r} is not a name")
        if self.max_chars is not None and (type(self.max_chars) is not int or self.max_chars < 0):
            raise ConfigError(f"Text: max_chars: found {self.max_chars!r}, allowed is a whole number of at least 0")
        if self.default is not None:
            check_default(self)

    def initial(self) -> str:
        return self.check(_loaded(self))

    def check(self, value: Value) -> str:
        if not isinstance(value, str):
            raise ValueError(f"a text is needed, not {type(value).__name__}")
        if self.max_chars is not None and len(value) > self.max_chars:
            raise ValueError(f"the text has {len(value)} characters, {self.max_chars} are allowed")
        lost = [name for name in self.placeholders if f"{{{name}}}" not in value]
        if lost:
            raise ValueError("the text lost " + ", ".join(f"{{{name}}}" for name in lost))
        return value

    def bound(self, folder: Path) -> Text:
        return replace(self, default=_read(folder, self.file), file=None) if self.file else self

    def render(self, value: str, **given: object) -> str:
        """The text with its declared placeholders filled in; nothing in the filled-in values is expanded.

        Raises:
            KeyError: A declared placeholder was not given.
        """
        return _render(value, {name: str(given[name]) for name in self.placeholders})


def _render(text: str, values: Mapping[str, str]) -> str:
    parts, position = [], 0
    while position < len(text):
        for name, value in values.items():
            mark = f"{{{name}}}"
            if text.startswith(mark, position):
                parts.append(value)
                position += len(mark)
                break
        else:
            parts.append(text[position])
            position += 1
    return "".join(parts)


@dataclass(frozen=True, slots=True)
class Code(Parameter):
    """A program text.

    Args:
        default: The initial program; or `file`, as for `Text`.
        language: Only "python" is checked for syntax; other languages are taken as they are.
        entry: In Python, the function or class that every version must define at the top level.
    """

    default: str | None = None
    file: str | None = None
    language: str = "python"
    entry: str | None = None
    type: ClassVar[str] = "code"

    def __post_init__(self) -> None:
        _check_source(self, self.default, self.file)
        if self.default is not None:
            check_default(self)

    def initial(self) -> str:
        return self.check(_loaded(self))

    def check(self, value: Value) -> str:
        if not isinstance(value, str):
            raise ValueError(f"a program text is needed, not {type(value).__name__}")
        if self.language == "python":
            try:
                tree = ast.parse(value)
            except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
                raise ValueError(f"the program does not parse: {error}") from None
            defined = {
                node.name
                for node in tree.body
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
            }
            if self.entry is not None and self.entry not in defined:
                raise ValueError(f"the program does not define {self.entry}")
        return value

    def bound(self, folder: Path) -> Code:
        return replace(self, default=_read(folder, self.file), file=None) if self.file else self


@dataclass(frozen=True, slots=True)
class Demos(Parameter):
    """A choice of at most `k` few-shot examples, in order, from a pool; the value is a list of pool indices."""

    pool: tuple[Any, ...]
    k: int
    default: tuple[int, ...] = field(default=())
    type: ClassVar[str] = "demos"

    def __post_init__(self) -> None:
        object.__setattr__(self, "pool", items("Demos: pool", self.pool))
        object.__setattr__(self, "default", items("Demos: default", self.default))
        try:
            json.dumps(self.pool, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"Demos: the pool is not JSON: {error}") from None
        if type(self.k) is not int or not 1 <= self.k <= len(self.pool):
            raise ConfigError(f"Demos: k must be 1 to {len(self.pool)} (the pool's size), found {self.k!r}")
        check_default(self)

    def initial(self) -> list[int]:
        return self.check(list(self.default))

    def check(self, value: Value) -> list[int]:
        if not isinstance(value, (list, tuple)) or any(isinstance(i, bool) or not isinstance(i, int) for i in value):
            raise ValueError(f"a list of pool indices is needed, not {value!r}")
        if len(value) > self.k:
            raise ValueError(f"{len(value)} examples chosen, at most {self.k} are allowed")
        if len(set(value)) != len(value):
            raise ValueError("an example was chosen twice")
        if any(not 0 <= index < len(self.pool) for index in value):
            raise ValueError(f"an index is outside 0 to {len(self.pool) - 1}")
        return list(value)

    def sample(self, rng: random.Random) -> list[int]:
        return rng.sample(range(len(self.pool)), self.k)

    def chosen(self, value: Sequence[int]) -> list[Any]:
        """The examples that a value stands for."""
        return [self.pool[index] for index in value]


def _check_source(parameter: Parameter, default: str | None, file: str | None) -> None:
    if (default is None) == (file is None):
        raise ConfigError(
            f"{type(parameter).__name__}: exactly one of default and file is needed",
            hint='give the text itself, or file = "name.txt" in the problem\'s folder',
        )
    if file is not None and not isinstance(file, str):
        raise ConfigError(f"{type(parameter).__name__}: file: found {file!r}, allowed is a path")


def _loaded(parameter: Any) -> str:
    if parameter.default is None:
        raise ConfigError(f"{type(parameter).__name__}: {parameter.file} has not been read; make a Problem of it first")
    return str(parameter.default)


def _read(folder: Path, name: str | None) -> str:
    path = folder / str(name)
    try:
        return path.read_text(encoding="utf-8-sig")  # the mark that some editors put first is no part of a text
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"cannot read {path}: {why}", hint="the file must exist and be UTF-8") from None


KINDS: dict[str, Callable[..., Parameter]] = {kind.type: kind for kind in (Float, Int, Categorical, Text, Code, Demos)}


def parameter(spec: Mapping[str, Any]) -> Parameter:
    """The parameter that a plain-JSON `spec` describes.

    Raises:
        ConfigError: Unknown type, unknown or missing field, or a field's value is not allowed.
    """
    given = dict(spec)
    kind = KINDS.get(str(given.pop(LABEL, None)))
    if kind is None:
        raise ConfigError(f"type: found {spec.get(LABEL)!r}, allowed is one of {', '.join(KINDS)}")
    known = {item.name: item for item in fields(kind)}  # type: ignore[arg-type]
    for name in given:
        if name not in known:
            raise ConfigError(f"{name}: unknown for type {spec[LABEL]}, allowed is one of {', '.join(known)}")
    try:
        return kind(**given)
    except TypeError:
        raise ConfigError(
            f"type {spec[LABEL]} needs {_required(kind)}, found {', '.join(given) or 'nothing'}"
        ) from None
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _required(kind: Any) -> str:
    return ", ".join(f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING)
