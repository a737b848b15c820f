"""One run of one arm in one world, and many of them, each stored as a row as soon as it is finished."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numeric_worlds as worlds
from numeric_worlds import World

from agent.errors import AgentError
from agent.events import CallEnded, EvaluationStarted, ProposalEnded
from agent.proposers.base import Context, Proposal, Proposer
from agent.proposers.table import TABLE, load
from agent.testing.proposers import Search

CHECKPOINTS = (5, 10, 15, 20, 30, 50, 65, 80, 100, 130, 160, 200)
"""Evaluations at which the regret of a run is stored."""
OPTUNA = "optuna-tpe"
"""The yardstick: Optuna's own TPE sampler, driven by Optuna."""


@dataclass(frozen=True)
class Job:
    """What makes a row.

    Args:
        suite: bbob, sklearn or hpobench.
        task: Of the suite.
        dim: Of a BBOB function, else 0.
        instance: Of the world; the run's seed is one less.
        arm: `name`, `label=name`, or with options `label=name?key=value&key=value`; or `optuna-tpe`.
        budget: Evaluations.
        model: "" for none; adversarial, oracle, shuffled, noise, or `provider:model`.
    """

    suite: str
    task: str
    dim: int
    instance: int
    arm: str
    budget: int
    model: str = ""

    @property
    def label(self) -> str:
        """Of the arm."""
        return spec(self.arm)[0]


KEYS = ("suite", "task", "dim", "instance", "arm", "budget", "model")
NUMBERS = (
    "evaluations",
    "proposals",
    "cpu_ms",
    "cpu_ms_p95",
    "wall_ms",
    "wall_ms_p95",
    "llm_share",
    "calls",
    "tokens_in",
    "tokens_out",
    "model_seconds",
    "rejected",
)
"""Columns of a run: proposals are calls of the proposer, their time is without the model's."""
COLUMNS = (*KEYS, *NUMBERS, *(f"at_{n}" for n in CHECKPOINTS), "sources", "end")


def spec(text: str) -> tuple[str, str, dict[str, Any]]:
    """Label, proposer and options of an arm. Values are read as JSON, else as words."""
    head, _, tail = text.partition("?")
    label, _, name = head.rpartition("=")
    options: dict[str, Any] = {}
    for item in tail.split("&") if tail else []:
        key, _, value = item.partition("=")
        try:
            options[key] = json.loads(value)
        except ValueError:
            options[key] = value
    if name == "portfolio" and name not in TABLE:
        name = "agent.proposers.portfolio:Portfolio"
    return (label or (head if not tail else text)), name, options


class Arm:
    """A proposer with a clock; `watch` is told of each decision before it is made."""

    needs_model = False

    def __init__(self, proposer: Proposer) -> None:
        self.name = proposer.name
        self._proposer = proposer
        self.watch: Callable[[Context], None] | None = None
        self.times: list[tuple[int, float, float]] = []
        """Candidates so far, seconds of the processor and of the clock; one entry for each call."""
        self.asked = 0.0
        """Seconds of the clock in which the model was at work."""
        self._asking = 0
        self._model = (0.0, 0.0)
        self.forecast = proposer.forecast

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        """What the proposer says."""
        if self.watch is not None:
            self.watch(context)
        known = len(context.history)
        if context.ask is not None:
            context.ask = self._timed(context.ask)
        self._model = (0.0, 0.0)
        cpu, wall = time.process_time(), time.perf_counter()
        out = await self._proposer.propose(context, n)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        self.times.append((known, cpu - self._model[0], wall - self._model[1]))
        self.asked += self._model[1]
        return out

    def _timed(self, ask: Any) -> Any:
        began = (0.0, 0.0)

        async def told(request: Any) -> Any:
            nonlocal began
            if not self._asking:  # requests that are made at once share their time
                began = time.process_time(), time.perf_counter()
            self._asking += 1
            try:
                return await ask(request)
            finally:
                self._asking -= 1
                if not self._asking:
                    cpu, wall = time.process_time() - began[0], time.perf_counter() - began[1]
                    self._model = self._model[0] + cpu, self._model[1] + wall

        return told


def run(job: Job, *, warmup: int = 0) -> dict[str, Any]:
    """One run, as a row of the results.

    Args:
        job: What to run.
        warmup: Candidates in the history before proposal times count.

    Raises:
        PrerequisiteError: A package is missing.
    """
    world = worlds.make(job.suite, job.task, job.dim, job.instance, failing=job.model == "adversarial")
    if spec(job.arm)[1] == OPTUNA:
        return _yardstick(job, world, warmup)
    return asyncio.run(_searched(job, world, warmup))


