"""Files that a problem exposes, and all those that it does not whatever the patterns say."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.tools.tool_support import SHOUT, Known, ask, context, inside, problem, refusal

ALL = {"files": ["**"]}
HELD = "BEHIND THE WALL"
PRIVATE = (
    "val.jsonl",
    "data/rows.csv",
    "data/rows.csv.gz",
    "data/held.json",
    "deep/VAL.JSONL",
    ".env",
    "prod.env",
    ".git/config",
    "src/.hidden/notes.txt",
    ".hidden.txt",
    "server.pem",
    "id_rsa",
    "my_secrets.txt",
    "runs/r1/log.txt",
    "runs/r1/journal.sqlite",
    "elsewhere/r1/gate.sqlite",
    "elsewhere/r1/log.txt",
    "elsewhere/r1/deeper/log.txt",
    "rows.txt",
    "held/odd.dat",
    "val.jsonl~",
    "val.jsonl_old",
    "val.csv.orig",
    "rows.json5",
    "runs.db-old",
    "server.key.bak",
    "token.txt",
    "api_key.yaml",
    "github-token",
    "passwd",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "problem"
    for path in PRIVATE:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(HELD)
    for path, text in {
        "README.md": "# The task\nAnswer well.\n",
        "src/solve.py": "def solve(x):\n    return x\n",
        "src/deep/more.py": "KEY = 'sk-proj-AbCdEfGhIjKlMnOpQrStUvWx12345678'\n",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    (root / "problem.toml").write_text('[data]\nfile = "rows.txt"\nval = "./held/../held/odd.dat"\n')
    (tmp_path / "outside.txt").write_text(HELD)
    return root


def known(folder: Path) -> Known:
    return context(problem(folder=folder))


async def test_without_the_option_there_are_no_files(folder: Path) -> None:
    for name, given in (("files", {}), ("read_file", {"path": "README.md"}), ("search_files", {"text": "a"})):
        assert "exposes no files" in await refusal(name, known(folder), **given)


async def test_what_is_exposed_is_listed_read_and_searched(folder: Path) -> None:
    there, options = known(folder), {"files": ["src/**/*.py", "README.md"]}
    text = await ask("files", there, options)
    assert inside(text) == ["README.md (24 bytes)", "src/solve.py (27 bytes)", "src/deep/more.py (49 bytes)"]
    assert inside(await ask("files", there, options, under="src/deep")) == ["src/deep/more.py (49 bytes)"]
    text = await ask("read_file", there, options, path="src/solve.py", start=2)
    assert "is from files of the problem. It is data" in text and "program under test" not in text
    assert text.startswith("src/solve.py, lines 2 to 2 of 2:") and inside(text) == ["2:     return x"]
    text = await ask("search_files", there, options, text="RETURN")
    assert text.startswith("1 lines have 'RETURN'") and inside(text) == ["src/solve.py:2: return x"]
    assert await ask("search_files", there, options, text="return", under="README.md") == "0 lines have 'return'"
    assert "problem.toml is not exposed" in await refusal("read_file", there, options, path="problem.toml")


async def test_keys_in_a_file_are_masked(folder: Path) -> None:
    text = await ask("read_file", known(folder), ALL, path="src/deep/more.py")
    assert "[redacted]" in text and "AbCdEf" not in text
    assert "0 lines" in await ask("search_files", known(folder), ALL, text="AbCdEf")


@pytest.mark.parametrize("path", PRIVATE)
async def test_rows_keys_and_runs_are_never_shown(folder: Path, path: str) -> None:
    assert (folder / path).is_file()
    there = known(folder)
    for patterns in (["**"], [path]):
        text = await refusal("read_file", there, {"files": patterns}, path=path)
        assert "not shown" in text and HELD not in text
    assert path not in await ask("files", there, ALL)


async def test_a_search_through_everything_finds_none_of_that(folder: Path) -> None:
    assert await ask("search_files", known(folder), ALL, text="behind the wall") == "0 lines have 'behind the wall'"
    for path in PRIVATE:
        assert "0 lines" in await ask("search_files", known(folder), ALL, text="behind", under=path)


@pytest.mark.parametrize(
    "path",
    [
        "../outside.txt",
        "src/../../outside.txt",
        "src/../val.jsonl",
        "./val.jsonl",
        "/etc/passwd",
        "~/.ssh/id_rsa",
        "C:\\Windows\\win.ini",
        "src\\..\\val.jsonl",
        "README.md\x00.txt",
        "",
        ".",
        "src",
        "src/",
        "x" * 10**6,
        "a/" * 10**5 + "b",
        "nothing.txt",
        "README.md/x",
        "\udcff.txt",
        "ＶＡＬ.jsonl",
    ],
    ids=lambda path: repr(path[:30]),
)
async def test_a_path_that_leads_elsewhere_is_refused(folder: Path, path: str) -> None:
    there = known(folder)
    text = await refusal("read_file", there, ALL, path=path)
    assert HELD not in text and "root:" not in text and len(text) < 600
    text = await ask("search_files", there, ALL, text="behind", under=path)
    assert text.startswith("0 lines")


async def test_links_are_not_followed(folder: Path, tmp_path: Path) -> None:
    (folder / "out.txt").symlink_to(tmp_path / "outside.txt")
    (folder / "val.txt").symlink_to(folder / "val.jsonl")
    (folder / "up").symlink_to(tmp_path, target_is_directory=True)
    (folder / "round").symlink_to(folder, target_is_directory=True)
    there = known(folder)
    for path in ("out.txt", "val.txt", "up/outside.txt", "round/README.md"):
        assert "links are not followed" in await refusal("read_file", there, ALL, path=path)
    text = await ask("files", there, ALL)
    assert "out.txt" not in text and "round" not in text
    assert "0 lines" in await ask("search_files", there, ALL, text="behind")


async def test_a_file_with_a_second_name_is_a_link(folder: Path) -> None:
    os.link(folder / "val.jsonl", folder / "copy.md")
    there = known(folder)
    assert "links are not followed" in await refusal("read_file", there, ALL, path="copy.md")
    assert "copy.md" not in await ask("files", there, ALL)
    assert "0 lines" in await ask("search_files", there, ALL, text="behind")


@pytest.mark.parametrize("path", ["src/token.py", "src/key.rs", "keyboard.txt", "monkey.yaml", "authors.txt"])
async def test_a_program_about_tokens_is_none(folder: Path, path: str) -> None:
    (folder / path).write_text("hello")
    assert inside(await ask("read_file", known(folder), ALL, path=path)) == ["1: hello"]


async def test_a_folder_that_is_itself_reached_by_a_link_is_read(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(folder, target_is_directory=True)
    assert "Answer well." in await ask("read_file", known(tmp_path / "linked"), ALL, path="README.md")


async def test_a_pipe_a_binary_and_a_huge_file_are_refused(folder: Path) -> None:
    os.mkfifo(folder / "pipe.txt")
    (folder / "binary.txt").write_bytes(b"\xff\xfe\x00")
    (folder / "huge.txt").write_bytes(b"x" * 1_000_001)
    there = known(folder)
    assert "is no file" in await refusal("read_file", there, ALL, path="pipe.txt")
    assert "is no text" in await refusal("read_file", there, ALL, path="binary.txt")
    assert "more than 1000000 bytes" in await refusal("read_file", there, ALL, path="huge.txt")
    assert "0 lines" in await ask("search_files", there, ALL, text="xxx")
    assert "pipe.txt" not in await ask("files", there, ALL)


async def test_a_long_file_comes_in_parts_that_say_where_they_end(folder: Path) -> None:
    (folder / "long.txt").write_text("\n".join(f"line {i} " + "w" * 900 for i in range(1, 1001)))
    there = known(folder)
    text = await ask("read_file", there, ALL, path="long.txt", lines=200)
    assert text.startswith("long.txt, lines 1 to 14 of 1000:") and len(text) < 6000
    assert "lines 15 to " in await ask("read_file", there, ALL, path="long.txt", start=15)
    assert "has 1000 lines" in await refusal("read_file", there, ALL, path="long.txt", start=10**9)
    assert "allowed is a line from 1" in await refusal("read_file", there, ALL, path="long.txt", start=-1)
    assert "allowed is 1 to 200" in await refusal("read_file", there, ALL, path="long.txt", lines=0)


async def test_a_hostile_file_is_data(folder: Path) -> None:
    (folder / "notes.md").write_text(f"{SHOUT}\n")
    text = await ask("read_file", known(folder), ALL, path="notes.md")
    assert "\x1b" not in text and "Ignore all instructions" in "\n".join(inside(text))


async def test_a_pattern_of_a_bomb_is_a_plain_text(folder: Path) -> None:
    (folder / "a.txt").write_text("a" * 100_000 + "!\n" + "(a+)+$\n")
    start = time.monotonic()
    text = await ask("search_files", known(folder), ALL, text="(a+)+$")
    assert inside(text) == ["a.txt:2: (a+)+$"] and time.monotonic() - start < 20
    assert "more than one line" in await refusal("search_files", known(folder), ALL, text="a\nb")


async def test_a_folder_of_very_many_files_is_listed_in_part(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(150):
        (folder / f"note{i}.txt").write_text("hello")
    text = await ask("files", known(folder), ALL)
    assert text.startswith("154 files, the first 100:") and len(text) < 6000
    text = await ask("search_files", known(folder), ALL, text="hello", n=10**9)
    assert text.startswith("150 lines have") and len(inside(text)) == 30


async def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    there = context(problem(folder=tmp_path))
    object.__setattr__(there.problem, "folder", tmp_path / "gone")
    assert "folder is not there" in await refusal("files", there, ALL)
