"""Keys of the developer's own never reach a test, and a skip that nobody agreed to fails CI."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.evaluators.source import ProblemFolder

ALLOWED = Path(__file__).with_name("allowed_skips.txt")
"""Reasons for which a test may be skipped in CI, one a line; a skip whose reason begins with one passes."""

KEYS = (
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_BASE_URL",
    "TRUEGAIN_RUNS",
    "TRUEGAIN_WEIGHTS",
)

_skipped: list[tuple[str, str]] = []


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One worker per processor for all tests; none for a few of them, where starting workers takes longer than they."""
    few = any(Path(name.split("::")[0]).is_file() for name in config.args)
    return 0 if few or config.option.usepdb else min(8, os.cpu_count() or 1)


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BROWSER", "true")  # no test opens a window on somebody's desktop


@pytest.fixture(autouse=True)
def _one_problem_at_a_time() -> Iterator[None]:
    """Forget the modules of a test's problem folders: a process has one module of a name, and tests share processes."""
    path = list(sys.path)
    yield
    folders = [place for place in sys.path if isinstance(place, ProblemFolder) and place not in path]
    if folders:
        sys.path[:] = [place for place in sys.path if place not in folders]
        # Where a test's problem is in the repository's own folder, the package and the tests stay as they are loaded.
        own = [place for place in folders if not Path(__file__).is_relative_to(place)]
        for name, module in list(sys.modules.items()):
            file = str(getattr(module, "__file__", None) or "")
            if any(file.startswith(f"{folder}{os.sep}") for folder in own):
                del sys.modules[name]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and isinstance(report.longrepr, tuple):
        _skipped.append((report.nodeid, report.longrepr[2].removeprefix("Skipped: ")))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for nodeid, reason in _surprising():
        terminalreporter.write_line(f"skip not on the list: {nodeid}: {reason}", red=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if os.environ.get("CI") and _surprising():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _surprising() -> list[tuple[str, str]]:
    lines = ALLOWED.read_text(encoding="utf-8").splitlines()
    allowed = tuple(line for line in lines if line and not line.startswith("#"))
    return [(nodeid, reason) for nodeid, reason in _skipped if not reason.startswith(allowed)]
