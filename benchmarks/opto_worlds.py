"""The worlds of the benchmark: random arithmetic graphs, and Battleship on a board of 8 by 8."""

from __future__ import annotations

import io
import random
import tokenize
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agent.parameters import Float
from agent.problem import Problem
from agent.proposers.base import Context, Proposal
from agent.texts import Code
from agent.trace import note, op, param

STEPS = 8
LOW, HIGH = -5.0, 5.0
LARGEST = 100.0
"""Absolute value that no result of a graph may exceed, over the whole range."""

SIZE = 8
FLEET = (5, 4, 3, 3, 2)
GAMES = 6
"""Boards on which a policy is measured while the search is on."""

World = tuple[Callable[[Mapping[str, Any]], Any], list[Any], str]
"""How a candidate is measured, the parameters, and the direction."""


@op
def add(a: float, b: float) -> float:
    return a + b


@op
def subtract(a: float, b: float) -> float:
    return a - b


@op
def multiply(a: float, b: float) -> float:
    return a * b


OPS: tuple[Callable[[float, float], float], ...] = (add, subtract, multiply)
Step = tuple[int, int, int | float]
"""Which operation, and the places of its inputs: whole numbers are earlier results, others are constants."""


def steps(rng: random.Random) -> list[Step]:
    """A random graph: each result is used by the next one, and sometimes by a later one too."""
    made: list[Step] = []
    for number in range(STEPS):
        other: int | float = rng.randint(0, number) if rng.random() < 0.4 else round(rng.uniform(-3, 3), 1) + 0.01
        made.append((rng.randrange(len(OPS)), number, other))
    return made


def result(graph: Sequence[Step], x: float) -> float:
    """What the last operation of a graph gives."""
    values = [x]
    for kind, left, right in graph:
        values.append(OPS[kind](values[left], values[right] if isinstance(right, int) else right))
    return values[-1]


def numeric(seed: int) -> World:
    """A graph in one number x, whose result shall reach a goal that nobody tells; the feedback says in which direction.

    As in the numeric task of Cheng et al. 2024 (arXiv 2406.16218, section 5.1): the operations are those of the graph,
    and the words are "larger" or "smaller". The result is the distance to the goal, smaller is better.
    """
    rng = random.Random(f"graph {seed}")
    while True:
        graph, start, best = steps(rng), rng.uniform(LOW, HIGH), rng.uniform(LOW, HIGH)
        grid = [result(graph, LOW + (HIGH - LOW) * place / 40) for place in range(41)]
        goal = result(graph, best)
        if max(map(abs, grid)) <= LARGEST and 5 <= abs(result(graph, start) - goal) <= 50:
            break
    x = param("x", Float(LOW, HIGH, default=round(start, 3)))

    def distance(candidate: Mapping[str, Any]) -> tuple[float, str]:
        """Some arithmetic in x gives a number that shall reach a goal. The result is the distance to it."""
        found = result(graph, x.value)
        words = "right" if abs(found - goal) < 1e-3 else "too small" if found < goal else "too large"
        return abs(found - goal), f"the last number is {words}"

    return distance, [x], "minimize"


RASTER = '''def plan(board):
    """Cells [row, column] in the order in which to shoot at them until the next hit.

    board[row][column] is "?" where nobody shot yet, "o" for water, "x" for a hit."""
    cells = []
    for row in range(8):
        for column in range(8):
            if board[row][column] == "?":
                cells.append([row, column])
    return cells
'''
RANDOM = """import random

def plan(board):
    cells = [[r, c] for r in range(8) for c in range(8) if board[r][c] == "?"]
    random.Random(str(board)).shuffle(cells)
    return cells
"""
HUNT = """import random

def plan(board):
    cells = [[r, c] for r in range(8) for c in range(8) if board[r][c] == "?"]
    random.Random(str(board)).shuffle(cells)

    def near(cell):
        r, c = cell
        places = ((r + 1, c), (r - 1, c), (r, c + 1), (r, c - 1))
        return any(0 <= a < 8 and 0 <= b < 8 and board[a][b] == "x" for a, b in places)

    return sorted(cells, key=lambda cell: not near(cell))
"""
POLICIES = {"random": RANDOM, "raster": RASTER, "hunt and target": HUNT}


