"""GEPA's adapters and evaluators as an evaluator of ours.

A `GEPAAdapter` is an object with `evaluate(batch, candidate, capture_traces)`, which gives `outputs`, `scores` and
`trajectories`, and `make_reflective_dataset(candidate, eval_batch, components)`. Only these names are used, so the
package `gepa` need not be there.
"""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import inspect
import json
import re
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from types import SimpleNamespace
from typing import Any

from agent.errors import ConfigError
from agent.evaluation import Output, Request, Score, measurement
from agent.evaluators.source import callable_digest
from agent.executors.measure import failure_of
from agent.space import digest

SCORE = "score"
"""What the number is called that an adapter gives of a row."""
ONLY = "candidate"
"""Name of the parameter where the candidate is one text."""


def identifiers(names: Iterable[str]) -> dict[str, str]:
    """Names of parameters for names of components, which may be any text: `answer.predict` is `answer_predict`."""
    out: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"\W", "_", name, flags=re.ASCII)
        base = free = plain if plain.isidentifier() else f"c_{plain}"
        number = 1
        while free in out.values():
            number += 1
            free = f"{base}_{number}"
        out[name] = free
    return out


def as_json(item: Any) -> Any:
    """A row as JSON, for proposers to read and for finding copies; an object that shows nothing of itself is None."""
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        item = {field.name: getattr(item, field.name) for field in dataclasses.fields(item)}
    elif hasattr(item, "toDict"):
        item = item.toDict()
    elif not isinstance(item, (Mapping, Sequence, str, int, float, bool, type(None))) and hasattr(item, "__dict__"):
        item = vars(item)
    text = json.dumps(item, ensure_ascii=False, default=_shown)
    return json.loads(text, parse_constant=lambda _: None)  # NaN and Infinity are no JSON


def _shown(value: Any) -> Any:
    text = repr(value)
    return type(value).__name__ if " at 0x" in text else text  # an address is another one in the next process


class AdapterEvaluator:
    """Measures a row with an adapter.

    Requests that are under way at once go to the adapter as one batch for each candidate, one batch at a time: an
    adapter may run a batch in parallel and need not be safe in several threads. Where a batch raises, each of its
    rows is tried by itself, so that a row costs itself and nothing else. Traces are always captured, so that a
    measurement is the same whoever it is for. The feedback is the adapter's reflective dataset of the row, as JSON.

    Args:
        adapter: With `evaluate` and `make_reflective_dataset`.
        components: Parameter by component.
        items: The adapter's rows by their ids; {None: item} where there is no data.

    Raises:
        ConfigError: The adapter lacks a method.
    """

    exclusive = False
    blocking = False
    keeps_limits = False
    spec = None

    def __init__(self, adapter: Any, components: Mapping[str, str], items: Mapping[str | None, Any]) -> None:
        for name in ("evaluate", "make_reflective_dataset"):
            if not callable(getattr(adapter, name, None)):
                raise ConfigError(f"adapter: {type(adapter).__name__} has no {name}()", hint="give a GEPAAdapter")
        self.adapter, self.components, self.items = adapter, dict(components), dict(items)
        self._waiting: list[tuple[Request, asyncio.Future[Output]]] = []
        self._drain: asyncio.Task[None] | None = None

    @cached_property
    def fingerprint(self) -> str:
        """Changes with the source of the adapter's methods."""
        parts = getattr(self.adapter, "sources", None)
        if parts is None:
            kind = type(self.adapter)
            parts = [kind.evaluate, kind.make_reflective_dataset]
        return digest([callable_digest(part) for part in parts])

    def texts(self, values: Mapping[str, Any]) -> dict[str, str]:
        """A candidate as GEPA has it."""
        return {component: str(values[name]) for component, name in self.components.items()}

    async def produce(self, request: Request, partial: Callable[[Any], None]) -> Output:
        """The row's score, and what the adapter tells of it."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Output] = loop.create_future()
        self._waiting.append((request, future))
        if self._drain is None or self._drain.done() or self._drain.get_loop() is not loop:
            self._drain = loop.create_task(self._run())
        return await future

    def score(self, output: Output) -> Score:
        """The numbers that `produce` kept."""
        value = measurement({name: output.value[name] for name in ("values", "feedback")}, (SCORE,))
        return Score(value["values"], value["feedback"])

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(0)  # whoever is about to ask gets into the same batch
            self._waiting = [pair for pair in self._waiting if not pair[1].done()]
            if not self._waiting:
                return
            first = self._waiting[0][0].candidate
            batch = [pair for pair in self._waiting if pair[0].candidate == first]
            self._waiting = [pair for pair in self._waiting if pair[0].candidate != first]
            for output, (_, future) in zip(await _in_thread(self._batch, [r for r, _ in batch]), batch, strict=True):
                if not future.done():
                    future.set_result(output)

    def _batch(self, requests: list[Request]) -> list[Output]:
        try:
            return self._measured(requests)
        except (Exception, SystemExit) as error:
            if len(requests) == 1:
                return [Output(failure=failure_of(error))]
        return [output for request in requests for output in self._batch([request])]

    def _measured(self, requests: list[Request]) -> list[Output]:
        texts = self.texts(requests[0].candidate)
        rows = [self.items[request.example] for request in requests]
        found = self.adapter.evaluate(rows, dict(texts), capture_traces=True)
        if not len(found.scores) == len(found.outputs) == len(rows):
            raise ValueError(
                f"evaluate() gave {len(found.scores)} scores and {len(found.outputs)} outputs of {len(rows)} rows"
            )
        return [self._output(texts, found, place) for place in range(len(rows))]

    def _output(self, texts: dict[str, str], found: Any, place: int) -> Output:
        values: dict[str, Any] = {SCORE: found.scores[place]}
        several = getattr(found, "objective_scores", None)
        if several:
            values = {**dict(several[place] or {}), **values}
        log, records = "", {}
        try:
            records = self.adapter.make_reflective_dataset(dict(texts), _one(found, place), list(texts))
            records = {name: list(items) for name, items in records.items()}
        except Exception as error:  # the score stands
            log = f"make_reflective_dataset: {failure_of(error).message}"
        try:
            value = measurement({"values": values, "feedback": ""}, (SCORE,))
        except ValueError as error:
            return Output.failed("invalid", str(error))
        value["feedback"] = json.dumps(as_json(records), ensure_ascii=False) if any(records.values()) else ""
        made = found.outputs[place]
        if isinstance(made, str):
            value["text"] = made
        return Output(value=value, log=log)


def _one(found: Any, place: int) -> Any:
    """The batch as if it had been of one row."""
    out = copy.copy(found)
    given = {}
    for name in ("outputs", "scores", "trajectories", "objective_scores"):
        items = getattr(found, name, None)
        given[name] = [items[place]] if items else items
    if dataclasses.is_dataclass(out) and not isinstance(out, type):
        return dataclasses.replace(out, **{k: v for k, v in given.items() if hasattr(out, k)})
    for name, value in given.items():
        setattr(out, name, value)
    return out


async def _in_thread(work: Callable[[Any], Any], argument: Any) -> Any:
    """Run it in a thread that nobody waits for at the end: one that hangs keeps nothing open."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def tell(result: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def target() -> None:
        result, error = None, None
        try:
            result = work(argument)
        except BaseException as raised:
            error = raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, result, error)

    threading.Thread(target=target, name="truegain-adapter", daemon=True).start()
    return await future


