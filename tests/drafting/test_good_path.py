"""From an empty folder to a released candidate and a report."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

from agent.folders import new_run
from agent.session import Session
from tests.cli_helpers import call
from tests.drafting.support import BOWL, TOML, Person, drafted, reply, tree


async def test_an_empty_folder_becomes_a_problem_a_released_candidate_and_a_report(tmp_path: Path) -> None:
    folder, runs = tmp_path / "line", tmp_path / "runs"
    person = Person()
    found, model = await drafted(folder, person, reply())

    assert found is not None and found.ready and found.written == ("problem.toml", "evaluate.py")
    assert tree(folder)["evaluate.py"] == BOWL
    written = tomllib.loads(tree(folder)["problem.toml"])
    assert written["evaluator"] == {"function": "evaluate:measure", "timeout": 20, "deterministic": True}
    assert "deterministic = true" in person.heard
    assert "Spent on models so far: 1 model call" in person.heard
    assert found.spent["calls"] == len(model.requests) == 1

    setup = found.setup
    assert setup.problem.deterministic
    session = Session.of(setup)
    session.settings = replace(session.settings, proposer="coordinate", models={})
    result = await session.run(new_run(runs, "line"))
    assert result.status == "exact" and result.released != result.initial
    assert call("report", result.folder, cwd=tmp_path).code == 0
    assert (result.folder / "report.html").stat().st_size > 10_000


async def test_the_person_sees_every_line_before_it_is_written_and_is_asked_before_it_is_run(tmp_path: Path) -> None:
    person = Person()
    await drafted(tmp_path / "p", person, reply())
    for line in (*TOML.strip().splitlines(), *BOWL.strip().splitlines()):
        assert f"+ {line}".rstrip() in person.heard
    order = ["Ask scripted:test", "Is a higher or a lower loss better", "Write this into", "Measure the defaults"]
    places = [next(i for i, q in enumerate(person.questions) if part in q) for part in order]
    assert places == sorted(places)


async def test_a_direction_that_the_model_has_wrong_is_put_right_by_the_person(tmp_path: Path) -> None:
    person = Person({"higher or a lower": "higher"})
    found, _ = await drafted(tmp_path, person, reply())
    assert found is not None and found.setup.problem.objective.direction == "maximize"


async def test_a_noisy_evaluator_is_measured_and_told_what_could_be_shown(tmp_path: Path) -> None:
    noisy = (
        "import random\n\n\ndef measure(candidate, seed=0):\n"
        "    return {'loss': candidate['slope'] ** 2 + candidate['power'] + random.Random(seed).gauss(0, 0.1)}\n"
    )
    person = Person()
    found, _ = await drafted(tmp_path, person, reply(evaluate=noisy))
    assert found is not None and found.findings is not None
    assert found.findings.kind == "seeded" and 0.01 < found.findings.noise.sd < 0.5
    assert not found.setup.problem.deterministic
    assert "the same seed gives the same number" in person.heard and "cannot be shown with 12 pairs" in person.heard
    text = (tmp_path / "problem.toml").read_text()
    assert "deterministic = false # measured: standard deviation" in text


async def test_noise_that_no_seed_governs_is_told_apart(tmp_path: Path) -> None:
    person = Person()
    noisy = "import random\ndef measure(candidate):\n    return {'loss': candidate['slope'] + random.random()}\n"
    found, _ = await drafted(tmp_path, person, reply(evaluate=noisy))
    assert found is not None and found.findings is not None and found.findings.kind == "noisy"
    assert "even the same seed gives other numbers" in person.heard


async def test_what_differs_between_processes_is_not_deterministic(tmp_path: Path) -> None:
    person = Person()
    pid = "import os\ndef measure(candidate):\n    return {'loss': candidate['slope'] + os.getpid() % 9973}\n"
    found, _ = await drafted(tmp_path, person, reply(evaluate=pid))
    assert found is not None and found.findings is not None and found.findings.kind == "noisy"


async def test_a_constant_evaluator_is_pointed_out_and_the_model_may_mend_it(tmp_path: Path) -> None:
    constant = "def measure(candidate):\n    return {'loss': 1.0}\n"
    person = Person()
    found, model = await drafted(tmp_path, person, reply(evaluate=constant), reply())
    assert "did not move, although slope and power did" in person.heard
    assert "the same number for every candidate" in model.requests[1].messages[-1].text
    assert found is not None and found.findings is not None and not found.findings.constant
    assert tree(tmp_path)["evaluate.py"] == BOWL


async def test_a_parameter_without_effect_is_named(tmp_path: Path) -> None:
    person = Person()
    await drafted(tmp_path, person, reply(evaluate="def measure(c):\n    return {'loss': c['slope'] ** 2}\n"))
    assert "power changed nothing where it was tried alone" in person.heard


async def test_the_person_can_have_it_differently(tmp_path: Path) -> None:
    person = Person({"Write this into": [False, True], "should be different": "a budget of 50"})
    found, model = await drafted(tmp_path, person, reply(), reply(TOML.replace("40", "50")))
    assert "a budget of 50" in model.requests[1].messages[-1].text
    assert found is not None and found.setup.budget.evaluations == 50


async def test_a_prompt_on_rows_needs_no_evaluator_of_its_own(tmp_path: Path) -> None:
    rows = "\n".join(f'{{"text": "play song {n}", "answer": "{"play" if n % 2 else "add"}"}}' for n in range(120))
    (tmp_path / "rows.jsonl").write_text(rows)
    toml = """
[evaluator.prompt]
template = "{instruction} {text}"
metric = "exact_match"
[data]
file = "rows.jsonl"
answer = "answer"
[space.instruction]
type = "text"
default = "play or add?"
[budget]
evaluations = 400
"""

    def speak(request: object) -> str:
        return reply(toml, None) if getattr(request, "schema", None) else "play"

    person = Person({"Which files": "rows.jsonl"})
    from agent.drafting import draft
    from agent.llm.scripted import Scripted

    model = Scripted(speak)
    found = await draft(tmp_path, person, "scripted:test", goal="sorting", adapter=model, here=tmp_path)
    assert found is not None and found.ready, person.heard
    first = model.requests[0].messages[0].text
    assert "one of 'add', 'play'" in first or "one of 'play', 'add'" in first
    assert "play song" not in first  # a part of the rows will be held out, so no model sees one
    assert found.spent["calls"] == len(model.requests) > 10
    assert "deterministic stays unset" in person.heard
