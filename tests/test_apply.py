"""apply: the released candidate in the user's own files, and nothing else in them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.applying.apply import Patch, patch, write
from agent.applying.gitbranch import Branch, Repository
from agent.config import load
from agent.errors import AgentError, ConfigError, GateError, StoreError
from agent.ledger import Budget, Ledger
from agent.problem import Problem
from agent.results.result import Result, load_result
from tests.cli_helpers import Ran, begin, call, environment, finish, only_run
from tests.cli_helpers import folder as bowl

TOML = """\
# Tuned by hand until now.
[evaluator]
function = "evaluate:measure"
deterministic = true

[space.x]
type = "float"
low = -1
high = 1
default = 0.9   # a guess

[space.n]
type = "int"
low = 1
high = 9

# The words.
[space.prompt]
type = "text"
file = "prompt.txt"

[space.style]
type = "text"
default = "short"
[space.kind]
type = "categorical"
choices = ["a", "b", 3, true]

[space.shots]
type = "demos"
pool = ["one", "two", "three"]
k = 2

[space.code]
type = "code"
file = "rank.py"

[[objectives]]
name = "loss"   # lower is better

[budget]
evaluations = 12
"""
PROMPT = b"Answer in one word.\nBe kind.\n"
CODE = b"def rank(x):\n    return x\n"


def problem(place: Path, toml: str = TOML, prompt: bytes = PROMPT) -> Path:
    """A problem with a parameter of each type."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "problem.toml").write_bytes(toml.encode())
    (place / "prompt.txt").write_bytes(prompt)
    (place / "rank.py").write_bytes(CODE)
    (place / "evaluate.py").write_text("def measure(candidate):\n    return 1.0\n")
    return place


def found(place: Path, values: dict[str, Any] | None = None, status: str = "proven", **more: Any) -> Result:
    """What a run of this problem has found."""
    setup = load(place)
    plain = Problem.from_json(setup.problem.to_json())
    initial = plain.initial()
    released = plain.space.candidate({**initial, **(values or {})})
    verdict = {"sentence": "loss went from 2 to 1 (2 times lower, 95 % interval 1.9 to 2.1).", "kind": "pairs"}
    proof = verdict if released != initial else None
    state = SimpleNamespace(
        origin=more.pop("origin", setup.origin),
        settings=setup.settings,
        fingerprints=setup.problem.fingerprints,
        ended=None,
        gate=SimpleNamespace(proof=proof, verdict=verdict, report=None),
    )
    parts: dict[str, Any] = {
        "run": "words-1",
        "folder": place / "runs" / "words-1",
        "problem": plain,
        "status": status,
        "best": released,
        "released": released,
        "initial": initial,
        "verdict": verdict,
        "reason": "finished",
        "detail": "",
        "exit_code": 0,
        "trials": (),
        "champion": released.id,
        "spent": Ledger(Budget()).to_json(),
        "_state": state,
    }
    return Result(**{**parts, **more})


