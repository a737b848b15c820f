"""A person who says no: nothing is written, nothing is run, nothing is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.drafting import draft
from agent.errors import StoreError
from tests.drafting.support import BOWL, Person, drafted, reply, tree


async def test_no_goal_means_nothing_happens(tmp_path: Path) -> None:
    person = Person()
    found, model = await drafted(tmp_path / "p", person, reply(), goal="")
    assert found is None and not model.requests and not (tmp_path / "p").exists()


async def test_no_to_asking_the_model_sends_nothing(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("x = 1\n")
    person = Person({"Which files": "train.py", "Ask scripted": False, "Fill in a template": False})
    found, model = await drafted(tmp_path / "p", person, reply(), here=tmp_path)
    assert found is None and not model.requests and not (tmp_path / "p").exists()
    assert "train.py: 6 characters" in person.heard


async def test_no_to_writing_writes_nothing(tmp_path: Path) -> None:
    person = Person({"Write this into": False})
    found, model = await drafted(tmp_path / "p", person, reply())
    assert found is None and len(model.requests) == 1 and not (tmp_path / "p").exists()
    assert not person.was_asked("Measure the defaults")


async def test_no_to_running_runs_nothing(tmp_path: Path) -> None:
    spy = f"open({str(tmp_path / 'p' / 'ran')!r}, 'w').write('x')\n" + BOWL
    person = Person({"Measure the defaults": False})
    found, _ = await drafted(tmp_path / "p", person, reply(evaluate=spy))
    assert found is not None and found.findings is None and not found.ready
    assert set(tree(tmp_path / "p")) == {"problem.toml", "evaluate.py"}
    assert "deterministic" not in (tmp_path / "p" / "problem.toml").read_text()


async def test_a_file_that_is_there_is_never_replaced_without_a_yes(tmp_path: Path) -> None:
    (tmp_path / "evaluate.py").write_text("# mine\n")
    person = Person({"evaluate.py exists": False})
    found, _ = await drafted(tmp_path, person, reply())
    assert found is None and tree(tmp_path) == {"evaluate.py": "# mine\n"}
    assert "- # mine" in person.heard and "stays as it is, so nothing is written" in person.heard

    person = Person()
    found, _ = await drafted(tmp_path, person, reply())
    assert found is not None and person.was_asked("evaluate.py exists. Replace it?")
    assert tree(tmp_path)["evaluate.py"] == BOWL


async def test_no_to_mending_leaves_the_draft_as_it_is(tmp_path: Path) -> None:
    broken = "def measure(candidate):\n    raise ValueError('nothing to see')\n"
    person = Person({"May the model": False, "Try again": False})
    found, model = await drafted(tmp_path, person, reply(evaluate=broken), reply())
    assert found is not None and not found.ready and len(model.requests) == 1
    assert "nothing to see" in person.heard and tree(tmp_path)["evaluate.py"] == broken


async def test_nobody_there_is_an_error_and_nothing_is_written(tmp_path: Path) -> None:
    class Gone(Person):
        def confirm(self, question: str) -> bool:
            if "Write this" in question:
                raise EOFError
            return super().confirm(question)

    with pytest.raises(EOFError):
        await drafted(tmp_path / "p", Gone(), reply())
    assert not (tmp_path / "p").exists()


async def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside.py", tmp_path / "p"
    outside.write_text("# mine\n")
    folder.mkdir()
    (folder / "evaluate.py").symlink_to(outside)
    with pytest.raises(StoreError, match="is a link"):
        await drafted(folder, Person(), reply())
    assert outside.read_text() == "# mine\n" and set(tree(folder)) == {"evaluate.py"}


async def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("a file\n")
    with pytest.raises(StoreError, match="cannot write"):
        await drafted(tmp_path / "p", Person(), reply())


async def test_without_a_model_enter_all_the_way_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "train.py").write_text("def train(lr=0.1):\n    return lr\n")
    person = Person()
    assert await draft(tmp_path / "p", person, "none", goal="x", here=tmp_path) is None
    assert [item.name for item in (tmp_path / "p").iterdir()] == ["train.py"]
    assert "truegain init --list" in person.heard


async def test_a_budget_for_models_holds(tmp_path: Path) -> None:
    from agent.ledger import Budget

    person = Person({"Fill in a template": False})
    found, model = await drafted(tmp_path / "p", person, *[reply("[x")] * 4, budget=Budget(calls=2))
    assert found is None and len(model.requests) == 2 and "limit of 2 calls" in person.heard
