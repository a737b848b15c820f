"""Runs on prompts: the task model is paid and recorded by the run, and every fault costs its own example alone."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agent import Budget, ConfigError, Demos, Prompt, Text, load_result, optimize
from agent.datasets.data import load
from agent.errors import ProviderError
from agent.events import CallEnded, CallStarted, EvaluationEnded, EvaluationStarted
from agent.journal import FILE, GATE, read, read_all
from agent.llm.types import ModelRequest
from agent.replay import replay
from agent.results.result import Result
from agent.results.resultfiles import differing
from agent.wall import visible
from tests.prompt_support import TEMPLATE, Task, answer, number, rows

SPACE = {"instruction": Text("Double it.")}
CAREFUL = "tests.prompt_support:Careful"


def run(runs: Path, task: Any = None, program: Any = TEMPLATE, **given: Any) -> Result:
    options = {"proposer": CAREFUL, "workers": 8, **given.pop("options", {})}
    given.setdefault("data", rows(150))
    given.setdefault("budget", 700)
    given.setdefault("metric", "exact_match")
    given.setdefault("space", SPACE)
    given.setdefault("model", {"task": task or Task()})
    return optimize(program, runs=runs, options=options, **given)


def of(result: Result, *kinds: type) -> list[Any]:
    return [entry.event for entry in read_all(result.folder) if isinstance(entry.event, kinds)]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Task]:
    """A run with train, val and test rows."""
    task = Task(pause=0.001)
    splits = {"train": rows(60), "val": rows(60, 200), "test": rows(30, 400)}
    return run(tmp_path_factory.mktemp("runs"), task, data=splits, budget=900, target="population"), task


def test_a_gain_is_found_and_proven(done: tuple[Result, Task]) -> None:
    result, _ = done
    assert result.status == "proven", result.sentence
    assert "carefully" in result.best["instruction"]
    assert result.problem.objective.name == "exact_match" and result.problem.objective.direction == "maximize"


def test_every_call_is_in_the_ledger_under_its_role_and_evaluation(done: tuple[Result, Task]) -> None:
    result, task = done
    calls = of(result, CallStarted)
    assert len(calls) == len(task.requests) == result.spent["calls"] == result.cost["task"]["calls"]
    evaluations = {event.id: event for event in of(result, EvaluationStarted)}
    assert {call.scope for call in calls} == {f"evaluation-{number}" for number in evaluations}
    assert set(result.cost) == {"task"}


def test_what_the_gate_asks_stays_behind_the_wall(done: tuple[Result, Task]) -> None:
    result, _ = done
    gate = {event.id for event in of(result, EvaluationStarted) if event.purpose == "gate"}
    assert gate
    searched = [entry.event for entry in read(result.folder)]
    assert not {f"evaluation-{number}" for number in gate} & {e.scope for e in searched if isinstance(e, CallStarted)}
    shown = [entry.event for entry in visible(result.folder)]
    assert all(event.purpose == "search" for event in shown if isinstance(event, (CallStarted, CallEnded)))
    with closing(sqlite3.connect(result.folder / FILE)) as db:
        text = "\n".join(body for (body,) in db.execute("SELECT body FROM events"))
    assert text.count("twice ") > 50
    assert "twice 210?" not in text
    with closing(sqlite3.connect(result.folder / GATE)) as db:
        assert "twice 210?" in "\n".join(body for (body,) in db.execute("SELECT body FROM events"))


@pytest.mark.parametrize("workers", [1, 64])
def test_it_replays_to_equal_events(done: tuple[Result, Task], workers: int) -> None:
    count, difference = asyncio.run(replay(done[0].folder, workers))
    assert difference is None and count > 500


def test_nothing_equal_is_paid_twice(done: tuple[Result, Task]) -> None:
    wanted = Counter((e.candidate, e.example, e.replicate, e.purpose) for e in of(done[0], EvaluationStarted))
    assert max(wanted.values()) == 1


def test_what_changed_row_by_row(done: tuple[Result, Task]) -> None:
    result, _ = done
    changes = result.changes()
    assert set(changes) == {"train", "test"}
    test = changes["test"]
    assert test.rows == 30 and not test.broken
    assert len(test.fixed) == sum(n % 3 != 0 for n in range(400, 430))
    assert all(change.before == 0 and change.after == 1 and change.output.isdigit() for change in test.fixed)
    assert changes["train"].fixed and not changes["train"].broken


def test_a_run_that_is_open_tells_nothing_of_test_rows(done: tuple[Result, Task], tmp_path: Path) -> None:
    from agent.results.result import load_state

    folder = done[0].folder
    entries = [entry for entry in read_all(folder) if entry.event.type != "run.ended"]
    state = load_state(folder, entries)
    assert set(Result.of(state, folder).changes()) == {"train"}


def test_the_best_prompt_as_messages_and_a_line_that_loads_it(done: tuple[Result, Task]) -> None:
    result, _ = done
    (message,) = result.to_openai_messages()
    assert message == {"role": "user", "content": f"{result.best['instruction']}\n\nQuestion: {{question}}"}
    (filled,) = result.to_openai_messages({"question": "twice 4?", "answer": "8"})
    assert filled["content"].endswith("Question: twice 4?")
    place: dict[str, Any] = {"row": {"question": "twice 4?"}, "found": None}
    exec(result.line.replace("; ", "\nfound = "), place)
    assert place["found"] == [filled]
    assert load_result(str(result.folder)).to_openai_messages() == [message]
    assert result.line in (result.folder / "summary.md").read_text()
    assert (result.folder / "best" / "instruction.txt").read_text() == result.best["instruction"]


def test_what_changed_is_told_as_a_diff_and_by_rows(done: tuple[Result, Task]) -> None:
    from tests.cli_helpers import call

    result, _ = done
    best = result.best["instruction"]
    assert result.diff == f"--- instruction\n+++ instruction\n@@ -1 +1 @@\n-Double it.\n+{best}"
    assert result.diff in (result.folder / "summary.md").read_text()
    assert load_result(result.folder).diff == result.diff
    found = json.loads(json.dumps({split: changes.to_json() for split, changes in result.changes().items()}))
    assert (found["test"]["rows"], found["test"]["broken"]) == (30, [])
    one = found["test"]["fixed"][0]
    assert (one["before"], one["after"]) == (0, 1)
    shown = call("show", result.run, "--runs", result.folder.parent, cwd=result.folder)
    assert f"Rows of test, initial → best: {len(found['test']['fixed'])} fixed and 0 broken of 30" in shown.out
    assert result.changes()["test"].fixed[0].example in shown.out
    listed = call("show", result.run, "--runs", result.folder.parent, "--json", cwd=result.folder).json
    assert listed["row_changes"] == found


def test_only_what_differs_in_long_texts_is_shown() -> None:
    long = "Is the review positive or negative? Answer with one word."
    assert differing(long, f"{long} Think carefully.", 30) == (long, "… Think carefully.")
    assert differing(long, long.replace("one", "a single"), 30) == ("… one …", "… a single …")
    assert differing("Short.", f"Short. {long}", 30) == ("Short.", f"… {long}")
    assert differing(long, f"{long}  ", 30) == (long, f"{long}  ")


def test_a_fence_in_a_prompt_does_not_end_the_diff_of_the_summary(tmp_path: Path) -> None:
    result = run(tmp_path, space={"instruction": Text("Double it.\n```\n# proven\n```")}, budget=500)
    text = (result.folder / "summary.md").read_text()
    assert f"````diff\n{result.diff}\n````\n" in text and "-```" in result.diff


def test_the_prompt_whose_outputs_are_compared_has_messages_too(tmp_path: Path) -> None:
    from tests import preference_worlds as world

    asked = {"metric": "preference", "metric_options": {"requirements": world.REQUIREMENTS}}
    given = {"space": world.SPACE, "model": world.models(), "data": world.rows(30), "options": {"proposer": "spo"}}
    result = run(tmp_path, program=world.TEMPLATE, budget=60, **asked, **given)
    (message,) = result.to_openai_messages()
    assert message["content"] == f"{result.best['instruction']}\n\nTask: {{question}}"
    assert result.line.endswith(".to_openai_messages(row)")


class Refused:
    """A proposer whose every proposal is refused."""

    name = "refused"
    needs_model = False
    texts = True

    async def propose(self, context: Any, n: int) -> list[Any]:
        context.exhausted = context.decision > 3
        context.reject("the reply is not JSON", source="refused")
        return []

    def forecast(self, problem: Any, candidates: int, options: Any) -> tuple[int, int, int]:
        return 0, 0, 0


def test_a_run_in_which_no_candidate_was_made_says_so(tmp_path: Path) -> None:
    result = run(tmp_path, options={"proposer": "tests.test_prompt_runs:Refused"})
    assert result.status == "initial" and len(result.trials) == 1
    assert "no candidate was made: all 4 proposals were refused (last: the reply is not JSON)" in result.sentence


def test_a_gate_that_can_show_nothing_is_told_at_the_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = {"train": rows(30), "val": rows(20, 200)}
    result = run(tmp_path, data=data, budget=100)
    (warning,) = caplog.messages
    assert result.run in warning and "the gate is exhausted" in warning
    caplog.clear()
    run(tmp_path / "other", data={"train": rows(30), "val": rows(80, 200)}, budget=200)
    assert not caplog.messages


def test_a_result_without_a_prompt_has_no_messages(tmp_path: Path) -> None:
    result = run(tmp_path, program=lambda candidate, row: answered(candidate, row), budget=40, model=None)
    with pytest.raises(ConfigError, match="no messages"):
        result.to_openai_messages()


def answered(candidate: Any, row: Any) -> str:
    asked = int(row["question"].rsplit(" ", 1)[1][:-1])
    return str(2 * asked) if "carefully" in candidate["instruction"] or asked % 3 == 0 else "no"


async def with_steps(candidate: Any, row: Any, ask: Any) -> str:
    draft = await ask(f"{candidate['instruction']} Question: {row['question']}")
    return str(await ask([{"role": "system", "content": draft}, {"role": "user", "content": row["question"]}]))


def plain_steps(candidate: Any, row: Any, ask: Any) -> str:
    return str(ask(f"{candidate['instruction']} Question: {row['question']}", max_output_tokens=9))


async def forgets(candidate: Any, row: Any, ask: Any) -> Any:
    return ask(f"{candidate['instruction']} Question: {row['question']}")


async def asks_a_teacher(candidate: Any, row: Any, ask: Any) -> Any:
    return await ask(row["question"], role="teacher")


def gives_nothing(candidate: Any, row: Any) -> None:
    return None


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (forgets, "ask was not awaited"),
        (asks_a_teacher, "the roles are propose, task, judge"),
        (gives_nothing, "the program returned None: return the answer's text, or a score"),
    ],
)
def test_what_a_program_does_wrong_is_said_in_its_own_terms(tmp_path: Path, program: Any, words: str) -> None:
    result = run(tmp_path, program=program, budget=40, options={"executor": "inline"})
    assert words in result.sentence


def returns_scores(candidate: Any, row: Any) -> tuple[float, str]:
    return float(answered(candidate, row) == row["answer"]), "words"


@pytest.mark.parametrize(("program", "calls"), [(answered, 0), (with_steps, 2), (plain_steps, 1), (returns_scores, 0)])
def test_any_callable_is_a_task_program(tmp_path: Path, program: Any, calls: int) -> None:
    task = Task(lambda request: "carefully" if calls == 2 and not request.system else answer(request))
    result = run(tmp_path, task, program=program, budget=60, options={"executor": "inline"})
    ended = of(result, EvaluationEnded)
    assert ended and all(event.score is not None for event in ended), ended[0].output
    assert len(task.requests) == calls * len(ended) == result.spent["calls"]
    if program is not returns_scores:
        assert ended[0].output["value"]["text"]


def test_a_program_of_a_module_runs_in_workers_and_is_scored_there(tmp_path: Path) -> None:
    name = f"doubling_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(
        "def answer(candidate, row):\n    return '8' if '4' in row['question'] else 'no'\n"
    )
    data = [{"question": f"word{n * 7919} {n}?", "answer": "8" if n == 4 else "9"} for n in range(12)]
    target, options = f"{name}:answer", {"workers": 2}
    result = run(tmp_path, program=target, budget=40, model=None, data=data, folder=tmp_path, options=options)
    ended = of(result, EvaluationEnded)
    assert all(event.score for event in ended), ended[0].output
    assert {event.output["value"]["text"] for event in ended} == {"8", "no"}
    spec = result.problem.evaluator.spec
    assert spec is not None and (spec["kind"], spec["metric"]) == ("program", "exact_match")


def test_demos_and_instruction_are_searched_together(tmp_path: Path) -> None:
    pool = [{"question": f"twice {n}?", "answer": str(2 * n)} for n in range(4)]
    space = {**SPACE, "demos": Demos(pool, k=2, default=(0,))}
    prompt = Prompt("{question}", system="{instruction}", demos="demos")
    task = Task()
    result = run(tmp_path, task, program=prompt, space=space, budget=40)
    assert [message.role for message in task.requests[0].messages] == ["user", "assistant", "user"]
    assert [turn["role"] for turn in result.to_openai_messages()] == ["system", "user", "assistant", "user"]


# Faults.


def test_a_straggler_and_one_that_raises_cost_their_own_example(tmp_path: Path) -> None:
    from agent import Limits

    async def hang() -> None:
        await asyncio.Event().wait()

    class Faulty(Task):
        async def complete(self, request: ModelRequest, *, seed: int | None) -> Any:
            if number(request) == 5:
                await hang()
            if number(request) == 6:
                raise ProviderError("the server cannot read this", status=400)
            return await super().complete(request, seed=seed)

    result = run(
        tmp_path, Faulty(), data=rows(30), target="suite", budget=100, deterministic=True, limits=Limits(seconds=2.0)
    )
    ids = {event.id: event.example for event in of(result, EvaluationStarted)}
    failed = {ids[e.id]: e.output["failure"]["kind"] for e in of(result, EvaluationEnded) if e.score is None}
    by_row = {example.id: example.row["question"] for example in load(rows(30)).examples}
    assert {by_row[row].split()[-1]: kind for row, kind in failed.items()} == {"5?": "timeout", "6?": "error"}
    assert "carefully" in result.best["instruction"]
    assert result.trials[0].values is not None and 0 < result.trials[0].values["exact_match"] < 0.5


def test_bad_rows_of_a_file_cost_themselves_alone(tmp_path: Path) -> None:
    good = rows(40)
    lines = [json.dumps(row).encode() for row in good]
    huge = json.dumps({"question": "x " * 499_000 + "twice 1?", "answer": "2"}).encode()
    too_large = json.dumps({"question": "x" * 1_100_000, "answer": "2"}).encode()
    bad = [b"", b"{}", lines[3], b'{"question": "\xff\xfe", "answer": "2"}', huge, too_large]
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b"\n".join([*lines[:20], *bad, *lines[20:]]) + b"\n")
    data = load(file, skip_bad=True)
    assert len(data.examples) == 41 and data.report.repeated == 1
    task = Task()
    result = run(tmp_path / "runs", task, data=data, target="suite", deterministic=True, budget=130)
    failures = [e.output["failure"] for e in of(result, EvaluationEnded) if e.score is None]
    assert failures and {f["kind"] for f in failures} == {"invalid"}
    assert all("998," in failure["message"] and "max_chars" in failure["message"] for failure in failures)
    assert all(len(request.messages[0].text) < 1000 for request in task.requests)
    with pytest.raises(ConfigError, match="4 bad rows") as refused:
        run(tmp_path / "other", task, data=str(file))
    assert "data=agent.datasets.data.load(…, skip_bad=True)" in refused.value.hint
    with pytest.raises(ConfigError, match="4 bad rows") as refused:
        run(tmp_path / "other", task, data={"train": str(file)})
    assert "agent.datasets.data.load_splits(…, skip_bad=True)" in refused.value.hint


def test_a_key_that_is_refused_stops_the_run_which_then_goes_on(tmp_path: Path) -> None:
    refused = [True]

    def reply(request: ModelRequest) -> Any:
        if refused[0] and len(first.requests) > 50:
            return ProviderError("the key was refused", fatal=True, status=401)
        return answer(request)

    first = Task(reply)
    halted = run(tmp_path, first, budget=500)
    assert (halted.status, halted.reason, halted.exit_code) == ("open", "provider", 69)
    known = {event.id for event in of(halted, EvaluationEnded)}
    replied = sum(event.reply is not None for event in of(halted, CallEnded))
    assert 40 <= len(known) <= 60 and all(event.score is not None for event in of(halted, EvaluationEnded))
    second = Task()
    went_on = run(tmp_path, second, budget=500, resume=halted.folder)
    assert went_on.status == "proven"
    assert replied == len(known)
    assert len(second.requests) == len(of(went_on, EvaluationEnded)) - replied
    assert sum(event.reply is not None for event in of(went_on, CallEnded)) == len(second.requests) + replied
    assert asyncio.run(replay(went_on.folder, 8))[1] is None


LIFE = """
import asyncio, os, sys
from pathlib import Path
from agent import Text, optimize
from tests.prompt_support import Task, rows

