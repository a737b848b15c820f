"""A DSPy program in another process as an evaluator: messages go out, scores, feedback and traces come back."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from agent.errors import ConfigError, PrerequisiteError
from agent.evaluation import Failure, Output, Request, Score, measurement
from agent.evaluators.dspy_state import KIND, LABEL, values
from agent.space import Space, digest

SCORE = "score"
PATIENCE = 300.0
"""Seconds for a program to load."""
GRACE = 5.0
"""Seconds for a worker to end by itself."""


class Lost(Exception):
    """The other side is gone."""


class Line:
    """One end of a line of messages: sends, and hands each answer to whoever asked.

    Args:
        read: Lines of the other side.
        write: Sends one line.
    """

    def __init__(self, read: Iterable[str], write: Callable[[str], None]) -> None:
        self._write, self._numbers, self._lock = write, itertools.count(1), threading.Lock()
        self._asked: dict[int, Callable[[dict[str, Any] | None], None]] = {}
        self.failure: dict[str, Any] = {}
        self.alive = True
        self.listening = threading.Thread(target=self._listen, args=(read,), name="truegain-dspy", daemon=True)
        self.listening.start()

    async def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a message.

        Raises:
            Lost: The other side ended before it answered.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[dict[str, Any] | None] = loop.create_future()

        def tell(answer: dict[str, Any] | None) -> None:
            def put() -> None:
                if not future.done():
                    future.set_result(answer)

            if not loop.is_closed():
                loop.call_soon_threadsafe(put)

        number = self._send(message, tell)
        try:
            answer = await future
        finally:
            self._asked.pop(number, None)
        if answer is None:
            raise Lost(self.failure.get("error") or "the DSPy process ended")
        return answer

    def ask_now(self, message: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """The same, waiting in this thread.

        Raises:
            Lost: The other side ended, or said nothing for so long.
        """
        box: list[dict[str, Any] | None] = []
        done = threading.Event()

        def tell(answer: dict[str, Any] | None) -> None:
            box.append(answer)
            done.set()

        number = self._send(message, tell)
        found = done.wait(seconds)
        self._asked.pop(number, None)
        if not found:
            raise Lost(f"the DSPy process said nothing for {seconds:g} s")
        if box[0] is None:
            raise Lost(self.failure.get("error") or "the DSPy process ended")
        return box[0]

    def _send(self, message: Mapping[str, Any], tell: Callable[[dict[str, Any] | None], None]) -> int:
        with self._lock:
            if not self.alive:
                raise Lost(self.failure.get("error") or "the DSPy process ended")
            number = next(self._numbers)
            self._asked[number] = tell
            try:
                self._write(json.dumps({**message, "id": number}, ensure_ascii=False))
            except (OSError, ValueError):
                self._asked.pop(number, None)
                raise Lost(self.failure.get("error") or "the DSPy process ended") from None
        return number

    def _listen(self, read: Iterable[str]) -> None:
        try:
            for text in read:
                message = json.loads(text)
                if message.get("id") is None:
                    self.failure = message
                elif (tell := self._asked.pop(message["id"], None)) is not None:
                    tell(message)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            self.failure = {"error": f"the DSPy process did not speak JSON lines: {error}"}
        with self._lock:
            self.alive = False
            left, self._asked = list(self._asked.values()), {}
        for tell in left:
            tell(None)


class Worker:
    """`dspy_worker.py` in the user's DSPy environment; started again when it has died.

    Args:
        command: That starts it.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.command = list(command)
        self._process: subprocess.Popen[str] | None = None
        self._line: Line | None = None

    def line(self) -> Line:
        """A line to a worker that lives.

        Raises:
            PrerequisiteError: The Python cannot be started.
        """
        if self._line is None or not self._line.alive:
            self.close()
            try:
                process = subprocess.Popen(
                    self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
                )
            except OSError as error:
                raise PrerequisiteError(
                    f"the DSPy environment cannot be started: {error}",
                    fix="give python= the path of a Python that has dspy",
                ) from None
            sink, source = process.stdin, process.stdout
            assert sink is not None and source is not None

            def write(text: str) -> None:
                sink.write(text + "\n")
                sink.flush()

            self._process, self._line = process, Line(source, write)
        return self._line

    def close(self) -> None:
        """End the process; what it still does is lost."""
        process, line, self._process, self._line = self._process, self._line, None, None
        if process is None or line is None:
            return
        try:
            if process.stdin is not None:
                process.stdin.close()
        except OSError:
            pass  # it is gone already
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        line.listening.join(GRACE)  # it reads to the end
        if process.stdout is not None and not line.listening.is_alive():
            process.stdout.close()


