"""Evaluators of programs: a candidate maps inputs to outputs in the sandbox, and the scorer judges them outside it."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from agent.code import trees
from agent.code.holes import plain
from agent.code.untrusted import cleaned
from agent.errors import PrerequisiteError
from agent.evaluation import Output, Purpose, Request, Score, Suspicious, measurement
from agent.evaluators import code_failures
from agent.evaluators.code_runner import Runner
from agent.evaluators.code_task import CONFIRM, PUBLIC, SMOKE, TRAIN, Measured, Task
from agent.evaluators.loading import parse_target
from agent.evaluators.source import callable_digest, module_digest
from agent.evaluators.timing import Timing, times
from agent.executors.measure import failure_of
from agent.parameters import Value
from agent.space import Candidate, digest

if TYPE_CHECKING:
    from agent.sandbox.types import Job, Result

REMEMBERED = 256
"""Candidates whose smoke inputs need not be tried again in this process."""
FEEDBACK = 600


class CodeEvaluator:
    """Runs a candidate's program on a task's inputs and has the task judge what comes out.

    The task lives in the scorer's process. The program runs in the sandbox, gets inputs, returns outputs, and never
    sees seeds, expected answers or scores. Each stage begins a new process. The seed of the request decides the
    inputs; with the purpose "gate" or "report" the stage is "confirm", whose inputs nobody is told. A request of the
    stage "smoke" measures nothing: its value is {"behaviour": hash of what the program answers to the smoke inputs}.

    Args:
        target: "module:Class" of the task, see `Task`; or the class, which is then judged in this process.
        folder: The problem's.
        names: The objectives and constraints that a measurement must hold.
        programs: The code parameters by name: `path` of a program of one file (None for a tree), `entry`, and `beside`:
            paths of files of the folder that lie unchanged beside it.
        sandbox: `caps` (see `Caps`), `imports`, `env`, and what else the isolation takes; `kind` for another one.
        timing: See `Timing`.
        exclusive: Whether nothing else of ours may compute while it measures.
        initial: The initial candidate's values, where it is measured beside each candidate.
        repeat: Run every program twice, and take no score of one that answers differently the second time; for problems
            that are declared deterministic. Where the request names the champion, only one that beats it; before
            a claim as often as the request says.
    """

    blocking = True
    keeps_limits = False

    def __init__(
        self,
        target: str | type,
        *,
        folder: Path | str | None,
        names: Sequence[str],
        programs: Mapping[str, Mapping[str, Any]],
        sandbox: Mapping[str, Any] | None = None,
        timing: Mapping[str, Any] | None = None,
        exclusive: bool = False,
        initial: Mapping[str, Any] | None = None,
        repeat: bool = False,
    ) -> None:
        self._target = parse_target(target) if isinstance(target, str) else target
        self._folder = Path(folder).resolve() if folder is not None else None
        self.names = tuple(names)
        self.programs = {name: dict(item) for name, item in programs.items()}
        self.sandbox = dict(sandbox or {})
        self.timing = Timing(**(timing or {}))
        self.exclusive = exclusive or self.timing.cost == "seconds"
        self.initial = dict(initial) if initial is not None and self.timing.against == "initial" else None
        self.repeat = repeat
        self._task: Task | None = None
        self._passed: OrderedDict[str, None] = OrderedDict()

    @cached_property
    def spec(self) -> Mapping[str, Any] | None:
        """Plain data to rebuild it from; None for a class that another process cannot import."""
        if isinstance(self._target, type):
            return None
        return {
            "kind": "code",
            "target": ":".join(self._target),
            "folder": None if self._folder is None else str(self._folder),
            "names": list(self.names),
            "programs": self.programs,
            "sandbox": self.sandbox,
            "timing": self.timing.to_json(),
            "exclusive": self.exclusive,
            "initial": self.initial,
            "repeat": self.repeat,
        }

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the task's source, and of the limits and libraries that a program gets."""
        # Whether it may run is no part of what is measured: a resume may have to ask for --unsafe.
        sandbox = {name: value for name, value in self.sandbox.items() if name != "unsafe"}
        kept = [sandbox, self.timing.to_json(), self.programs, self.initial]
        beside = {path: hashlib.sha256(text).hexdigest() for path, text in self._beside_files.items()}
        if isinstance(self._target, type):
            return digest([callable_digest(self._target()), kept, beside])
        return digest([module_digest(*self._target, self._folder), kept, *([beside] if beside else [])])

    @cached_property
    def _beside_files(self) -> dict[str, bytes]:
        """What lies beside the program as it is in the problem's folder."""
        paths = [path for item in self.programs.values() for path in item.get("beside", ())]
        return {path: (Path(self._folder or "") / path).read_bytes() for path in paths}

    def stage_for(self, purpose: Purpose) -> str:
        """The stage whose inputs a request of this purpose gets."""
        return TRAIN if purpose == "search" else CONFIRM

    def takes(self, name: str) -> bool:
        """Whether it hears of what a parameter of this name would be: a share of the effort means nothing to it."""
        return False

    @cached_property
    def runner(self) -> Runner:
        options = {name: value for name, value in self.sandbox.items() if name not in ("kind", "caps", "env")}
        return Runner(self.sandbox.get("kind"), {**options, "workers": 1})

    @cached_property
    def strictest(self) -> Runner:
        """With every layer that works here, whatever the problem asks for: what is claimed or suspected is run here."""
        if self.sandbox.get("kind") is not None or self.sandbox.get("layers") is None:
            return self.runner
        options = {name: value for name, value in self.sandbox.items() if name not in ("layers", "caps", "env")}
        return Runner(None, {**options, "workers": 1})

    def load(self) -> Task:
        """Import the task and start the sandbox, once.

        Raises:
            ConfigError: The task is not one.
            PrerequisiteError: The sandbox or the counter of instructions cannot work here.
        """
        if self._task is None:
            task = Task(self._target, self._folder, self.names)
            self._look_for_imports()
            self.runner.open()
            self.timing.prepare(self.runner, self.job({}, [], []))
            self._task = task
        return self._task

    def _look_for_imports(self) -> None:
        if self.sandbox.get("kind") is not None:
            return
        for name in self.sandbox.get("imports", ()):
            if importlib.util.find_spec(name.partition(".")[0]) is None:
                raise PrerequisiteError(
                    f"there is no module {name} here, which programs are to have",
                    fix=f"pip install {name.partition('.')[0]}, or correct [evaluator.sandbox] imports",
                )

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the sandbox's layers that are on; () until it is loaded."""
        return tuple(self.runner.layers) if self._task is not None else ()

    def guard(self) -> dict[str, Any]:
        """The sandbox's layers here; where they are too weak what they do not stop, and that it was asked for.

        {} for another kind of isolation, which knows its layers once it has started.

        Raises:
            ConfigError: There is no such layer.
            PrerequisiteError: A layer does not work here, or they are too weak and nobody asked for `unsafe`.
        """
        if self.sandbox.get("kind") is not None:
            return {}
        from agent.sandbox.layers import chosen, require, unstopped

        on = chosen(self.sandbox.get("layers"))
        weak = require(on)
        if weak is not None and not self.sandbox.get("unsafe"):
            raise weak
        return {"layers": list(on), **({"unsafe": True, "not_stopped": unstopped(on)} if weak is not None else {})}

    async def produce(self, request: Request, partial: Callable[[Any], None]) -> Output:
        """The output's value is `{"values": {name: number}, "feedback": words}`; its layers are the sandbox's."""
        output = self._produced(request)
        strict = request.stage == CONFIRM and self._task is not None
        return replace(output, layers=tuple(self.strictest.layers) if strict else self.layers)

    def _produced(self, request: Request) -> Output:
        stage = request.stage if request.stage in (SMOKE, CONFIRM) else TRAIN
        try:
            task = self.load()
            files, entry = self.assembled(request.candidate, task, stage)
        except ValueError as error:
            return Output.failed("invalid", cleaned(str(error), code_failures.MESSAGE))
        except (Exception, SystemExit) as error:
            return Output(failure=failure_of(error))
        if stage == SMOKE:
            return self._behaviour(task, files, entry)
        if stage == TRAIN and request.candidate.id not in self._passed:
            smoke = self._stage(task, files, entry, request, SMOKE)
            if smoke is not None and smoke.failure is not None:
                return smoke
            self._passed[request.candidate.id] = None
            while len(self._passed) > REMEMBERED:
                self._passed.popitem(last=False)
        found = self._stage(task, files, entry, request, stage)
        assert found is not None, "only the smoke stage may be empty"
        return found

    def score(self, output: Output) -> Score:
        """The measurement that `produce` kept."""
        value = measurement(output.value, self.names)
        return Score(value["values"], value["feedback"])

    def _behaviour(self, task: Task, files: Mapping[str, bytes], entry: str | list[str]) -> Output:
        """What a program answers to the smoke inputs, as a hash; "" where there are none."""
        try:
            inputs = [task.question(given) for given in task.inputs(0, SMOKE, None)]
            result = self.runner.run(self.job(files, entry, inputs)) if inputs else None
        except (Exception, SystemExit) as error:
            return Output(failure=failure_of(error))
        if result is None:
            return Output(value={"behaviour": ""})
        if result.status != "ok":
            return code_failures.failed(result, SMOKE, inputs, task.public)
        return Output(value={"behaviour": answered(result.outputs)})

    def assembled(
        self, candidate: Mapping[str, Any], task: Task, stage: str
    ) -> tuple[dict[str, bytes], str | list[str]]:
        """The files of a candidate's program in a stage, and how it is entered.

        Raises:
            ValueError: Two parameters, or a parameter and the task, have a file of one path.
        """
        own: dict[str, str] = {}
        whose: dict[str, str] = {}
        values: dict[str, Value] = dict(candidate)
        entry: str | list[str] | None = None
        for name, item in self.programs.items():
            value = candidate[name]
            texts = {str(item["path"]): value} if isinstance(value, str) else dict(value)
            # What runs has the numbers of its holes in place of them.
            texts = {path: plain(text) if path.endswith(".py") else text for path, text in texts.items()}
            if clash := sorted(own.keys() & texts.keys()):
                raise ValueError(f"{', '.join(clash)} is in two parameters")
            own |= texts
            whose |= dict.fromkeys(texts, name)
            values[name] = texts[str(item["path"])] if isinstance(value, str) else texts
            if item.get("entry") and entry is None:
                module = "" if ":" in item["entry"] else ".".join(PurePosixPath(item["path"]).with_suffix("").parts)
                entry = f"{module}:{item['entry']}".removeprefix(":")
        fixed = task.fixed(candidate if values == dict(candidate) else Candidate(values), stage)
        if at := min(own.keys() & fixed.keys(), default=""):
            raise ValueError(f"{at} belongs to the evaluator: files() writes it, and parameter {whose[at]} is there")
        files = trees.assembled(own, {**self._beside_files, **fixed})
        if task.entry is not None:
            entry = task.entry if isinstance(task.entry, str) else list(task.entry)
        if entry is None:
            raise ValueError("nothing says where the program is entered: give the code parameter an entry")
        if not isinstance(entry, str):  # a program starts in a folder of its own, beside which its files are
            entry = [
                f"{{files}}/{word.removeprefix('./')}" if word.removeprefix("./") in files else word for word in entry
            ]
        return files, entry

    def job(self, files: Mapping[str, bytes], entry: str | list[str], inputs: Sequence[Any]) -> Job:
        """A job with the limits of this evaluator."""
        from agent.sandbox.types import Caps, Job

        return Job(
            files=files,
            entry=entry,
            inputs=list(inputs),
            caps=Caps(**self.sandbox.get("caps", {})),
            imports=tuple(self.sandbox.get("imports", ())),
            env=dict(self.sandbox.get("env", {})),
        )

    def _stage(
        self, task: Task, files: Mapping[str, bytes], entry: str | list[str], request: Request, stage: str
    ) -> Output | None:
        """The measurement of one stage, of smoke without a value; None where it has no inputs."""
        public = task.public and stage in PUBLIC
        try:
            inputs = task.inputs(0 if stage == SMOKE else request.seed, stage, request.row)
            if not inputs:
                return None
            asked = [task.question(given) for given in inputs]
            job = self.job(files, entry, asked)
            runner = self.strictest if stage == CONFIRM else self.runner
            result = runner.run(job)
            if result.status != "ok":
                return code_failures.failed(result, stage, asked, public)
            log = cleaned(result.log, code_failures.LOG_TAIL) if public else ""
            for number, (question, output) in enumerate(zip(asked, result.outputs, strict=True)):
                if wrong := task.reject(output):
                    return code_failures.rejected(stage, number, question, wrong, public, log)
            if stage == SMOKE:
                return Output(log=log)
            # A score that depends on time may be another one the next moment, so there the answers are compared first.
            later = request.rival is not None and not task.timed and self.timing.cost is None
            for _ in range(0 if later else max(1, request.claimed - 1)):
                self._answers_again(runner, job, result)
            self._steady(task, runner, job, inputs[0], result, request.seed)
            took = zip(times(result), result.usages, strict=True)
            first = [Measured(seconds, usage.cpu_seconds, usage.peak_mb) for seconds, usage in took]
            usages = self.timing.measure(runner, job, first, self._beside(task, stage, asked), result.outputs)
            found = self._judged(task, stage, inputs, result.outputs, usages, public, log, entry)
            if later and request.rival and found.value is not None and request.rival.beaten(found.value["values"]):
                self._answers_again(runner, job, result)
            return found
        except (Exception, SystemExit) as error:
            return Output(failure=code_failures.wrong(error, stage, public))

    def _beside(self, task: Task, stage: str, inputs: Sequence[Any]) -> Job | None:
        """The job of the initial program on the same inputs, where it is measured beside the candidate."""
        return self.job(*self.assembled(self.initial, task, stage), inputs) if self.initial is not None else None

    def _judged(
        self,
        task: Task,
        stage: str,
        inputs: Sequence[Any],
        outputs: Sequence[Any],
        usages: Sequence[Measured],
        public: bool,
        log: str,
        entry: str | list[str],
    ) -> Output:
        scores = []
        for number, (given, output, usage) in enumerate(zip(inputs, outputs, usages, strict=True)):
            try:
                scores.append(task.score(given, output, usage))
            except Suspicious:
                raise
            except Exception as error:
                wrong = f"score() raised {type(error).__name__}: {error}"
                return code_failures.rejected(stage, number, task.question(given), wrong, public, log)
        values = task.combined(scores)
        feedback = ""
        if public:
            words = dict.fromkeys(cleaned(item["feedback"], FEEDBACK) for item in scores if item["feedback"])
            took = f"{sum(usage.seconds for usage in usages):.3g} s for {len(inputs)} inputs"
            ended = [item["exit"] for item in outputs if isinstance(item, Mapping) and item.get("exit")]
            if ended and not isinstance(entry, str):
                words[f"exit code {ended[0]}: {log[-200:].strip()}"] = None
            feedback = "; ".join([*words])[:FEEDBACK] or took
        return Output(value={"values": values, "feedback": feedback}, log=log)

    def _answers_again(self, runner: Runner, job: Job, result: Result) -> None:
        """Where a program has to be deterministic, run it once more.

        Raises:
            ValueError: It answers differently.
        """
        if not self.repeat:
            return
        again = runner.run(job)
        if again.status != "ok" or answered(again.outputs) != answered(result.outputs):
            raise ValueError("it answers the same inputs differently each time, and the problem is deterministic")

    def _steady(self, task: Task, runner: Runner, job: Job, given: Any, result: Result, seed: int) -> None:
        """Ask the first question in other words.

        Raises:
            Suspicious: It has another answer.
        """
        if not task.has_variants:
            return
        output, variants = result.outputs[0], task.variants(given, seed)
        again = runner.run(replace(job, inputs=[task.question(variant) for variant in variants]))
        if again.status != "ok":
            raise Suspicious(f"it fails on the same question in other words: {again.status}", "variant")
        for variant, other in zip(variants, again.outputs, strict=True):
            if task.reject(other) or not task.agree(given, output, variant, other):
                raise Suspicious("the same question in other words has another answer", "variant")


def answered(outputs: Sequence[Any]) -> str:
    """A hash of what a program answered."""
    return digest(json.loads(json.dumps(outputs, default=_plain)))


def _plain(value: Any) -> Any:
    """An array of numpy's: type, shape and a hash of what is in it."""
    return [str(value.dtype), list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()]
