"""The share of a row's tests that a program in the output passes, run in the sandbox.

Source: Chen et al., Evaluating Large Language Models Trained on Code (2021), section 2.2, for running generated
programs against tests in a sandbox.
"""

from __future__ import annotations

import ast
import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.errors import ConfigError
from agent.evaluators.code_runner import Runner
from agent.metrics.base import Metric, Row, as_text, quoted
from agent.programs import syntax
from agent.sandbox.types import Caps, Job
from agent.space import digest

if TYPE_CHECKING:
    from agent.sandbox.types import Result

MOST = 500
"""Tests of one row."""
RESTARTS = 5
"""How often the rest of the tests is run again after one that ended the process."""
CANARIES = 3
TOLD = 3

_FENCE = re.compile(r"```(?:[pP]y[a-zA-Z0-9]*)?[ \t]*\n(.*?)```", re.DOTALL)
_RUN = '''"""Runs one test beside the program."""
import program

def run(given):
    names = dict(vars(program))
    names["__name__"] = "test"
    try:
        if given["entry"]:
            if given["entry"] not in names:
                return {"failed": "the program has no " + given["entry"]}
            names["candidate"] = names[given["entry"]]
        if "call" in given:
            return {"value": names["candidate"](*given["call"])}
        exec(given["test"], names)
    except AssertionError as error:
        return {"failed": ("AssertionError: " + str(error))[:300]}
    except Exception as error:
        return {"failed": (type(error).__name__ + ": " + str(error))[:300]}
    return {"token": given["token"]}
'''


@dataclass(frozen=True, slots=True)
class Test:
    """One test: source that raises where the program is wrong, or arguments with the value they must give.

    The last line of its text is what the words quote.
    """

    text: str
    call: Sequence[Any] | None = None
    value: Any = None


