"""GEPA's adapters and evaluators through our door, with a small adapter of our own that has GEPA's shape."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.errors import ConfigError
from agent.integrations.gepa import GEPAResult, _reply, optimize, optimize_anything
from agent.integrations.gepa_adapter import as_json, identifiers
from agent.llm.scripted import Scripted

SEED = {"answer.predict": "Answer.", "style": "Be brief."}


@dataclass
class Batch:
    """The fields of GEPA's EvaluationBatch."""

    outputs: list[Any]
    scores: list[float]
    trajectories: list[Any] | None = None
    objective_scores: list[dict[str, float]] | None = None


class Adapter:
    """Right on every row once the instruction says "carefully", on every fourth row otherwise."""

    propose_new_texts: Callable[..., Any] | None = None

    def __init__(self, raises: Sequence[int] = ()) -> None:
        self.raises, self.batches, self.seen = tuple(raises), [0], set[str]()

    def evaluate(self, batch: list[Any], candidate: dict[str, str], capture_traces: bool = False) -> Batch:
        assert set(candidate) == set(SEED)
        self.batches.append(len(batch))
        if any(item["n"] in self.raises for item in batch):
            raise RuntimeError("the server is down")
        self.seen.update(candidate.values())
        careful = "carefully" in candidate["answer.predict"]
        scores = [float(careful or item["n"] % 4 == 0) for item in batch]
        traces = [{"n": item["n"], "score": s} for item, s in zip(batch, scores, strict=True)]
        return Batch(["text"] * len(batch), scores, traces if capture_traces else None, [{"length": 1.0}] * len(batch))

    def make_reflective_dataset(
        self, candidate: Mapping[str, str], eval_batch: Any, components_to_update: Sequence[str]
    ) -> dict[str, list[dict[str, Any]]]:
        records = [
            {"Inputs": t["n"], "Generated Outputs": "text", "Feedback": "hint: carefully" if not t["score"] else "good"}
            for t in eval_batch.trajectories
        ]
        return dict.fromkeys(components_to_update, records)


def rows(first: int, count: int) -> list[dict[str, Any]]:
    return [{"n": n, "question": f"{n * 7919 % 10007} and {n * n}"} for n in range(first, first + count)]


def careful(request: Any) -> str:
    """A model that repeats what the feedback says, and so depends on it."""
    said = " ".join(message.text for message in request.messages)
    word = "Answer carefully." if "hint: carefully" in said else "Answer again."
    return json.dumps({"reasoning": "", "changes": {"answer_predict": word}, "claim": 0.9})


def run(tmp_path: Path, adapter: Any, **more: Any) -> GEPAResult:
    given: dict[str, Any] = {"reflection_lm": Scripted(careful), "max_metric_calls": 400, **more}
    return optimize(SEED, rows(0, 60), rows(100, 60), adapter, run_dir=str(tmp_path), **given)


def test_an_adapter_is_optimized_unchanged_and_the_gain_is_proven(tmp_path: Path) -> None:
    adapter = Adapter()
    found = run(tmp_path, adapter)
    best: Any = found.best_candidate
    assert found.status == "proven"
    assert best["answer.predict"] == "Answer carefully."
    assert found.candidates[0] == SEED
    assert found.best_score == 1.0 > found.val_aggregate_scores[0]
    assert found.interval is not None and found.interval[0] > 0
    assert found.seed_score_fresh == pytest.approx(0.25)
    assert found.best_score_fresh == 1.0
    assert found.released_candidate == best
    assert found.total_metric_calls <= 400
    assert found.parents[found.best_idx] == [0]
    assert found.cost["propose"]["calls"] >= 1
    assert max(adapter.batches) > 1, "rows that are under way at once are one batch"


def test_the_candidates_depend_on_the_reflective_dataset(tmp_path: Path) -> None:
    class Silent(Adapter):
        def make_reflective_dataset(self, *given: Any) -> dict[str, list[dict[str, Any]]]:
            return {}

    found = run(tmp_path, Silent(), max_metric_calls=250)
    assert found.status in ("initial", "unproven")
    assert "Answer carefully." not in {texts["answer.predict"] for texts in found.candidates}


