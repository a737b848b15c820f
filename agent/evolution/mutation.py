"""Random changes to a program, without a model: numbers, operators, operands and statements.

What a model adds to a search over programs shows only beside this: the same budget, spent on edits that know nothing.
The changes to Python are those of mutation testing (DeMillo, Lipton and Sayward 1978, Computer 11(4)), and copies of
statements and operands, so that programs can grow as well. The text keeps its layout and comments.
"""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Iterator

from agent import holes
from agent.programs import syntax

TRIES = 20
"""Places that are tried for one change; most of them do."""
STEP = 0.15
"""Standard deviation of a step in a hole, as a share of its range."""
ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod)
BITS = (ast.BitAnd, ast.BitOr, ast.BitXor, ast.LShift, ast.RShift)
ORDER = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
MEMBER = (ast.In, ast.NotIn)
SAME = (ast.Is, ast.IsNot)
FAMILIES: tuple[tuple[type[ast.AST], ...], ...] = (ARITHMETIC, BITS, ORDER, MEMBER, SAME, (ast.And, ast.Or))
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
SHUT = (ast.JoinedStr, ast.Import, ast.ImportFrom, ast.arguments, ast.Global, ast.Nonlocal)
"""Nodes in which nothing is changed."""

TOKEN = re.compile(r"--[^\n]*|'(?:[^']|'')*'|\"[^\"\n]*\"|\d+(?:\.\d+)?|\w+|[<>=!]+|\s+|.")
WORDS = (
    ("<", "<=", ">", ">=", "=", "<>"),
    ("+", "-", "*", "/"),
    ("and", "or"),
    ("asc", "desc"),
    ("min", "max", "sum", "avg", "count"),
    ("left", "inner"),
    ("union", "intersect", "except"),
)
"""Words and signs, as of SQL, that stand for one another in a language that is not taken apart."""

Edit = tuple[int, int, str]
"""Where something begins and ends in the text, in characters, and what comes in its place."""


def mutated(text: str, rng: random.Random, language: str = "python") -> str | None:
    """The program with one random change; None where none was found.

    A Python program still parses, and its holes are still holes. The kind of change is drawn first, then the place.

    Args:
        text: Of the program.
        rng: Makes the choice.
        language: Any but "python" is changed word by word.
    """
    kinds = _python(text, rng) if language == "python" else _other(text, rng)
    for _ in range(TRIES if kinds else 0):
        start, end, new = rng.choice(kinds[rng.choice(sorted(kinds))])
        out = text[:start] + new + text[end:]
        if out != text and (language != "python" or _sound(out)):
            return out
    return None


def _sound(text: str) -> bool:
    try:
        syntax(text)
        holes.find(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return False
    return True


def number(value: int | float, rng: random.Random) -> str:
    """Another number of the same kind: a step, a multiple, or the other sign."""
    if isinstance(value, int):
        near = [value + rng.choice((-1, 1)), value * 2, value // 2, -value, rng.randint(0, 2 * abs(value) + 2)]
        return str(rng.choice([item for item in near if item != value]))
    return repr(rng.choice([value * 2.0 ** rng.gauss(0.0, 1.0), value + rng.gauss(0.0, 0.1), -value]))


def _python(text: str, rng: random.Random) -> dict[str, list[Edit]]:
    """What can be changed in a program, by kind of change."""
    kinds: dict[str, list[Edit]] = {}
    place = holes.Places(text)
    lines = text.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))

    def add(kind: str, node: ast.expr, new: str) -> None:
        kinds.setdefault(kind, []).append((*place(node), new))

    for hole in holes.find(text):
        kinds.setdefault("hole", []).append((hole.start, hole.end, _moved(hole, rng)))
    for node, names in _nodes(syntax(text)):
        match node:
            case ast.Constant(value=bool()):
                add("flag", node, str(not node.value))
            case ast.Constant(value=int() | float() as value):
                add("number", node, number(value, rng))
            case ast.BinOp(op=op) | ast.BoolOp(op=op) if _family(op):
                add("operator", node, _with(node, "op", op, rng))
            case ast.Compare(ops=[only]):
                add("comparison", node, _with(node, "ops", only, rng))
            case ast.UnaryOp(operand=operand):
                add("logic", node, f"({ast.unparse(operand)})")
            case ast.Name(id=name, ctx=ast.Load()) if name in names:
                add("operand", node, _operand(name, names, rng))
            case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test):
                add("logic", test, f"(not ({ast.unparse(test)}))")
        for body in _bodies(node):
            spans = [_span(item, lines) for item in body]
            for index, (item, span) in enumerate(zip(body, spans, strict=True)):
                if span is None or isinstance(item, DEFINITIONS) or _words(item):
                    continue
                begin, end = starts[span[0]], starts[span[1]]
                own = text[begin:end]
                alone = " " * item.col_offset + "pass\n" if len(body) == 1 else ""
                kinds.setdefault("delete", []).append((begin, end, alone))
                kinds.setdefault("repeat", []).append((begin, end, _ended(own) + own))
                after = spans[index + 1] if index + 1 < len(spans) else None
                if after is not None and after[0] >= span[1] and not isinstance(body[index + 1], DEFINITIONS):
                    middle, last = starts[after[0]], starts[after[1]]
                    swapped = _ended(text[middle:last]) + text[end:middle] + own
                    kinds.setdefault("swap", []).append((begin, last, swapped))
    return kinds


