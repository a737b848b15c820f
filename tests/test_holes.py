"""Holes: numbers of a program that may be changed, and the program that runs with them filled in."""

from __future__ import annotations

import ast
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.code import holes
from agent.code.holes import Structure
from agent.parameters import Categorical, Float, Int
from agent.texts import Code

PROGRAM = '''"""Näher als ½."""


def solve(x, depth=tune(3, 1, 64, log=True)):
    share = tune(0.3, 0, 1); naïve = "é"; power = tune(-2, -4, 4)
    return naïve, (2**power, depth, share + tune(0.5, 0, 1), pick(kind=tune(
        "best", ["best", "first"])))


def pick(kind):
    return kind
'''


def ran(text: str) -> Any:
    """What the program answers where nobody has defined `tune`."""
    space: dict[str, Any] = {}
    exec(holes.plain(text), space)
    return space["solve"](0)[1]


def test_holes_have_names_ranges_and_values() -> None:
    found = {hole.name: (hole.parameter, hole.value) for hole in holes.find(PROGRAM)}
    assert found == {
        "depth": (Int(1, 64, log=True, default=3), 3),
        "share": (Float(0, 1, default=0.3), 0.3),
        "power": (Int(-4, 4, default=-2), -2),
        "solve": (Float(0, 1, default=0.5), 0.5),
        "kind": (Categorical(("best", "first"), default="best"), "best"),
    }


def test_what_runs_has_the_numbers_in_the_place_of_the_holes_and_keeps_its_lines() -> None:
    assert ran(PROGRAM) == (0.25, 3, 0.8, "best")
    assert "tune" not in holes.plain(PROGRAM)
    before, after = (ast.parse(text).body[-1].lineno for text in (PROGRAM, holes.plain(PROGRAM)))
    assert before == after, "a traceback names the same lines"
    assert holes.plain("x = -tune(-2, -4, 4) ** 2") == "x = -(-2) ** 2"
    assert holes.plain("x = tune(-0.0, -1.0, 1.0), tune(3, 0, 8.5)") == "x = (-0.0), (3)", "as it is written"
    assert holes.plain("x = tune(0x10, 0, 20), tune('a', ['a', 'b'])") == "x = (0x10), ('a')"
    assert holes.plain("no holes, and not even Python") == "no holes, and not even Python"


def test_filling_keeps_the_holes_open() -> None:
    structure = Structure.of(PROGRAM)
    text = structure.fill([64, 1.0, 4, 0.25, "first"])
    assert ran(text) == (16, 64, 1.25, "first")
    assert structure.values(text) == [64, 1.0, 4, 0.25, "first"] == [hole.value for hole in holes.find(text)]
    assert Structure.of(text).values(PROGRAM) == [3, 0.3, -2, 0.5, "best"]
    with pytest.raises(ValueError, match="outside"):
        structure.fill([65, 1.0, 4, 0.25, "first"])


@given(st.lists(st.tuples(st.integers(1, 64), st.floats(0, 1), st.integers(-4, 4)), min_size=1, max_size=3))
def test_every_value_comes_back_as_it_went_in(rows: list[tuple[int, float, int]]) -> None:
    structure = Structure.of(PROGRAM)
    for depth, share, power in rows:
        values = [depth, share, power, share, "first"]
        assert structure.values(structure.fill(values)) == values


@pytest.mark.parametrize(
    "other",
    [
        PROGRAM.replace("return kind", "return kind  # new"),
        PROGRAM.replace("0.3, 0, 1", "0.3, 0, 2"),
        PROGRAM.replace("0.3,", "1.3,"),
        PROGRAM.replace("0.3,", "nan,"),
        PROGRAM.replace("0.3,", '"0.3",'),
        PROGRAM.replace('tune(\n        "best",', 'tune(\n        "worst",'),
        "",
    ],
)
def test_another_structure_or_another_range_has_no_values(other: str) -> None:
    assert Structure.of(PROGRAM).values(other) is None


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("tune(x, 0, 1)", "not expressions"),
        ("tune(0.5, 0, 10 ** 3)", "not expressions"),
        ("tune(*[1, 2, 3])", "not expressions"),
        ("tune(5, 0, 1)", "5 is outside 0 to 1"),
        ("tune(0.5, 1, 0)", "must be below"),
        ("tune(0.5, 0.0, 1, log=True)", "low > 0"),
        ("tune(0.5, 0, 1, log=1)", "true or false"),
        ("tune(0.5, 0, 1, 2, 3)", "a hole is tune"),
        ("tune(0.5, 0, 1, step=2)", "a hole is tune"),
        ("tune(0.5)", "a hole is tune"),
        ("tune()", "a hole is tune"),
        ("tune(True, 0, 1)", "a hole is tune"),
        ("tune(1e999, 0, 1)", "finite"),
        ("tune('a', ['a', 'a'])", "twice"),
        ("tune('a', ['a', 'it\\'s'])", "without quotes"),
        ("tune('c', ['a', 'b'])", "not one of"),
        ("tune(- 1, -2, 2)", "cannot be changed"),
        ("tune((\n1), 0, 2)", ""),
        ('f\'{tune("a", ["a", "b"])}\'', "cannot be changed"),
        ("f'{tune(1, 0, 2)=}'", "cannot be changed"),
        ("f'{x:>{tune(9, 1, 20)}}'", "cannot be changed"),
    ],
)
def test_what_is_no_hole_is_refused_with_its_line_before_anything_is_paid_for(line: str, why: str) -> None:
    program = f"def solve(x):\n    return {line}\n"
    code = Code("def solve(x):\n    return 1\n", entry="solve")
    if not why:
        assert code.check(program) == program
        return
    with pytest.raises(ValueError, match="line 2: tune") as error:
        code.check(program)
    assert why in str(error.value)


