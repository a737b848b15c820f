"""What may change and has no place on a scale: texts, programs, and choices of few-shot examples."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar

from agent.code import holes, programs, trees
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
            placeholders; any other brace is literal, and so is a name in doubled braces.
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
        # A second brace before it is how templates write a brace itself.
        lost = [name for name in self.placeholders if not re.search(rf"(?<!\{{)(\{{\{{)*\{{{name}\}}", value)]
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


LONGEST, GROWTH = 20_000, 8
"""Characters that any program may have, and how many times as long as the initial one it may be, where the space does
not say: every later prompt quotes a program whole."""


@dataclass(frozen=True, slots=True)
class Code(Parameter):
    """A program: one text, or a tree of files.

    The value is the program's text; of a tree it is a mapping path → text. A tree holds the files that may change and
    no others, so whatever else belongs to the program is out of a candidate's reach: the scorer puts it beside them.

    Args:
        default: The initial program; or `file`, as for `Text`; or
        files: patterns of paths in the problem's folder, such as "pkg/*.py" (`**` for any depth). A candidate may add
            files that fit, and may empty but not remove those that are there.
        protected: Patterns of paths that may not change although `files` fits them.
        language: Only "python" is checked for syntax; other languages are taken as they are.
        entry: In Python, the function or class that every version must define at the top level; of a tree
            "module:function".
        signature: How the entry is called, such as "(text, limit)": its parameters must begin with these names, and
            further ones need defaults.
        imports: In Python, the modules that a program may import; None for any. It finds mistakes; what keeps a
            program from doing harm is the sandbox.
        max_chars: The longest program allowed, in characters, of all its files together. Without it a search proposes
            none beyond `longest`.
    """

    default: str | Mapping[str, str] | None = None
    file: str | None = None
    files: tuple[str, ...] = ()
    protected: tuple[str, ...] = ()
    language: str = "python"
    entry: str | None = None
    signature: str | None = None
    imports: tuple[str, ...] | None = None
    max_chars: int | None = None
    type: ClassVar[str] = "code"

    def __post_init__(self) -> None:
        for name in ("files", "protected", *(("imports",) if self.imports is not None else ())):
            object.__setattr__(self, name, items(f"Code: {name}", getattr(self, name)))
        if self.max_chars is not None and (type(self.max_chars) is not int or self.max_chars < 0):
            raise ConfigError(f"Code: max_chars: found {self.max_chars!r}, allowed is a whole number of at least 0")
        self._check_tree()
        if self.signature is not None:
            if self.entry is None:
                raise ConfigError("Code: signature says how the entry is called, and there is no entry")
            try:
                programs.check_signature(self.signature)
            except ValueError as error:
                raise ConfigError(f"Code: {error}") from None
        if self.default is not None:
            if isinstance(self.default, Mapping):
                object.__setattr__(self, "default", dict(self.default))  # the caller's own may change
            check_default(self)

    def _check_tree(self) -> None:
        for pattern in (*self.files, *self.protected):
            if not isinstance(pattern, str) or trees.bad_path(pattern):
                raise ConfigError(f"Code: {pattern!r} is no pattern of a path in the folder", hint='such as "pkg/*.py"')
        if not self.files:
            if self.protected:
                raise ConfigError("Code: protected is for a tree, and there are no files")
            if isinstance(self.default, Mapping):
                raise ConfigError("Code: a tree needs files, the patterns of the paths that it may have")
            _check_source(self, self.default, self.file)
        elif self.file is not None or isinstance(self.default, str):
            raise ConfigError("Code: a program is one file or several", hint="keep file (or default), or files")
        elif self.entry is not None and not all(part for part in self.entry.partition(":")):
            raise ConfigError(f"Code: entry: found {self.entry!r}", hint='of a tree it is "module:function"')

    @property
    def tree(self) -> bool:
        """Whether a value is a mapping of paths to texts."""
        return bool(self.files)

    @property
    def longest(self) -> int:
        """Most characters of a program that a search may propose."""
        if self.max_chars is not None:
            return self.max_chars
        return max(LONGEST, GROWTH * sum(map(len, self.texts(self.initial()).values())))

    def initial(self) -> Any:
        if self.default is None:
            raise ConfigError(f"Code: {self.file or ', '.join(self.files)} was not read; make a Problem of it first")
        return self.check(self.default)

    def check(self, value: Value) -> Any:
        if self.tree:
            known = self.default if isinstance(self.default, Mapping) else {}
            value = trees.check(value, self.files, self.protected, known)
            self._check_size(sum(map(len, value.values())))
            for path, text in value.items():
                self._check_text(text, path, self._modules(value))
            module, _, entry = (self.entry or "").partition(":")
            if module:
                home = next((p for p in (_file(module), _file(module + ".__init__")) if p in value), None)
                if home is None:
                    raise ValueError(f"there is no {_file(module)}, where {entry} has to be")
                self._check_entry(value[home], entry)
            return value
        if not isinstance(value, str):
            raise ValueError(f"a program text is needed, not {type(value).__name__}")
        self._check_size(len(value))
        self._check_text(value, "", ())
        if self.entry is not None:
            self._check_entry(value, self.entry)
        return value

    def _check_size(self, chars: int) -> None:
        if self.max_chars is not None and chars > self.max_chars:
            raise ValueError(f"the program has {chars} characters, {self.max_chars} are allowed")

    def _check_text(self, text: str, path: str, own: Sequence[str]) -> None:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{path or 'the program'} has a character that is none, at {error.start}") from None
        if self.language != "python" or (path and not path.endswith(".py")):
            return
        programs.parse(text, path)
        try:
            holes.find(text)
        except ValueError as error:
            raise ValueError(f"{path}: {error}" if path else str(error)) from None
        if self.imports is not None and (wrong := programs.forbidden(text, self.imports, own)):
            raise ValueError(f"{path}: {wrong}" if path else wrong)

    def _check_entry(self, text: str, entry: str) -> None:
        if self.language != "python":
            return
        programs.definition(text, entry)
        if self.signature is not None and (wrong := programs.misfit(text, entry, self.signature)):
            raise ValueError(wrong)

    @staticmethod
    def _modules(tree: Mapping[str, str]) -> list[str]:
        return [path.partition("/")[0].removesuffix(".py") for path in tree]

    def texts(self, value: Value) -> Mapping[str, str]:
        """A value's texts by path; of a program in one text the path is ""."""
        return value if isinstance(value, Mapping) else {"": value}

    def normal(self, value: Value) -> str:
        """A form that versions share which differ in comments, layout, docstrings or names of local variables only."""
        if self.language != "python":
            return json.dumps(value, sort_keys=True)
        return programs.normal_tree(value) if isinstance(value, Mapping) else programs.normal(value)

    def bound(self, folder: Path) -> Code:
        if self.file:
            return replace(self, default=_read(folder, self.file), file=None)
        if self.tree and self.default is None:
            try:
                found = trees.find(folder, self.files, self.protected)
            except ValueError as error:
                raise ConfigError(f"Code: {error}", hint="copy the file into the folder") from None
            if not found:
                raise ConfigError(
                    f"Code: no file in {folder} fits {', '.join(self.files)}",
                    hint="patterns are as below that folder, such as src/**/*.py",
                )
            return replace(self, default={path: _read(folder, path) for path in found})
        return self


def _file(module: str) -> str:
    return module.replace(".", "/") + ".py"


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


def _check_source(parameter: Parameter, default: object, file: str | None) -> None:
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
