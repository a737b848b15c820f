"""The executor on a dask cluster: workers that die, clusters that do not fit, and what is left behind."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dask_support import PATIENCE, asked, begun, cluster, executor, held, pids, until
from executor_helpers import gone

from agent.errors import ConfigError, PrerequisiteError
from agent.evaluation import Limits, Output
from agent.evaluators.function import FunctionEvaluator
from agent.executors.dask import DaskExecutor
from agent.executors.dask_worker import SOURCES, sources
from agent.executors.select import executor_for
from tests.cli_helpers import environment

ROOT = str(Path(__file__).parents[2])
LONE = """
import asyncio
from distributed import Worker

async def main():
    async with Worker({address!r}, nthreads=1, resources={{"GPU": 1}}, dashboard_address="127.0.0.1:0") as worker:
        await worker.finished()

asyncio.run(main())
"""
"""A worker that nobody starts again."""
BARE = """
import asyncio
from importlib import metadata

def version(name, known=metadata.version):
    if name == "truegain":
        raise metadata.PackageNotFoundError(name)
    return known(name)

metadata.version = version
"""
"""What makes it one without the package."""


@pytest.fixture(scope="module")
def made() -> Iterator[Any]:
    with cluster(2, resources={"GPU": 1}) as found:
        yield found


async def test_a_killed_worker_loses_nothing_and_only_what_was_in_flight_is_repeated(
    made: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "agent")
    async with executor(held(tmp_path), made.scheduler_address) as there:
        first = await asyncio.gather(*(there.submit(asked(x)) for x in range(10)))
        held_up = [asyncio.ensure_future(there.submit(asked(x, wait=True))) for x in (100, 101)]
        await until(lambda: len(begun(tmp_path)) == 12, "both workers measure")
        processes = begun(tmp_path)
        os.kill(pids(made)[0], signal.SIGKILL)
        await until(lambda: len(begun(tmp_path)) == 13, "the lost one is begun again")
        (tmp_path / "go").touch()
        again = await asyncio.gather(*held_up)
        last = await asyncio.gather(*(there.submit(asked(x)) for x in range(200, 210)))
    outputs = [*first, *again, *last]
    assert [item.value["values"]["value"] for item in outputs] == [
        x**2 for x in (*range(10), 100, 101, *range(200, 210))
    ]
    assert sorted(item.attempts for item in again) == [1, 2]  # it is in the record, and nowhere else
    assert [item.to_json().get("attempts") for item in (*first, *last)] == [None] * 20
    assert len(begun(tmp_path)) == 23
    assert "was lost; its evaluation is begun again" in caplog.text
    assert gone(*processes)


async def test_an_evaluation_that_outlives_no_worker_is_lost_after_the_second(made: Any, tmp_path: Path) -> None:
    async with executor(held(tmp_path), made.scheduler_address) as there:
        running = asyncio.ensure_future(there.submit(asked(1, wait=True)))
        for times in (1, 2):
            await until(lambda times=times: len(begun(tmp_path)) == times, f"begun {times} times")
            place = next(iter(there._jobs.values())).begun
            await until(lambda times=times, place=place: len(place) == times, "its worker said so")
            (victim,) = (item.pid for item in made.workers.values() if item.worker_address == place[-1])
            os.kill(victim, signal.SIGKILL)
        output = await running
        assert output.failure is not None and output.failure.kind == "lost" and output.attempts >= 2
        assert "died in the middle" in output.failure.message
        assert (await there.submit(asked(3))).value["values"]["value"] == 9
        assert gone(*begun(tmp_path, 1))  # the third worker let go of it too


async def test_what_comes_twice_or_late_changes_nothing(made: Any, tmp_path: Path) -> None:
    async with executor(held(tmp_path), made.scheduler_address) as there:
        seen: list[Any] = []
        running = asyncio.ensure_future(there.submit(asked(7, wait=True), seen.append))
        await until(lambda: begun(tmp_path), "it is begun")
        await until(lambda: there._jobs and next(iter(there._jobs.values())).begun, "its worker said so")
        ((key, job),) = there._jobs.items()
        there._told((0.0, {"key": key, "partial": "1", "attempt": "of a worker that was given up"}))
        again = {"key": key, "begun": job.begun[0], "attempt": job.attempts[0]}
        for _ in range(3):
            there._told((0.0, again))  # the scheduler sends a message again
        assert len(job.begun) == 1 and not job.answer.done()
        (tmp_path / "go").touch()
        output = await running
        job.settle(Output(value="a second answer"))
        for message in ({"key": key, "begun": "tcp://x:1"}, {"key": key, "partial": "2"}, {"key": "unknown"}, {}):
            there._told((0.0, message))
            there._jobs[key] = job  # as in the moment between its answer and its end here
            there._told((0.0, message))
            del there._jobs[key]
        assert (
            len(job.begun) == 1 and job.answer.result().value == output.value and output.value["values"]["value"] == 49
        )
        assert (output.attempts, output.partials, seen) == (1, (), [])
        # The same request again is another measurement.
        assert (await there.submit(asked(7))).value == output.value
    assert len(begun(tmp_path)) == 2


async def test_hopeless_work_is_killed_on_its_worker(made: Any, tmp_path: Path) -> None:
    async with executor(held(tmp_path), made.scheduler_address, slots=2) as there:
        running = [asyncio.ensure_future(there.submit(asked(x, wait=True))) for x in (1, 2)]
        await until(lambda: len(begun(tmp_path)) == 2, "both are begun")
        processes = begun(tmp_path)
        for task in running:
            task.cancel()
        await asyncio.wait(running)
        assert (await there.submit(asked(4))).value["values"]["value"] == 16  # the slots are free again
        assert gone(*processes)


async def test_what_exits_hard_or_takes_too_long_costs_no_worker(made: Any, tmp_path: Path) -> None:
    source = """
