"""What is said about a program without running it, and programs of several files."""

from __future__ import annotations

import gc
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from agent import programs, trees
from agent.errors import ConfigError
from agent.programs import forbidden, imports, misfit, normal
from agent.space import Space
from agent.texts import Code, parameter

FIRST = '''
def solve(items, limit=3):
    """Add them up."""
    total = 0  # so far
    for item in items:
        total += (lambda part: part * 2)(item)

    def inner(more, step=1):
        nonlocal total
        total += more
        return [k for k in range(more) if k != step]

    return inner(limit), total
'''
SECOND = """
def solve(items, limit=3):
    s = 0
    for x in items: s += (lambda q: q*2)(x)
    def helper(aa, bb=1):
        nonlocal s
        s += aa
        return [m for m in range(aa) if m != bb]
    return (helper(limit), s)
"""


def test_names_of_locals_comments_and_layout_do_not_matter() -> None:
    assert normal(FIRST) == normal(SECOND)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("s = 0", "s = 1"),
        ("if m != bb", "if s != bb"),
        ("return (helper(limit), s)", "return (s, helper(limit))"),
        ("nonlocal s\n", "s = 0\n"),
        ("limit=3", "limit=4"),
        ("items", "things"),
    ],
)
def test_what_a_program_does_matters(before: str, after: str) -> None:
    assert before in SECOND and normal(SECOND) != normal(SECOND.replace(before, after))


SAME = [
    ("def f():\n try: g()\n except E as e: return e", "def f():\n try: g()\n except E as q: return q"),
    ("class A:\n x=1\n def m(self):\n  x=2\n  return x", "class A:\n x=1\n def m(self):\n  y=2\n  return y"),
    (
        "def f(v):\n match v:\n  case [a,*b]: return a,b\n  case {'k':c,**d}: return c,d",
        "def f(v):\n match v:\n  case [p,*q]: return p,q\n  case {'k':r,**s}: return r,s",
    ),
    ("def f(s):\n return sorted(s,key=lambda a: a[0])", "def f(s):\n return sorted(s,key=lambda b: b[0])"),
    ("def f():\n 'doc'", "def f(): pass"),
    ("def f(n):\n if (y := n) > 1: return [y for _ in [1]]", "def f(n):\n if (z := n) > 1: return [z for _ in [1]]"),
    ("def f():\n return [a for a in [1] for b in [a]]", "def f():\n return [x for x in [1] for y in [x]]"),
    ("'''about'''\nx = 1.0", "x = 1.00"),
    (
        "def f():\n x=1\n def g():\n  global x\n  x=2\n g()\n return x",
        "def f():\n y=1\n def g():\n  global x\n  x=2\n g()\n return y",
    ),
    (
        "def f():\n x=1\n class A:\n  x=2\n  def m(self): return x\n return A",
        "def f():\n y=1\n class A:\n  x=2\n  def m(self): return y\n return A",
    ),
]
OTHER = [
    ("def f():\n x=1\n return locals()", "def f():\n y=1\n return locals()"),
    ("def f():\n 'doc'\n return f.__doc__", "def f():\n return f.__doc__"),
    ("class A:\n x=1", "class A:\n y=1"),
    ("class A:\n x=1\n def m(self):\n  return x", "class A:\n x=1\n def m(self):\n  x=3\n  return x"),
    ("def f(a): return a", "def f(b): return b"),
    ("def f():\n x=1\n def g():\n  global x\n  x=2\n g()", "def f():\n x=1\n def g():\n  nonlocal x\n  x=2\n g()"),
    ("def f(s):\n g=lambda a: a\n return g(a=1)", "def f(s):\n g=lambda b: b\n return g(a=1)"),
    ("def f():\n x=1\n y=2\n return x", "def f():\n x=1\n y=2\n return y"),
    ("import math as m", "import math as n"),
    ("def f():\n x=1\n return f'{x=}'", "def f():\n y=1\n return f'{y=}'"),
    ("x = 1", "y = 1"),
]


@pytest.mark.parametrize(("one", "two"), SAME)
def test_equal_programs_have_one_normal_form(one: str, two: str) -> None:
    assert normal(one) == normal(two)


@pytest.mark.parametrize(("one", "two"), OTHER)
def test_different_programs_have_different_normal_forms(one: str, two: str) -> None:
    assert normal(one) != normal(two)


def test_a_program_that_is_too_deep_is_taken_as_it_stands() -> None:
    deep = "x = " + "+".join(["1"] * 1500)
    assert normal(deep) == deep