def git(place: Path, *words: str, code: int = 0) -> str:
    done = subprocess.run(["git", *words], cwd=place, env=environment(**WHO), capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done.stdout


WHO = {f"GIT_{role}_{what}": "me@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
ALL = {"x": 0.25, "n": 7, "kind": 3, "shots": [2, 0], "style": 'long\nand """ \\ wide\n', "prompt": "Be brief.\n"}
ALL["code"] = "def rank(x):\n    return -x\n"


@pytest.fixture(autouse=True)
def _author(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in WHO.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)


def committed(place: Path, **more: Any) -> Path:
    """The same in a folder of a git repository."""
    made = problem(place / "tuning" / "words", **more)
    git(place, "init", "--quiet", "--initial-branch=main")
    (place / "other.txt").write_text("other\n")
    git(place, "add", "-A")
    git(place, "commit", "--quiet", "-m", "begin")
    return made


def untouched(place: Path) -> dict[str, bytes]:
    """All files of a folder, git's own left out."""
    return {
        str(path.relative_to(place)): path.read_bytes()
        for path in sorted(place.rglob("*"))
        if path.is_file() and ".git" not in path.parts
    }


# What is written


def test_every_type_of_parameter_comes_to_where_it_stands_and_nothing_else_changes(tmp_path: Path) -> None:
    place = problem(tmp_path)
    result = found(place, ALL)
    change = patch(result)
    assert [item.path for item in change.files] == ["prompt.txt", "rank.py", "problem.toml"]
    write(change)
    assert load(place).problem.initial() == result.released
    assert (place / "prompt.txt").read_bytes() == b"Be brief.\n"
    old, new = TOML.splitlines(), (place / "problem.toml").read_text().splitlines()
    assert "default = 0.25   # a guess" in new
    assert new[new.index("high = 9") + 1] == "default = 7", "behind the keys and before the next table's remark"
    changed = {"default = 0.9   # a guess", 'default = "short"'}
    assert [line for line in new if line in old] == [line for line in old if line not in changed]


def test_a_second_time_it_is_already_there(tmp_path: Path) -> None:
    place = problem(tmp_path)
    result = found(place, ALL)
    write(patch(result))
    before = untouched(place)
    again = patch(result)
    assert again.files == () and again.text() == b""
    write(again)
    assert untouched(place) == before


def test_newlines_mode_and_a_missing_last_newline_stay(tmp_path: Path) -> None:
    place = problem(tmp_path, toml=TOML.replace("\n", "\r\n"), prompt=b"one\r\ntwo\r\nthree")
    (place / "prompt.txt").chmod(0o640)
    write(patch(found(place, {"prompt": "one\n2\nthree", "x": 0.5, "style": "a\nb"})))
    assert (place / "prompt.txt").read_bytes() == b"one\r\n2\r\nthree"
    assert (place / "prompt.txt").stat().st_mode & 0o777 == 0o640
    toml = (place / "problem.toml").read_bytes()
    assert toml.count(b"\n") == toml.count(b"\r\n") > 40
    assert load(place).problem.initial()["style"] == "a\nb"


def test_mixed_newlines_stay_on_the_lines_that_stay(tmp_path: Path) -> None:
    place = problem(tmp_path, prompt=b"one\r\ntwo\nthree\r\nfour\r\n")
    write(patch(found(place, {"prompt": "zero\none\ntwo\nthree\nfive\n"})))
    assert (place / "prompt.txt").read_bytes() == b"zero\r\none\r\ntwo\nthree\r\nfive\r\n"


def test_a_byte_order_mark_stays_the_files(tmp_path: Path) -> None:
    place = problem(tmp_path, prompt=b"\xef\xbb\xbfone\n")
    result = found(place, {"prompt": "two\n"})
    write(patch(result))
    assert (place / "prompt.txt").read_bytes() == b"\xef\xbb\xbftwo\n"
    assert patch(result).files == ()


TEXTS = st.text(st.characters(codec=None), max_size=60) | st.sampled_from(["\r", "\r\n", '"""', "\\", "\x00", "\ud800"])


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(inline=TEXTS, file=TEXTS, crlf=st.booleans())
def test_any_text_is_written_exactly_or_refused(tmp_path: Path, inline: str, file: str, crlf: bool) -> None:
    newline = "\r\n" if crlf else "\n"
    place = problem(tmp_path, toml=TOML.replace("\n", newline), prompt=PROMPT.replace(b"\n", newline.encode()))
    result = found(place, {"style": inline, "prompt": file})
    try:
        change = patch(result)
    except ConfigError as error:
        assert "cannot hold" in error.message
        assert "\r" in file or any("\ud800" <= char <= "\udfff" for char in inline + file)
        return
    write(change)
    written = load(place).problem.initial()
    assert written["style"] == inline and written["prompt"].removeprefix("\ufeff") == file.removeprefix("\ufeff")


@pytest.mark.parametrize(
    "space",
    [
        'x = { type = "int", low = 1, high = 9 }  # inline',
        'x.type = "int"\nx.low = 1\nx.high = 9',
        '[space.x]\ntype = "int"\nlow = 1\nhigh = 9\ndefault = 2 # two',
    ],
)
def test_a_space_may_be_written_in_any_way_that_toml_allows(tmp_path: Path, space: str) -> None:
    toml = f'[evaluator]\nfunction = "evaluate:measure"\n[space]\n{space}\n\n# end\n[[objectives]]\nname = "loss"\n'
    place = problem(tmp_path, toml=toml)
    result = found(place, {"x": 8})
    write(patch(result))
    assert load(place).problem.initial() == result.released
    assert "# end\n[[objectives]]" in (place / "problem.toml").read_text()


def test_a_file_that_would_say_anything_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should the TOML library ever go wrong, the user's file does not."""

    def more(place: Any, value: Any) -> None:
        place["default"], place["low"] = value, -2.0

    monkeypatch.setattr("agent.tomlfile._set", more)
    refused(found(problem(tmp_path), {"x": 0.25}), "problem.toml cannot hold the candidate")


# A program of several files

TREE = """
[space.program]
type = "code"
files = ["pkg/*.py", "pkg/data/**"]
protected = ["pkg/config.py"]
entry = "pkg.main:solve"
"""
PKG = {"pkg/__init__.py": "", "pkg/main.py": "def solve(x):\n    return x\n", "pkg/data/a.txt": "one\ntwo\n"}
GROWN = {
    **PKG,
    "pkg/main.py": "def solve(x):\n    return x + 1\n",
    "pkg/more/__init__.py": "",
    "pkg/data/deep/b.txt": "new\n",
}


def tree(place: Path, toml: str = TREE) -> Path:
    for path, text in {**PKG, "pkg/config.py": "K = 1\n"}.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_text(text)
    return problem(place, toml=TOML + toml.replace('"pkg/*.py"', '"pkg/**/*.py"'))


def program(place: Path) -> dict[str, str]:
    value: dict[str, str] = load(place).problem.initial().values_json["program"]
    return value


def test_a_program_of_several_files_is_written_into_them_and_new_files_are_made(tmp_path: Path) -> None:
    result = found(tree(tmp_path), {"program": GROWN})
    before = untouched(tmp_path)
    change = patch(result)
    assert [item.path for item in change.files] == ["pkg/data/deep/b.txt", "pkg/main.py", "pkg/more/__init__.py"]
    said = change.message.replace("\n", " ")
    assert "- program: 3 files, 4 lines (35 characters) become 5 files, 5 lines (43 characters)" in said
    write(change)
    assert program(tmp_path) == GROWN
    after = untouched(tmp_path)
    assert {name for name in after if after[name] != before.get(name)} == {item.path for item in change.files}
    assert patch(result).files == () and after == untouched(tmp_path)


def test_git_takes_the_patch_and_the_branch_of_a_program_of_several_files(tmp_path: Path) -> None:
    place = tree(tmp_path / "tuning" / "words")
    (place / "pkg" / "data" / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n")
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "--quiet", "-m", "begin")
    wanted = {**GROWN, "pkg/data/a.txt": "one\n2\n", "pkg/__init__.py": ""}
    change = patch(found(place, {"program": wanted}))
    made = branch(change, "several")
    assert made.new and not branch(change, "several").new
    assert git(tmp_path, "status", "--porcelain") == ""
    (tmp_path / "a.patch").write_bytes(change.text(Repository(place).prefix))
    git(tmp_path, "apply", "--check", "a.patch")
    git(tmp_path, "apply", "a.patch")
    assert program(place) == wanted
    assert (place / "pkg" / "data" / "a.txt").read_bytes() == b"\xef\xbb\xbfone\r\n2\r\n"
    git(tmp_path, "add", "-A", ":!a.patch")
    assert git(tmp_path, "diff", "--cached", "several") == "", "patch and branch are the same"


def test_a_file_of_a_program_may_be_emptied(tmp_path: Path) -> None:
    change = patch(found(tree(tmp_path), {"program": {**PKG, "pkg/data/a.txt": ""}}))
    write(change)
    assert (tmp_path / "pkg" / "data" / "a.txt").read_bytes() == b"" and len(change.files) == 1


@pytest.mark.parametrize("name", ["pkg/main.py", "pkg/data/deep/b.txt", "pkg/own.py"])
def test_a_program_that_changed_since_the_run_is_refused(tmp_path: Path, name: str) -> None:
    result = found(tree(tmp_path), {"program": GROWN})
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("# by hand\ndef solve(x):\n    return 0\n")
    refused(result, name)


def test_a_new_file_may_leave_the_folder_by_no_link(tmp_path: Path) -> None:
    place = tree(tmp_path / "p")
    (tmp_path / "outside").mkdir()
    result = found(place, {"program": GROWN})
    (place / "pkg" / "data" / "deep").symlink_to(tmp_path / "outside")
    refused(result, "leaves the folder")
    assert not list((tmp_path / "outside").iterdir())


@pytest.mark.parametrize(("name", "after"), [("fsync", 2), ("replace", 1), ("replace", 2)])
def test_a_full_disk_leaves_no_new_file_and_no_new_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, after: int
) -> None:
    change = patch(found(tree(tmp_path), {"program": GROWN}))
    before = sorted(tmp_path.rglob("*")), untouched(tmp_path)
    full(tmp_path, monkeypatch, name, after)
    with pytest.raises(StoreError, match="disk is full"):
        write(change)
    assert (sorted(tmp_path.rglob("*")), untouched(tmp_path)) == before


def test_a_program_of_several_files_in_the_problem_file_stays_there(tmp_path: Path) -> None:
    inline = '[space.program]\ntype = "code"\nfiles = ["*.py"]\ndefault = { "lib.py" = "x = 1\\n" }\n'
    result = found(tree(tmp_path, inline), {"program": {"lib.py": "x = 2\n", "b.py": ""}})
    assert [item.path for item in patch(result).files] == ["problem.toml"]
    write(patch(result))
    assert program(tmp_path) == {"lib.py": "x = 2\n", "b.py": ""}


# What is refused


def refused(result: Result, *words: str, **more: Any) -> None:
    before = untouched(Path(result.problem.folder))
    with pytest.raises(AgentError) as error:
        patch(result, **more)
    assert error.value.hint
    for word in words:
        assert word in error.value.message + error.value.hint
    assert untouched(Path(result.problem.folder)) == before


def test_a_file_that_is_not_what_the_run_began_with_is_named(tmp_path: Path) -> None:
    result = found(problem(tmp_path), {"prompt": "new\n"})
    (tmp_path / "problem.toml").write_text(TOML + "# a remark elsewhere\n")
    patch(result)  # only the prompt would be written, and that is as it was
    (tmp_path / "prompt.txt").write_bytes(PROMPT + b"by hand\n")
    refused(result, "prompt.txt", "git stash")


def test_a_run_that_does_not_know_the_bytes_compares_the_values_and_says_so(tmp_path: Path) -> None:
    result = found(problem(tmp_path), {"x": 0.25}, origin={})
    assert "bytes" in patch(result).notes[0]
    (tmp_path / "problem.toml").write_text(TOML.replace("0.9", "0.8"))
    refused(result, "x: the value is not what the run began with")


def test_a_run_that_began_with_another_runs_candidate_compares_the_files_bytes(tmp_path: Path) -> None:
    place = problem(tmp_path)
    setup = load(place).starting({"x": 0.5, "n": 3}, "words-0")
    later = setup.problem.space.candidate({**setup.problem.initial(), "x": 0.25})
    result = found(place, origin=setup.origin, initial=setup.problem.initial(), released=later, best=later)
    change = patch(result)
    assert "- x: 0.9 → 0.25" in change.message and "- n: " in change.message, "all that the commit changes"
    write(change)
    assert load(place).problem.initial() == later, "what the earlier run had found is applied too"


def test_the_commit_of_a_later_night_tells_of_the_nights_before(tmp_path: Path) -> None:
    place = bowl(tmp_path / "p")
    first = call("run", place, "--evaluations", 12, "--proposer", "random", "--seed", 1, "--json", cwd=tmp_path).json
    more = ("--initial-from", first["run"], "--evaluations", 40, "--seed", 2, "--json")
    second = call("run", place, *more, cwd=tmp_path).json
    assert first["status"] == second["status"] == "exact"
    message = patch(load_result(Path(second["folder"]))).message.replace("\n", " ")
    assert (
        second["sentence"] in message and f"Released before, by {first['run']} (exact): {first['sentence']}" in message
    )


def test_a_changed_evaluator_is_pointed_out(tmp_path: Path) -> None:
    place = bowl(tmp_path / "p")
    ran = call("run", place, "--evaluations", 12, "--json", cwd=tmp_path).json
    result = load_result(Path(ran["folder"]))
    assert not patch(result).notes
    (place / "evaluate.py").write_text((place / "evaluate.py").read_text() + "\n# another way to measure\n")
    (note,) = patch(result).notes
    assert "evaluator" in note


def test_only_what_is_released_is_applied_unless_asked(tmp_path: Path) -> None:
    place = problem(tmp_path)
    better = found(place, {"x": 0.25})
    result = found(place, status="unproven", best=better.best)
    refused(result, "unproven", "--unproven")
    with pytest.raises(GateError) as error:
        patch(result)
    assert error.value.exit_code == 4
    change = patch(result, unproven=True)
    assert change.status == "unproven" and "TrueGain-Status: unproven" in change.message
    both = found(place, {"x": 0.5}, status="unproven", best=better.best)
    released = patch(both)
    assert released.status == "proven" and b"default = 0.5" in released.text() and "--unproven" in released.notes[0]


def test_without_a_gain_there_is_nothing_to_apply(tmp_path: Path) -> None:
    result = found(problem(tmp_path), status="initial", verdict=None, origin={"initial_from": "words-0"})
    change = patch(result)
    assert change.files == () and "no gain" in change.notes[0] and "truegain apply words-0" in change.notes[1]


def test_an_open_run_is_refused(tmp_path: Path) -> None:
    refused(found(problem(tmp_path), {"x": 0.25}, status="open"), "has not ended")


@pytest.mark.parametrize("how", ["dots", "symlink", "folder"])
def test_nothing_outside_of_the_folder_is_written(tmp_path: Path, how: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "prompt.txt").write_bytes(PROMPT)
    place = tmp_path / "p"
    name = {"dots": "../outside/prompt.txt", "symlink": "prompt.txt", "folder": "sub/prompt.txt"}[how]
    problem(place)
    if how == "symlink":
        (place / "prompt.txt").unlink()
        (place / "prompt.txt").symlink_to(outside / "prompt.txt")
    if how == "folder":
        (place / "sub").symlink_to(outside)
    (place / "problem.toml").write_text(TOML.replace('"prompt.txt"', f'"{name}"'))
    refused(found(place, {"prompt": "new\n"}), "outside of the problem's folder")
    assert (outside / "prompt.txt").read_bytes() == PROMPT


def test_a_link_inside_of_the_folder_stays_a_link(tmp_path: Path) -> None:
    place = problem(tmp_path)
    (place / "prompt.txt").rename(place / "real.txt")
    (place / "prompt.txt").symlink_to("real.txt")
    write(patch(found(place, {"prompt": "new\n"})))
    assert (place / "prompt.txt").is_symlink() and (place / "real.txt").read_bytes() == b"new\n"


def test_a_read_only_file_is_left_alone(tmp_path: Path) -> None:
    place = problem(tmp_path)
    (place / "problem.toml").chmod(0o444)
    change = patch(found(place, {"x": 0.25, "prompt": "new\n"}))
    before = untouched(place)
    with pytest.raises(ConfigError, match="read-only"):
        write(change)
    assert untouched(place) == before


def test_a_changed_space_is_refused(tmp_path: Path) -> None:
    result = found(problem(tmp_path), {"x": 0.25})
    (tmp_path / "problem.toml").write_text(TOML.replace("[space.x]", "[space.y]"))
    refused(result, "no such parameter")
    (tmp_path / "problem.toml").write_text("[space")
    refused(result, "cannot be read")
    (tmp_path / "problem.toml").unlink()
    refused(result, "--problem", "export")


@pytest.mark.parametrize("name", ["problem.toml", "prompt.txt", "rank.py"])
def test_a_file_that_is_no_longer_text_is_refused_and_kept(tmp_path: Path, name: str) -> None:
    result = found(problem(tmp_path), {"x": 0.25})
    with (tmp_path / name).open("ab") as file:
        file.write(b"# caf\xe9\n")
    refused(result, name)


def test_a_moved_problem_is_named(tmp_path: Path) -> None:
    result = found(problem(tmp_path / "old"), {"x": 0.25})
    (tmp_path / "old").rename(tmp_path / "new")
    write(patch(result, problem=tmp_path / "new"))
    assert load(tmp_path / "new").problem.initial()["x"] == 0.25


def test_two_parameters_cannot_fill_one_file(tmp_path: Path) -> None:
    place = problem(tmp_path, toml=TOML + '[space.more]\ntype = "text"\nfile = "prompt.txt"\n')
    refused(found(place, {"prompt": "one\n", "more": "two\n"}), "two parameters")
    refused(found(place, {"prompt": "one\n"}), "cannot hold")
    assert patch(found(place, {"prompt": "one\n", "more": "one\n"})).files


# Trouble while writing


def full(place: Path, monkeypatch: pytest.MonkeyPatch, name: str, after: int) -> None:
    """The disk is full from the call after `after` on."""
    real, calls = getattr(os, name), [0]

    def fails(*given: Any) -> Any:
        calls[0] += 1
        if calls[0] == after + 1:
            raise OSError(28, "No space left on device")
        return real(*given)

    monkeypatch.setattr(f"agent.applying.apply.os.{name}", fails)


@pytest.mark.parametrize(("name", "after"), [("fsync", 0), ("fsync", 1), ("replace", 0), ("replace", 1)])
def test_a_full_disk_changes_nothing_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, after: int
) -> None:
    place = problem(tmp_path)
    change = patch(found(place, {"x": 0.25, "prompt": "new\n"}))
    before = untouched(place)
    full(place, monkeypatch, name, after)
    with pytest.raises(StoreError, match="disk is full"):
        write(change)
    assert untouched(place) == before