import os, time
def measure(candidate):
    if candidate["x"] == 1:
        os.abort()
    while candidate["x"] == 2:
        time.sleep(0.05)
    print("heard")
    return candidate["x"]
"""
    before = set(pids(made))
    async with executor(held(tmp_path, source), made.scheduler_address) as there:
        crashed, hung, well = [await there.submit(asked(x, Limits(seconds=2.0))) for x in (1, 2, 3)]
    assert crashed.failure is not None and crashed.failure.kind == "lost" and crashed.attempts == 1
    assert hung.failure is not None and hung.failure.kind == "timeout"
    assert (well.value["values"]["value"], well.log.strip()) == (3, "heard")
    assert set(pids(made)) == before


async def test_nothing_is_left_on_the_workers(made: Any, tmp_path: Path) -> None:
    async with executor(held(tmp_path), made.scheduler_address) as there:
        await asyncio.gather(*(there.submit(asked(x)) for x in range(4)))
        processes = begun(tmp_path)
        assert processes and not gone(*processes, within=0.1)  # they are warm
    assert gone(*processes)


async def test_what_is_asked_together_goes_to_dask_together(made: Any, tmp_path: Path) -> None:
    async with executor(held(tmp_path), made.scheduler_address) as there:
        await there.ready()
        graphs: list[int] = []
        real = there._client.map

        def counted(function: Any, messages: list[str], **more: Any) -> Any:
            graphs.append(len(messages))
            return real(function, messages, **more)

        there._client.map = counted
        outputs = await asyncio.gather(*(there.submit(asked(x)) for x in range(4)))
        assert [item.value["values"]["value"] for item in outputs] == [0, 1, 4, 9]
        assert graphs == [4]
        both = [asyncio.ensure_future(there.submit(asked(x))) for x in (5, 6)]
        while len(there._outbox) < 2:
            await asyncio.sleep(0)
        there._drop(there._outbox[0][1])  # given up before anything of it was sent
        both[0].cancel()
        assert (await both[1]).value["values"]["value"] == 36
        assert graphs == [4, 1] and not there._jobs and not there._outbox
        await there._client.close()
        with pytest.raises(PrerequisiteError, match="went away"):
            await there.submit(asked(7))


async def test_resources_are_asked_of_the_workers(made: Any, tmp_path: Path) -> None:
    address = made.scheduler_address
    async with executor(held(tmp_path), address, resources={"GPU": 1}) as there:
        assert (await there.submit(asked(3))).value["values"]["value"] == 9
    async with executor(held(tmp_path), address, resources={"GPU": 1, "FPGA": 2}) as there:
        with pytest.raises(PrerequisiteError, match="none of the 2 workers offers GPU=1 FPGA=2") as error:
            await there.submit(asked(3))
    assert "--resources" in error.value.fix


@pytest.mark.parametrize("what", ["versions", "package", "source", "folder"])
async def test_a_worker_that_does_not_fit_must_not_measure(made: Any, tmp_path: Path, what: str) -> None:
    evaluator = held(tmp_path)
    async with executor(evaluator, made.scheduler_address) as there:
        await there.ready()
        if what == "versions":
            there._common["versions"] = {**there._common["versions"], "truegain": "0.0.1"}
        elif what == "package":
            there._common["versions"] = {**there._common["versions"], SOURCES: "of another checkout"}
        elif what == "source":
            (tmp_path / "evaluate.py").write_text("def measure(candidate): return 0.0")
        else:
            (tmp_path / "evaluate.py").unlink()
        with pytest.raises(PrerequisiteError) as error:
            await there.submit(asked(3))
    expected = {
        "versions": ("on this worker and 0.0.1 here", "install truegain==0.0.1 on every worker"),
        "package": ("truegain's source on this worker is another one", "the same files on every worker"),
        "source": ("source on this worker is another one", "same path on every worker"),
        "folder": ("", "same path on every worker"),
    }
    message, fix = expected[what]
    assert message in error.value.message and "tcp://" in error.value.message
    assert fix in error.value.fix


def test_the_digest_of_a_package_is_that_of_its_python_files(tmp_path: Path) -> None:
    for name, text in (("one", "X = 1"), ("same", "X = 1"), ("other", "X = 2")):
        (tmp_path / name / "inner").mkdir(parents=True)
        (tmp_path / name / "inner" / "x.py").write_text(text)
    (tmp_path / "same" / "notes.txt").write_text("not imported")
    one, same, other = (sources(tmp_path / name) for name in ("one", "same", "other"))
    assert one == same != other
    (tmp_path / "same" / "y.py").touch()
    sources.cache_clear()
    assert sources(tmp_path / "same") != one


async def test_nobody_at_the_address(tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="the package distributed is not installed")
    for address in ("tcp://127.0.0.1:9", "what://127.0.0.1:9"):
        async with executor(held(tmp_path), address, connect_seconds=10 * PATIENCE) as there:
            with pytest.raises(PrerequisiteError, match="no dask scheduler at") as error:
                await there.submit(asked(3))  # without waiting for somebody
            assert "dask scheduler" in error.value.fix


async def test_somebody_who_does_not_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "agent")
    pytest.importorskip("distributed", reason="the package distributed is not installed")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        async with executor(held(tmp_path), address, connect_seconds=2.0) as there:
            with pytest.raises(PrerequisiteError, match="no dask scheduler at"):
                await there.submit(asked(3))
    assert caplog.text.count(f"connecting to {address} (2 s)") == 1


async def test_a_cluster_without_workers_is_told_after_a_while(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "agent")
    with cluster(0) as empty:
        async with executor(held(tmp_path), empty.scheduler_address, empty_seconds=0.5) as there:
            with pytest.raises(PrerequisiteError, match=r"no worker, for 0\.5 s") as error:
                await there.submit(asked(3))
        assert "dask worker tcp://" in error.value.fix
    assert caplog.text.count("the cluster has no worker; one is waited for, 0.5 s") == 1


async def test_workers_that_die_of_a_request_say_nothing_of_the_candidate(tmp_path: Path) -> None:
    from distributed import KilledWorker

    with cluster(1) as small:
        async with executor(held(tmp_path), small.scheduler_address) as there:
            await there.ready()
            real, given = there._client.map, []

            async def died() -> str:
                raise KilledWorker("key", None, 3)

            def dying(function: Any, messages: list[str], **more: Any) -> Any:
                given.extend(messages)
                return [asyncio.ensure_future(died()) for _ in messages]

            there._client.map = dying
            with pytest.raises(PrerequisiteError, match="died of a request, before they began it") as error:
                await there.submit(asked(3))
            assert "on every worker" in error.value.fix and len(given) == 2
            there._client.map = real
            assert (await there.submit(asked(4))).value["values"]["value"] == 16


async def test_a_worker_without_the_package_is_told_before_it_is_asked(tmp_path: Path) -> None:
    with cluster(0) as small:
        bare = LONE.format(address=small.scheduler_address).replace("import asyncio", BARE, 1)
        with subprocess.Popen([sys.executable, "-P", "-c", bare], env=environment()) as worker:
            try:
                await until(lambda: small.scheduler.workers, "the worker is there")
                async with executor(held(tmp_path), small.scheduler_address) as there:
                    with pytest.raises(PrerequisiteError, match="truegain is not installed on the worker tcp:"):
                        await there.submit(asked(3))
                assert worker.poll() is None and not begun(tmp_path)
            finally:
                worker.kill()


async def test_the_last_worker_that_fits_is_lost_for_good_in_the_middle(tmp_path: Path) -> None:
    with cluster(0) as small:
        process = LONE.format(address=small.scheduler_address)
        command = [sys.executable, "-P", "-c", process]
        with subprocess.Popen(command, env=environment(PYTHONPATH=ROOT)) as worker:
            try:
                more = {"empty_seconds": 0.5, "resources": {"GPU": 1}}
                await until(lambda: small.scheduler.workers, "the worker is there")
                async with executor(held(tmp_path), small.scheduler_address, **more) as there:
                    running = asyncio.ensure_future(there.submit(asked(1, wait=True)))
                    await until(lambda: there._jobs and next(iter(there._jobs.values())).begun, "it is begun")
                    worker.kill()
                    with pytest.raises(PrerequisiteError, match=r"no worker, for 0\.5 s"):
                        await running
            finally:
                worker.kill()


SCHEDULER = """
import sys, time
from distributed import LocalCluster
if __name__ == "__main__":
    made = LocalCluster(n_workers=1, threads_per_worker=1, silence_logs=50, dashboard_address="127.0.0.1:0")
    print(made.scheduler_address, *(item.pid for item in made.workers.values()), flush=True)
    time.sleep(600)
