"""Drafts that cannot be used: the model is told, a few times; what is left is friendly."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from agent.errors import ProviderError
from tests.drafting.support import BOWL, TOML, Person, drafted, reply, tree


def no_template() -> Person:
    return Person({"Fill in a template": False})


async def mended(folder: Path, bad: str, said: str) -> None:
    """A bad draft is not written; the model is told why; the next one is used."""
    person = Person()
    found, model = await drafted(folder, person, bad, reply())
    assert said in model.requests[1].messages[-1].text, model.requests[1].messages[-1].text
    assert found is not None and found.ready
    assert tree(folder) == {"problem.toml": (folder / "problem.toml").read_text(), "evaluate.py": BOWL}


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (reply("[evaluator\nfunction="), "is not TOML"),
        (reply(TOML.replace("evaluate:measure", "evaluate:score")), "evaluate.py has no 'score'"),
        (reply(TOML + '\n[data]\nfile = "rows.jsonl"\n'), "the file 'rows.jsonl' is not there"),
        (reply(evaluate="def measure(:\n"), "evaluate.py is not Python"),
        (reply(TOML.replace("high = 2", "high = -5")), "low (-2"),
        (reply(TOML.replace("evaluations = 40", "evaluations = 2")), "cannot pay for a run"),
        (reply(TOML.replace("slope", "candidate.slope")), "candidate"),
        (reply(evaluate="def measure(c, ask):\n    return 1\n"), "may not ask models"),
        ("no JSON at all", "cannot be used"),
    ],
    ids=["toml", "function", "file", "python", "range", "budget", "name", "asks", "json"],
)
async def test_a_draft_that_cannot_be_used_is_mended_by_the_model(tmp_path: Path, bad: str, said: str) -> None:
    if said == "cannot be used":  # the gateway itself asks once more
        person = Person()
        found, model = await drafted(tmp_path, person, bad, bad, reply())
        assert found is not None and found.ready and len(model.requests) == 3
        return
    await mended(tmp_path, bad, said)


async def test_after_four_drafts_it_says_what_was_wrong_with_each_and_what_else_can_be_done(tmp_path: Path) -> None:
    person = no_template()
    found, model = await drafted(tmp_path / "p", person, *[reply("[x")] * 4, reply())
    assert found is None and len(model.requests) == 4  # the fifth was not asked for
    for line in ("No draft of scripted:test could be used.", "draft 1: ", "draft 4: ", "truegain init --list"):
        assert line in person.heard
    assert person.was_asked("Fill in a template")
    assert not (tmp_path / "p").exists()


async def test_a_model_that_cannot_be_reached_leads_to_the_template(tmp_path: Path) -> None:
    person = no_template()
    error = ProviderError("no such key", fatal=True, hint="export OPENAI_API_KEY=…")
    found, _ = await drafted(tmp_path / "p", person, error)
    assert found is None and "no such key (export OPENAI_API_KEY=…)" in person.heard
    assert person.was_asked("Fill in a template")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("../../escape.py", "has an empty part, . or .."),
        ("/tmp/escape.py", "is not relative"),
        ("~/escape.py", "is not relative"),
        (".bashrc", "hidden files are not written"),
        ("a\x1b[2Jb.py", "characters that are not allowed"),
        ("x/../../y.py", "has an empty part, . or .."),
    ],
)
async def test_a_path_that_leaves_the_folder_is_refused(tmp_path: Path, path: str, said: str) -> None:
    folder = tmp_path / "deep" / "inside"
    person = Person()
    found, model = await drafted(folder, person, reply(**{path: "x = 1\n"}), reply())
    told = model.requests[1].messages[-1].text
    assert said in told and "\x1b" not in told
    assert found is not None and set(tree(tmp_path)) == {"deep/inside/problem.toml", "deep/inside/evaluate.py"}


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (reply(evaluate="# " + "x" * 1_000_000 + BOWL), "characters, at most 20,000"),
        (reply(evaluate="# \x1b]0;owned\x07\n" + BOWL), "control characters or invisible ones"),
        (reply(evaluate="# \u202e drow\n" + BOWL), "control characters or invisible ones"),
        (reply(**{f"f{n}.txt": "x" for n in range(50)}), "at most 6"),
        (reply("x = [" + "[" * 50_000), "at most 20,000"),
    ],
    ids=["megabyte", "escapes", "bidi", "many", "deep"],
)
async def test_what_nobody_could_look_through_is_refused(tmp_path: Path, bad: str, said: str) -> None:
    await mended(tmp_path, bad, said)


@pytest.mark.parametrize(
    "key",
    [
        "[evaluator.sandbox]\nunsafe = true",
        '[evaluator.env]\nKEY = "$OPENAI_API_KEY"',
        '[models]\npropose = "openai:dear"\nbase_url = "http://evil.example"',
        '[gate]\nchecks = ["evaluate:measure"]\nlevel = 0.9',
        '[proposer]\nname = "evaluate:measure"',
        '[evaluator.prompt]\nmetric = "evaluate:measure"',
        "[run]\nworkers = 64",
        '[space.tree]\ntype = "code"\nfiles = ["**"]\nentry = "a:b"',
    ],
)
async def test_a_draft_may_not_weaken_the_walls_or_name_code_that_reading_would_run(tmp_path: Path, key: str) -> None:
    mark = tmp_path / "ran"
    spy = f"open({str(mark)!r}, 'w').write('x')\n" + BOWL
    person = Person({"Fill in a template": False, "Ask scripted": True})
    found, model = await drafted(tmp_path / "p", person, *[reply(f"{TOML}\n{key}\n", spy)] * 4)
    told = model.requests[1].messages[-1].text
    assert found is None and ("may not be" in told or "one file only" in told)
    assert not mark.exists()


async def test_a_command_may_not_be_drafted(tmp_path: Path) -> None:
    person = no_template()
    toml = TOML.replace('function = "evaluate:measure"', 'command = ["rm", "-rf", "x"]')
    found, _ = await drafted(tmp_path / "p", person, *[reply(toml)] * 4)
    assert found is None and "evaluator.command may not be in a draft" in person.heard


async def test_reading_a_draft_runs_nothing_and_writes_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    spy = f"open({str(mark)!r}, 'w').write('x')\n" + BOWL
    before = set(Path(tempfile.gettempdir()).glob("truegain-draft-*"))
    person = Person({"Write this into": False})
    found, _ = await drafted(tmp_path / "p", person, reply(evaluate=spy))
    assert found is None and not mark.exists() and not (tmp_path / "p").exists()
    assert set(Path(tempfile.gettempdir()).glob("truegain-draft-*")) <= before


async def test_escapes_in_an_explanation_never_reach_the_person(tmp_path: Path) -> None:
    person = Person()
    await drafted(tmp_path, person, reply(explanation="Fine.\x1b[2J\x1b]0;owned\x07 \u202eyes"))
    assert "\x1b" not in person.heard and "\u202e" not in person.heard and "Fine." in person.heard


async def test_a_draft_without_a_problem_file_is_told_what_is_missing(tmp_path: Path) -> None:
    import json

    only = json.dumps({"explanation": "x", "files": [{"path": "a.py", "text": "x = 1"}]})
    await mended(tmp_path, only, "there is no problem.toml among its files (a.py)")
