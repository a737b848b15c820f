"""`truegain gate`, `show --gate` and what `estimate` says about proof."""

from __future__ import annotations

import json
import random
import xml.etree.ElementTree as xml
from collections import UserList
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent import Float, Objective, optimize
from agent.gate.accounts import Accounts
from agent.journal import Journal, read_all
from agent.telling.words import Words
from agent.wall import opened
from tests.cli_helpers import Ran, call, folder, only_run

TOML = """
[evaluator]
function = "MODULE:measure"
deterministic = true
executor = "inline"

[data]
file = "rows.jsonl"

[space.x]
type = "float"
low = 0
high = 1
default = 0.1

[[objectives]]
name = "score"
direction = "maximize"
low = 0
high = 1

[budget]
evaluations = 400

[proposer]
name = "coordinate"
"""

MEASURE = """
import random

def measure(candidate, row):
    return float(random.Random(row["id"]).random() < 0.85 - 0.6 * abs(candidate["x"] - 0.7))
"""


def rows(count: int, first: int = 0) -> list[dict[str, str]]:
    return [{"id": f"r{i}", "text": sha256(f"{i}".encode()).hexdigest()} for i in range(first, first + count)]


def write(place: Path, data: Sequence[Any]) -> None:
    (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in data))


@pytest.fixture
def problem(tmp_path: Path) -> Path:
    module = f"quiz_{sha256(str(tmp_path).encode()).hexdigest()[:12]}"  # inline, modules share one process
    place = folder(tmp_path / "quiz", TOML.replace("MODULE", module))
    (place / f"{module}.py").write_text(MEASURE)
    write(place, rows(160))
    return place


def ran(problem: Path, *more: object) -> Any:
    done = call("run", "quiz", "--json", *more, cwd=problem.parent)
    assert done.code == 0, done.err
    return done.json


def gate(problem: Path, *arguments: object) -> Ran:
    return call("gate", *arguments, cwd=problem.parent)


# show --gate.


def test_show_gate_tells_everything_after_the_end(problem: Path) -> None:
    ran(problem)
    found = call("show", "last", "--gate", "--json", cwd=problem.parent).json
    assert found["kind"] == "rows" and found["tests"] == 1 and found["opened"] is False
    assert call("show", "last", "--json", cwd=problem.parent).json["gate"]["exams"] == found["exams"]
    shown = call("show", "last", "--gate", cwd=problem.parent)
    assert shown.code == 0
    assert found["exams"][0]["sentence"] in shown.out
    for words in (
        "PLANNED / READ",
        "Level: 1 exam taken, 1 accepted",
        "Noise: gains under",
        "released",
        "a search score",
        "What could have been proven with 80 gate examples",
        "Pace:",
        "Proposer:",
    ):
        assert words in shown.out, words


def test_the_plot_shows_each_effect_where_it_is(problem: Path) -> None:
    ran(problem)
    done = call("show", "last", "--gate", "--plot", "f.svg", "--json", cwd=problem.parent)
    (exam,) = done.json["exams"]
    text = (problem.parent / "f.svg").read_text()
    root = xml.fromstring(text)
    name = "{http://www.w3.org/2000/svg}"
    (dot,) = root.iter(f"{name}circle")
    zero, _, bar = list(root.iter(f"{name}line"))
    place = {key: float(bar.get(key, "nan")) for key in ("x1", "x2")}
    assert 0 < place["x1"] < place["x2"] < 700
    low, high = exam["interval"]
    for mark, value in ((zero.get("x1", "nan"), 0.0), (dot.get("cx", "nan"), exam["effect"])):
        share = (float(mark) - place["x1"]) / (place["x2"] - place["x1"])
        assert share == pytest.approx((value - low) / (high - low), abs=0.01)
    alone = call("show", "last", "--plot", "f.svg", cwd=problem.parent)
    assert alone.code == 2 and "--gate" in alone.err
    nowhere = call("show", "last", "--gate", "--plot", "no/such/f.svg", cwd=problem.parent)
    assert nowhere.code == 2 and "cannot write" in nowhere.err


def reopened(run: Path) -> Path:
    """A copy of a run that was cut off just before its end."""
    copy = run.parent / "cut"
    journal = Journal(copy)
    for entry in list(read_all(run))[:-1]:
        journal.append(entry.event, entry.time)
    journal.close()
    return copy