"""


async def test_a_scheduler_that_goes_away_is_an_error_and_no_output(tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="the package distributed is not installed")
    (tmp_path / "scheduler.py").write_text(SCHEDULER)
    evaluator = held(tmp_path)
    command = [sys.executable, "-P", tmp_path / "scheduler.py"]
    with subprocess.Popen(command, env=environment(PYTHONPATH=ROOT), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address, worker = (await asyncio.to_thread(process.stdout.readline)).split()
            async with executor(evaluator, address, connect_seconds=2.0) as there:
                running = asyncio.ensure_future(there.submit(asked(1, wait=True)))
                await until(lambda: begun(tmp_path) or running.done(), "it is begun")
                process.kill()
                with pytest.raises(PrerequisiteError, match=r"scheduler tcp://.* went away") as error:
                    await running
                with pytest.raises(PrerequisiteError):
                    await there.submit(asked(2))
        finally:
            process.kill()
    assert "truegain resume" in error.value.fix
    assert gone(int(worker), *begun(tmp_path))


def test_the_choice_and_what_cannot_be() -> None:
    def one(candidate: Any) -> float:
        return 1.0

    square = FunctionEvaluator("agent.testing:square", names=["value"])
    chosen = executor_for(square, workers=2, kind="dask", dask={"scheduler": "tcp://10.0.0.5:8786"})
    assert isinstance(chosen, DaskExecutor)
    for evaluator, options, words in (
        (FunctionEvaluator(one, names=["value"]), {"kind": "dask"}, "no import path"),
        (square, {"dask": {"scheduler": "tcp://x:1"}}, "options of the executor dask"),
        (square, {"kind": "dask", "dask": {"scheduler": "10.0.0.5"}}, "an address with its protocol"),
        (square, {"kind": "dask", "dask": {"workers": 2}}, "unknown key"),
        (square, {"kind": "dask", "dask": {"resources": {"GPU": 1}}}, "workers of a cluster"),
        (square, {"kind": "dask", "dask": {"scheduler": "tcp://x:1", "resources": {"GPU": 0}}}, "amounts above 0"),
    ):
        with pytest.raises(ConfigError, match=words) as error:
            executor_for(evaluator, workers=2, **options)  # type: ignore[arg-type]
        assert error.value.hint or "unknown" in error.value.message


def test_dask_is_imported_only_when_it_measures() -> None:
    script = (
        "import sys; from agent.executors.select import executor_for; "
        "from agent.evaluators.function import FunctionEvaluator as F; "
        "e = executor_for(F('agent.testing:square', names=['value']), workers=1, kind='dask'); "
        "assert not {'dask', 'distributed', 'tornado'} & set(sys.modules), 'loaded'"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], env=environment(PYTHONPATH=ROOT), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