@pytest.mark.parametrize(
    "own",
    [
        "def tune(song, low, high):\n    return song.upper()\n",
        "def tune(value, low, high):\n    print(value)\n    return value\n",
        "@trace\ndef tune(value, low, high):\n    return value\n",
        "class tune:\n    pass\n",
        "from radio import tune\n",
        "from radio import *\n",
        "import radio as tune\n",
        "tune = len\n",
        "def f(tune):\n    return tune\n",
        "async def tune(value):\n    return value\n",
        "try:\n    pass\nexcept OSError as tune:\n    pass\n",
        "match 3:\n    case tune:\n        pass\n",
        "match [3]:\n    case [*tune]:\n        pass\n",
        "match {}:\n    case {**tune}:\n        pass\n",
        "match 3:\n    case int() as tune:\n        pass\n",
    ],
)
def test_where_the_name_means_something_else_there_are_no_holes(own: str) -> None:
    program = own + "x = tune(0.3, 0, 1)\ny = tune(x)\n"
    assert holes.find(program) == ()
    assert holes.plain(program) == program


def test_a_function_that_returns_its_first_argument_is_what_a_hole_means() -> None:
    shim = 'def tune(value, *rest, **more):\n    """Stands for its value."""\n    return value\n\n\n'
    program = shim + "def solve(x):\n    return 0, tune(0.3, 0, 1)\n"
    assert [hole.value for hole in holes.find(program)] == [0.3]
    space: dict[str, Any] = {}
    exec(program, space)  # as it stands, elsewhere
    assert space["solve"](0)[1] == 0.3 == ran(program)


def test_names_are_unique_and_lines_of_any_kind_are_counted() -> None:
    program = "a = tune(1, 0, 2) + tune(2, 0, 2)\r\nb = tune(1, 0, 2)\rdef f(): return tune(0, 0, 1)\ntune(1, 0, 2)\n"
    assert [hole.name for hole in holes.find(program)] == ["a", "a_2", "b", "f", "hole"]
    filled = Structure.of(program).fill([0, 1, 2, 1, 0])
    assert (
        filled
        == "a = tune(0, 0, 2) + tune(1, 0, 2)\r\nb = tune(2, 0, 2)\rdef f(): return tune(1, 0, 1)\ntune(0, 0, 2)\n"
    )


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_a_call_over_several_lines_stays_on_them_whatever_ends_a_line(end: str) -> None:
    program = f"x = tune({end}1, # one{end}0, 2){end}y = 2{end}"
    before, after = (ast.parse(text).body[-1].lineno for text in (program, holes.plain(program)))
    assert before == after == 4


def test_another_name_for_what_is_imported_is_no_meaning_of_its_own() -> None:
    assert len(holes.find("from radio import tune as play\nx = tune(1, 0, 2)\nx.tune = 3\n")) == 1


def test_a_hostile_program_is_refused_or_has_no_holes_and_is_never_run() -> None:
    deep = "x = " + "(" * 300 + "tune(1, 0, 2)" + ")" * 300
    for text in (deep, "tune" * 50_000, "x = tune(" + "[" * 150 + "]" * 150 + ", 0, 1)", "tune(\ud800)"):
        try:
            holes.find(text)
        except ValueError:
            continue
    with pytest.raises(ValueError, match="not expressions"):
        holes.find("tune(__import__('os').system('true'), 0, 1)")