async def _searched(job: Job, world: World, warmup: int) -> dict[str, Any]:
    from numeric_models import open_model

    _, name, options = spec(job.arm)
    arm = Arm(load(name))
    starts = [start.values_json for start in world.starts]
    search = Search(
        arm,
        world.space,
        world.measure,
        budget=job.budget,
        seed=job.instance - 1,
        options=options,
        starts=starts,
    )
    async with open_model(job, search, world) as model:
        if model is not None:
            search.ask, arm.watch = model.ask, model.begin
        await search._run()
        given = 0 if model is None else model.given
    return _row(job, world, search, arm, warmup, given)


def curve(search: Search, world: World) -> list[float]:
    """The regret after each evaluation that the run paid for; infinite while nothing has a value."""
    out: list[float] = []
    best = float("inf")
    for event in search.events:
        if isinstance(event, EvaluationStarted):
            trial = search.state.history[event.candidate]
            if trial.values is not None:
                best = min(best, trial.values["value"])
            out.append((best - world.floor) / world.span)
    return out


def _yardstick(job: Job, world: World, warmup: int) -> dict[str, Any]:
    from numeric_optuna import searched

    regrets, times = searched(world, job.budget, job.instance - 1, spec(job.arm)[2])
    numbers = dict.fromkeys(NUMBERS, 0.0) | {"evaluations": len(regrets), "proposals": len(times)}
    return _told(job, numbers | _seconds(times, warmup), regrets, {OPTUNA: len(regrets)}, "evaluations")


def _seconds(times: Iterable[tuple[int, float, float]], warmup: int) -> dict[str, float]:
    """The columns about the time of proposing, of those that were asked for late enough."""
    late = [item for item in times if item[0] >= warmup]
    cpu, wall = sorted(item[1] for item in late), sorted(item[2] for item in late)
    return {
        "cpu_ms": 1e3 * quantile(cpu, 0.5),
        "cpu_ms_p95": 1e3 * quantile(cpu, 0.95),
        "wall_ms": 1e3 * quantile(wall, 0.5),
        "wall_ms_p95": 1e3 * quantile(wall, 0.95),
    }


def _row(job: Job, world: World, search: Search, arm: Arm, warmup: int, given: int) -> dict[str, Any]:
    """The row of a run whose model was not asked anew for `given` of its answers."""
    state = search.state
    regrets = curve(search, world)
    sources = Counter(trial.source for trial in state.history.trials if trial.state != "queued")
    asked = sum(count for source, count in sources.items() if by_model(source))
    calls = [event for event in search.events if isinstance(event, CallEnded)]
    usage = [(event.reply or {}).get("usage", {}) for event in calls]
    numbers = {
        "evaluations": len(regrets),
        "proposals": len(arm.times),
        **_seconds(arm.times, warmup),
        "llm_share": asked / max(1, sum(sources.values())),
        "calls": state.ledger.total.calls,
        "tokens_in": sum(item.get("input", 0) for item in usage),
        "tokens_out": sum(item.get("output", 0) for item in usage),
        "model_seconds": arm.asked * len(calls) / max(1, len(calls) - given),
        "rejected": sum(len(event.rejections) for event in search.events if isinstance(event, ProposalEnded)),
    }
    end = state.stop.reason if state.stop is not None else ""
    return _told(job, numbers, regrets, dict(sources.most_common()), end)


def by_model(source: str) -> bool:
    """Whether a model made the candidate, judging by where its proposal says that it comes from."""
    arm, _, how = source.partition(":")
    return how.startswith("llm") or (arm in ("llambo", "opro") and how not in ("fallback", "random"))


def _told(
    job: Job, numbers: Mapping[str, float], regrets: Sequence[float], sources: Mapping[str, int], end: str
) -> dict[str, Any]:
    """The row. A run that ended early keeps its best until the end."""
    row: dict[str, Any] = {name: getattr(job, name) for name in KEYS}
    row.update({name: float(f"{value:.4g}") for name, value in numbers.items()})
    for n in CHECKPOINTS:
        row[f"at_{n}"] = f"{regrets[min(n, len(regrets)) - 1]:.6g}" if n <= job.budget else ""
    row["sources"] = " ".join(f"{name.replace(' ', '-')}={count}" for name, count in sources.items())
    row["end"] = end
    return row


