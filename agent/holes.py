"""Numeric holes: `tune(0.3, 0, 1)` in a program says that the number may be changed by whoever is good at numbers.

    limit = tune(0.3, 0, 1)                    # a real number from 0 to 1, now 0.3
    depth = tune(3, 1, 64, log=True)           # a whole number, since all three are whole, on a logarithmic scale
    kind = tune("best", ["best", "first"])     # one of a few choices

The first argument is the value that counts. A candidate keeps its holes, so that they stay open, and what runs is the
program with the value in the hole's place (`plain`): nothing has to be imported, and a hole costs no time. To run such
a program elsewhere, define `def tune(value, *rest, **more): return value` in it; a function of that kind is known here.
Where the name means anything else in a program, the program has no holes.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from agent import programs
from agent.errors import ConfigError
from agent.parameters import Categorical, Float, Int, Numeric, Parameter, Value

NAME = "tune"
FORM = 'tune(value, low, high), tune(value, low, high, log=True) or tune(value, ["one", "of", "these"])'
FIXED = "tune stands where its value cannot be changed; give it to a variable"
_LITERAL = r"""("[^"\n]*"|'[^'\n]*'|[-+.\w]+)"""
_NEWLINE = re.compile(r"\r\n|\r|\n")
_FORMATTED = (ast.JoinedStr, *([ast.TemplateStr] if hasattr(ast, "TemplateStr") else []))
"""Texts with expressions in them: which quotes may stand in these depends on what is around."""


@dataclass(frozen=True, slots=True)
class Hole:
    """A number or choice in a program.

    Args:
        name: After the variable or argument that it is given to, else after the function around it; each has its own.
        parameter: Its range, with the value that is in it as the default.
        value: What is in it.
        start: Where its first argument begins, in characters.
        end: Where that ends.
        call: Where the call begins and ends.
        line: Its line, from 1.
    """

    name: str
    parameter: Numeric
    value: Value
    start: int
    end: int
    call: tuple[int, int]
    line: int


def find(text: str) -> tuple[Hole, ...]:
    """The holes of a Python program, in the order in which they stand there.

    Raises:
        ValueError: A call of `tune` is no hole, or the program does not parse; names the line.
    """
    return _find(text) if NAME in text else ()


@lru_cache(maxsize=64)
def _find(text: str) -> tuple[Hole, ...]:
    tree = programs.parse(text)
    if _taken(tree):
        return ()
    found: list[tuple[ast.Call, str]] = []
    _calls(tree, "", found)
    place = Places(text)
    formatted = {id(part) for node in ast.walk(tree) if isinstance(node, _FORMATTED) for part in ast.walk(node)}
    names: dict[str, int] = {}
    out = []
    for call, wish in sorted(found, key=lambda item: place(item[0])[0]):
        names[wish] = names.get(wish, 0) + 1
        name = wish if names[wish] == 1 else f"{wish}_{names[wish]}"
        if id(call) in formatted:
            raise ValueError(f"line {call.lineno}: {FIXED}")
        out.append(_hole(call, name, text, place))
    return tuple(out)


def plain(text: str) -> str:
    """The program with the value of each hole in its place, as it is written there; lines keep their numbers.

    Raises:
        ValueError: As for `find`.
    """
    for hole in reversed(find(text)):
        start, end = hole.call
        lines = "\n" * len(_NEWLINE.findall(text[start:end]))
        text = f"{text[:start]}({lines}{text[hole.start : hole.end]}){text[end:]}"
    return text


@dataclass(frozen=True)
class Structure:
    """A program without the values in its holes: what the versions share that differ in nothing else.

    Args:
        text: One of the versions.
        holes: Of that.
    """

    text: str
    holes: tuple[Hole, ...]

    @classmethod
    def of(cls, text: str) -> Structure:
        """The structure of a program.

        Raises:
            ValueError: As for `find`.
        """
        return cls(text, find(text))

    @cached_property
    def pieces(self) -> list[str]:
        """What stands between the values: one piece more than there are holes."""
        ends = [0, *(hole.end for hole in self.holes)]
        starts = [*(hole.start for hole in self.holes), len(self.text)]
        return [self.text[end:start] for end, start in zip(ends, starts, strict=True)]

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Fits the versions of this structure; its groups are the values."""
        return re.compile(_LITERAL.join(map(re.escape, self.pieces)))

    def values(self, text: str) -> list[Value] | None:
        """What is in the holes of a version; None where it is none of this structure."""
        matched = self.pattern.fullmatch(text)
        if matched is None:
            return None
        try:
            return [
                hole.parameter.check(programs.literal(group))
                for hole, group in zip(self.holes, matched.groups(), strict=True)
            ]
        except (ValueError, SyntaxError):
            return None

    def fill(self, values: Sequence[Value]) -> str:
        """The version with these values.

        Raises:
            ValueError: There are more or fewer than holes, or one is not allowed.
        """
        given = [hole.parameter.check(value) for hole, value in zip(self.holes, values, strict=True)]
        first, *rest = self.pieces
        return first + "".join(f"{value!r}{piece}" for value, piece in zip(given, rest, strict=True))


Place = tuple[str, str]
"""Name of a code parameter, and path of the file; of a program in one text the path is ""."""


def structures(space: Mapping[str, Parameter], base: Mapping[str, Value]) -> dict[Place, Structure]:
    """The structures of those files of a candidate's programs that have holes.

    Raises:
        ValueError: As for `find`.
    """
    out = {}
    for name, item in space.items():
        if getattr(item, "language", "") != "python":
            continue
        value: Any = base[name]
        files = {"": value} if isinstance(value, str) else value
        for path, text in files.items():
            found = Structure.of(text) if not path or path.endswith(".py") else None
            if found is not None and found.holes:
                out[name, path] = found
    return out


def filled(base: Mapping[str, Any], known: Mapping[Place, Structure], values: Mapping[Place, Sequence[Value]]) -> Any:
    """A candidate's values with others in its holes.

    Args:
        base: The candidate.
        known: Its structures.
        values: For each of them, in the order of its holes.

    Raises:
        ValueError: As for `Structure.fill`.
    """
    out = dict(base)
    for (name, path), structure in known.items():
        text = structure.fill(values[name, path])
        out[name] = {**out[name], path: text} if path else text
    return out


def _taken(tree: ast.Module) -> bool:
    """Whether the name means something of the program's own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == NAME:
            if not _returns_first(node):
                return True
        elif isinstance(node, ast.Name):
            if node.id == NAME and not isinstance(node.ctx, ast.Load):
                return True
        elif isinstance(node, ast.arg):
            if node.arg == NAME:
                return True
        elif isinstance(node, ast.alias):
            if (node.asname or node.name).partition(".")[0] in (NAME, "*"):
                return True
        elif NAME in (getattr(node, "name", None), getattr(node, "rest", None)):  # class, except, case, type variable
            return True
    return False


