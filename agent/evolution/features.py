"""What a program looks like, in numbers, and what it looks like when its numbers are left out."""

from __future__ import annotations

import ast
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.code.programs import parse

LONGEST = 200_000
"""Characters beyond which a program is not parsed for this; it counts by its length alone."""
BRANCHES = (ast.If, ast.IfExp, ast.Match, ast.Try, ast.BoolOp)
LOOPS = (ast.For, ast.AsyncFor, ast.While, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


@dataclass(frozen=True, slots=True)
class Features:
    """A program in numbers; of several files, all of them together.

    Args:
        numbers: chars; and of Python nodes, branches, loops, calls, functions, constants, control (branches + loops).
        skeleton: Hash of its syntax without the numbers in it: versions that differ in numbers alone share it.
    """

    numbers: Mapping[str, float]
    skeleton: str


NAMES = ("length", "chars", "nodes", "branches", "loops", "calls", "functions", "constants", "control")
"""Descriptors that any program has; `length` is the logarithm to base 2 of its length over that of the initial one."""


def features(texts: Mapping[str, str], initial: int = 0) -> Features:
    """The features of a program.

    Args:
        texts: Path → text; a program in one text has the path "".
        initial: Characters of the initial program, for `length`.
    """
    chars = sum(map(len, texts.values()))
    numbers = dict.fromkeys(NAMES, 0.0)
    numbers["chars"] = float(chars)
    numbers["length"] = math.log2((chars + 1) / (initial + 1)) if initial else 0.0
    hashed = hashlib.blake2b(digest_size=12)
    for path, text in sorted(texts.items()):
        hashed.update(f"\0{path}\0".encode("utf-8", "surrogatepass"))
        tree = _parsed(text) if path == "" or path.endswith(".py") else None
        if tree is None:
            hashed.update(text.encode("utf-8", "surrogatepass"))
        else:
            _count(tree, numbers, hashed)
    numbers["control"] = numbers["branches"] + numbers["loops"]
    return Features(numbers, hashed.hexdigest())


def _parsed(text: str) -> ast.Module | None:
    if len(text) > LONGEST:
        return None
    try:
        return parse(text)
    except ValueError:  # another language
        return None


def _count(tree: ast.Module, numbers: dict[str, float], hashed: Any) -> None:
    words: list[str] = []
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        numbers["nodes"] += 1
        numbers["branches"] += isinstance(node, BRANCHES)
        numbers["loops"] += isinstance(node, LOOPS)
        numbers["calls"] += isinstance(node, ast.Call)
        numbers["functions"] += isinstance(node, FUNCTIONS)
        words.append(node.__class__.__name__)
        if isinstance(node, ast.Constant):
            number = isinstance(node.value, (int, float, complex)) and not isinstance(node.value, bool)
            numbers["constants"] += number
            words.append("#" if number else repr(node.value))
        else:
            for name in node._fields:
                value = getattr(node, name, None)
                if isinstance(value, str):
                    words.append(value)
                elif isinstance(value, ast.AST):
                    waiting.append(value)
                elif isinstance(value, list):
                    words.append(str(len(value)))
                    waiting.extend(item for item in value if isinstance(item, ast.AST))
                    words.extend(item for item in value if isinstance(item, str))
    hashed.update("\0".join(words).encode("utf-8", "surrogatepass"))