def _nodes(tree: ast.Module) -> Iterator[tuple[ast.AST, list[str]]]:
    """The nodes that may change, each with the variables of the function around it."""
    waiting: list[tuple[ast.AST, list[str]]] = [(tree, [])]
    while waiting:
        node, names = waiting.pop()
        if isinstance(node, SHUT) or (isinstance(node, ast.FunctionDef) and node.name == holes.NAME):
            continue
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == holes.NAME:
            continue
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            inside = {item.arg for item in ast.walk(node.args) if isinstance(item, ast.arg)}
            stored = (item for item in ast.walk(node) if isinstance(item, ast.Name) and isinstance(item.ctx, ast.Store))
            names = sorted(inside | {item.id for item in stored})
            waiting += [(item, names) for item in reversed(node.body)]
        else:
            waiting += [(item, names) for item in reversed(list(ast.iter_child_nodes(node)))]
        yield node, names


def _bodies(node: ast.AST) -> list[list[ast.stmt]]:
    if isinstance(node, (ast.Module, ast.ClassDef)):
        return []
    found = [getattr(node, name, None) for name in ("body", "orelse", "finalbody")]
    return [item for item in found if isinstance(item, list) and item and isinstance(item[0], ast.stmt)]


def _span(node: ast.stmt, lines: list[str]) -> tuple[int, int] | None:
    """The lines of a statement, from 0, the last one not among them; None where it shares one with another."""
    assert node.end_lineno is not None and node.end_col_offset is not None
    before = lines[node.lineno - 1].encode()[: node.col_offset]
    behind = lines[node.end_lineno - 1].encode()[node.end_col_offset :].strip()
    if before.strip() or (behind and not behind.startswith(b"#")):
        return None
    return node.lineno - 1, node.end_lineno


def _words(node: ast.stmt) -> bool:
    """Whether a statement is a text alone, such as a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _ended(text: str) -> str:
    return text if text.endswith("\n") else text + "\n"


def _moved(hole: holes.Hole, rng: random.Random) -> str:
    place = hole.parameter.encode(hole.value) + rng.gauss(0.0, STEP)
    if rng.random() < 0.25:
        place = rng.random()
    return repr(hole.parameter.decode(min(1.0, max(0.0, place))))


def _family(operator: ast.AST) -> list[type[ast.AST]]:
    """The operators that may stand in the place of one."""
    found = next((family for family in FAMILIES if isinstance(operator, family)), ())
    return [item for item in found if not isinstance(operator, item)]


def _with(node: ast.expr, field: str, old: ast.AST, rng: random.Random) -> str:
    """The expression with another operator."""
    new = rng.choice(_family(old))()
    given = {name: getattr(node, name) for name in node._fields}
    return f"({ast.unparse(type(node)(**{**given, field: [new] if field == 'ops' else new}))})"


def _operand(name: str, names: list[str], rng: random.Random) -> str:
    """Another variable, or this one with another variable or number."""
    other = rng.choice([item for item in names if item != name] or [name])
    if rng.random() < 0.5:
        return other
    sign = rng.choice(("+", "-", "*", "/", "//", "%", "^", ">>", "<<"))
    return f"({name} {sign} {rng.choice((other, str(rng.randint(1, 9))))})"


def _other(text: str, rng: random.Random) -> dict[str, list[Edit]]:
    """What can be changed in a text of another language, word by word."""
    found = [item for item in TOKEN.finditer(text) if not item[0].isspace() and not item[0].startswith("--")]
    words = [item[0] for item in found if item[0][0].isalpha()]
    kinds: dict[str, list[Edit]] = {}
    for item in found:
        start, end = item.span()
        kinds.setdefault("delete", []).append((start, end, ""))
        if words:
            kinds.setdefault("insert", []).append((end, end, f" {rng.choice(words)} "))
        if item[0][0].isdigit():
            value = float(item[0]) if "." in item[0] else int(item[0])
            kinds.setdefault("number", []).append((start, end, number(value, rng)))
        if item[0][0].isalpha():
            kinds.setdefault("name", []).append((start, end, rng.choice(words)))
        for family in WORDS:
            if item[0].lower() in family:
                new = rng.choice([word for word in family if word != item[0].lower()])
                kinds.setdefault("word", []).append((start, end, new))
    return kinds
