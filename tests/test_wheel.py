"""What is in the wheel, and that it works where there is no checkout."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from agent.cli.init import CHECKOUT, EXAMPLES
from tests.cli_helpers import Ran, cli, environment

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    pytest.importorskip("hatchling")
    place = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(place), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = place.glob("*.whl")
    return found


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.partition("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"agent"}
    for path in (ROOT / "agent").rglob("*.py"):
        assert str(path.relative_to(ROOT)) in names
    assert {"agent/models.toml", "agent/prompts/evollm.txt", "agent/prompts/evollm_system.txt"} <= set(names)
    for name in EXAMPLES:
        here = ROOT / "examples" / CHECKOUT.get(name, name)
        # Of the files that lie there, for a run that somebody made in the checkout does not belong to it.
        wanted = {path.name for path in here.iterdir() if path.suffix in (".py", ".toml", ".jsonl", ".md")}
        assert {f"agent/examples/{name}/{file}" for file in wanted} <= set(names)
    assert not [name for name in names if "__pycache__" in name or "journal.sqlite" in name]
    assert any(name.endswith("licenses/LICENSE") for name in names)
    metadata = next(name for name in names if name.endswith("/entry_points.txt"))
    assert b"truegain = agent.cli.main:main" in zipfile.ZipFile(wheel).read(metadata)


def test_the_wheel_works_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--no-index",
        "--quiet",
        "--target",
        str(site),
        str(wheel),
    ]
    done = subprocess.run(install, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr

    def installed(*arguments: str) -> Ran:
        return cli(*arguments, cwd=tmp_path, PYTHONPATH=str(site))

    where = subprocess.run(
        [sys.executable, "-P", "-c", "import agent; print(agent.__file__)"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(site)),
    )
    assert where.stdout.startswith(str(site)), "it is the installed one that is tested"
    assert "Usage: truegain" in installed("--help").out
    for name in EXAMPLES:
        assert installed("init", f"my-{name}", "--example", name).code == 0
    ran = installed("run", "my-starter", "--evaluations", "6", "--proposer", "coordinate", "--json")
    assert ran.code == 0 and ran.json["status"] == "exact", ran.err
    assert installed("replay").code == 0
