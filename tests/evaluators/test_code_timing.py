"""What a program costs: times measured in turn, and instructions."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.errors import ConfigError, PrerequisiteError
from agent.evaluation import Suspicious
from agent.evaluators import timing
from agent.evaluators.code_runner import Runner
from agent.evaluators.code_task import Measured
from agent.evaluators.timing import FINEST, Counter, Timing, counters
from agent.sandbox.types import Caps, Job, Result, Usage
from tests.evaluators.code_helpers import PLAIN, evaluator, produce

CANDIDATE, INITIAL = Job({}, "new:f", [1, 2]), Job({}, "old:f", [1, 2])


class Clock:
    """Runs nothing: says how long each job took, in the order in which they were asked for."""

    layers = ("process", "landlock", "seccomp")

    def __init__(self, answer: Callable[[Job, int], Result]) -> None:
        self.asked: list[Job] = []
        self._answer = answer

    def run(self, job: Job) -> Result:
        self.asked.append(job)
        return self._answer(job, len(self.asked))


def took(*seconds: float, outputs: Sequence[Any] = (1, 4)) -> Result:
    return Result("ok", outputs=tuple(outputs), usages=tuple(Usage(each) for each in seconds))


def test_the_candidate_and_the_initial_program_take_turns() -> None:
    clock = Clock(lambda job, n: took(n, 10 * n))
    made = Timing(cost="seconds", against="initial", repeats=3)
    found = made.measure(clock, CANDIDATE, [Measured(0.5), Measured(70.0)], INITIAL, [1, 4])  # type: ignore[arg-type]
    assert [job.entry for job in clock.asked] == ["old:f", "new:f", "old:f", "old:f", "new:f"]
    assert [(one.seconds, one.reference) for one in found] == [(0.5, 1.0), (20.0, 10.0)], "the shortest of each counts"


def test_work_done_while_it_is_loaded_counts_too(tmp_path: Path) -> None:
    """Else a table that is filled at the import would be free."""
    (tmp_path / "sleeping.py").write_text(
        "class Task:\n"
        "    def inputs(self, seed, stage): return [1, 2] if stage != 'smoke' else []\n"
        "    def score(self, given, output, usage): return usage.seconds\n"
    )
    one = evaluator(tmp_path, "sleeping:Task", sandbox={"caps": {"seconds": 60}})
    output = produce(one, "import time\ntime.sleep(0.4)\ndef solve(x): return x")
    assert output.failure is None and output.value["values"]["score"] >= 0.2


def test_a_slow_drift_meets_both_halves_alike() -> None:
    clock = Clock(lambda job, n: took(1 + n, 1 + n))
    made = Timing(cost="seconds", against="initial", repeats=4)
    made.measure(clock, CANDIDATE, [Measured(1.0)] * 2, INITIAL, [1, 4])  # type: ignore[arg-type]
    first = "new:f"  # the candidate's first run came before
    places = {
        who: [n for n, job in enumerate([first, *(j.entry for j in clock.asked)]) if job == who]
        for who in ("new:f", "old:f")
    }
    means = [sum(found) / len(found) for found in places.values()]
    assert len(places["new:f"]) == len(places["old:f"]) == 4 and abs(means[0] - means[1]) <= 0.5


def test_later_runs_must_answer_as_the_first_one_did() -> None:
    made = Timing(cost="seconds", repeats=2)
    with pytest.raises(ValueError, match="other outputs"):
        made.measure(Clock(lambda job, n: took(1, 1, outputs=(1, 5))), CANDIDATE, [Measured(1.0)] * 2, None, [1, 4])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the candidate failed when it was timed again: timeout"):
        made.measure(Clock(lambda job, n: Result("timeout")), CANDIDATE, [Measured(1.0)] * 2, None, [1, 4])  # type: ignore[arg-type]


def test_without_a_cost_nothing_is_run_again() -> None:
    clock = Clock(lambda job, n: took(1))
    assert Timing().measure(clock, CANDIDATE, [Measured(3.0)], None, [1]) == [Measured(3.0)]  # type: ignore[arg-type]
    assert not clock.asked


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"cost": "joules"}, "seconds or instructions"),
        ({"cost": "seconds", "repeats": 0}, "at least 1"),
        ({"against": "initial"}, "measures a cost"),
        ({"cost": "seconds", "against": "champion"}, "allowed is initial"),
    ],
)
def test_settings_that_mean_nothing_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Timing(**given)


# Instructions.

PERF = Counter("perf", ("perf",), timing.PERF)
VALGRIND = Counter("valgrind", ("valgrind",), timing.CALLGRIND)


def test_the_last_count_is_the_counters_own() -> None:
    assert VALGRIND.read("==1== Collected : 7\n==1== Events\n==9== Collected : 1234\n") == 1234
    assert VALGRIND.read("nothing") is None
    assert PERF.read("noise\n81234,,instructions:u,1,100.00,,\n") == 81234
    assert PERF.read("<not supported>,,instructions:u,0,100.00,,") is None


def counts(answers: dict[str, tuple[float, str]], job: Job, outputs: list[Any] | None) -> list[float]:
    def run(asked: Job, n: int) -> Result:
        count, said = answers["empty" if asked.entry[-1].startswith(timing.EMPTY) else "program"]
        return Result("ok", outputs=({"exit": 0, "stdout": said},), log=f"Collected : {count:.0f}\n")

    return VALGRIND.counts(Clock(run), job, outputs)  # type: ignore[arg-type]


def test_starting_an_interpreter_is_not_the_programs_cost() -> None:
    job = Job({"p.py": b""}, "p:f", [3], Caps(seconds=2))
    assert counts({"program": (9e6, "printed\n9\n"), "empty": (4e6, "3\n")}, job, [9]) == [5e6]
    assert counts({"program": (4e6, "9\n"), "empty": (4e6, "3\n")}, job, [9]) == [FINEST]
    with pytest.raises(ValueError, match="another output"):
        counts({"program": (5.0, "10\n"), "empty": (4.0, "3\n")}, job, [9])


def test_a_command_answers_under_the_counter_as_before() -> None:
    job = Job({"p.py": b""}, ["python", "{files}/p.py"], ["3"], Caps(seconds=2))
    said = {"program": (9e6, "9\n"), "empty": (0.0, "")}
    assert counts(said, job, [{"exit": 0, "stdout": "9\n"}]) == counts(said, job, None) == [9e6]
    assert counts({"program": (7, "9\n")}, job, None) == [FINEST], "finer than that nothing is told apart"
    with pytest.raises(ValueError, match="another output"):
        counts({"program": (9e6, "")}, job, [{"exit": 0, "stdout": "9\n"}])


@pytest.mark.parametrize(
    ("usage", "count", "trusted"),
    [
        (Measured(9.0, cpu_seconds=1.0), 1.1e7, True),  # it waited for memory, or slept
        (Measured(9.0, cpu_seconds=1.0), 8e6, False),
        (Measured(0.3, cpu_seconds=0.02), FINEST, True),  # so little is told apart by neither
        (Measured(0.4), FINEST, True),  # a command that took long to start
        (Measured(9.0), 1e6, False),
    ],
)
def test_far_too_few_instructions_for_the_time_are_suspicious(usage: Measured, count: float, trusted: bool) -> None:
    made = Timing(cost="instructions")
    made._counter = VALGRIND
    log = Result("ok", outputs=({"exit": 0, "stdout": ""},), log=f"Collected : {count:.0f}\n")
    job, outputs = Job({}, ["true"], [""]), [{"exit": 0, "stdout": ""}]
    if trusted:
        found = made.measure(Clock(lambda asked, n: log), job, [usage], None, outputs)  # type: ignore[arg-type]
        assert found[0].instructions == count
        return
    with pytest.raises(Suspicious, match="kept from the counter") as caught:
        made.measure(Clock(lambda asked, n: log), job, [usage], None, outputs)  # type: ignore[arg-type]
    assert caught.value.sign == "bound"


def test_where_nothing_counts_the_fix_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    counters.cache_clear()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    try:
        with pytest.raises(PrerequisiteError) as caught:
            counters()
        assert "apt-get install valgrind" in caught.value.fix and 'cost = "seconds"' in caught.value.fix
    finally:
        counters.cache_clear()


def test_a_counter_that_the_sandbox_keeps_out_makes_way_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "counters", lambda: (PERF, VALGRIND))

    def answer(job: Job, n: int) -> Result:
        log = "Collected : 7" if job.entry[0] == "valgrind" else "not permitted"
        return Result("ok", outputs=({"exit": 0, "stdout": ""},), log=log)

    made = Timing(cost="instructions")
    made.prepare(Clock(answer), CANDIDATE)  # type: ignore[arg-type]
    assert made._counter is VALGRIND
    monkeypatch.setattr(timing, "counters", lambda: (PERF,))
    with pytest.raises(PrerequisiteError, match="not permitted") as caught:
        Timing(cost="instructions").prepare(Clock(answer), CANDIDATE)  # type: ignore[arg-type]
    assert "apt-get install valgrind" in caught.value.fix


def test_outputs_are_the_same_when_their_arrays_bytes_are() -> None:
    one, wide = np.arange(6.0), np.zeros((1000, 1, 1000))
    assert timing._text([one.reshape(2, 3)]) == timing._text([np.asfortranarray(one.reshape(2, 3))])
    for other in (one.reshape(3, 2), one.astype("f4"), one + 1e-9):
        assert timing._text([one.reshape(2, 3)]) != timing._text([other])
    assert len(timing._text([wide])) < 200, "never element by element"


LEAVES = {  # each gives the right answer, and a count of its own making
    "exec": "os.execv(sys.executable, ['python', '-I', '-S', '-c', SAYS])",
    "fork": "os.fork() or os.execv(sys.executable, ['python', '-I', '-S', '-c', SAYS]); os._exit(0)",
    "spawn": "os.posix_spawn(sys.executable, ['python', '-I', '-S', '-c', SAYS], {}); os._exit(0)",
}


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
@pytest.mark.timeout(280)
@pytest.mark.parametrize("how", LEAVES)
def test_a_program_cannot_leave_what_counts_it(how: str) -> None:
    source = f"""