def fleet(seed: str) -> set[tuple[int, int]]:
    """The cells of a random fleet."""
    rng, taken = random.Random(f"fleet {seed}"), set[tuple[int, int]]()
    for length in FLEET:
        while True:
            along, across = rng.randrange(SIZE - length + 1), rng.randrange(SIZE)
            ship = [(along + step, across) for step in range(length)]
            ship = [(b, a) for a, b in ship] if rng.random() < 0.5 else ship
            if taken.isdisjoint(ship):
                taken.update(ship)
                break
    return taken


@op
def shoot(board: list[str], cells: Any, ships: set[tuple[int, int]]) -> tuple[list[str], int]:
    """The board after the shots up to the next hit, and how many those were. A useless shot counts too."""
    rows, shots = [list(row) for row in board], 0
    for cell in cells if isinstance(cells, list) else ():
        if shots >= SIZE * SIZE:
            break
        shots += 1
        if not isinstance(cell, list) or len(cell) != 2 or not all(type(v) is int and 0 <= v < SIZE for v in cell):
            note(f"{cell!r} is no cell")
            continue
        row, column = cell
        if rows[row][column] == "?":
            hit = (row, column) in ships
            rows[row][column] = "x" if hit else "o"
            if hit:
                break
    return ["".join(row) for row in rows], shots


def game(plan: Callable[[list[str]], Any], seed: str) -> tuple[float, str]:
    """Hits per shot until the fleet is sunk, and what happened in words; who gives up gets 64 shots for his hits."""
    ships, board, shots = fleet(seed), ["?" * SIZE] * SIZE, 0
    while (hits := sum(row.count("x") for row in board)) < len(ships):
        left = sum(row.count("?") for row in board)
        board, used = shoot(board, plan(board), ships)
        shots += used
        if sum(row.count("x") for row in board) == hits and (not used or left == sum(r.count("?") for r in board)):
            return hits / max(SIZE * SIZE, shots), f"gave up after {hits} hits"
        if shots > 4 * SIZE * SIZE:
            return hits / shots, "too many shots"
    return len(ships) / shots, f"sunk with {shots} shots"


def battleship(seed: int) -> World:
    """A policy of shots, as code that runs in the sandbox; hits per shot, larger is better."""
    policy = param("policy", Code(RASTER, entry="plan"))

    def hits(candidate: Mapping[str, Any]) -> tuple[float, str]:
        """Battleship on 8 by 8 cells: ships of 5, 4, 3, 3 and 2 cells. The result is hits per shot until all sank."""
        played = [game(policy.call, f"{seed} {number}") for number in range(GAMES)]
        return sum(score for score, _ in played) / len(played), "; ".join(words for _, words in played)

    return hits, [policy], "maximize"


KINDS = (tokenize.NAME, tokenize.NUMBER, tokenize.OP)


class RandomEdits:
    """Random search over programs: one to three tokens of the champion's become others of their kind."""

    name = "edits"
    needs_model = False
    texts = True

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        """New programs that parse; nobody looks at what they do."""
        made: dict[str, Proposal] = {}
        for _ in range(200 * n):
            text = edited(context.champion["policy"], context.rng)
            try:
                candidate = context.problem.space.candidate({"policy": text})
            except ValueError:
                continue
            if candidate.id not in context.history:
                made[candidate.id] = Proposal(candidate, "edits", "", (context.history.champion,))
            if len(made) == n:
                break
        return list(made.values())

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        return 0, 0, 0


def edited(text: str, rng: random.Random) -> str:
    """A program in which a few tokens are replaced by others of their kind; it may not parse."""
    lines = text.splitlines(keepends=True)
    found = [t for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type in KINDS]
    for old in sorted(rng.sample(found, rng.randint(1, 3)), key=lambda token: token.start, reverse=True):
        new = rng.choice([token.string for token in found if token.type == old.type])
        line, (start, end) = old.start[0] - 1, (old.start[1], old.end[1])
        lines[line] = lines[line][:start] + new + lines[line][end:]
    return "".join(lines)


WORLDS: dict[str, Callable[[int], World]] = {"numeric": numeric, "battleship": battleship}