def test_while_a_run_is_open_there_are_only_the_bits(problem: Path) -> None:
    ran(problem)
    (run,) = (path for path in (problem.parent / "runs").iterdir() if path.is_dir())
    cut = reopened(run)
    shown = call("show", cut, "--gate", cwd=problem.parent)
    assert shown.code == 0 and "until it ends nothing" in shown.out and "1 exam decided, 1 accepted" in shown.out
    assert "LEVEL" not in shown.out and "effect" not in shown.out.lower()
    assert set(call("show", cut, "--gate", "--json", cwd=problem.parent).json) == {"run", "open", "sentence", "bits"}
    drawn = call("show", cut, "--gate", "--plot", "f.svg", cwd=problem.parent)
    assert drawn.code == 2 and not (problem.parent / "f.svg").exists()
    refused = gate(problem, "open", cut, "--yes")
    assert refused.code == 4 and "while it is" in refused.err and not opened(cut)


# gate open.


def test_opening_shows_the_rows_and_bars_every_later_exam(problem: Path) -> None:
    first = ran(problem)
    assert first["status"] == "proven"
    unasked = gate(problem, "open", first["run"], "--json")
    assert unasked.code == 2 and "--yes" in unasked.json["error"]["hint"]
    assert not opened(Path(first["folder"]))
    done = gate(problem, "open", first["run"], "--yes", "--json")
    assert done.code == 0 and "unproven" in done.err
    found = done.json["rows"]
    assert len(found) == first["verdict"]["pairs"]
    assert sum(row["gain"] > 0 for row in found) == first["verdict"]["wins"]
    assert all(row["content"]["id"] == row["row"] for row in found)
    again = gate(problem, "open", first["run"])  # what is open need not be asked for again
    assert again.code == 0 and "RELEASED" in again.out and found[0]["row"] in again.out
    assert call("show", first["run"], "--gate", "--json", cwd=problem.parent).json["opened"] is True

    second = ran(problem, "--seed", 5)
    assert second["status"] == "unproven" and first["run"] in second["gate"]["barred"]
    told = call("show", second["run"], "--gate", cwd=problem.parent).out
    assert "Barred: the gate's rows were opened" in told
    status = gate(problem, "status", "quiz")
    assert "opened for reading" in status.out and status.out.splitlines()[-1] == "Next: truegain gate new quiz"
    estimate = call("estimate", "quiz", cwd=problem.parent)
    assert "opened for reading" in estimate.out


def test_rows_that_changed_cannot_open_a_gate(problem: Path) -> None:
    first = ran(problem)
    write(problem, [*rows(159), {"id": "r159", "text": "another"}])
    done = gate(problem, "open", first["run"], "--yes")
    assert done.code == 2 and "not the rows" in done.err
    assert not opened(Path(first["folder"]))


def test_a_run_from_python_is_opened_with_its_data(tmp_path: Path) -> None:
    def measure(candidate: Any, row: Any) -> float:
        return float(random.Random(row["id"]).random() < 0.85 - 0.6 * abs(candidate["x"] - 0.7))

    data = rows(160)
    result = optimize(
        measure,
        space={"x": Float(0, 1, default=0.1)},
        data=data,
        objectives=[Objective("s", "maximize", low=0, high=1)],
        model=None,
        budget=400,
        deterministic=True,
        runs=tmp_path / "runs",
        name="quiz",
        folder=tmp_path,
    )
    done = call("gate", "open", result.run, "--yes", cwd=tmp_path)
    assert done.code == 2 and "--data FILE" in done.err and "agent.opening" in done.err
    write(tmp_path, data)
    done = call("gate", "open", result.run, "--yes", "--data", "rows.jsonl", cwd=tmp_path)
    assert done.code == 0 and "CONTENT" in done.out and opened(result.folder)


# gate status and gate new.


def test_status_follows_the_account_and_writes_nothing(problem: Path) -> None:
    before = gate(problem, "status", "quiz", "--json").json
    assert (before["account"]["tests"], before["units"], before["exams"], before["usable"]) == (0, 80, [], True)
    assert not (problem.parent / "runs").exists()
    first = ran(problem)
    file = problem.parent / "runs" / "accounts.sqlite"
    bytes_before = file.read_bytes()
    after = gate(problem, "status", "quiz", "--json").json
    assert after["account"]["tests"] == 1 and after["account"]["next"] < before["account"]["next"]
    assert after["account"]["next"] == pytest.approx(first["gate"]["alpha"]["next"])
    assert after["smallest"] > before["smallest"] > 0
    (exam,) = after["exams"]
    assert (exam["run"], exam["accepted"], exam["planned"]) == (first["run"], True, first["verdict"]["planned"])
    assert file.read_bytes() == bytes_before
    reopened(Path(first["folder"])).rename(problem.parent / "x")
    text = gate(problem, "status", "quiz").out
    assert "80 train, 80 val and 0 test rows" in text and "Gains under" in text and first["run"] in text