def test_no_row_of_the_valset_is_in_a_score_or_a_prompt(tmp_path: Path) -> None:
    model = Scripted(careful)
    found = run(tmp_path, Adapter(), reflection_lm=model)
    assert found.val_subscores[0]
    assert all(row.startswith("train-") for scores in found.val_subscores for row in scores)
    said = " ".join(m.text for request in model.requests for m in request.messages)
    assert not any(row["question"] in said for row in rows(100, 60))


def test_a_row_that_always_raises_costs_itself_and_nothing_else(tmp_path: Path) -> None:
    found = run(tmp_path, Adapter(raises=(5, 105)))
    assert found.status == "proven"
    assert "train-5" not in found.val_subscores[0]
    assert found.best_score_fresh == pytest.approx(59 / 60)


def test_an_adapters_own_proposer_gets_its_own_records(tmp_path: Path) -> None:
    calls: list[tuple[Any, Any, Any]] = []

    class Proposing(Adapter):
        def propose_new_texts(  # type: ignore[override]
            self, candidate: dict[str, str], reflective_dataset: Any, components_to_update: list[str]
        ) -> dict[str, str]:
            calls.append((candidate, reflective_dataset, components_to_update))
            if len(calls) == 1:
                raise RuntimeError("not today")
            return {name: f"Answer carefully, take {len(calls)}." for name in components_to_update}

    found = run(tmp_path, Proposing(), reflection_lm=None, max_metric_calls=300)
    candidate, records, components = calls[0]
    assert candidate == SEED
    assert components == ["answer.predict"]
    assert set(records["answer.predict"][0]) == {"Inputs", "Generated Outputs", "Feedback"}
    assert calls[1][2] == ["style"], "components take turns"
    assert found.status == "proven"


def test_what_an_adapter_breaks_is_said(tmp_path: Path) -> None:
    class Short(Adapter):
        def evaluate(self, batch: list[Any], candidate: dict[str, str], capture_traces: bool = False) -> Batch:
            return Batch([], [])

    found = run(tmp_path, Short())
    assert found.status == "initial"
    assert "0 scores" in found.sentence
    assert found.candidates == [SEED]
    assert found.best_candidate == SEED


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"seed_candidate": {}}, "seed_candidate"),
        ({"seed_candidate": None}, "seed_candidate"),
        ({"adapter": None}, "adapter"),
        ({"adapter": object()}, "no evaluate"),
        ({"trainset": []}, "trainset"),
        ({"candidate_selection_strategy": "epsilon_greedy"}, "candidate_selection_strategy"),
        ({"acceptance_criterion": "strict_improvement"}, "acceptance_criterion"),
    ],
)
def test_a_wrong_call_spends_nothing(tmp_path: Path, given: dict[str, Any], words: str) -> None:
    call: dict[str, Any] = {"seed_candidate": SEED, "trainset": rows(0, 4), "valset": rows(9, 4), "adapter": Adapter()}
    with pytest.raises(ConfigError, match=words):
        optimize(**{**call, "run_dir": str(tmp_path), **given})
    assert not list(tmp_path.iterdir())


def test_a_function_is_a_reflection_model(tmp_path: Path) -> None:
    prompts: list[str] = []

    def lm(prompt: str) -> str:
        prompts.append(prompt)
        return careful(SimpleNamespace(messages=[SimpleNamespace(text=prompt)]))

    assert run(tmp_path, Adapter(), reflection_lm=lm).status == "proven"
    assert "fits this schema" in prompts[0]


