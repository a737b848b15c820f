"""The door for users of GEPA: their adapters and evaluators, unchanged, in front of our search and gate.

    from agent.integrations.gepa import optimize          # was: from gepa import optimize

    result = optimize(seed_candidate={"instructions": "…"}, trainset=train, valset=val, adapter=MyAdapter(),
                      reflection_lm="openai/gpt-5-mini", max_metric_calls=2000)
    print(result.best_candidate, result.status, result.interval)

Signatures and fields follow gepa 0.1.4. The package `gepa` is not needed.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agent.api import optimize as run
from agent.errors import ConfigError
from agent.goals import Objective
from agent.integrations import gepa_arguments, gepa_proposer
from agent.integrations.gepa_adapter import ONLY, SCORE, AdapterEvaluator, AnythingAdapter, as_json, identifiers
from agent.integrations.gepa_gate import GateAcceptance
from agent.integrations.gepa_result import GEPAResult, told
from agent.ledger import Budget
from agent.llm.types import Completion, ModelRequest
from agent.texts import Text

__all__ = ["GEPAResult", "GateAcceptance", "optimize", "optimize_anything"]

METRIC_CALLS = 1000
"""Rows that are measured unless the user says otherwise."""


def optimize(
    seed_candidate: Mapping[str, str],
    trainset: Sequence[Any] | None,
    valset: Sequence[Any] | None = None,
    adapter: Any = None,
    *,
    testset: Sequence[Any] | None = None,
    reflection_lm: Any = None,
    custom_candidate_proposer: Callable[..., Mapping[str, str]] | None = None,
    candidate_selection_strategy: str = "pareto",
    reflection_minibatch_size: int | None = None,
    use_merge: bool = True,
    max_metric_calls: int | None = None,
    max_reflection_cost: float | None = None,
    run_dir: str | None = None,
    seed: int = 0,
    objective: str = "",
    score_range: tuple[float, float] | None = (0.0, 1.0),
    min_effect: float = 0.0,
    target: str = "population",
    proposer: str = "reflect",
    workers: int = 8,
    options: Mapping[str, Any] | None = None,
    **more: Any,
) -> GEPAResult:
    """Improve the texts of a system that a `GEPAAdapter` measures, and say whether the gain was shown.

    Args:
        seed_candidate: Texts by component.
        trainset: Rows that the search and the proposer see; None for an evaluator without rows.
        valset: Rows that the gate alone reads. Without it a part of `trainset` is held back; GEPA would choose by
            the rows that it learned from.
        adapter: With `evaluate` and `make_reflective_dataset`. Its `propose_new_texts`, where it has one, makes
            the candidates.
        testset: Rows that are opened once, after the end.
        reflection_lm: `provider/model` or `provider:model`, a function from prompt to text, or a model object; None
            for the embedded model. A function's prompt says what JSON it replies with; where there is one component,
            its text in one ``` block is taken too, as GEPA takes it.
        custom_candidate_proposer: Makes the candidates instead of a model, as in GEPA:
            `(candidate, reflective_dataset, components_to_update)` gives texts by component.
        candidate_selection_strategy: "pareto" or "current_best".
        reflection_minibatch_size: Rows that one prompt shows; 3 unless you say otherwise.
        use_merge: Whether candidates that are best on different rows are merged.
        max_metric_calls: Rows measured at most, by search and gate together. It holds exactly.
        max_reflection_cost: Dollars at most, of all models.
        run_dir: Folder where the run's folder is made.
        seed: Of the randomness.
        objective: What the texts are for, in words for the proposer.
        score_range: The lowest and the highest score of a row; scores beyond count as the bound. None where that
            is not known: then the gate claims how many rows got better, not by how much.
        min_effect: Gain that is too small to be worth having.
        target: "population": rows are a sample, and gains are shown on rows held back; "suite": they are the goal.
        proposer: Name of a proposer; the options above are those of "reflect".
        workers: Rows that are measured at once; they go to the adapter as one batch.
        options: Further fields of `Settings`, such as level.
        more: What `agent.optimize` takes besides: deterministic, resume, observers, constraints, limits, name …

    Raises:
        ConfigError: Something in the call is wrong; nothing was spent.
    """
    gepa_arguments.check(more, gepa_arguments.own(optimize), "GEPA")
    if not isinstance(seed_candidate, Mapping) or not seed_candidate:
        raise ConfigError(
            f"seed_candidate: found {seed_candidate!r}, allowed is a mapping of components to texts",
            hint="write the texts that you would begin with; they are what a gain is measured against",
        )
    if adapter is None:
        raise ConfigError(
            "adapter: a GEPAAdapter is needed", hint='for a prompt and a metric: agent.optimize("{…}", metric=…)'
        )
    components = identifiers(seed_candidate)
    items, data = _rows(trainset, valset, testset)
    propose = custom_candidate_proposer or getattr(adapter, "propose_new_texts", None)
    settings: dict[str, Any] = {"workers": workers, **(options or {})}
    registered = ""
    if propose is not None:
        rows = reflection_minibatch_size or gepa_proposer.ROWS
        registered = settings["proposer"] = gepa_proposer.register(propose, components, rows)
    else:
        settings["proposer"] = proposer
        settings["options"] = _options(proposer, candidate_selection_strategy, reflection_minibatch_size, use_merge)
    low, high = score_range if score_range is not None else (None, None)
    try:
        result = run(
            AdapterEvaluator(adapter, components, items),
            space={components[name]: Text(text) for name, text in seed_candidate.items()},
            data=data,
            target=target,
            objectives=Objective(SCORE, "maximize", low=low, high=high, min_effect=min_effect),
            model=None if propose is not None and reflection_lm is None else _model(reflection_lm),
            budget=Budget(
                evaluations=METRIC_CALLS if max_metric_calls is None else max_metric_calls, usd=max_reflection_cost
            ),
            seed=seed,
            options=settings,
            runs=run_dir,
            **{"description": objective, "name": "gepa", **more},
        )
    except ConfigError as error:
        raise gepa_arguments.affordable(error, more, suite=target == "suite", rows=bool(data)) from None
    finally:
        gepa_proposer.release(registered)
    return told(result, components, ONLY if getattr(adapter, "text", False) else None, seed)


def optimize_anything(
    seed_candidate: str | Mapping[str, str],
    *,
    evaluator: Callable[..., Any] | None = None,
    batch_evaluator: Callable[..., Any] | None = None,
    dataset: Sequence[Any] | None = None,
    valset: Sequence[Any] | None = None,
    objective: str | None = None,
    background: str | None = None,
    **more: Any,
) -> GEPAResult:
    """Improve any text by an evaluator of gepa's `optimize_anything`, unchanged.

    Without `dataset` the evaluator scores the candidate as a whole. With `dataset` alone the rows are the goal
    themselves, as in GEPA. With `valset` the goal is rows like them: `dataset` is searched on, `valset` is the gate's.

    Args:
        seed_candidate: A text, or texts by name.
        evaluator: `evaluator(candidate, example=row)` gives a score, or `(score, side information)`; larger is better.
        batch_evaluator: `batch_evaluator([(candidate, row), …])` gives a list of the same.
        dataset: Rows that the search sees.
        valset: Rows that the gate alone reads.
        objective: What is wanted, in words.
        background: What else a proposer should know.
        more: As for `optimize`; score_range is unknown unless you give it.

    Raises:
        ConfigError: Something in the call is wrong; nothing was spent.
    """
    named = gepa_arguments.own(optimize_anything, optimize, without=("trainset", "adapter"))
    gepa_arguments.check(more, named, "GEPA")
    text = isinstance(seed_candidate, str)
    texts: Any = {ONLY: seed_candidate} if text else seed_candidate
    adapter = AnythingAdapter(evaluator, batch_evaluator, text=text, rows=dataset is not None)
    given = {"target": "population" if valset is not None else "suite", "score_range": None, **more}
    words = "\n\n".join(part for part in (objective, background) if part)
    return optimize(texts, dataset, valset, adapter, objective=words, **given)


def _rows(*sets: Sequence[Any] | None) -> tuple[dict[str | None, Any], Any]:
    """The adapter's rows by id, and the same as data of a run: JSON with these ids."""
    names = ("train", "val", "test")
    items: dict[str | None, Any] = {}
    data: dict[str, list[dict[str, Any]]] = {}
    for split, rows in zip(names, sets, strict=True):
        for number, item in enumerate(rows or ()):
            name = f"{split}-{number}"
            items[name] = item
            plain = as_json(item)
            shown = plain if isinstance(plain, dict) and "id" not in plain else {"row": plain}
            data.setdefault(split, []).append({**shown, "id": name})
    if not data:
        return {None: None}, ()
    if "train" not in data:
        raise ConfigError("trainset has no rows", hint="give rows that the search may see")
    return items, data if len(data) > 1 else data["train"]


def _options(proposer: str, selection: str, minibatch: int | None, merge: bool) -> dict[str, Any]:
    strategies = {"pareto": "pareto", "current_best": "champion"}
    if selection not in strategies:
        raise ConfigError(f"candidate_selection_strategy: found {selection!r}, allowed is pareto or current_best")
    if proposer != "reflect":
        return {}
    rows = {} if minibatch is None else {"rows": minibatch}
    return {"parents": strategies[selection], "merge": merge, **rows}


def _model(given: Any) -> Any:
    """A model as `agent.optimize` takes it."""
    if given is None:
        from agent.api import DEFAULT

        return DEFAULT
    if isinstance(given, str):
        provider, slash, name = given.partition("/")
        return f"{provider}:{name}" if slash and ":" not in provider else given
    if callable(given) and not hasattr(given, "complete"):
        return {"propose": _Called(given)}
    return given


class _Called:
    """A function from prompt to text, such as GEPA takes, as a model."""

    def __init__(self, function: Callable[[str], Any]) -> None:
        self._function = function

    async def complete(self, request: ModelRequest, *, seed: int | None) -> Completion:
        """What the function answers; its price is not known."""
        parts = [request.system, *(message.text for message in request.messages)]
        if request.schema is not None:
            shape = json.dumps(request.schema, ensure_ascii=False)
            parts.append(f"Reply with nothing but JSON that fits this schema:\n{shape}")
        text = str(await asyncio.to_thread(self._function, "\n\n".join(part for part in parts if part)))
        return Completion(
            text=_reply(text, request.schema or {}),
            model=getattr(self._function, "__name__", type(self._function).__name__),
        )

    async def close(self) -> None:
        """Nothing to free."""


_BLOCK = re.compile(r"```[^`\n]*\n(.*?)```", re.DOTALL)


def _reply(text: str, schema: Mapping[str, Any]) -> str:
    """A reply as it was given; one with a single block of no JSON is the new text of a single component."""
    fields = schema.get("properties", {})
    changes = fields.get("changes", {}).get("properties", {})
    blocks = _BLOCK.findall(text)
    one = len(blocks) == len(changes) == 1 and set(schema.get("required", ())) <= {"reasoning", "changes"}
    if not one or any(item.get("type") != "string" for item in changes.values()):
        return text
    try:
        if isinstance(json.loads(blocks[0]), dict):
            return text
    except ValueError:
        pass
    return json.dumps({"reasoning": "", "changes": dict.fromkeys(changes, blocks[0].strip())}, ensure_ascii=False)
