"""The language of the search: a program is a list of statements, each of which gives a variable the value of one
operation. Programs are read from text, written as text, changed at random, and told apart by what they do.

After Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms" (NeurIPS, arXiv 2302.06675), section 2.
"""

from __future__ import annotations

import ast
import hashlib
import random
from dataclasses import dataclass, replace

import numpy as np
import ops

GIVEN = ("w", "g", "m", "v", "lr", "decay", "step")
TARGETS = ("g", "m", "v", "u", "a", "b", "c")
INFIX = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide}
CALLS = {
    "interp": ("x", "x", "rate"),
    "debias": ("x", "rate", "step"),
    "clip": ("x", "size"),
    "sign": ("x",),
    "root": ("x",),
    "tanh": ("x",),
    "norm": ("x",),
}
NUMBERS = {"rate": (0.0, 0.9999), "size": (1e-8, 100.0)}
MOST = 20
"""Statements in a program."""
LEAST = 2
HEAD = "def update(w, g, m, v, lr, decay, step):"
END = '''    return w - u, m, v


def tune(value, *rest, **more):
    """A number that may be changed: where the search runs a program, the value stands in its place."""
    return value
'''


@dataclass(frozen=True, slots=True)
class Number:
    """A number in a program, which stays a hole.

    Args:
        kind: "rate", of an average, or "size", of anything, on a logarithmic scale.
        value: From the range of its kind.
    """

    kind: str
    value: float

    def __str__(self) -> str:
        low, high = NUMBERS[self.kind]
        return f"tune({self.value!r}, {low!r}, {high!r}{', log=True' * (self.kind == 'size')})"


@dataclass(frozen=True, slots=True)
class Statement:
    """`target = operation(arguments)`; an argument is a variable's name or a number."""

    target: str
    operation: str
    arguments: tuple[str | Number, ...]

    def __str__(self) -> str:
        first, *_ = words = [str(item) for item in self.arguments]
        if self.operation in INFIX:
            return f"{self.target} = {first} {self.operation} {words[1]}"
        return f"{self.target} = {self.operation}({', '.join(words)})"


Program = tuple[Statement, ...]


def text(program: Program) -> str:
    """A program as Python."""
    used = sorted({item.operation for item in program} & CALLS.keys())
    lines = [f"from ops import {', '.join(used)}\n\n"] if used else []
    return "\n".join([*lines, HEAD, *(f"    {item}" for item in program), END])


def parsed(source: str) -> Program:
    """The program of a text.

    Raises:
        ValueError: It is not in the language.
    """
    function = next((node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)), None)
    if function is None or ast.unparse(function).splitlines()[0] != HEAD:
        raise ValueError(f"a program begins with {HEAD}")
    *body, _ = function.body
    program = tuple(_statement(node) for node in body)
    if not valid(program) or text(program) != source:
        raise ValueError("the program is not written in the language of the search")
    return program


def _statement(node: ast.stmt) -> Statement:
    match node:
        case ast.Assign(targets=[ast.Name(target)], value=ast.BinOp(left, operator, right)):
            signs = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
            return Statement(target, signs.get(type(operator), "?"), (_argument(left), _argument(right)))
        case ast.Assign(targets=[ast.Name(target)], value=ast.Call(ast.Name(name), arguments)):
            return Statement(target, name, tuple(_argument(item) for item in arguments))
    raise ValueError(f"line {node.lineno}: a statement gives a variable the value of one operation")


def _argument(node: ast.expr) -> str | Number:
    match node:
        case ast.Name(name):
            return name
        case ast.Call(ast.Name("tune"), [ast.Constant(float(value)), *_], keywords):
            return Number("size" if keywords else "rate", value)
    raise ValueError(f"line {node.lineno}: an argument is a variable or a hole")


def valid(program: Program) -> bool:
    """Whether every argument fits and is known where it is used, and the update is known at the end."""
    known = set(GIVEN)
    for item in program:
        wanted = CALLS.get(item.operation, ("x", "y"))
        if item.operation not in {*CALLS, *INFIX} or item.target not in TARGETS or len(wanted) != len(item.arguments):
            return False
        for kind, value in zip(wanted, item.arguments, strict=True):
            if isinstance(value, Number):
                low, high = NUMBERS[value.kind]
                if (
                    value.kind != {"rate": "rate", "size": "size", "y": "size"}.get(kind)
                    or not low <= value.value <= high
                ):
                    return False
            elif kind in NUMBERS or value not in known or (kind == "step" and value != "step"):
                return False
        known.add(item.target)
    return "u" in known and len(program) <= MOST


def drawn(rng: random.Random, length: int) -> Program:
    """A random program."""
    while True:
        program: Program = ()
        for _ in range(length):
            program += (_random(rng, program, len(program)),)
        if valid(program):
            return program