def quantile(ordered: Sequence[float], share: float) -> float:
    """Of sorted values, by nearest rank; 0 where there are none."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def of(row: Mapping[str, Any]) -> Job:
    """The job of a row."""
    return Job(
        row["suite"], row["task"], int(row["dim"]), int(row["instance"]), row["arm"], int(row["budget"]), row["model"]
    )


def stored(path: Path) -> dict[Job, dict[str, Any]]:
    """The finished runs of a file. A last line that was cut off is dropped, from the file too.

    Raises:
        ValueError: The file has other columns.
    """
    if not path.is_file():
        return {}
    text = path.read_text(encoding="utf-8")
    if not text.endswith("\n"):
        text = text[: text.rfind("\n") + 1]
        path.write_text(text, encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    if rows and tuple(rows[0]) != COLUMNS:
        raise ValueError(f"{path} has other columns: delete it, its runs are made again")
    return {of(row): row for row in rows}


def discard(path: Path, arms: Iterable[str]) -> None:
    """Drop the runs of some arms, by label or as they were written."""
    unwanted = set(arms)
    kept = [row for job, row in stored(path).items() if not {job.arm, job.label} & unwanted]
    if path.is_file():
        path.unlink()
    for row in kept:
        append(path, row)


def append(path: Path, row: Mapping[str, Any]) -> None:
    """Store one run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = not path.is_file() or not path.stat().st_size
    with path.open("a", newline="", encoding="utf-8") as file:
        out = csv.DictWriter(file, COLUMNS)
        if fresh:
            out.writeheader()
        out.writerow(row)
        file.flush()
        os.fsync(file.fileno())


def run_all(
    jobs: Sequence[Job], path: Path, *, processes: int = 1, minutes: float = float("inf"), warmup: int = 0
) -> tuple[dict[Job, dict[str, Any]], list[str]]:
    """Run what is missing, and store each run when it is finished.

    Args:
        jobs: Wanted.
        path: Of the results.
        processes: At once.
        minutes: After so many no further run is begun.
        warmup: As for `run`.

    Returns:
        The rows that there are now, and what failed or was left out, in words.
    """
    known = stored(path)
    missing = [job for job in dict.fromkeys(jobs) if job not in known]
    deadline = time.monotonic() + 60 * minutes
    words: list[str] = []
    began = time.monotonic()
    for number, (job, row, error) in enumerate(_each(missing, processes, deadline, warmup), 1):
        if row is None:
            words.append(f"{job.label} in {job.task} {job.dim or ''} {job.instance}: {error}")
            print(f"FAILED {words[-1]}", file=sys.stderr)
            continue
        append(path, row)
        known[job] = row
        print(
            f"[{number}/{len(missing)}, {time.monotonic() - began:.0f} s] {job.label} {job.model} {job.task} "
            f"{job.dim or ''} #{job.instance}: {row[f'at_{max(n for n in CHECKPOINTS if n <= job.budget)}']}",
            file=sys.stderr,
        )
    left = sum(job not in known for job in missing) - len(words)
    if left:
        words.append(f"{left} runs are left for the next call of this command")
    return {job: {name: str(value) for name, value in known[job].items()} for job in jobs if job in known}, words


Outcome = tuple[Job, dict[str, Any] | None, str]


def _each(jobs: Sequence[Job], processes: int, deadline: float, warmup: int) -> Iterable[Outcome]:
    if processes <= 1:
        for job in jobs:
            if time.monotonic() > deadline:
                return
            yield _outcome(job, warmup)
        return
    with ProcessPoolExecutor(processes) as pool:
        waiting = list(reversed(jobs))
        running = set()
        while running or (waiting and time.monotonic() < deadline):
            while waiting and len(running) < processes and time.monotonic() < deadline:
                running.add(pool.submit(_outcome, waiting.pop(), warmup))
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()


def _outcome(job: Job, warmup: int) -> Outcome:
    try:
        return job, run(job, warmup=warmup), ""
    except Exception as error:  # one arm that breaks does not keep the others from being measured
        if not isinstance(error, AgentError):
            traceback.print_exception(error)
        return job, None, " ".join(f"{type(error).__name__}: {error} {getattr(error, 'hint', '')}".split())