def test_a_signature_is_what_a_caller_may_rely_on() -> None:
    fits = [
        "def f(a, b): ...",
        "def f(a, b, c=1): ...",
        "def f(a, b, *rest, k=1): ...",
        "async def f(a: int, b=2): ...",
    ]
    assert not any(misfit(text, "f", "(a, b)") for text in [*fits, "def f(*all): ...", "class f: pass"])
    assert not misfit("class f:\n def __init__(self, a, b): ...", "f", "(a, b)")
    for text, words in [
        ("def f(b, a): ...", "does not take (a, b)"),
        ("def f(a): ...", "does not take"),
        ("def f(a, b, c): ...", "needs c too"),
        ("def f(a, b, *, key): ...", "needs key too"),
        ("class f:\n def __init__(self, a): ...", "does not take"),
    ]:
        assert words in misfit(text, "f", "(a, b)")


def test_imports_are_found_wherever_they_stand() -> None:
    text = (
        "import os.path\ndef f():\n from json import loads\n __import__('socket')\n import importlib as i\n"
        " i.import_module('ssl')\nfrom . import near\n"
    )
    assert set(imports(text)) == {"os.path", "json", "socket", "importlib", "ssl", "."}
    assert (
        forbidden(text, ["os", "json", "importlib", "ssl"])
        == "line 4 imports socket, allowed is importlib, json, os, ssl"
    )
    assert forbidden("import numpy.linalg, mine\nfrom __future__ import annotations", ["numpy"], own=["mine"]) == ""
    assert "no module" in forbidden("import os", [])
    assert forbidden("import osx", ["os"]) and forbidden("import os", ["os.path"])


def test_a_program_that_does_not_parse_shows_its_line() -> None:
    with pytest.raises(ValueError, match=r"a\.py does not parse: line 2, .*: y = \("):
        programs.parse("x = 1\ny = (\n", "a.py")


# The parameter.


def test_a_program_keeps_its_signature_imports_and_size() -> None:
    item = Code("def f(a):\n return a\n", entry="f", signature="(a)", imports=("math",), max_chars=60)
    assert item.check("import math\ndef f(a): return math.sin(a)")
    for text, words in [
        ("def f(b): return b", "does not take"),
        ("import os\ndef f(a): ...", "line 1 imports os, allowed is math"),
        ("def f(a):\n return a" + " " * 60, "60 are allowed"),
    ]:
        with pytest.raises(ValueError, match=words):
            item.check(text)


TREE = {"pkg/a.py": "def f(): return 1\n", "pkg/b.py": "from pkg import a\n"}


def tree(**given: Any) -> Code:
    return Code(TREE, **{"files": ("pkg/*.py",), "protected": ("pkg/secret*.py",), "entry": "pkg.a:f", **given})


