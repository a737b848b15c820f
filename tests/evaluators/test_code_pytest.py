"""A pytest suite as the judge of a program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.errors import ConfigError
from agent.evaluation import Output
from agent.evaluators.build import build
from agent.evaluators.pytest_suite import CANARY, PytestEvaluator, canaries
from tests.evaluators.code_helpers import PLAIN, produce

SUITE = """
import pytest
from program import square

@pytest.mark.parametrize("x", [1, 2, 3])
def test_square(x):
    assert square(x) == x * x

@pytest.mark.skipif(True, reason="not here")
def test_skipped():
    assert square(9) == 0
"""
HIDDEN = "from program import square\n\ndef test_hidden():\n    assert square(1000) == 1000000\n"
GOOD = "def square(x):\n    return sum(x for _ in range(x))\n"


def suite(folder: Path, **given: Any) -> PytestEvaluator:
    (folder / "tests").mkdir(exist_ok=True)
    (folder / "hidden").mkdir(exist_ok=True)
    (folder / "tests" / "test_square.py").write_text(SUITE)
    (folder / "hidden" / "test_more.py").write_text(HIDDEN)
    return PytestEvaluator(
        **{
            "tests": ["tests"],
            "confirm": ["hidden"],
            "folder": folder,
            "names": ["score", "passed"],
            "programs": {"program": {"path": "program.py", "entry": None}},
            "sandbox": {"kind": PLAIN, "caps": {"seconds": 60}},
            "initial": {"program": GOOD},
            **given,
        }
    )


def values(output: Output) -> dict[str, float]:
    assert output.failure is None, output
    return dict(output.value["values"])


def test_the_share_that_passes_comes_first_and_then_speed(tmp_path: Path) -> None:
    made = suite(tmp_path)
    good = values(produce(made, GOOD))
    assert good["passed"] == 1.0 and good["failed"] == 0 and 1 < good["score"] < 2 and good["seconds"] > 0
    bad = produce(made, "def square(x):\n    return x + 2 if x == 2 else x * 3")
    assert values(bad)["passed"] == pytest.approx(2 / 3) == values(bad)["score"]
    assert "1 of 3 tests fail, such as tests/test_square.py::test_square[1]" in bad.value["feedback"]
    assert "assert square(x) == x * x" in bad.log, "the proposer is told what a test found"


def test_the_gate_runs_tests_that_the_search_does_not_know(tmp_path: Path) -> None:
    made = suite(tmp_path)
    learned = "def square(x):\n    return {1: 1, 2: 4, 3: 9}.get(x, 0)"
    assert values(produce(made, learned))["passed"] == 1.0
    hidden = produce(made, learned, stage="confirm")
    assert values(hidden)["passed"] == 0.75 and hidden.value["feedback"] == hidden.log == ""


def test_a_program_that_breaks_the_collection_passes_nothing(tmp_path: Path) -> None:
    assert values(produce(suite(tmp_path), "raise ValueError('at import')"))["passed"] == 0.0


FORGERS = {
    "outcomes": """
import _pytest.reports as reports
made = reports.TestReport.from_item_and_call.__func__
def forged(cls, item, call):
    report = made(cls, item, call)
    report.outcome = "passed"
    return report
reports.TestReport.from_item_and_call = classmethod(forged)
def square(x): return 0
""",
    "skips": "import pytest\ndef square(x): pytest.skip('too hard')",
    "exit": "import os\ndef square(x): os._exit(0)",
    "names": """
import sys
for module in list(sys.modules.values()):
    if hasattr(module, "Outcomes"):
        module.run = lambda given: {"outcomes": {}}
def square(x): return 0
""",
}


@pytest.mark.parametrize("name", FORGERS)
def test_a_program_that_pretends_gains_nothing(tmp_path: Path, name: str) -> None:
    output = produce(suite(tmp_path), FORGERS[name])
    if name == "outcomes":
        assert output.failure is not None and output.failure.sign == "canary"
    elif name == "exit":
        assert output.failure is not None and output.failure.kind == "error"
    else:
        assert values(output)["passed"] == 0.0


def test_a_candidate_configures_nothing(tmp_path: Path) -> None:
    made = suite(tmp_path, programs={"code": {"path": None, "entry": None}}, initial={"code": {"program.py": GOOD}})
    for path in ("conftest.py", "pkg/conftest.py", "pytest.ini", "pyproject.toml"):
        output = produce(made, {"code": {"program.py": GOOD, path: ""}})
        assert output.failure is not None and "configure pytest" in output.failure.message
    output = produce(made, {"code": {"program.py": GOOD, "tests/test_square.py": "def test_square(): pass"}})
    assert output.failure is not None and "belongs to the evaluator" in output.failure.message


def test_some_of_our_own_tests_fail_and_nobody_knows_which(tmp_path: Path) -> None:
    text, wanted = canaries(1)
    assert set(wanted.values()) == {"passed", "failed"} and canaries(1) == (text, wanted) != canaries(2)
    assert text.count("def test_") == len(wanted) and CANARY.startswith("test_")


def test_the_suite_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    first = suite(tmp_path)
    again = build(dict(first.spec))
    assert again.fingerprint == first.fingerprint
    (tmp_path / "tests" / "data.txt").write_text("x")
    assert build(dict(first.spec)).fingerprint != first.fingerprint


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"names": ["speed"]}, "does not give speed"),
        ({"names": ["speedup"]}, "needs the initial program"),
        ({"timing": {"cost": "instructions"}}, "are not counted"),
        ({"tests": []}, "no tests"),
    ],
)
def test_what_a_suite_cannot_do_is_said_at_once(tmp_path: Path, given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        suite(tmp_path, **given)


@pytest.mark.parametrize("name", ["none", "../", "empty"])
def test_a_suite_that_is_not_there(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    output = produce(suite(tmp_path, tests=[name], confirm=[]), GOOD)
    assert output.failure is not None and (
        "there is no" in output.failure.message or "no test" in output.failure.message
    )


def test_in_the_sandbox_with_the_initial_program_timed_beside_it(tmp_path: Path) -> None:
    timing = {"cost": "seconds", "against": "initial", "repeats": 1}
    made = suite(
        tmp_path, names=["speedup"], timing=timing, confirm=[], sandbox={"unsafe": True, "caps": {"seconds": 60}}
    )
    try:
        found = values(produce(made, "def square(x):\n    return x * x\n"))
        assert found["passed"] == 1.0 and found["speedup"] > 0 and made.exclusive
    finally:
        made.runner.close()


def test_hidden_tests_are_nowhere_near_a_program_before_the_exam(tmp_path: Path) -> None:
    made = suite(tmp_path)
    looks = "import glob, os\nFOUND = glob.glob(os.path.dirname(os.path.abspath(__file__)) + '/**/*', recursive=True)\n"
    output = produce(made, looks + "def square(x): raise ValueError(' '.join(FOUND))")
    assert output.failure is None and "test_square.py" in output.log
    for name in made.confirm:
        assert name not in output.log


def test_a_suite_that_cannot_be_collected_is_a_mistake_of_the_problem(tmp_path: Path) -> None:
    made = suite(tmp_path)
    (tmp_path / "tests" / "test_more.py").write_text("import nosuch\n\n\ndef test_it():\n    pass\n")
    with pytest.raises(ConfigError, match=r"cannot collect tests/test_more\.py") as caught:
        build(dict(made.spec)).load()
    assert "nosuch" in caught.value.message