def test_status_of_an_open_run_does_not_tell_the_size_of_its_exam(problem: Path) -> None:
    first = ran(problem)
    run = Path(first["folder"])
    cut = reopened(run)
    run.rename(problem.parent / "elsewhere")
    cut.rename(run)
    (exam,) = gate(problem, "status", "quiz", "--json").json["exams"]
    assert exam["planned"] is None and exam["accepted"] is True


def test_a_new_gate_retires_the_old_rows_and_takes_only_unseen_ones(problem: Path) -> None:
    ran(problem)
    few = gate(problem, "new", "quiz", "--json")
    assert few.code == 2 and "--yes" in few.json["error"]["hint"]  # nothing happened
    assert "fewer than 80 rows are left" in few.err
    write(problem, rows(260))
    done = gate(problem, "new", "quiz", "--yes", "--json").json
    assert (done["retired"], done["enough"], done["warning"]) == (80, True, "")
    assert done["rows"] == {"train": 210, "val": 50, "test": 0}
    accounts = Accounts(problem.parent / "runs")
    assert accounts.new_gate([]) == 0
    status = gate(problem, "status", "quiz", "--json").json
    assert status["rows"] == done["rows"] and status["account"]["tests"] == 0 and status["usable"]
    result = ran(problem, "--seed", 2)
    fixed = next(e.event for e in read_all(Path(result["folder"])) if e.event.type == "holdout.fixed")
    assert all(int(row[1:]) >= 160 for row, _ in fixed.val)  # type: ignore[attr-defined]


def test_a_gate_that_cannot_be_renewed_is_retired_only_with_a_warning(problem: Path) -> None:
    ran(problem)
    done = gate(problem, "new", "quiz", "--yes")
    assert done.code == 0 and "Warning: fewer than 80 rows" in done.err and "80 rows retired" in done.out
    status = gate(problem, "status", "quiz")
    assert "Nothing can be proven" in status.out and "add examples" in status.out.splitlines()[-1]


def test_problems_without_rows_have_no_account(tmp_path: Path) -> None:
    folder(tmp_path / "bowl")
    status = call("gate", "status", "bowl", cwd=tmp_path)
    assert status.code == 0 and "exact" in status.out
    new = call("gate", "new", "bowl", "--yes", cwd=tmp_path)
    assert new.code == 2 and "[data]" in new.err
    assert call("run", "bowl", cwd=tmp_path).code == 0
    shown = call("show", "last", "--gate", cwd=tmp_path)
    assert shown.code == 0 and "exact comparisons" in shown.out and "Level" not in shown.out
    done = call("gate", "open", only_run(tmp_path / "runs"), "--yes", cwd=tmp_path)
    assert done.code == 0 and "no exam was held" in done.out


# estimate.