def mutated(rng: random.Random, program: Program) -> Program:
    """A program with a statement more or less, or with another argument somewhere; always a valid one."""
    while True:
        place = rng.randrange(len(program) + 1)
        kind = rng.choice(("insert", "remove", "argument", "argument", "number"))
        changed = list(program)
        if kind == "insert":
            changed.insert(place, _random(rng, program, place))
        elif place == len(program):
            continue
        elif kind == "remove":
            del changed[place]
        else:
            changed[place] = _altered(rng, program, place, kind == "number")
        made = tuple(changed)
        if made != program and len(made) >= LEAST and valid(made):
            return made


def _random(rng: random.Random, program: Program, place: int) -> Statement:
    operation = rng.choice([*INFIX, *CALLS])
    kinds = CALLS.get(operation, ("x", "y"))
    return Statement(rng.choice(TARGETS), operation, tuple(_value(rng, kind, program, place) for kind in kinds))


def _value(rng: random.Random, kind: str, program: Program, place: int) -> str | Number:
    if kind == "step":
        return "step"
    if kind == "rate":
        return Number("rate", rng.choice((0.0, 0.5, 0.9, 0.95, 0.99, 0.999)))
    if kind == "size" or (kind == "y" and rng.random() < 0.2):
        return Number("size", float(f"{10.0 ** rng.uniform(-3, 1):.3g}"))
    return rng.choice(sorted({*GIVEN, *(item.target for item in program[:place])}))


def _altered(rng: random.Random, program: Program, place: int, numbers: bool) -> Statement:
    """A statement with another argument; of its numbers, with one that is near."""
    item = program[place]
    which = rng.randrange(len(item.arguments))
    old = item.arguments[which]
    if not isinstance(old, Number):
        new = old if numbers else _value(rng, CALLS.get(item.operation, ("x", "y"))[which], program, place)
    elif old.kind == "rate":  # what counts is how far it is from one
        left = (1.0 - old.value) * 10.0 ** rng.gauss(0, 0.4)
        new = Number("rate", round(min(0.9999, max(0.0, 1.0 - left)), 5))
    else:
        new = Number("size", float(f"{min(100.0, max(1e-8, old.value * 10.0 ** rng.gauss(0, 0.5))):.3g}"))
    return replace(item, arguments=(*item.arguments[:which], new, *item.arguments[which + 1 :]))


def run(program: Program, given: dict[str, object]) -> dict[str, object]:
    """The variables after one update. This is what `text` says, without running any text."""
    space = dict(given)
    for item in program:
        values = [value.value if isinstance(value, Number) else space[value] for value in item.arguments]
        space[item.target] = (INFIX.get(item.operation) or getattr(ops, item.operation))(*values)
    return space


STEPS, SHAPE = 8, (2, 8)
_RNG = np.random.default_rng(0)
_START = _RNG.normal(size=SHAPE)
_DRAWS = _RNG.normal(size=(2, STEPS, *SHAPE)) * 10.0 ** _RNG.uniform(-3, 0, size=(2, STEPS, *SHAPE))
"""Gradients of many sizes: with sizes that are alike, a slow average would not show in eight steps."""


def behaviour(program: Program) -> str:
    """A hash of what a program does with fixed gradients; "" of one that is useless without being measured.

    Useless is what does not move the weights, moves them to what is no number, or does not ask the gradient. Programs
    with one hash do the same with any gradients, as far as eight digits of eight steps can tell.
    """
    with np.errstate(all="ignore"):
        moves, others = (_moves(program, _START, draws) for draws in _DRAWS)
    usable = np.isfinite(moves).all() and np.isfinite(others).all() and np.any(moves)
    if not usable or np.array_equal(moves, others):
        return ""
    return hashlib.sha256(" ".join(f"{value:.8g}" for value in moves.ravel()).encode()).hexdigest()[:12]


def _moves(program: Program, start: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    w, m, v = start, np.zeros(SHAPE), np.zeros(SHAPE)
    lr, decay = np.array([[0.1], [0.03]]), np.array([[0.1], [0.3]])
    out = []
    for index, g in enumerate(gradients):
        given = {"w": w, "g": g, "m": m, "v": v, "lr": lr, "decay": decay, "step": index + 1}
        space = run(program, given)
        move, m, v = (np.broadcast_to(np.asarray(space[name], dtype=float), SHAPE) for name in "umv")
        w = w - move
        out.append(move)
    return np.array(out)


def shorter(program: Program) -> list[Program]:
    """The valid programs with one statement less, from the last statement on."""
    ways = (program[:place] + program[place + 1 :] for place in reversed(range(len(program))))
    return [made for made in ways if len(made) >= LEAST and valid(made)]


def cleaned(program: Program) -> Program:
    """A program without the statements that change nothing of what it does; costs no measurement."""
    known = behaviour(program)
    while known and (same := next((made for made in shorter(program) if behaviour(made) == known), None)):
        program = same
    return program