class CodePass(Metric):
    """Share of the tests that pass. The program is the output's only or last Python fence, or else all of it.

    A test that is a table `{input = […], output = …}` calls the row's entry in the sandbox and compares what comes back
    here, beyond the program's reach. A test that is Python source runs in the sandbox beside the program. Some of
    the tests that run there are false and must fail: where one passes, the program meddles with its tests and
    scores 0. That catches crude tricks and not every one; only tables are safe from a program that wants to cheat.

    Args:
        tests: The row's field with the tests: a list of tables or of source texts, or one source text. In that each
            assertion at the top level, or of `check(candidate)`, is a test; what stands before is run first.
        entry: The row's field with the name of the function under test; tables and `check` need it.
        prefix: The row's field with source that comes before the output, such as the imports of a completion; "" for
            none.
        seconds: For loading the program, and for each test.
        memory_mb: What it may take.
        imports: Libraries that it may use, loaded beforehand.
        unsafe: Whether it may run where the sandbox's layers are too weak here.
        reveal: Whether the words may quote the tests.
    """

    blocking = True

    def __init__(
        self,
        *,
        tests: str = "tests",
        entry: str = "entry_point",
        prefix: str = "",
        seconds: float = 5.0,
        memory_mb: int = 512,
        imports: Sequence[str] = (),
        unsafe: bool = False,
        reveal: bool = True,
    ) -> None:
        super().__init__(answer=tests, reveal=reveal)
        if not (math.isfinite(seconds) and seconds > 0) or memory_mb < 1:
            raise ConfigError("code_pass: seconds and memory_mb must be above 0")
        self._entry, self._prefix, self._imports, self._unsafe = entry, prefix, tuple(imports), unsafe
        self._caps = Caps(seconds=seconds, memory_mb=memory_mb)
        self._runner = Runner(None, {"workers": 2, "imports": list(imports), "unsafe": unsafe})  # starts when needed

    def guard(self) -> dict[str, Any]:
        """The sandbox's layers here, for the run's record.

        Raises:
            PrerequisiteError: They are too weak, and nobody asked for `unsafe`.
        """
        from agent.sandbox.layers import chosen, require, unstopped

        on = chosen(None)
        weak = require(on)
        if weak is not None and not self._unsafe:
            raise weak
        return {"layers": list(on), **({"unsafe": True, "not_stopped": unstopped(on)} if weak is not None else {})}

    def _score(self, output: str, row: Row) -> tuple[float, str]:
        tests, entry = self._tests(row), as_text(row.get(self._entry) or "")
        if not entry and any(test.call is not None or "candidate" in test.text for test in tests):
            raise ValueError(f"the row has no {self._entry!r}: the name of the function under test")
        program = program_of(output)
        if self._prefix:
            program = f"{as_text(self.field(row, self._prefix))}\n{program}"
        try:
            program.encode()
        except UnicodeEncodeError:
            return 0.0, "wrong: the program holds half of a surrogate pair"
        files = {"program.py": program.encode(), "truegain_run.py": _RUN.encode()}
        asked, places = _asked(tests, entry, random.Random(digest([program, entry])))
        answers, broken = self._answers(files, asked)
        if broken:
            return 0.0, f"wrong: the program cannot be loaded: {quoted(broken)}"
        passed = {
            place: answer if isinstance(answer, str) else _verdict(asked[place], answer, tests, places[place])
            for place, answer in answers.items()
        }
        return self._told(tests, places, passed)

    def _answers(self, files: Mapping[str, bytes], asked: Sequence[Any]) -> tuple[dict[int, Any], str]:
        """By place what came of each test, a text for one that ended the process; and why the program cannot be loaded.

        Raises:
            ValueError: The sandbox failed, for which the program may not be to blame.
        """
        out: dict[int, Any] = {}
        begin = 0
        for _ in range(RESTARTS + 1):
            result = self._run(files, asked[begin:])
            if result.status == "ok":
                return {**out, **dict(enumerate(result.outputs, begin))}, ""
            if result.failed_input is None:
                return {}, f"{result.status}: {result.message}"
            end = begin + result.failed_input
            if end > begin:  # what came before it is lost with its process
                out.update(enumerate(self._run(files, asked[begin:end]).outputs, begin))
            out[end] = f"{result.status}: {result.message}"
            begin = end + 1
            if begin == len(asked):
                break
        return out, ""

    def _run(self, files: Mapping[str, bytes], asked: Sequence[Any]) -> Result:
        result = self._runner.run(Job(files, "truegain_run:run", asked, self._caps, imports=self._imports))
        if result.status == "lost":
            raise ValueError(f"the sandbox failed: {result.message}")
        return result

    def _told(
        self, tests: Sequence[Test], places: Sequence[int | None], passed: Mapping[int, str]
    ) -> tuple[float, str]:
        if any(test is None and passed.get(place) == "" for place, test in enumerate(places)):
            return 0.0, "wrong: a test that must fail passed; the program meddles with its tests"
        wrong = {
            test: passed.get(place, "not run, for earlier tests ended the program")
            for place, test in enumerate(places)
            if test is not None and passed.get(place) != ""
        }
        share = 1 - len(wrong) / len(tests)
        if not wrong:
            return 1.0, f"right: all {len(tests)} tests pass"
        if not self.reveal:
            return share, f"{len(tests) - len(wrong)} of {len(tests)} tests pass"
        shown = "; ".join(
            f"{quoted(tests[test].text.splitlines()[-1])} gives {quoted(why)}"
            for test, why in list(wrong.items())[:TOLD]
        )
        return share, f"{len(tests) - len(wrong)} of {len(tests)} tests pass; failing: {shown}"

    def _tests(self, row: Row) -> list[Test]:
        given = self.field(row, self.needs)
        found = [given] if isinstance(given, (str, Mapping)) else given
        if not isinstance(found, (list, tuple)):
            raise ValueError(f"the row's {self.needs!r} must be a text or a list, not {type(given).__name__}")
        out: list[Test] = []
        for item in found:
            if isinstance(item, Mapping):
                if not {"input", "output"} <= item.keys() or not isinstance(item["input"], (list, tuple)):
                    raise ValueError(f"a test in the row's {self.needs!r} must have input, a list, and output")
                arguments = ", ".join(as_text(one) for one in item["input"])
                out.append(Test(f"({arguments}) → {as_text(item['output'])}", item["input"], item["output"]))
            else:
                out += [Test(text) for text in split_tests(as_text(item))]
        if not 0 < len(out) <= MOST:
            raise ValueError(f"the row's {self.needs!r} has {len(out)} tests, allowed are 1 to {MOST}")
        return out