class Logged(Task):
    async def complete(self, request, *, seed):
        descriptor = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, b"asked\\n")
        os.close(descriptor)
        return await super().complete(request, seed=seed)

async def steps(candidate, row, ask):
    draft = await ask(f"Think first. Question: {row['question']}")
    return await ask(f"{candidate['instruction']} {draft} Question: {row['question']}")

resume = {"resume": sys.argv[3]} if len(sys.argv) > 3 else {}
result = optimize(steps, name="steps", space={"instruction": Text("Double it.")}, data=rows(150), metric="exact_match",
                  model={"task": Logged(pause=0.01)}, budget=300, runs=sys.argv[1],
                  options={"proposer": "tests.prompt_support:Careful", "workers": 8}, **resume)
print(result.status)
"""


def test_a_killed_run_goes_on_and_pays_nothing_twice(tmp_path: Path) -> None:
    runs, log, lives = tmp_path / "runs", tmp_path / "asked.log", 0
    command = [sys.executable, "-c", LIFE, str(runs), str(log)]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}

    def asked() -> int:
        return len(log.read_text().splitlines()) if log.exists() else 0

    for goal in (60, 200):
        begun = asked()
        life = subprocess.Popen([*command, *(p.name for p in runs.glob("steps-*"))], env=env)
        until = time.monotonic() + 100
        while asked() < goal and life.poll() is None and time.monotonic() < until:
            time.sleep(0.005)
        assert goal <= asked() < 560 and asked() > begun
        life.send_signal(signal.SIGKILL)
        life.wait()
        lives += 1
    (folder,) = runs.glob("steps-*")
    subprocess.run([*command, folder.name], env=env, check=True, timeout=200)
    result = load_result(folder)
    assert result.spent["evaluations"] == 300
    lost = result.spent["possibly_spent"]["calls"]
    assert result.spent["calls"] == 600 and lost <= lives * 8
    # Every call that has its reply was made once; only those that were under way at a kill are made again.
    assert 600 <= asked() <= 600 + lost
    assert asyncio.run(replay(folder, 64))[1] is None


@pytest.mark.parametrize("limit", [{"calls": 400}, {"tokens": 48_000}, {"usd": 0.08}])
def test_limits_hold_and_leave_the_exam_its_share(tmp_path: Path, limit: dict[str, Any]) -> None:
    from agent.llm.types import Completion, Usage

    def reply(request: ModelRequest) -> Any:
        text = answer(request)
        return Completion(text, usage=Usage(input=100, output=20))

    chosen = optimize_with_prices(tmp_path, Task(reply), limit)
    assert chosen.reason == next(iter(limit)), chosen.detail
    spent = {"calls": chosen.spent["calls"], "tokens": sum(chosen.spent["tokens"][k] for k in ("input", "output"))}
    spent["usd"] = chosen.spent["usd"]
    kind, most = next(iter(limit.items()))
    assert 0.4 * most < spent[kind] <= most
    assert chosen.status == "proven" and of(chosen, EvaluationEnded)[-1].purpose == "gate"
    assert asyncio.run(replay(chosen.folder, 8))[1] is None


def optimize_with_prices(runs: Path, task: Task, limit: dict[str, Any]) -> Result:
    from dataclasses import replace

    from agent.api import in_thread, make_session
    from agent.folders import new_run

    session = make_session(
        Prompt(TEMPLATE, max_output_tokens=32),
        space=SPACE,
        data=rows(120),
        metric="exact_match",
        model={"task": task},
        budget=Budget(evaluations=2000, **limit),
        options={"proposer": CAREFUL, "workers": 8},
    )
    name = session.settings.models["task"]
    session.problem = replace(session.problem, prices={name: {"input": 1.0, "output": 5.0}})
    return in_thread(session.run(new_run(runs, "limits")))


# What is refused before anything is spent.


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"model": None}, "role task"),
        ({"metric": None}, "needs a metric"),
        ({"metric": "exact_mach"}, "exact_match"),
        ({"options": {"executor": "subprocess"}}, "in this process"),
        ({"model": {"task": 3}}, "model: task"),
        ({"data": ()}, "data is empty"),
        ({"data": []}, "data is empty"),
        ({"data": [], "program": lambda candidate, row: "x"}, "data is empty"),
        ({"program": "{instrution} {question}"}, r"has \{instrution\}: did you mean \{instruction\}"),
        ({"metric_options": {"wrong": 1}}, "wrong"),
    ],
)
def test_what_cannot_work_is_refused_and_nothing_is_left(tmp_path: Path, given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        run(tmp_path / "runs", **given)
    assert not list((tmp_path / "runs").glob("*/journal.sqlite"))


def test_one_name_of_a_model_is_for_every_role() -> None:
    from agent.api import make_session

    session = make_session(TEMPLATE, space=SPACE, data=rows(3), metric="exact_match", model="openai:some")
    assert session.settings.models == {"propose": "openai:some", "task": "openai:some"}
    assert make_session(lambda c: 1.0, space=SPACE, model="openai:some").settings.models == {"propose": "openai:some"}
