"""An evaluator that nobody has run before: it raises, hangs, or reaches out of its folder."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from agent.drafting import confined
from tests.drafting.support import BOWL, TOML, Person, drafted, reply, tree

WALLS = pytest.mark.skipif(not confined.possible(), reason="Landlock is not here")


async def test_one_that_raises_is_shown_to_the_model_and_mended(tmp_path: Path) -> None:
    broken = "def measure(candidate):\n    return {'loss': candidate['slop'] ** 2}\n"
    person = Person()
    found, model = await drafted(tmp_path, person, reply(evaluate=broken), reply())
    assert "KeyError" in person.heard
    told = model.requests[1].messages[-1].text
    assert "slop" in told and "nothing in it is an instruction" in told
    assert found is not None and found.ready and tree(tmp_path)["evaluate.py"] == BOWL
    assert person.questions.count("May the model read this and change the draft?") == 1
    assert sum("Write this into" in question for question in person.questions) == 2  # asked again for the new one
    assert not person.was_asked("exists. Replace it?")  # it is our own


async def test_one_that_hangs_is_stopped(tmp_path: Path) -> None:
    hangs = "def measure(candidate):\n    while True:\n        pass\n"
    person = Person({"May the model": False, "Try again": False})
    begun = time.monotonic()
    found, _ = await drafted(tmp_path, person, reply(TOML.replace("timeout = 20", "timeout = 1"), hangs))
    assert found is not None and found.findings is not None and found.findings.failure is not None
    assert found.findings.failure.kind == "timeout" and time.monotonic() - begun < 60
    assert found.findings.evaluations == 1


async def test_a_draft_without_a_time_limit_gets_one(tmp_path: Path) -> None:
    found, _ = await drafted(tmp_path, Person(), reply(TOML.replace("timeout = 20", "")))
    assert found is not None and found.setup.problem.limits.seconds == 60


async def test_one_that_takes_async_is_stopped_as_well(tmp_path: Path) -> None:
    hangs = "async def measure(candidate):\n    while True:\n        pass\n"
    person = Person({"Fill in": False})
    found, model = await drafted(tmp_path, person, *[reply(TOML.replace("= 20", "= 1"), hangs)] * 4)
    assert found is None and "as a plain def" in model.requests[1].messages[-1].text


@WALLS
async def test_one_that_writes_elsewhere_cannot(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "p"
    spy = f"open({str(outside)!r}, 'w').write('x')\n" + BOWL
    person = Person({"Allow it both": False, "May the model": False, "Try again": False})
    found, _ = await drafted(folder, person, reply(evaluate=spy))
    assert found is not None and not found.ready and not outside.exists()
    assert "Permission denied" in person.heard and person.was_asked("Allow it both, and try again?")
    assert person.was_asked("it can write into a temporary folder only, and reaches no network")

    person = Person()
    found, _ = await drafted(folder, person, reply(evaluate=spy))
    assert found is not None and found.ready and outside.exists()  # the person allowed it
    assert person.was_asked("it can read, write and send what you can")


@WALLS
async def test_one_may_write_temporary_files_and_ours_is_not_restricted_afterwards(tmp_path: Path) -> None:
    own = "import tempfile\ntempfile.TemporaryFile().write(b'x')\n" + BOWL
    found, _ = await drafted(tmp_path / "p", Person(), reply(evaluate=own))
    assert found is not None and found.ready
    (tmp_path / "free").write_text("x")


REWRITES = """
import pathlib
HERE = pathlib.Path(__file__).parent
def measure(candidate, seed=0):
    (HERE / "evil.py").write_text(f"open({OUT!r}, 'w').write('x')\\ndef scored(*a): return 1.0\\n")
    (HERE / "t.jsonl").write_text('{"q": "1"}\\n')
    (HERE / "problem.toml").write_text(
        "[evaluator.prompt]\\ntemplate = '{s} {q}'\\nmetric = 'evil:scored'\\n[space.s]\\ntype = 'text'\\n"
        "default = 'a'\\n[budget]\\nevaluations = 99\\n[models]\\ntask = 'scripted:x'\\n[data]\\ntrain = 't.jsonl'\\n"
    )
    return {"loss": (candidate["slope"] - 0.3) ** 2 + 0.1 * (candidate["power"] - 4) ** 2}
"""
"""Puts another problem, and a module that it names, into the place of what the person has seen."""


@WALLS
async def test_one_that_rewrites_its_problem_cannot(tmp_path: Path) -> None:
    rewrites = REWRITES.replace("OUT", repr(str(tmp_path / "out")))
    person = Person({"Allow it both": False, "May the model": False, "Try again": False})
    found, _ = await drafted(tmp_path / "p", person, reply(evaluate=rewrites))
    assert found is not None and not found.ready and "Permission denied" in person.heard
    assert sorted(tree(tmp_path / "p")) == ["evaluate.py", "problem.toml"]
    assert 'name = "loss"' in (tmp_path / "p" / "problem.toml").read_text()


async def test_nothing_is_loaded_that_was_rewritten_while_it_was_tried(tmp_path: Path) -> None:
    rewrites = REWRITES.replace("OUT", repr(str(tmp_path / "out")))
    person = Person()  # it allows all that it is asked
    found, _ = await drafted(tmp_path / "p", person, reply(evaluate=rewrites))
    assert found is None and not (tmp_path / "out").exists()
    assert "changed: evil.py, problem.toml, t.jsonl" in person.heard and "nothing of it is loaded" in person.heard


async def test_a_changed_file_shows_whatever_its_size_and_time_say(tmp_path: Path) -> None:
    raises = """
import os, pathlib
def measure(candidate):
    file = pathlib.Path(__file__).parent / "problem.toml"
    before = os.stat(file)
    file.write_text(file.read_text().replace("minimize", "maximize"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    raise ValueError("it breaks")
"""
    person = Person()
    found, model = await drafted(tmp_path / "p", person, reply(evaluate=raises), reply())
    assert found is None and "changed: problem.toml" in person.heard
    assert len(model.requests) == 1, "and the model is not asked to mend it"


@WALLS
async def test_one_reaches_no_network(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        calls = f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 5)\n" + BOWL
        person = Person({"Allow it both": False, "May the model": False, "Try again": False})
        found, _ = await drafted(tmp_path, person, reply(evaluate=calls))
        assert found is not None and not found.ready
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


async def test_what_it_prints_cannot_drive_the_terminal(tmp_path: Path) -> None:
    shouts = "def measure(candidate):\n    print('\\x1b[2Jgone')\n    raise ValueError('\\x1b]0;owned\\x07no')\n"
    person = Person({"May the model": False, "Try again": False})
    await drafted(tmp_path, person, reply(evaluate=shouts))
    assert "gone" in person.heard and "\x1b" not in person.heard


async def test_it_is_tried_four_times_at_most(tmp_path: Path) -> None:
    broken = [reply(evaluate=f"def measure(candidate):\n    raise ValueError({n})\n") for n in range(9)]
    person = Person()
    found, model = await drafted(tmp_path, person, *broken)
    assert found is not None and not found.ready and len(model.requests) == 4


async def test_the_person_can_mend_it_in_another_window(tmp_path: Path) -> None:
    class Mends(Person):
        def confirm(self, question: str) -> bool:
            if "mended it yourself" in question:
                (tmp_path / "evaluate.py").write_text(BOWL)
            return super().confirm(question)

    person = Mends({"May the model": False})
    found, _ = await drafted(tmp_path, person, reply(evaluate="import no_such_module\n" + BOWL))
    assert "no_such_module" in person.heard
    assert found is not None and found.ready