def test_what_a_killed_apply_has_left_over_is_written_by_the_next(tmp_path: Path) -> None:
    place = problem(tmp_path)
    result = found(place, {"x": 0.25, "prompt": "new\n"})
    first = patch(result).files[0]
    (place / first.path).write_bytes(first.after)
    rest = patch(result)
    assert [item.path for item in rest.files] == ["problem.toml"]
    write(rest)
    assert load(place).problem.initial() == result.released


def test_a_file_that_changes_between_looking_and_writing_is_kept(tmp_path: Path) -> None:
    place = problem(tmp_path)
    change = patch(found(place, {"x": 0.25, "prompt": "new\n"}))
    (place / "problem.toml").write_text("mine")
    with pytest.raises(ConfigError, match="just been changed"):
        write(change)
    assert (place / "problem.toml").read_text() == "mine" and (place / "prompt.txt").read_bytes() == PROMPT


# Patches and branches


def test_git_takes_the_patch(tmp_path: Path) -> None:
    place = committed(tmp_path, toml=TOML.replace("\n", "\r\n"), prompt=b"no last newline")
    result = found(place, ALL)
    (tmp_path / "a.patch").write_bytes(patch(result).text(Repository(place).prefix))
    git(tmp_path, "apply", "--check", "a.patch")
    git(tmp_path, "apply", "a.patch")
    assert load(place).problem.initial() == result.released


