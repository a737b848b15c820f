"""What the tests of code evaluators share: a task, and an isolation that isolates nothing."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.evaluation import Output, Request
from agent.evaluators.code import CodeEvaluator
from agent.sandbox.types import Job, Result, Usage
from agent.space import Candidate

PLAIN = f"{__name__}:Plain"

DRIVER = """
import importlib, json, os, sys, time
folder, entry, channel = sys.argv[1], sys.argv[2], int(sys.argv[3])
sys.path.insert(0, folder)
given = json.load(sys.stdin)
module, _, name = entry.partition(":")
function = getattr(importlib.import_module(module), name)
with os.fdopen(channel, "w") as answers:
    for item in given:
        start = time.perf_counter()
        out = function(item)
        answers.write(json.dumps([out, time.perf_counter() - start]) + "\\n")
        answers.flush()
"""


class Plain:
    """Runs jobs in a plain subprocess: quick, everywhere, and no protection at all."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.layers: tuple[str, ...] = ()

    async def __aenter__(self) -> Plain:
        return self

    async def __aexit__(self, *_: Any) -> None:
        pass

    async def run(self, job: Job) -> Result:
        return await asyncio.to_thread(self._run, job)

    def _run(self, job: Job) -> Result:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for path, data in job.files.items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(data)
            if isinstance(job.entry, str):
                return self._function(job, folder)
            return self._command(job, folder)

    def _function(self, job: Job, folder: Path) -> Result:
        reading, writing = os.pipe()
        argv = [sys.executable, "-I", "-c", DRIVER, str(folder), str(job.entry), str(writing)]
        started = time.perf_counter()
        try:
            done = subprocess.run(
                argv,
                input=json.dumps(list(job.inputs)),
                capture_output=True,
                text=True,
                pass_fds=(writing,),
                cwd=folder,
                env={**os.environ, **job.env},
                timeout=job.caps.seconds * (len(job.inputs) + 1),
                check=False,
            )
        except subprocess.TimeoutExpired:
            os.close(reading)
            return Result("timeout", message="it took too long")
        finally:
            os.close(writing)
        with os.fdopen(reading) as stream:
            answers = [json.loads(line) for line in stream]
        log = done.stdout + done.stderr
        if len(answers) < len(job.inputs):
            lines = done.stderr.strip().splitlines() or ["it ended without an answer"]
            return Result("crash", message=lines[-1], detail="here", log=log, failed_input=len(answers))
        return Result(
            "ok",
            outputs=tuple(out for out, _ in answers),
            log=log,
            usage=Usage(time.perf_counter() - started),
            usages=tuple(Usage(seconds) for _, seconds in answers),
        )

    def _command(self, job: Job, folder: Path) -> Result:
        outputs, usages, log = [], [], ""
        for given in job.inputs:
            argv = [word.replace("{files}", str(folder)) for word in job.entry]
            text = given if isinstance(given, str) else json.dumps(given)
            started = time.perf_counter()
            done = subprocess.run(argv, input=text, capture_output=True, text=True, cwd=folder, check=False)
            usages.append(Usage(time.perf_counter() - started))
            outputs.append({"exit": done.returncode, "stdout": done.stdout})
            log += done.stderr
        return Result("ok", outputs=tuple(outputs), log=log, usages=tuple(usages))


def evaluator(folder: Path, target: str = "task:Task", **given: Any) -> CodeEvaluator:
    """An evaluator of one program, `program`, that defines `solve`."""
    values: dict[str, Any] = {
        "folder": folder,
        "names": ["score"],
        "programs": {"program": {"path": "program.py", "entry": "solve"}},
        "sandbox": {"kind": PLAIN, "caps": {"seconds": 20}},
    }
    return CodeEvaluator(target, **{**values, **given})


def produce(made: CodeEvaluator, program: str | Mapping[str, Any], **given: Any) -> Output:
    """What an evaluator makes of a program."""
    values = program if isinstance(program, Mapping) else {"program": program}
    return asyncio.run(made.produce(Request(Candidate(values), **given), lambda _: None))