import os, sys
SAYS = "import sys, time; time.sleep(1); print(9, flush=True); sys.stderr.write('==1== Collected : 1')"
def solve(x):
    if "truegain_driver" in sys.argv[0]:
        {LEAVES[how]}
    return x * x
"""
    runner = Runner(None, {"workers": 1, "unsafe": True})
    try:
        job = Job({"p.py": source.encode()}, "p:solve", [3], Caps(seconds=60))
        assert runner.run(job).outputs == (9,)
        made = Timing(cost="instructions")
        made.prepare(runner, job)
        with pytest.raises(ValueError, match="while its instructions were counted"):
            made.measure(runner, job, [Measured(1.0)], None, [9])
    finally:
        runner.close()


def test_no_count_where_a_program_could_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(ValueError, match="cannot be counted on the processor riscv64"):
        counts({"program": (5.0, "9\n"), "empty": (4.0, "3\n")}, Job({"p.py": b""}, "p:f", [3]), [9])


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
@pytest.mark.timeout(280)
@pytest.mark.parametrize("how", [{"kind": PLAIN}, {}], ids=["plain", "sandbox"])
def test_instructions_of_a_real_program(tmp_path: Path, how: dict[str, str]) -> None:
    name = "counted_plain" if how else "counted"  # this process imports both
    (tmp_path / f"{name}.py").write_text(
        "class Task:\n"
        "    def inputs(self, seed, stage): return [300]\n"
        "    def score(self, given, output, usage): return usage.reference / usage.cost\n"
    )
    slow = "def solve(x):\n    total = 0\n    for i in range(x * 200):\n        total += i % 3\n    return x"
    made = evaluator(
        tmp_path,
        f"{name}:Task",
        timing={"cost": "instructions", "against": "initial"},
        initial={"program": slow},
        sandbox={"caps": {"seconds": 60}, "unsafe": True, **how},
    )
    first = produce(made, slow.replace("200", "100"))
    made.runner.close()
    assert first.failure is None, first
    assert first.value["values"]["score"] == pytest.approx(2.0, rel=0.1)