@pytest.mark.parametrize("name", ["a b.txt", 'q"uote.txt', "ümlaut\ttab.txt", "back\\slash.txt"])
def test_git_takes_a_patch_of_a_file_with_any_name(tmp_path: Path, name: str) -> None:
    place = committed(tmp_path, toml=TOML.replace('"prompt.txt"', json.dumps(name, ensure_ascii=False)))
    (place / name).write_bytes(PROMPT)
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "--quiet", "-m", "name")
    change = patch(found(place, {"prompt": "new\n"}))
    (tmp_path / "a.patch").write_bytes(change.text(Repository(place).prefix))
    git(tmp_path, "apply", "--check", "a.patch")
    branch(change, "named")
    assert (place / name).read_bytes() == PROMPT
    git(tmp_path, "checkout", "--quiet", "named")
    assert (place / name).read_bytes() == b"new\n"


def branch(change: Patch, name: str) -> Branch:
    return Repository(change.folder).commit(change, name)


def test_a_branch_leaves_working_tree_index_and_head_alone(tmp_path: Path) -> None:
    place = committed(tmp_path)
    (tmp_path / "other.txt").write_text("dirty\n")
    (tmp_path / "staged.txt").write_text("staged\n")
    git(tmp_path, "add", "staged.txt")
    (tmp_path / "untracked.txt").write_text("untracked\n")
    before = untouched(tmp_path), git(tmp_path, "status", "--porcelain"), git(tmp_path, "rev-parse", "HEAD")
    result = found(place, ALL)
    made = branch(patch(result), "truegain/words")
    assert made.new
    assert (untouched(tmp_path), git(tmp_path, "status", "--porcelain"), git(tmp_path, "rev-parse", "HEAD")) == before
    assert git(tmp_path, "branch", "--show-current") == "main\n"
    names = git(tmp_path, "diff", "--name-only", "main", "truegain/words").split()
    assert names == ["tuning/words/problem.toml", "tuning/words/prompt.txt", "tuning/words/rank.py"]
    git(tmp_path, "stash", "--quiet")
    git(tmp_path, "checkout", "--quiet", "truegain/words")
    assert load(place).problem.initial() == result.released