@pytest.mark.parametrize("reply", ["```\n{}\n```", "I would say:\n```text\n{}\n```\nThat is all."])
def test_a_function_may_reply_with_a_block_as_it_does_for_gepa(tmp_path: Path, reply: str) -> None:
    def evaluator(candidate: Mapping[str, str]) -> float:
        return float(len(candidate["prompt"]))

    def lm(prompt: str) -> str:
        return reply.format('Say "why".\nBe kind.')

    given: dict[str, Any] = {"evaluator": evaluator, "max_metric_calls": 20, "deterministic": True}
    found = optimize_anything({"prompt": "go"}, reflection_lm=lm, run_dir=str(tmp_path), **given)
    assert found.best_candidate == {"prompt": 'Say "why".\nBe kind.'}
    assert found.status == "exact"


def test_a_block_that_says_not_which_text_it_is_or_holds_json_is_left_alone() -> None:
    text, two = {"type": "string"}, "```\na\n```\n```\nb\n```"
    one = {"properties": {"changes": {"properties": {"a": text}}}, "required": ["reasoning", "changes"]}
    several = {"properties": {"changes": {"properties": {"a": text, "b": text}}}, "required": ["reasoning"]}
    number = {"properties": {"changes": {"properties": {"a": {"type": "number"}}}}, "required": []}
    block = "```\nnew\n```"
    assert json.loads(_reply(block, one)) == {"reasoning": "", "changes": {"a": "new"}}
    for schema in (several, number, {**one, "required": ["edits"]}, {}):
        assert _reply(block, schema) == block
    for said in (two, "new", '```json\n{"reasoning": "", "changes": {"a": "x"}}\n```', '{"changes": {"a": "x"}}'):
        assert _reply(said, one) == said


def test_an_argument_that_is_not_taken_is_told_in_the_users_words(tmp_path: Path) -> None:
    call: dict[str, Any] = {"run_dir": str(tmp_path)}
    with pytest.raises(
        ConfigError, match="stop_callbacks is no argument of this door: not all that GEPA has"
    ) as raised:
        optimize(SEED, rows(0, 4), None, Adapter(), stop_callbacks=[len], **call)
    hint = raised.value.hint
    assert "docs/gepa.md" in hint
    assert "max_metric_calls" in hint
    assert "deterministic" in hint
    assert "budget" not in hint
    with pytest.raises(ConfigError, match="budget is no argument"):  # the door fills it in
        optimize(SEED, rows(0, 4), None, Adapter(), budget=3, **call)
    with pytest.raises(ConfigError, match="config is no argument") as raised:
        optimize_anything("go", evaluator=len, config={}, **call)
    assert "taken are seed_candidate, evaluator, batch_evaluator, dataset" in raised.value.hint
    assert "trainset" not in raised.value.hint


def test_a_goal_that_is_too_dear_says_what_can_be_done_about_it(tmp_path: Path) -> None:
    def evaluator(candidate: str, example: Any) -> float:
        return float("x" in candidate)

    def better(request: Any) -> str:
        return json.dumps({"reasoning": "", "changes": {"candidate": "xyz"}, "claim": 1.0})

    given: dict[str, Any] = {"evaluator": evaluator, "dataset": rows(0, 60), "run_dir": str(tmp_path)}
    given["reflection_lm"] = Scripted(better)
    with pytest.raises(ConfigError, match="200 evaluations cannot pay") as raised:
        optimize_anything("go", max_metric_calls=200, **given)
    hint = raised.value.hint
    assert "exam_pairs" not in hint
    assert "give a valset" in hint
    assert "deterministic=True" in hint
    least = int(hint.split("max_metric_calls=")[1].split(";")[0])
    assert least > 200
    assert optimize_anything("go", max_metric_calls=200, deterministic=True, **given).status == "exact"
    assert optimize_anything("go", max_metric_calls=200, valset=rows(100, 40), **given).best_candidate == "xyz"
    with pytest.raises(ConfigError, match="cannot pay") as raised:
        optimize_anything("go", max_metric_calls=9, deterministic=True, **given)
    assert raised.value.hint.startswith("allow max_metric_calls=")
    assert ";" not in raised.value.hint


def test_a_result_survives_json(tmp_path: Path) -> None:
    found = run(tmp_path, Adapter())
    again = GEPAResult.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again == found
    assert again.best_candidate == found.best_candidate


