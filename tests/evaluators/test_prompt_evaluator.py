"""What a prompt says for a candidate and a row, and what is made of the answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent import ConfigError, Demos, Float, Prompt, Request, Space, Text
from agent.evaluation import Output
from agent.evaluators.build import build
from agent.evaluators.prompt import PromptEvaluator, Rendering
from agent.llm.types import Completion, ModelRequest, Usage
from agent.metrics.base import Metric

ROW = {"question": "How many legs has a spider?", "answer": "8"}


def said(prompt: Prompt, space: dict[str, Any], row: Any = ROW, answer: str = "answer", **values: Any) -> list[Any]:
    known = Space.of(space)
    given = {**known.initial(), **values}
    return list(Rendering(prompt, known, answer).turns(given, row))


def produced(evaluator: PromptEvaluator, reply: Any, row: Any = ROW, **values: Any) -> Output:
    async def ask(request: ModelRequest, role: str) -> Completion:
        found = reply(request, role) if callable(reply) else reply
        return found if isinstance(found, Completion) else Completion(found, usage=Usage(input=12, output=3))

    candidate = evaluator.rendering.space.candidate({**evaluator.rendering.space.initial(), **values})
    request = Request(candidate, example="1", row=row)
    return asyncio.run(evaluator.produce(request, lambda _: None, ask))


def test_a_template_shows_parameters_and_fields() -> None:
    prompt = Prompt("{instruction}\n\n{question}", system="You know {topic}.")
    space = {"instruction": Text("Answer."), "topic": Text("animals")}
    assert said(prompt, space) == [
        ("system", "You know animals."),
        ("user", "Answer.\n\nHow many legs has a spider?"),
    ]


def test_a_text_can_be_the_template_itself() -> None:
    space = {"prompt": Text('Q: {question}\nUse {"n": 1} and {unknown}.\nA:', placeholders=("question",))}
    assert said(Prompt(), space) == [("user", f'Q: {ROW["question"]}\nUse {{"n": 1}} and {{unknown}}.\nA:')]


def test_nothing_that_a_row_or_a_candidate_holds_is_expanded_further() -> None:
    space = {"instruction": Text("Say {answer} and {question}.")}
    row = {"question": "{instruction} {answer}", "answer": "8"}
    (turn,) = said(Prompt("{instruction} {question}"), space, row)
    assert turn == ("user", "Say {answer} and {question}. {instruction} {answer}")


def test_no_prompt_shows_the_answer() -> None:
    with pytest.raises(ConfigError, match="right answer"):
        said(Prompt("{question} {answer} {i}"), {"i": Text("x")})
    whole = {"prompt": Text("{question} {answer}")}
    assert said(Prompt(), whole) == [("user", f"{ROW['question']} {{answer}}")]
    declared = {"i": Text("{answer} {question}", placeholders=("question", "answer"))}
    assert said(Prompt("{i}"), declared) == [("user", f"{{answer}} {ROW['question']}")]


POOL = ({"question": "Legs of a cat?", "answer": 4}, {"question": "Legs of a bee?", "answer": "6"})


def test_demos_are_turns_or_stand_in_the_template() -> None:
    space = {"i": Text("Be brief."), "demos": Demos(POOL, k=2, default=(1, 0))}
    turns = said(Prompt("{question}", system="{i}", demos="demos"), space)
    assert turns == [
        ("system", "Be brief."),
        ("user", "Legs of a bee?"),
        ("assistant", "6"),
        ("user", "Legs of a cat?"),
        ("assistant", "4"),
        ("user", ROW["question"]),
    ]
    inside = said(Prompt("{i}\n{demos}\n{question}", demos="demos", demo="{question} -> {answer}"), space)
    assert inside[0][1] == f"Be brief.\nLegs of a bee? -> 6\n\nLegs of a cat? -> 4\n{ROW['question']}"
    assert len(inside) == 1


@pytest.mark.parametrize(
    ("prompt", "space", "words"),
    [
        (Prompt("{question}"), {"i": Text("x")}, "nothing shows the parameter i"),
        (Prompt(), {"a": Text("x"), "b": Text("y")}, "2 texts that could be one"),
        (Prompt("{i}{question}", demos="pool"), {"i": Text("x")}, "no Demos parameter"),
        (Prompt("{i}{question}", demos="x"), {"i": Text("x"), "x": Float(0, 1)}, "no Demos parameter"),
    ],
)
def test_a_prompt_that_does_not_fit_its_space_is_refused(prompt: Prompt, space: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        said(prompt, space)


@pytest.mark.parametrize(
    "given", [{"max_output_tokens": 0}, {"temperature": -1}, {"temperature": True}, {"max_chars": 1.5}, {"system": 3}]
)
def test_a_wrong_value_of_a_prompt_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(given))):
        Prompt("{question}", **given)


def evaluator(metric: Any = "exact_match", prompt: Any = "{i} {question}", **given: Any) -> PromptEvaluator:
    return PromptEvaluator(prompt, space=Space.of({"i": Text("Answer.")}), metric=metric, **given)


def test_an_answer_is_scored_and_kept_with_its_costs() -> None:
    output = produced(evaluator(), "8")
    assert output.value["text"] == "8"
    assert output.value["values"] == {
        "exact_match": 1.0,
        "prompt_chars": len("Answer. How many legs has a spider?"),
        "input_tokens": 12,
        "output_tokens": 3,
    }
    score = evaluator().score(output)
    assert score.values["exact_match"] == 1.0
    wrong = produced(evaluator(), "nine")
    assert wrong.value["values"]["exact_match"] == 0.0 and "nine" in wrong.value["feedback"]


def test_what_is_sent_is_what_the_prompt_says() -> None:
    seen: list[tuple[ModelRequest, str]] = []

    def reply(request: ModelRequest, role: str) -> str:
        seen.append((request, role))
        return "8"

    produced(evaluator(prompt=Prompt("{i} {question}", max_output_tokens=7, temperature=None)), reply, i="Count.")
    ((request, role),) = seen
    assert role == "task" and request.max_output_tokens == 7 and request.temperature is None
    assert [message.text for message in request.messages] == ["Count. How many legs has a spider?"]


def test_an_answer_that_was_cut_off_says_so() -> None:
    output = produced(evaluator(), Completion("8 le", stop="length"))
    assert "cut off at 256 tokens" in output.value["feedback"]
    assert "refused" in produced(evaluator(), Completion("", stop="refusal")).value["feedback"]


@pytest.mark.parametrize("row", [{"answer": "8"}, {"question": "x" * 300_000, "answer": "8"}, "just text"])
def test_a_row_that_does_not_fit_fails_alone_and_nothing_is_sent(row: Any) -> None:
    def reply(request: ModelRequest, role: str) -> str:
        raise AssertionError("nothing is sent")

    output = produced(evaluator(), reply, row=row)
    assert output.failure is not None and output.failure.kind == "invalid"


def test_a_metric_that_cannot_read_a_row_fails_that_row() -> None:
    output = produced(evaluator(), "8", row={"question": "Legs?"})
    assert output.failure is not None and "answer" in output.failure.message


def test_a_metric_that_asks_a_judge_does_so_in_its_role() -> None:
    class Judged(Metric):
        names = ("judged",)
        uses = ("judge",)
        name = "judged"

        async def measure(self, output: str, row: Any, ask: Any = None, prompt: str = "") -> Any:
            from agent import Score
            from agent.llm.types import Message

            verdict = await ask(ModelRequest((Message("user", f"Is {output} right?"),)), "judge")
            return Score({"judged": float(verdict.text == "yes")}, "as the judge says")

    judged = evaluator(Judged())
    assert judged.uses == ("task", "judge") and judged.names == ("judged",)
    output = produced(judged, lambda request, role: "yes" if role == "judge" else "8")
    assert output.value["values"]["judged"] == 1.0
    assert set(judged.forecast(_problem(judged))) == {"task", "judge"}


def _problem(made: PromptEvaluator) -> Any:
    from agent import Problem
    from agent.evaluators.prompt import objective
    from agent.problem import Example

    return Problem(
        "p",
        made.rendering.space,
        made,
        (objective(made.metric),),
        data=(Example("1", ROW), Example("2", {**ROW, "question": "?"})),
    )


def test_a_forecast_is_an_upper_bound_of_what_is_asked() -> None:
    made = evaluator()
    calls, heard, out = made.forecast(_problem(made))["task"]
    assert calls == 1 and out == 256 and 10 < heard < 200


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "needs rows"),
        ([{"text": "a", "answer": 1}, {"text": "b", "answer": 1}], "no field 'question'"),
    ],
)
def test_rows_that_no_prompt_fits_are_refused_before_anything_is_paid(rows: list[Any], words: str) -> None:
    from dataclasses import replace

    from agent.problem import Example

    made = evaluator()
    problem = replace(_problem(made), data=tuple(Example(str(n), row) for n, row in enumerate(rows)))
    with pytest.raises(ConfigError, match=words):
        made.ready(problem)


def test_a_prompt_that_shows_nothing_of_the_rows_is_refused() -> None:
    made = PromptEvaluator("{i}", space=Space.of({"i": Text("Answer.")}), metric="exact_match")
    with pytest.raises(ConfigError, match="same") as error:
        made.ready(_problem(made))
    assert "{question}" in error.value.hint and "{answer}" not in error.value.hint


def test_it_is_rebuilt_from_its_spec_and_its_fingerprint_knows_prompt_and_metric() -> None:
    made = evaluator(folder="/")
    again = build(made.spec)
    assert again.fingerprint == made.fingerprint
    assert evaluator(prompt="{i}: {question}").fingerprint != made.fingerprint
    assert evaluator(metric_options={"normalize": "strip"}).fingerprint != made.fingerprint


def test_an_objective_that_nothing_reports_is_refused() -> None:
    with pytest.raises(ConfigError, match="exact_match"):
        evaluator(names=("accuracy",))
    assert evaluator(names=("exact_match", "output_tokens")).names == ("exact_match", "output_tokens")


def test_outside_of_a_run_nothing_is_asked() -> None:
    made = evaluator()
    output = asyncio.run(made.produce(Request(made.rendering.space.initial(), row=ROW), lambda _: None))
    assert output.failure is not None and "run" in output.failure.message