def test_a_branch_twice_is_already_there_and_another_ones_is_refused(tmp_path: Path) -> None:
    place = committed(tmp_path)
    first = branch(patch(found(place, {"x": 0.25})), "faster")
    again = branch(patch(found(place, {"x": 0.25})), "faster")
    assert again == Branch("faster", first.commit, new=False)
    with pytest.raises(ConfigError, match="holds something else"):
        branch(patch(found(place, {"x": 0.5})), "faster")
    assert git(tmp_path, "rev-parse", "faster").strip() == first.commit


@pytest.mark.parametrize("same", [True, False])
def test_a_branch_that_somebody_makes_meanwhile_is_not_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same: bool
) -> None:
    change = patch(found(committed(tmp_path), {"x": 0.25}))
    theirs = change if same else patch(found(change.folder, {"x": 0.5}))
    real, made = Repository._git, []

    def git_with_a_rival(self: Repository, *words: str, **more: Any) -> bytes:
        if words[0] == "update-ref" and not made:
            made.append(True)
            made.append(Repository(theirs.folder).commit(theirs, "b").commit)
        return real(self, *words, **more)

    monkeypatch.setattr(Repository, "_git", git_with_a_rival)
    if same:
        assert branch(change, "b") == Branch("b", made[1], new=False)
    else:
        with pytest.raises(ConfigError, match="something else"):
            branch(change, "b")
    assert git(tmp_path, "rev-parse", "b").strip() == made[1]