def test_estimate_says_what_could_be_proven(problem: Path) -> None:
    done = call("estimate", "quiz", "--evaluations", 800, cwd=problem.parent)
    assert "80 train, 80 val, 0 test rows" in done.out
    assert "Proof: gains under" in done.out and "with 48 gate examples (there are 80" in done.out
    assert "each takes about 5 to 40 rows" in done.out and "held back from the start" in done.out
    rich = call("estimate", "quiz", "--evaluations", 4000, "--json", cwd=problem.parent).json
    assert rich["proof"].endswith("with 80 gate examples")
    assert rich["data"] == {"train": 80, "val": 80, "test": 0}
    search = rich["evaluations"]["search"]
    assert rich["candidates"] == [search // 40, search // 5]
    assert not (problem.parent / "runs").exists()


def test_estimate_knows_what_earlier_runs_used_up(problem: Path) -> None:
    fresh = call("estimate", "quiz", "--evaluations", 4000, "--json", cwd=problem.parent).json["proof"]
    ran(problem)
    later = call("estimate", "quiz", "--evaluations", 4000, "--json", cwd=problem.parent).json["proof"]
    assert fresh != later


def test_estimate_measures_the_noise(problem: Path) -> None:
    (module,) = problem.glob("quiz_*.py")
    module.write_text(
        "import random\ndef measure(candidate, row, seed):\n    return float(random.Random(seed).random() < 0.5)\n"
    )
    wrong = call("estimate", "quiz", "--measure", cwd=problem.parent)
    assert "declared deterministic, but" in wrong.out
    toml = (problem / "problem.toml").read_text()
    (problem / "problem.toml").write_text(toml.replace("deterministic = true", "deterministic = false"))
    unmeasured = call("estimate", "quiz", "--json", cwd=problem.parent).json
    assert "repeats differ" not in unmeasured["proof"] and unmeasured["noise"] is None
    found = call("estimate", "quiz", "--measure", "--json", cwd=problem.parent).json
    assert found["noise"]["pairs"] == 10 and found["noise"]["discordance"] > 0
    assert f"repeats differ on {found['noise']['discordance']:.0%} of the rows" in found["proof"]


def test_too_few_examples_are_pooled_and_that_is_said_before_anything_is_spent(problem: Path) -> None:
    write(problem, rows(60))
    found = call("estimate", "quiz", "--json", cwd=problem.parent).json
    assert "nothing can be proven" in found["proof"] and "20 more" in found["proof"]
    assert found["evaluations"]["exam"] == 0


def test_estimate_without_rows(tmp_path: Path) -> None:
    folder(tmp_path / "bowl")
    exact = call("estimate", "bowl", "--json", cwd=tmp_path).json
    assert exact["proof"].startswith("comparisons are exact") and exact["data"] is None
    noisy = ("--set", "evaluator.deterministic=false", "--evaluations", 60)
    told = call("estimate", "bowl", *noisy, "--json", cwd=tmp_path).json["proof"]
    assert "standard deviations of one measurement" in told and "12 pairs" in told
    measured = call("estimate", "bowl", *noisy, "--measure", "--json", cwd=tmp_path).json
    assert measured["noise"]["sd"] == 0 and "repeats have a standard deviation of 0" in measured["proof"]


def test_estimate_tells_copies_and_clusters(problem: Path) -> None:
    plain = call("estimate", "quiz", "--json", cwd=problem.parent).json
    assert plain["notes"] == ["160 rows were read"]
    text = " ".join("ab"[i % 2] * (i + 1) for i in range(40))
    copies = [{"id": "copied-1", "text": text}, {"id": "copied-2", "text": text}]
    near = [{"id": "near", "text": f"{text} other"}]
    write(problem, [*rows(160), *copies, *near])
    found = call("estimate", "quiz", "--json", cwd=problem.parent).json["notes"]
    assert "1 rows copy another row under another id" in found
    assert "1 rows nearly repeat another row" in found
    assert any(note.startswith("the rows count as 161 independent examples") for note in found)


def test_an_exhausted_gate_is_told_before_anything_is_spent(problem: Path) -> None:
    write(problem, rows(81))
    first = call("run", "quiz", cwd=problem.parent)
    assert "exhausted" not in first.err.partition("initial candidate")[0]
    assert "Before the next run: the gate is exhausted" in first.out and f"gate new {problem}; until then" in first.out
    assert call("estimate", "quiz", cwd=problem.parent).out.splitlines()[-1] == "Next: truegain gate new quiz"
    second = call("run", "quiz", cwd=problem.parent)
    early = second.err.partition("ended (")[0].partition("kept #")[0]
    assert "  ! the gate is exhausted" in early
    assert "open a new gate with truegain gate new /" in early and "runs on these rows are unproven" in early


def test_rows_that_are_left_out_are_named_when_a_run_begins(problem: Path) -> None:
    with (problem / "rows.jsonl").open("a") as file:
        file.write("broken\n")
    done = call("run", "quiz", "--set", "data.skip_bad=true", cwd=problem.parent)
    assert done.code == 0 and "Note: Left out: 1 not JSON (rows.jsonl, line 161)." in done.err


def test_an_exhausted_gate_asks_for_as_many_rows_as_a_new_one_needs(problem: Path) -> None:
    write(problem, rows(81))
    ran(problem)
    (told,) = [line for line in gate(problem, "status", "quiz").out.splitlines() if "exhausted" in line]
    assert "add 80 examples to the data, or more" in told
    write(problem, rows(81 + 79))
    assert gate(problem, "new", "quiz", "--yes", "--json").json["rows"]["val"] == 0
    write(problem, rows(81 + 80))
    renewed = gate(problem, "new", "quiz", "--yes", "--json").json
    assert renewed["rows"]["val"] > 0 and renewed["enough"]


def test_the_initial_score_is_told_once_though_a_second_look_checks_determinism() -> None:
    trial = SimpleNamespace(count=60, values={"score": 0.5})
    history = UserList([trial])
    history.trials = [trial]  # type: ignore[attr-defined]
    problem = SimpleNamespace(objective=Objective("score"))
    state: Any = SimpleNamespace(arena=None, history=history, problem=problem, baseline=60)
    event: Any = SimpleNamespace(purpose="search")
    words = Words()
    told = [words._baseline(event, state)[0] for _ in range(3)]
    assert told == ["initial candidate: score 0.5", "", ""]
