"""Evaluators that are a pytest suite: the share of its tests that a candidate passes, and then its speed.

Tests run in the candidate's process, so a program can try to look better than it is. What stands against that: the
suite comes fresh from the scorer each time; a candidate has no files that configure pytest; tests count only by the
names that they have under the initial program; and among them are some of ours that must fail, so that a program
which reports everything as passed gives itself away. A candidate that means to cheat can still do it; where that
matters, write a task (`[evaluator] code`), whose answers are judged outside.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from agent.errors import ConfigError
from agent.evaluation import Suspicious
from agent.evaluators.code import CodeEvaluator
from agent.evaluators.code_task import CONFIRM, SMOKE, Measured, Task
from agent.space import digest

MODULE = "truegain_suite"
CANARIES = 8
GIVEN = ("passed", "failed", "seconds", "speedup", "score")
CONFIGURES = ("conftest.py", "pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg", "pytest.toml")
"""Files that say how pytest behaves; the suite may have them, a candidate may not."""
PLAYS = {MODULE, "pytest", "_pytest", "pluggy"}
"""Modules by which a suite is run."""
SKIPPED = {"__pycache__", ".git", ".pytest_cache"}

_RUNNER = '''"""Runs test files, and returns what became of each test."""
import os
import sys


class Outcomes:
    def __init__(self):
        self.found = {}

    def pytest_runtest_logreport(self, report):
        before = self.found.get(report.nodeid)
        if report.when == "call" or before is None or report.outcome != "passed":
            worse = before in ("failed", "skipped") and report.outcome == "passed"
            self.found[report.nodeid] = before if worse else report.outcome

    def pytest_collectreport(self, report):
        if report.outcome == "failed":
            self.found[report.nodeid + "::(collection)"] = "failed"


def run(given):
    import pytest

    folder = os.path.dirname(os.path.abspath(__file__))
    sys.dont_write_bytecode = True
    seen = Outcomes()
    options = ["--continue-on-collection-errors", "-p", "no:cacheprovider"]
    options += [word for name in given["plugins"] for word in ("-p", name)]
    options += ["--rootdir", folder, "-c", os.path.join(folder, "truegain_suite.ini")]
    paths = [os.path.join(folder, path) for path in given["paths"]]
    pytest.main([*options, "-q", "--tb=short", "--color=no", *paths], plugins=[seen])
    name, text = given["canary"]
    for path, content in ((name, text), ("truegain_suite.ini", "[pytest]\\n")):
        with open(path, "w") as file:
            file.write(content)
    options[-4:] = ["--rootdir", os.getcwd(), "-c", os.path.abspath("truegain_suite.ini")]
    pytest.main([*options, "-p", "no:terminal", os.path.abspath(name)], plugins=[seen])
    sys.stdout.flush()
    return {"outcomes": seen.found}
'''
_CONFIG = "[pytest]\npythonpath = .\n"


class PytestTask(Task):
    """What a suite asks of a program, in the form of a `Task`.

    Args:
        files: The suite's files by path, by stage: those of a hidden stage are nowhere near a program before it.
        paths: What pytest is given: files and folders, by stage.
        plugins: Of pytest, by module; no other ones are loaded.
        names: The objectives and constraints.
    """

    def __init__(
        self,
        files: Mapping[str, Mapping[str, bytes]],
        paths: Mapping[str, Sequence[str]],
        plugins: Sequence[str],
        names: Sequence[str],
    ) -> None:
        self.names = tuple(names)
        self._plugins = list(plugins)
        self._suite = files
        self._paths = paths
        self.schema = OUTCOMES
        self.bounds = {}
        self.public = True
        self.entry = f"{MODULE}:run"
        self.has_variants = False
        self.files = None
        self.expected: dict[str, frozenset[str]] = {}
        """By stage, the tests that count: those that the initial program does not skip."""

    def fixed(self, candidate: Any, stage: str) -> dict[str, bytes]:
        ours = {f"{MODULE}.py": _RUNNER.encode(), f"{MODULE}.ini": _CONFIG.encode()}
        return {**self._suite.get(stage, {}), **ours}

    def inputs(self, seed: int, stage: str, row: Any) -> list[Any]:
        # Canaries are new each time, and stand nowhere before the suite has run.
        canary = random.SystemRandom().getrandbits(64)
        return [] if stage == SMOKE else [{"paths": list(self._paths[stage]), "stage": stage, "canary": canary}]

    def question(self, given: Any) -> Any:
        return {"paths": given["paths"], "plugins": self._plugins, "canary": [CANARY, canaries(given["canary"])[0]]}

    def score(self, given: Any, output: Any, usage: Measured) -> dict[str, Any]:
        outcomes = dict(output["outcomes"])
        for name, wanted in canaries(given["canary"])[1].items():
            if outcomes.pop(f"{CANARY}::{name}", None) != wanted:
                raise Suspicious(f"a test of ours that has to be {wanted} was reported otherwise", "canary")
        expected = self.expected[given["stage"]]
        missed = sorted(name for name in expected if outcomes.get(name) != "passed")
        share = 1.0 - len(missed) / len(expected)
        values = {"passed": share, "failed": float(len(missed)), "seconds": usage.seconds}
        pace = 1.0 / (1.0 + usage.seconds)
        if usage.reference is not None:
            values["speedup"] = usage.speedup
            pace = usage.reference / (usage.reference + usage.cost)
        # Speed counts only among programs that pass everything, and never as much as a test.
        values["score"] = 1.0 + pace if not missed else share
        what = f"{len(missed)} of {len(expected)} tests fail, such as {missed[0]}" if missed else "all tests pass"
        return {"values": values, "feedback": what}

    def combined(self, scores: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        return dict(scores[0]["values"])


class PytestEvaluator(CodeEvaluator):
    """Scores a program by a pytest suite.

    A measurement has `passed` (share of the tests), `failed` (their number), `seconds` (wall time of the suite),
    `score` (the share, or 1 + a number from 0 to 1 that grows with speed where all pass) and, where the initial program
    is timed beside it, `speedup`.

    Args:
        tests: Files and folders of the suite, in the problem's folder.
        confirm: Further ones, which only the gate and the report run.
        plugins: Plug-ins of pytest that the suite needs, by module, such as "pytest_asyncio"; no other ones are loaded.
        folder: The problem's.
        names: The objectives and constraints that a measurement must hold.
        rest: As for `CodeEvaluator`; `initial` is needed.

    Raises:
        ConfigError: An objective is none of the above, or there are no tests.
    """

    def __init__(
        self,
        tests: Sequence[str],
        *,
        confirm: Sequence[str] = (),
        plugins: Sequence[str] = (),
        folder: Path | str,
        names: Sequence[str],
        **rest: Any,
    ) -> None:
        self._initial = dict(rest.get("initial") or {})
        sandbox = dict(rest.pop("sandbox", None) or {})
        sandbox["imports"] = sorted({*sandbox.get("imports", ()), *plugins, "pytest"})
        sandbox["env"] = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **sandbox.get("env", {})}
        super().__init__(f"{__name__}:{type(self).__name__}", folder=folder, names=names, sandbox=sandbox, **rest)
        self.tests, self.confirm, self.plugins = tuple(tests), tuple(confirm), tuple(plugins)
        if unknown := [name for name in self.names if name not in GIVEN]:
            raise ConfigError(f"a pytest suite does not give {', '.join(unknown)}", hint=f"it gives {', '.join(GIVEN)}")
        if "speedup" in self.names and self.timing.against is None:
            raise ConfigError("speedup needs the initial program", hint='[evaluator.timing] against = "initial"')
        if self.timing.cost == "instructions":
            raise ConfigError("a suite's instructions are not counted", hint='take cost = "seconds"')
        if not self.tests:
            raise ConfigError("there are no tests", hint='[evaluator.pytest] tests = ["tests"]')

    @cached_property
    def spec(self) -> Mapping[str, Any]:
        """Plain data to rebuild it from."""
        out = {name: value for name, value in (super().spec or {}).items() if name != "target"}
        given = {"kind": "pytest", "tests": list(self.tests), "confirm": list(self.confirm)}
        return {**out, **given, "plugins": list(self.plugins), "initial": self._initial}

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the suite's files, and of the limits and libraries that a program gets."""
        files = {
            path: hashlib.sha256(data).hexdigest() for path, data in self._suite((*self.tests, *self.confirm)).items()
        }
        sandbox = {name: value for name, value in self.sandbox.items() if name != "unsafe"}
        asked = [self.tests, self.confirm, self.plugins, sandbox, self.timing.to_json(), self.programs, self._initial]
        return digest([files, *asked])

    def load(self) -> Task:
        """Read the suite, start the sandbox, and learn from the initial program which tests there are; once.

        Raises:
            ConfigError: There are no tests, or pytest cannot run them.
            PrerequisiteError: The sandbox cannot work here.
        """
        if self._task is None:
            self._look_for_imports()
            self.runner.open()
            paths = {"train": self.tests, CONFIRM: (*self.tests, *self.confirm)}
            suites = {stage: self._suite(names) for stage, names in paths.items()}
            task = PytestTask(suites, paths, self.plugins, self.names)
            for stage in paths:
                task.expected[stage] = self._expected(task, stage)
            if self.confirm and task.expected[CONFIRM] == task.expected["train"]:
                raise ConfigError(f"pytest finds no test in {', '.join(self.confirm)}", hint="correct confirm")
            self._task = task
        return self._task

    def assembled(
        self, candidate: Mapping[str, Any], task: Task, stage: str
    ) -> tuple[dict[str, bytes], str | list[str]]:
        """As for `CodeEvaluator`.

        Raises:
            ValueError: A file of the candidate would configure pytest.
        """
        for name in self.programs:
            for path in candidate[name] if isinstance(candidate[name], Mapping) else ():
                if PurePosixPath(path).name in CONFIGURES:
                    raise ValueError(f"{path} would configure pytest, which a candidate may not")
                if PurePosixPath(path).parts[0].partition(".")[0] in PLAYS:
                    raise ValueError(f"{path} would stand where pytest does, which a candidate may not")
        return super().assembled(candidate, task, stage)

    def _expected(self, task: PytestTask, stage: str) -> frozenset[str]:
        files, entry = self.assembled(self._initial, task, stage)
        result = self.runner.run(self.job(files, entry, [task.question(one) for one in task.inputs(0, stage, None)]))
        if result.status != "ok":
            raise ConfigError(
                f"the suite cannot be run on the initial program: {result.status}: {result.message}",
                hint="allow it more in [evaluator.sandbox], or mend the suite",
            )
        outcomes = result.outputs[0]["outcomes"]
        if broken := sorted(name for name in outcomes if name.endswith(COLLECTION)):
            raise ConfigError(
                f"with the initial program pytest cannot collect {broken[0].removesuffix(COLLECTION)}: "
                f"{result.log.strip()[-600:]}",
                hint="what the suite imports has to be there; a function may raise NotImplementedError when called",
            )
        found = frozenset(name for name, how in outcomes.items() if how != "skipped" and not name.startswith(CANARY))
        if not found:
            raise ConfigError(f"pytest finds no test in {', '.join(self.tests)}", hint="write def test_…() there")
        return found

    def _suite(self, names: Iterable[str]) -> dict[str, bytes]:
        assert self._folder is not None
        out: dict[str, bytes] = {}
        for name in names:
            place = self._folder / name
            if not place.resolve().is_relative_to(self._folder) or not place.exists():
                raise ConfigError(f"there is no {name} in {self._folder}", hint="name files or folders of tests there")
            for file in sorted([place] if place.is_file() else place.rglob("*")):
                if file.is_file() and not SKIPPED & set(file.parts):
                    out[file.relative_to(self._folder).as_posix()] = file.read_bytes()
        if (self._folder / "conftest.py").is_file():
            out["conftest.py"] = (self._folder / "conftest.py").read_bytes()
        return out


OUTCOMES = {
    "type": "object",
    "properties": {"outcomes": {"type": "object", "additionalProperties": {"enum": ["passed", "failed", "skipped"]}}},
    "required": ["outcomes"],
    "additionalProperties": False,
}
CANARY = "test_truegain_canary.py"
COLLECTION = "::(collection)"
"""How the name of what could not be collected ends."""


def canaries(seed: int) -> tuple[str, dict[str, str]]:
    """A test file of ours, and what has to become of each of its tests: some must fail.

    Args:
        seed: Decides names and outcomes.
    """
    rng = random.Random(seed)
    wanted = {f"test_{rng.getrandbits(40):010x}": rng.choice(("passed", "failed")) for _ in range(CANARIES)}
    wanted[f"test_{rng.getrandbits(40):010x}"] = "failed"
    lines = [
        f"def {name}():\n    value = {int(how == 'passed')}\n    assert value == 1\n" for name, how in wanted.items()
    ]
    return "\n\n".join(lines), wanted