def program_of(output: str) -> str:
    """The program in an output: its last Python fence, or else all of it."""
    found = _FENCE.findall(output)
    return str(found[-1]) if found else output


def split_tests(text: str) -> list[str]:
    """A test's source as one source per assertion, each with what stands before it.

    Assertions are those of `check(candidate)`, or without one those at the top level; where there are none there, in
    a loop for instance, all of it is one test.

    Raises:
        ValueError: It is not Python.
    """
    try:
        tree = syntax(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"a test of the row is not Python: {error}") from None
    checks = [item for item in tree.body if isinstance(item, ast.FunctionDef) and item.name == "check"]
    before = [item for item in tree.body if item not in checks] if checks else []
    body = checks[-1].body if checks else tree.body
    wrapped = checks[-1].args.args[0].arg if checks and checks[-1].args.args else None
    bind = syntax(f"{wrapped} = candidate").body if wrapped not in (None, "candidate") else []
    if not any(isinstance(item, ast.Assert) for item in body):
        call = "\ncheck(candidate)\n" if checks and not any(_calls_check(item) for item in before) else ""
        return [text + call]
    out, setup = [], [*before, *bind]
    for item in body:
        if isinstance(item, ast.Assert):
            out.append(ast.unparse(ast.Module([*setup, item], [])))
        else:
            setup.append(item)
    return out


def _calls_check(item: ast.stmt) -> bool:
    return any(isinstance(n, ast.Call) and getattr(n.func, "id", "") == "check" for n in ast.walk(item))


def _asked(tests: Sequence[Test], entry: str, rng: random.Random) -> tuple[list[dict[str, Any]], list[int | None]]:
    """The inputs, with false tests among those that are source; and by place the test that it is, None for a false."""
    items: list[tuple[int | None, dict[str, Any]]] = []
    for index, test in enumerate(tests):
        if test.call is not None:
            items.append((index, {"entry": entry, "call": list(test.call)}))
        else:
            items.append((index, {"entry": entry, "test": test.text, "token": f"{rng.getrandbits(64):016x}"}))
    if any(test.call is None for test in tests):
        for _ in range(CANARIES):
            number = rng.randrange(10**6)
            source = f"assert {number} == {number + rng.randrange(1, 9)}"
            items.insert(
                rng.randrange(len(items) + 1),
                (None, {"entry": entry, "test": source, "token": f"{rng.getrandbits(64):016x}"}),
            )
    return [given for _, given in items], [index for index, _ in items]


def _verdict(asked: Mapping[str, Any], answer: Any, tests: Sequence[Test], test: int | None) -> str:
    """Why a test failed; "" when it passed."""
    if isinstance(answer, dict) and "failed" in answer:
        return str(answer["failed"])
    if "call" in asked:
        assert test is not None
        found = answer.get("value") if isinstance(answer, dict) else answer
        return "" if same(found, tests[test].value) else f"returned {as_text(found)}"
    return "" if isinstance(answer, dict) and answer.get("token") == asked["token"] else "no verdict"


def same(found: Any, wanted: Any) -> bool:
    """Whether two plain values are equal: true is not 1, tuples are lists, and floats may differ by 1e-9 of them."""
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted
    if isinstance(found, (int, float)) and isinstance(wanted, (int, float)):
        try:
            return math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-12)
        except OverflowError:
            return found == wanted
    if isinstance(found, (list, tuple)) and isinstance(wanted, (list, tuple)):
        return len(found) == len(wanted) and all(map(same, found, wanted))
    if isinstance(found, dict) and isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(same(found[key], wanted[key]) for key in wanted)
    return type(found) is type(wanted) and bool(found == wanted)