class DspyEvaluator:
    """Measures a row with a DSPy program that runs elsewhere.

    Args:
        line: Gives a `Line` to where it runs; None in one that was read from a journal, which measures nothing.
        space: Of the run.
        state: The program's, as `dump_state` gave it.
        predictors: By predictor the parameters of its "instructions" and "demos".
        inputs: Fields that the program gets.
        dspy: Version.
    """

    exclusive = False
    blocking = False
    keeps_limits = False

    def __init__(
        self,
        line: Callable[[], Line] | None = None,
        space: Space | None = None,
        *,
        state: Mapping[str, Any],
        predictors: Mapping[str, Mapping[str, str]],
        inputs: Sequence[str],
        dspy: str,
        program: str = "",
    ) -> None:
        self._line, self._space = line, space
        self.state, self.predictors, self.inputs = dict(state), dict(predictors), list(inputs)
        self.dspy, self.program = dspy, program

    @cached_property
    def spec(self) -> Mapping[str, Any]:
        """What `Result.to_dspy` makes a state of."""
        return {
            "kind": KIND,
            "state": self.state,
            "predictors": {name: dict(parts) for name, parts in self.predictors.items()},
            "inputs": self.inputs,
            "dspy": self.dspy,
            "program": self.program,
        }

    @cached_property
    def fingerprint(self) -> str:
        """Changes with the program's state and the version of DSPy; its source is on the other side."""
        return digest(dict(self.spec))

    async def produce(self, request: Request, partial: Callable[[Any], None]) -> Output:
        """The row's score and feedback; without feedback, what each predictor got and gave."""
        if self._line is None or self._space is None:
            raise ConfigError("a DSPy program cannot be measured from its journal alone", hint="start a run with it")
        row = {name: value for name, value in dict(request.row or {}).items() if name != LABEL}
        message = {
            "op": "evaluate",
            "values": values(request.candidate, self._space, self.predictors),
            "example": request.example,
            "row": row,
            "inputs": self.inputs,
        }
        try:
            found = await self._line().ask(message)
        except Lost as error:
            return Output.failed("lost", str(error))
        if "error" in found:
            return Output(failure=Failure("error", str(found["error"]), str(found.get("detail", ""))))
        try:
            value = measurement({"values": {SCORE: found.get("score")}, "feedback": _words(found)}, (SCORE,))
        except ValueError as error:
            return Output.failed("invalid", str(error))
        return Output(value={**value, "text": str(found.get("text", ""))})

    def score(self, output: Output) -> Score:
        """The number that `produce` kept."""
        value = measurement({name: output.value[name] for name in ("values", "feedback")}, (SCORE,))
        return Score(value["values"], value["feedback"])


def _words(found: Mapping[str, Any]) -> str:
    """The metric's feedback, and the steps of the program."""
    steps = [
        f"{step.get('predictor', '')}: {json.dumps(step.get('inputs'), ensure_ascii=False)} gave "
        f"{json.dumps(step.get('outputs'), ensure_ascii=False)}"
        for step in found.get("trace") or []
    ]
    return "\n".join([part for part in (str(found.get("feedback") or ""), *steps) if part])