def _returns_first(node: ast.FunctionDef) -> bool:
    """Whether a function returns its first argument and does nothing else."""
    first = [item.arg for item in (*node.args.posonlyargs, *node.args.args)][:1]
    body = [item for item in node.body if not (isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant))]
    if node.decorator_list or len(body) != 1 or not isinstance(body[0], ast.Return):
        return False
    returned = body[0].value
    return isinstance(returned, ast.Name) and [returned.id] == first


def _calls(node: ast.AST, around: str, found: list[tuple[ast.Call, str]]) -> None:
    """Add the calls of `tune` under a node, each with the name that it should have."""
    waiting: list[tuple[ast.AST, str]] = [(node, around)]
    while waiting:
        item, name = waiting.pop()
        if isinstance(item, ast.Call) and isinstance(item.func, ast.Name) and item.func.id == NAME:
            found.append((item, name or "hole"))
        if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef)):
            name = item.name
            given = [*item.args.posonlyargs, *item.args.args]
            defaults = item.args.defaults
            named = zip(given[len(given) - len(defaults) :], defaults, strict=True)
            waiting += [(value, argument.arg) for argument, value in named]
            waiting += [(v, a.arg) for a, v in zip(item.args.kwonlyargs, item.args.kw_defaults, strict=True) if v]
            waiting += [(part, name) for part in (*item.body, *item.decorator_list)]
        elif isinstance(item, ast.Assign) and isinstance(item.targets[0], ast.Name):
            waiting.append((item.value, item.targets[0].id))
        elif isinstance(item, (ast.AnnAssign, ast.AugAssign)) and isinstance(item.target, ast.Name) and item.value:
            waiting.append((item.value, item.target.id))
        elif isinstance(item, ast.keyword) and item.arg:
            waiting.append((item.value, item.arg))
        else:
            waiting += [(part, name) for part in ast.iter_child_nodes(item)]


class Places:
    """Where a node stands in a text, in characters: the parser counts lines, and bytes of UTF-8 in each."""

    def __init__(self, text: str) -> None:
        self._bytes = text.encode()
        ends = re.finditer(_NEWLINE.pattern.encode(), self._bytes)
        self._starts = [0, *(found.end() for found in ends)]

    def __call__(self, node: ast.expr) -> tuple[int, int]:
        assert node.end_lineno is not None and node.end_col_offset is not None
        ends = (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)
        start, end = (len(self._bytes[: self._starts[line - 1] + column].decode()) for line, column in ends)
        return start, end


def _hole(call: ast.Call, name: str, text: str, place: Places) -> Hole:
    try:
        given: list[Any] = [ast.literal_eval(item) for item in call.args]
        more: dict[str | None, Any] = {item.arg: ast.literal_eval(item.value) for item in call.keywords}
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise ValueError(f"line {call.lineno}: tune takes numbers as they are, not expressions: {FORM}") from None
    try:
        parameter = _parameter(given, more)
        value = parameter.check(given[0])
    except (ConfigError, ValueError) as error:
        words = error.message if isinstance(error, ConfigError) else str(error)
        words = words.replace("the default is not allowed: ", "")
        raise ValueError(f"line {call.lineno}: tune: {words}") from None
    (start, end), around = place(call.args[0]), place(call)
    if not text.startswith(NAME, around[0]) or not re.fullmatch(_LITERAL, text[start:end]):
        raise ValueError(f"line {call.lineno}: {FIXED}")
    return Hole(name, parameter, value, start, end, around, call.lineno)


def _parameter(given: list[Any], more: Mapping[str | None, Any]) -> Numeric:
    """The range that the arguments of a hole mean.

    Raises:
        ValueError, ConfigError: They mean none.
    """
    if len(given) == 2 and isinstance(given[1], (list, tuple)) and not more:
        if not all(isinstance(item, (bool, int, float)) or _quotable(item) for item in given[1]):
            raise ValueError("choices are numbers, true or false, or short texts without quotes and backslashes")
        return Categorical(tuple(given[1]), default=given[0])
    if not 3 <= len(given) <= 4 or not set(more) <= {"log"} or len(given) + len(more) > 4:
        raise ValueError(f"a hole is {FORM}")
    numbers, log = given[:3], given[3] if len(given) == 4 else more.get("log", False)
    if not all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in numbers):
        raise ValueError(f"a hole is {FORM}")
    value, low, high = numbers
    kind = Int if all(isinstance(item, int) for item in numbers) else Float
    return kind(low, high, log, default=value)


def _quotable(item: Any) -> bool:
    return isinstance(item, str) and item.isprintable() and not set(item) & set("\"'\\")