# ---------------------------------------------------------------- optimize_anything


def test_a_text_without_a_data_set(tmp_path: Path) -> None:
    def evaluator(candidate: str) -> tuple[float, dict[str, Any]]:
        return float(len(set(candidate))), {"hint": "more letters", "scores": {"length": float(len(candidate))}}

    def longer(request: Any) -> str:
        said = request.messages[-1].text
        assert "more letters" in said
        return json.dumps({"reasoning": "", "changes": {"candidate": f"abc{len(said)}defgh"}, "claim": 1.0})

    found = optimize_anything(
        "abc",
        evaluator=evaluator,
        reflection_lm=Scripted(longer),
        max_metric_calls=20,
        deterministic=True,
        run_dir=str(tmp_path),
    )
    assert isinstance(found.best_candidate, str)
    assert found.status == "exact"
    assert found.best_score > found.val_aggregate_scores[0] == 3


def test_rows_alone_are_the_goal_and_a_valset_makes_them_a_sample(tmp_path: Path) -> None:
    seen: list[Any] = []

    def evaluator(candidate: Mapping[str, str], example: Any) -> float:
        seen.append(example)
        return float("carefully" in candidate["prompt"] or example["n"] % 3 == 0)

    def better(request: Any) -> str:
        return json.dumps({"reasoning": "", "changes": {"prompt": "carefully"}, "claim": 1.0})

    given: dict[str, Any] = {"evaluator": evaluator, "deterministic": True, "run_dir": str(tmp_path)}
    suite = optimize_anything(
        {"prompt": "go"}, dataset=rows(0, 9), reflection_lm=Scripted(better), max_metric_calls=60, **given
    )
    assert suite.status == "exact"
    assert seen[0] in rows(0, 9), "the user's own rows come back"
    sample = optimize_anything(
        {"prompt": "go"},
        dataset=rows(0, 40),
        valset=rows(100, 60),
        reflection_lm=Scripted(better),
        max_metric_calls=400,
        score_range=(0.0, 1.0),
        **given,
    )
    assert sample.status == "proven"
    assert sample.verdict is not None and sample.verdict["kind"] == "rows"


def test_a_batch_evaluator_gets_pairs(tmp_path: Path) -> None:
    def batch(pairs: list[tuple[str, Any]]) -> list[Any]:
        return [(float("x" in text), {"n": row["n"]}) for text, row in pairs]

    def better(request: Any) -> str:
        return json.dumps({"reasoning": "", "changes": {"candidate": "xyz"}, "claim": 1.0})

    found = optimize_anything(
        "go",
        batch_evaluator=batch,
        dataset=rows(0, 5),
        deterministic=True,
        reflection_lm=Scripted(better),
        max_metric_calls=40,
        run_dir=str(tmp_path),
    )
    assert found.best_candidate == "xyz"


def test_an_evaluator_that_wants_its_history_is_refused() -> None:
    def evaluator(candidate: str, opt_state: Any) -> float:
        return 1.0

    with pytest.raises(ConfigError, match="opt_state"):
        optimize_anything("go", evaluator=evaluator)
    with pytest.raises(ConfigError, match="evaluator"):
        optimize_anything("go")


# ---------------------------------------------------------------- names and rows


def test_components_of_any_name_are_parameters() -> None:
    names = identifiers(["a.b", "a_b", "a b", "2", "Ä", ""])
    assert names["a.b"] == "a_b"
    assert len(set(names.values())) == 6
    assert all(name.isidentifier() for name in names.values())


def test_rows_are_shown_as_json_whatever_they_are() -> None:
    class Row:
        def __init__(self) -> None:
            self.question, self.inner = "why?", object()

    assert as_json(Row()) == {"question": "why?", "inner": "object"}
    assert as_json(Batch(["a"], [1.0]))["outputs"] == ["a"]
    assert as_json({"x": float("nan")}) == {"x": None}
    assert as_json({"text": "NaN is no Infinity"}) == {"text": "NaN is no Infinity"}