class AnythingAdapter:
    """An evaluator of `optimize_anything` as an adapter.

    It is called as `evaluator(candidate, example=row)`, without `example` where there is no data set or it does not
    take it, and returns a score or `(score, side information)`. What it says with `oa.log` is side information too.

    Args:
        evaluator: Of one row; or None.
        batch: Of several: `batch_evaluator([(candidate, example), …])` gives a list of the same; or None. It goes
            before `evaluator`.
        text: Whether the candidate is one text instead of a mapping.
        rows: Whether there is a data set.

    Raises:
        ConfigError: Neither of the two was given, or one wants to know earlier evaluations.
    """

    def __init__(self, evaluator: Any, batch: Any, *, text: bool, rows: bool) -> None:
        function = batch if batch is not None else evaluator
        if not callable(function):
            raise ConfigError(
                "optimize_anything: no evaluator is given", hint="give a function as evaluator= or batch_evaluator="
            )
        self._one, self._many, self.text = evaluator, batch, text
        self.sources = [function]
        try:
            parameters = inspect.signature(function).parameters
        except (ValueError, TypeError):
            parameters = {}  # type: ignore[assignment]
        state = parameters.get("opt_state", parameters.get("opt_states"))
        if state is not None and state.default is state.empty:
            raise ConfigError(
                f"the evaluator wants {state.name}, the best of its earlier evaluations",
                hint="a measurement that depends on earlier ones proves nothing; give it a default",
            )
        anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        self._example = rows and (anything or not parameters or "example" in parameters)

    def evaluate(self, batch: list[Any], candidate: Mapping[str, str], capture_traces: bool = False) -> Any:
        """Score each row."""
        given: Any = candidate[ONLY] if self.text else dict(candidate)
        if self._many is not None:
            results = list(self._many([(given, row) for row in batch]))
        else:
            results = [self._called(given, row) for row in batch]
        pairs = [(item[0], item[-1]) if isinstance(item, tuple) else (item, {}) for item in results]
        infos = [dict(info or {}) for _, info in pairs]
        scores = [score for score, _ in pairs]
        objectives = [dict(info.get("scores") or {}) for info in infos]
        return SimpleNamespace(
            outputs=scores,
            scores=scores,
            trajectories=infos,
            objective_scores=objectives if any(objectives) else None,
        )

    def make_reflective_dataset(
        self, candidate: Mapping[str, str], eval_batch: Any, components_to_update: Sequence[str]
    ) -> dict[str, list[dict[str, Any]]]:
        """The side information, once: it is about the candidate as a whole."""
        return {components_to_update[0]: [info for info in eval_batch.trajectories if info]}

    def _called(self, given: Any, row: Any) -> Any:
        kept = {"example": row} if self._example else {}
        gepa = sys.modules.get("gepa.optimize_anything")  # an evaluator that logs has imported it
        if gepa is None:
            return self._one(given, **kept)
        context = gepa.LogContext()
        gepa.set_log_context(context)
        try:
            result = self._one(given, **kept)
        finally:
            said = context.drain()
            gepa.set_log_context(None)
        score, info = result if isinstance(result, tuple) else (result, None)
        return score, {**({"log": said} if said else {}), **dict(info or {})}
