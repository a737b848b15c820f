"""What agents are told to do is true: the example runs, the tools are the listed ones, the links lead somewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent.cli.main import COMMANDS
from tests.cli_helpers import call
from tests.serving.support import served

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "agents.md").read_text()
SKILL = (ROOT / "skills" / "truegain" / "SKILL.md").read_text()


def test_the_program_in_the_docs_proposes_and_prints_what_they_say(tmp_path: Path) -> None:
    (script,) = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
    expected = re.findall(r"```text\n(.*?)```", DOCS, re.DOTALL)[-1]
    shutil.copytree(ROOT / "examples" / "starter", tmp_path / "starter")
    with served(tmp_path / "starter") as desk:
        done = subprocess.run(
            [sys.executable, "-c", script, desk.url, desk.token], capture_output=True, text=True, timeout=90
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == expected
        desk.ended()


def test_the_tools_in_the_docs_are_the_server_s() -> None:
    pytest.importorskip("mcp", reason="needs the extra mcp")
    from agent.serving.tools import NAMES, Tools

    table = DOCS.partition("| tool |")[2].partition("\n\n")[0]
    listed = [name for line in table.splitlines() for name in re.findall(r"`(\w+)`", line.split("|")[1])]
    assert sorted(listed) == sorted(NAMES)
    assert all(getattr(Tools, name).__doc__ for name in NAMES)


def test_the_skill_has_its_front_matter_and_names_commands_that_there_are() -> None:
    front = re.match(r"---\nname: truegain\ndescription: (.+)\n---\n", SKILL)
    assert front is not None and len(front[1]) < 1024
    for text in (SKILL, DOCS, (ROOT / "llms.txt").read_text()):
        used = set(re.findall(r"`truegain ([a-z-]+)", text))
        assert used and used <= set(COMMANDS), used - set(COMMANDS)
    for words in re.findall(r"`truegain ([^`]+)`", SKILL + DOCS):
        name, *rest = words.split()
        options = {word for word in rest if word.startswith("--")}
        shown = call(name, "--help", cwd=ROOT).out
        assert all(re.search(rf"{option}\b", shown) for option in options), words


def test_the_links_of_llms_txt_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", (ROOT / "llms.txt").read_text())
    assert len(links) > 8 and all((ROOT / link).is_file() for link in links)


def test_the_help_tells_how_to_add_it_to_a_client() -> None:
    shown = call("mcp", "--help", cwd=ROOT).out
    assert "claude mcp add truegain -- truegain mcp" in shown and '"mcpServers"' in shown
    assert call("mcp", ROOT / "nowhere", cwd=ROOT).code == 2