def test_a_tree_is_a_mapping_of_the_files_that_may_change() -> None:
    item = tree()
    assert item.initial() == TREE and list(item.check({**TREE, "pkg/aa.py": ""})) == [
        "pkg/a.py",
        "pkg/aa.py",
        "pkg/b.py",
    ]
    assert parameter(item.spec()) == item and parameter(item.spec()).initial() == TREE
    assert item.normal(TREE) == item.normal({**TREE, "pkg/b.py": "from pkg import a  # as ever\n"})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tests/test_a.py": ""}, "may change"),
        ({"pkg/secret.py": ""}, "is protected"),
        ({"pkg/sub/x.py": ""}, "may change"),
        ({"../pkg/x.py": ""}, "empty part"),
        ({"/etc/passwd": ""}, "not relative"),
        ({"pkg/../x.py": ""}, "empty part"),
        ({"pkg\\x.py": ""}, "not relative"),
        ({"pkg/\n.py": ""}, "not allowed"),
        ({"pkg/A.py": ""}, "differ in case only"),
        ({"pkg/a.py/x.py": ""}, "may change"),
        ({"pkg/x.py": b""}, "a text is needed"),
        ({"pkg/a.py": "x = 1"}, "does not define f"),
        ({"pkg/b.py": "x ="}, r"pkg/b\.py does not parse"),
        ({7: ""}, "7 is not a path"),
    ],
)
def test_what_is_no_such_tree_is_refused(change: dict[Any, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tree().check({**TREE, **change})


def test_files_cannot_be_removed_and_other_values_are_no_trees() -> None:
    with pytest.raises(ValueError, match=r"pkg/b\.py is missing"):
        tree().check({"pkg/a.py": TREE["pkg/a.py"]})
    with pytest.raises(ValueError, match="mapping of paths"):
        tree().check("def f(): ...")
    with pytest.raises(ValueError, match="is a file and a folder"):
        Code({"x": ""}, files=("**",), language="text").check({"x": "", "x/y": ""})


def test_the_imports_of_a_tree_may_be_its_own() -> None:
    item = tree(imports=())
    assert item.check(TREE)
    with pytest.raises(ValueError, match=r"pkg/b\.py: line 1 imports os"):
        item.check({**TREE, "pkg/b.py": "import os\n"})


def test_a_tree_is_read_from_the_folder(tmp_path: Path) -> None:
    for path, text in {**TREE, "pkg/secret.py": "KEY = 1\n", "other.py": ""}.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    item = Code(files=("pkg/*.py",), protected=("pkg/secret*.py",), entry="pkg.a:f")
    with pytest.raises(ConfigError, match="was not read"):
        item.initial()
    assert item.bound(tmp_path).initial() == TREE
    (tmp_path / "pkg" / "c.py").symlink_to("/etc/hostname")
    with pytest.raises(ConfigError, match="leaves the folder"):
        item.bound(tmp_path)
    with pytest.raises(ConfigError, match="no file"):
        Code(files=("none/*.py",)).bound(tmp_path)


def test_a_candidate_with_a_tree_cannot_be_changed() -> None:
    space = Space({"program": tree()})
    candidate = space.initial()
    candidate["program"]["pkg/a.py"] = "x"
    candidate.values_json["program"].clear()
    assert candidate["program"] == TREE and space.candidate(candidate.values_json) == candidate


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"default": "x = 1", "signature": "(a)"}, "no entry"),
        ({"default": "def f(): 1", "entry": "f", "signature": "a, b"}, "signature"),
        ({"default": "x", "files": ["*.py"]}, "one file or several"),
        ({"file": "x.py", "files": ["*.py"]}, "one file or several"),
        ({"default": {"a.py": ""}}, "needs files"),
        ({"files": ["../*.py"]}, "no pattern"),
        ({"files": ["*.py"], "entry": "f"}, "entry: found 'f'"),
        ({"default": "x = 1", "protected": ["a"]}, "there are no files"),
        ({"default": "import os", "imports": ["math"]}, "imports os"),
        ({"default": "x = 1", "imports": "math"}, "list"),
        ({"default": "x = 1", "max_chars": 2}, "2 are allowed"),
    ],
)
def test_a_wrong_code_parameter_says_why(spec: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parameter({"type": "code", **spec})


# Putting a program together.


def test_the_scorers_files_are_out_of_reach() -> None:
    made = trees.assembled({"a.py": "x"}, {"tests/t.py": b"y"})
    assert made == {"a.py": b"x", "tests/t.py": b"y"}
    for path in ("tests/t.py", "Tests/T.py", "tests", "tests/t.py/x"):
        with pytest.raises(ValueError, match="belongs to the evaluator"):
            trees.assembled({path: ""}, {"tests/t.py": b"y"})


@pytest.mark.parametrize(
    ("path", "pattern", "fits"),
    [
        ("a.py", "*.py", True),
        ("pkg/a.py", "*.py", False),
        ("pkg/a.py", "**/*.py", True),
        ("a.py", "**/*.py", True),
        ("x/pkg/a.py", "pkg/*.py", False),
        ("pkg/x/y/a.py", "pkg/**", True),
        ("pkg", "pkg/**", True),
    ],
)
def test_patterns_of_paths(path: str, pattern: str, fits: bool) -> None:
    assert trees.matches(path, [pattern]) is fits


def test_programs_are_read_in_several_threads() -> None:
    """As evaluations do beside each other, while the garbage collector passes the turn from one to the other."""
    text, failed = "def solve(x):\n    return 1.0\n" * 20, []

    def read(deep: int) -> None:
        if deep:
            return read(deep - 1)
        for _ in range(200):
            try:
                programs.syntax(text)
            except SystemError as error:
                failed.append(error)

    def pass_on(*_: Any) -> None:
        time.sleep(0)

    usual = gc.get_threshold()
    gc.callbacks.append(pass_on)
    gc.set_threshold(10)
    try:
        threads = [threading.Thread(target=read, args=(10 * number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        gc.set_threshold(*usual)
        gc.callbacks.remove(pass_on)
    assert not failed