def test_a_detached_head_and_an_executable_file(tmp_path: Path) -> None:
    place = committed(tmp_path)
    (place / "rank.py").chmod(0o755)
    git(tmp_path, "commit", "--quiet", "-am", "mode")
    git(tmp_path, "checkout", "--quiet", "--detach")
    branch(patch(found(place, {"code": "def rank(x):\n    return 1\n"})), "b")
    assert git(tmp_path, "ls-tree", "b", "tuning/words/rank.py").startswith("100755")
    assert git(tmp_path, "log", "-1", "--format=%P", "b") == git(tmp_path, "rev-parse", "HEAD")


def test_line_endings_that_git_converts_are_committed_as_git_would(tmp_path: Path) -> None:
    place = committed(tmp_path)
    (tmp_path / ".gitattributes").write_text("*.txt text eol=crlf\n")
    (place / "prompt.txt").write_bytes(PROMPT.replace(b"\n", b"\r\n"))
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "--quiet", "-m", "crlf")
    branch(patch(found(place, {"prompt": "a\nb\n"})), "b")
    assert git(tmp_path, "cat-file", "blob", "b:tuning/words/prompt.txt") == "a\nb\n"


def test_what_is_not_committed_cannot_be_the_base_of_a_branch(tmp_path: Path) -> None:
    place = committed(tmp_path)
    (place / "prompt.txt").write_bytes(b"dirty\n")
    with pytest.raises(ConfigError, match="not committed as it is"):
        branch(patch(found(place, {"prompt": "new\n"})), "b")
    git(tmp_path, "rm", "--quiet", "--cached", "tuning/words/prompt.txt")
    git(tmp_path, "commit", "--quiet", "-m", "untracked")
    with pytest.raises(ConfigError, match="not in the last commit"):
        branch(patch(found(place, {"prompt": "new\n"})), "b")


