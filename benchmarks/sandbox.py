"""What the sandbox costs, and whether it holds: start-up beside plain processes, and a crowd that leaves nothing.

    python benchmarks/sandbox.py [--rounds 5] [--repeats 40] [--crowd 1000]

Writes results/sandbox-start.csv and results/sandbox-crowd.csv. Every way starts an evaluation that needs
numpy and hands one input over; the time is taken until the code is loaded and could take it (`start`)
and until its output is there and nothing of it is left (`whole`). Rounds are interleaved, so that a busy
moment hits all ways alike.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import csv
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

from agent.sandbox.attacks import ATTACKS
from agent.sandbox.drill import Scene
from agent.sandbox.pool import Sandbox
from agent.sandbox.types import Caps, Job

RESULTS = Path(__file__).with_name("results")
SOURCE = "import numpy\n\ndef solve(x):\n    return int(numpy.arange(x).sum())\n"
JOB = Job({"candidate.py": SOURCE.encode()}, "candidate:solve", [9], Caps(seconds=120))
SCRIPT = SOURCE + "\nprint('ready', flush=True)\nprint(solve(int(input())))\n"
Times = tuple[float, float]


async def sandboxed(sandbox: Sandbox) -> Times:
    started = time.perf_counter()
    result = await sandbox.run(JOB)
    whole = time.perf_counter() - started
    assert result.outputs == (36,) and result.start_seconds is not None, result
    return result.start_seconds, whole


async def plain() -> Times:
    """A subprocess with no protection at all."""
    started = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-c", SCRIPT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None
    await process.stdout.readline()
    start = time.perf_counter() - started
    out, _ = await process.communicate(b"9\n")
    assert out == b"36\n"
    return start, time.perf_counter() - started


async def forked() -> Times:
    """A fork of this process, which has numpy loaded, with no protection at all."""
    import numpy  # noqa: F401

    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        scope: dict[str, object] = {}
        exec(SOURCE, scope)
        os.write(write, b".")
        solve = scope["solve"]
        os.write(write, str(solve(9)).encode())  # type: ignore[operator]
        os._exit(0)
    os.close(write)
    seen = loop.create_future()
    loop.add_reader(read, lambda: seen.done() or seen.set_result(None))
    await seen
    loop.remove_reader(read)
    os.read(read, 1)
    start = time.perf_counter() - started
    await loop.run_in_executor(None, os.waitpid, pid, 0)
    out = os.read(read, 10)
    os.close(read)
    assert out == b"36", out
    return start, time.perf_counter() - started


async def starts(rounds: int, repeats: int) -> None:
    sandbox = Sandbox(imports=("numpy",), workers=4)
    bare = Sandbox(imports=("numpy",), workers=4, layers=["process"], unsafe=True)
    async with sandbox, bare:
        ways: dict[str, Callable[[], Awaitable[Times]]] = {
            "sandbox": lambda: sandboxed(sandbox),
            "zygote alone": lambda: sandboxed(bare),
            "plain fork": forked,
            "plain subprocess": plain,
        }
        found: dict[tuple[str, int], list[list[Times]]] = {}
        for number in range(rounds + 1):
            for name, way in ways.items():
                for at_once in (1, 4):
                    count = max(1, repeats // (4 if name == "plain subprocess" else 1))
                    batches = [await asyncio.gather(*(way() for _ in range(at_once))) for _ in range(count)]
                    if number:  # the first round warms up
                        found.setdefault((name, at_once), []).append([times for batch in batches for times in batch])
        layers = sandbox.layers
    print(f"layers: {', '.join(layers)}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    with open(RESULTS / "sandbox-start.csv", "w", newline="") as file:
        table = csv.writer(file)
        head = ["way", "at_once", "median_start_ms", "lowest_round_ms", "highest_round_ms", "median_whole_ms", "n"]
        table.writerow(head)
        print("".join(word.rjust(18) for word in head))
        for (name, at_once), per_round in found.items():
            medians = [1e3 * statistics.median(start for start, _ in times) for times in per_round]
            everything = [times for batch in per_round for times in batch]
            row = [
                name,
                at_once,
                f"{1e3 * statistics.median(start for start, _ in everything):.1f}",
                f"{min(medians):.1f}",
                f"{max(medians):.1f}",
                f"{1e3 * statistics.median(whole for _, whole in everything):.1f}",
                len(everything),
            ]
            table.writerow(row)
            print("".join(str(word).rjust(18) for word in row))


def state(folder: Path | None) -> dict[str, float]:
    """What a crowd could leave behind, on the whole machine where it cannot be told whose it is."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    memory = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines}
    ours = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            ours += bool(folder) and str(folder).encode() in Path("/proc", name, "cmdline").read_bytes()
    return {
        "processes": ours,
        "files": sum(len(files) for _, _, files in os.walk(folder)) - 1 if folder and folder.exists() else 0,
        "segments": len(Path("/proc/sysvipc/shm").read_text().splitlines()) - 1,
        "shmem_mb": memory["Shmem"],
        "own_mb": int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20,
        "descriptors": len(os.listdir("/dev/fd")),
    }


async def crowd(size: int) -> None:
    """Honest and hostile candidates in turn, four at a time."""
    counts: Counter[str] = Counter()
    wrong = 0
    started = time.perf_counter()
    with Scene() as scene:
        told = scene.told() | {"forks": 40}
        empty = state(None)
        async with Sandbox(imports=("numpy",), workers=4) as sandbox:
            await asyncio.gather(*(sandbox.run(JOB) for _ in range(8)))
            queue = iter(range(size))
            before = state(sandbox.folder)

            async def one(number: int) -> None:
                nonlocal wrong
                if number % 2:
                    result = await sandbox.run(JOB)
                    wrong += result.outputs != (36,)
                    counts["honest: " + result.status] += 1
                    return
                attack = ATTACKS[number // 2 % len(ATTACKS)]
                caps = Caps(seconds=0.3 if attack.caps.seconds < 1 else 20, memory_mb=128, disk_mb=32)
                result = await sandbox.run(Job({"a.py": attack.source.encode()}, "a:solve", [told], caps))
                counts[f"{attack.name}: {result.status}"] += 1

            async def serve() -> None:
                for number in queue:
                    await one(number)

            await asyncio.gather(*(serve() for _ in range(4)))
            await asyncio.gather(*(sandbox.run(JOB) for _ in range(8)))
            after, folder = state(sandbox.folder), sandbox.folder
        harm = scene.harm()
        assert folder is not None
        gone = state(folder)
    seconds = time.perf_counter() - started
    rows = [(name, empty[name], before[name], after[name], gone[name]) for name in empty]
    with open(RESULTS / "sandbox-crowd.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["what", "without_sandbox", "before_crowd", "after_crowd", "sandbox_closed"])
        table.writerows([name, *(f"{value:.1f}" for value in values)] for name, *values in rows)
    for name, *values in rows:
        print(name.ljust(14), *(f"{value:10.1f}" for value in values))
    for name, count in sorted(counts.items()):
        print(f"{count:5} {name}")
    print(f"{size} candidates in {seconds:.0f} s; wrong honest scores: {wrong}; harm: {harm or 'none'}")
    assert not wrong and not harm and not gone["processes"] and not folder.exists()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--crowd", type=int, default=1000)
    options = parser.parse_args()
    if options.rounds:
        asyncio.run(starts(options.rounds, options.repeats))
    if options.crowd:
        asyncio.run(crowd(options.crowd))


if __name__ == "__main__":
    main()
