"""`truegain report` and `truegain compare`."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.errors import ConfigError
from agent.report.writing import write
from tests.cli_helpers import call, cli, folder, only_run
from tests.report.support import check_harmless


@dataclass(frozen=True)
class Place:
    """A folder with a problem, and two runs of it in the order in which they were made."""

    here: Path
    first: Path
    second: Path

    @property
    def runs(self) -> Path:
        return self.here / "runs"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    here = tmp_path_factory.mktemp("here")
    problem = folder(here / "bowl")
    made = []
    for seed in (1, 2):
        ran = call("run", problem, "--seed", seed, "--runs", here / "runs", "--json", cwd=here)
        assert ran.code == 0, ran.err
        made.append(here / "runs" / ran.json["run"])
    return Place(here, *made)


def test_a_report_is_written_into_the_run(place: Place) -> None:
    ran = cli("report", place.second.name, "--runs", "runs", cwd=place.here)
    assert ran.code == 0, ran.err
    page = (place.second / "report.html").read_text()
    check_harmless(page)
    assert str(place.second / "report.html") in ran.out and "exact: loss went from" in ran.out
    assert "truegain run" in page and "--seed 2" in page, "the command that makes it again"
    assert not [file for file in place.second.iterdir() if file.name.startswith(".report")]


def test_as_json_it_prints_the_facts_and_writes_no_page(place: Place) -> None:
    first, second = place.first, place.second
    ran = call("report", first.name, "--runs", place.runs, "--json", cwd=place.here)
    assert ran.code == 0 and ran.json["run"] == first.name and ran.json["file"] is None
    assert not (first / "report.html").exists()
    ran = call("report", second, "--json", "--to", place.here / "second.html", cwd=place.here)
    assert Path(ran.json["file"]) == place.here / "second.html" and (place.here / "second.html").stat().st_size > 20_000


def test_json_needs_no_plotting_library(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert call("report", "--runs", place.runs, "--json", cwd=place.here).code == 0
    ran = call("report", "--runs", place.runs, cwd=place.here)
    assert ran.code == 69 and "pip install 'truegain[report]'" in ran.err


def test_a_full_disk_leaves_the_old_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "old.html"
    old.write_text("old")

    def full(path: Path, text: str, encoding: str) -> int:
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(ConfigError, match="No space left"):
        write(old, "new")
    assert old.read_text() == "old" and list(tmp_path.iterdir()) == [old]


def test_runs_that_are_not_there(place: Place) -> None:
    ran = call("report", "nope", "--runs", place.runs, "--json", cwd=place.here)
    assert ran.code == 2 and ran.json["error"]["kind"] == "config"


def test_a_study_by_order_alone_has_no_report(tmp_path: Path) -> None:
    problem = folder(tmp_path / "bowl")
    order = f'{sys.executable} -c "import json, sys; print(*range(1, len(json.load(sys.stdin)) + 1))"'
    args = ("rank", problem, "--rounds", 1, "--pairs", 5, "--order", order, "--runs", tmp_path / "runs")
    ran = call(*args, cwd=tmp_path)
    assert ran.code == 0, ran.err
    study = only_run(tmp_path / "runs")
    for name in (study.name, study, "last"):
        ran = call("report", name, "--runs", tmp_path / "runs", cwd=tmp_path)
        assert ran.code == 2 and "truegain rank" in ran.err, name


def test_runs_are_compared(place: Place) -> None:
    first, second = place.first.name, place.second.name
    ran = call("compare", first, second, "--runs", place.runs, "--to", place.here / "both.html", cwd=place.here)
    assert ran.code == 0, ran.err
    assert first in ran.out and "seed" in ran.out and "claims nothing" in ran.out and "may be compared" in ran.out
    check_harmless((place.here / "both.html").read_text())
    found = call("compare", first, second, "--runs", place.runs, "--json", cwd=place.here).json
    assert [row["group"] for row in found["runs"]] == ["A", "A"]
    assert {"setting": "seed", "values": [1, 2]} in found["differing"]


def test_what_cannot_be_compared_is_said(place: Place, tmp_path: Path) -> None:
    other = folder(
        tmp_path / "bowl", evaluate="def measure(candidate, seed=0, replicate=0):\n    return candidate['x']\n"
    )
    assert call("run", other, "--runs", tmp_path / "runs", cwd=tmp_path).code == 0
    first = place.first
    found = call("compare", first, only_run(tmp_path / "runs"), "--json", cwd=place.here).json
    assert [row["group"] for row in found["runs"]] == ["A", "B"]
    assert any("another evaluator" in line for line in found["sentences"])
    assert len(call("compare", first, first, "--json", cwd=place.here).json["runs"]) == 1, "one run, named twice"


LISTED = """
import sys
from agent.cli.main import main
try:
    main(["report", "--help"])
finally:
    print(sorted(sys.modules), file=sys.stderr)
"""


def test_help_is_light() -> None:
    loaded = subprocess.run([sys.executable, "-P", "-c", LISTED], capture_output=True, text=True).stderr
    assert "agent.cli.report" in loaded
    for heavy in ("jinja2", "matplotlib", "numpy", "pydantic"):
        assert f"'{heavy}'" not in loaded