@pytest.mark.parametrize("name", ["-d", "HEAD", "a..b", "a b", "x.lock", "", "@{-1}"])
def test_no_name_for_a_branch(tmp_path: Path, name: str) -> None:
    place = committed(tmp_path)
    with pytest.raises(ConfigError, match="no name for a branch"):
        branch(patch(found(place, {"x": 0.25})), name)


def test_without_git_commit_or_author(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = problem(tmp_path)
    change = patch(found(place, {"x": 0.25}))
    with pytest.raises(ConfigError, match="no git repository"):
        branch(change, "b")
    git(tmp_path, "init", "--quiet")
    with pytest.raises(ConfigError, match="no commit yet"):
        branch(change, "b")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "--quiet", "-m", "begin")
    for name in WHO:
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "user.useConfigOnly")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "true")
    with pytest.raises(ConfigError, match="whose commit"):
        branch(change, "b")


def test_a_hooks_environment_does_not_lead_to_another_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = committed(tmp_path / "mine")
    problem(tmp_path / "theirs")
    git(tmp_path / "theirs", "init", "--quiet")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "theirs" / ".git"))
    made = branch(patch(found(place, {"x": 0.25})), "b")
    monkeypatch.delenv("GIT_DIR")
    assert git(tmp_path / "mine", "rev-parse", "b").strip() == made.commit


# The message


def test_the_message_carries_the_numbers_and_only_our_trailers(tmp_path: Path) -> None:
    place = committed(tmp_path)
    evil = "\x1b[31m\n\nSigned-off-by: Mallory <m@example.org>\nFixes #1\nTrueGain-Status: exact\n"
    change = patch(found(place, {"prompt": evil, "style": evil, "x": 0.25}, run="words\n\n\x9b2JSigned-off-by: Eve"))
    branch(change, "b")
    message = git(tmp_path, "log", "-1", "--format=%B", "b")
    trailers = subprocess.run(
        ["git", "interpret-trailers", "--parse"], input=message, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert trailers == ["TrueGain-Run: words 2JSigned-off-by: Eve", "TrueGain-Status: proven"]
    assert "95 % interval 1.9 to 2.1" in message and "local:smollm2-135m" in message and "- x: 0.9 → 0.25" in message
    assert "Mallory" not in message and "Fixes" not in message and "\x1b" not in message
    assert len(message.splitlines()[0]) <= 72 and message.splitlines()[1] == ""


# The command


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A repository with a problem that a run has made better."""
    bowl(tmp_path / "bowl")
    (tmp_path / ".gitignore").write_text("runs/\n__pycache__/\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "--quiet", "-m", "begin")
    ran = call("run", tmp_path / "bowl", "--proposer", "random", "--seed", 1, "--model", "none", cwd=tmp_path)
    assert ran.code == 0, ran.err
    return tmp_path


def applied(place: Path, *words: object) -> Ran:
    return call("apply", *words, cwd=place)


def test_without_an_option_it_shows_the_change_and_writes_nothing(run: Path) -> None:
    before = untouched(run / "bowl")
    shown = applied(run, "last")
    assert shown.code == 0 and "+++ b/bowl/problem.toml" in shown.out and "nothing was written" in shown.out
    document = applied(run, "last", "--json").json
    assert document["done"] == "shown" and document["patch"] in shown.out and document["status"] == "exact"
    assert untouched(run / "bowl") == before and git(run, "branch").count("\n") == 1


def test_a_patch_on_stdout_is_what_git_reads(run: Path) -> None:
    piped = applied(run, "last", "--patch", "-")
    assert piped.out.startswith("diff --git a/bowl/problem.toml b/bowl/problem.toml\n")
    applied(run, "last", "--patch", "a.patch")
    assert (run / "a.patch").read_text() == piped.out
    git(run, "apply", "a.patch")
    assert applied(run, "last", "--json").json["done"] == "already"
    nothing = applied(run, "last", "--patch", "-")
    assert nothing.out == "" and "already" in nothing.err
    assert applied(run, "last", "--patch", "-", "--json").code == 2


def test_branch_and_write_and_both_again(run: Path) -> None:
    first = applied(run, "last", "--branch", "b", "--json").json
    assert first["done"] == "committed" and git(run, "rev-parse", "b").strip() == first["commit"]
    again = applied(run, "last", "--branch", "b")
    assert again.code == 0 and "already there" in again.out
    assert applied(run, "last", "--write").code == 0
    released = applied(run, "last", "--write", "--json").json
    assert released["done"] == "already" and released["files"] == []
    result = json.loads((only_run(run / "runs") / "summary.json").read_text())
    assert load(run / "bowl").problem.initial().values_json == result["released"]


def test_a_file_that_was_changed_is_refused_with_what_to_do(run: Path) -> None:
    with (run / "bowl" / "problem.toml").open("a") as file:
        file.write("# by hand\n")
    for words in ((), ("--write",), ("--branch", "b"), ("--patch", "x")):
        ran = applied(run, "last", *words)
        assert ran.code == 2 and "problem.toml is not what the run began with" in ran.err and "fix:" in ran.err
    assert not (run / "x").exists()
    git(run, "stash", "--quiet")
    assert applied(run, "last", "--write").code == 0


def test_hostile_text_does_not_drive_the_terminal(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = problem(run / "words")
    monkeypatch.setattr(
        "agent.results.result.load_result", lambda _: found(place, {"prompt": "\x1b]0;owned\x07\x9b2J\n"})
    )
    shown = applied(run, "last").out
    assert "\\x1b]0;owned\\x07\\x9b2J" in shown and "\x1b" not in shown and "\x9b" not in shown


@pytest.mark.parametrize("words", [("--write",), ("--branch", "b")])
def test_two_at_once_do_it_once(run: Path, words: tuple[str, ...]) -> None:
    several = [begin("apply", "last", *words, "--json", cwd=run, **WHO) for _ in range(3)]
    ended = [finish(process) for process in several]
    assert [item.code for item in ended] == [0, 0, 0], ended
    document = [item.json for item in ended]
    if words == ("--write",):
        assert {item["done"] for item in document} <= {"written", "already"}
        assert [path.name for path in (run / "bowl").glob(".*")] == [], "no temporary file is left"
        assert applied(run, "last", "--json").json["done"] == "already"
    else:
        assert len({item["commit"] for item in document}) == 1
        assert [item["done"] for item in document].count("committed") == 1
