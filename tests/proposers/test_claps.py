"""ClaPS: it finds what each segment does, leaves out what harms or does nothing, and edits where it matters."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.errors import ConfigError
from agent.events import EvaluationStarted, LookAsked
from agent.llm.scripted import Scripted
from agent.llm.types import ModelRequest
from agent.parameters import Float
from agent.proposers.claps import ClaPS
from agent.proposers.influence import Ablation
from agent.space import Candidate, Space
from agent.testing.proposers import Measure, ProposerContract, Search, adviser
from agent.texts import Text
from tests.row_support import ACCURACY, Ran, rows, run

PROMPT = """You are a very famous professor of everything there is.
Work through the problem step by step. The weather is nice today in most places.
Answer in a single word without thinking. Check the units.
Question: {question}
Thank you in advance for all of your help with this."""
WORTH = {"step by step": 0.3, "single word": -0.3, "units": 0.1, "{question}": 0.0}
SPACE = Space({"prompt": Text(PROMPT, placeholders=("question",))})


def score(candidate: Mapping[str, Any]) -> float:
    """A function of the prompt alone."""
    return 0.4 + sum(worth for words, worth in WORTH.items() if words in candidate["prompt"])


def measure(candidate: Candidate) -> Mapping[str, float]:
    return {"value": score(candidate), "size": 0.0}


def masked(candidate: Candidate) -> Mapping[str, float]:
    """The same scores for the same number of texts, and none of them has to do with what a text says."""
    return {"value": random.Random(candidate.id).choice((0.1, 0.4, 0.5, 0.8, 1.0)), "size": 0.0}


def search(measure: Measure = measure, space: Space = SPACE, **given: Any) -> Search:
    given = {"budget": 40, "direction": "maximize", **given}
    found = Search(ClaPS(), space, measure, **given)
    found.run()
    return found


def best(found: Search) -> str:
    history = found.state.history
    return str(history[history.champion].candidate["prompt"])


def reasons(found: Search) -> list[str]:
    return [item["reason"] for item in found.state.history.rejections]


def test_the_harmful_sentence_and_the_inert_half_are_left_out_after_one_look_at_each() -> None:
    found = search()
    assert best(found) == "Work through the problem step by step.\nCheck the units.\nQuestion: {question}"
    first = found.state.history.trials[1]
    assert first.source == "claps:prune"
    assert first.rationale == "without 1 segment that made it worse and 3 that did nothing"
    looks = [event for event in found.events if isinstance(event, LookAsked) and event.proposal == 1]
    assert len(looks) == 7, "the prompt as it is, and six segments; the seventh cannot be left out"
    stages = [event.stage for event in found.events if isinstance(event, EvaluationStarted)]
    assert stages.count("look") == 6, "the prompt as it is was known already"


def test_where_the_evidence_is_masked_it_finds_nothing_of_the_kind() -> None:
    right = 0
    for seed in range(10):
        noise = random.Random(seed)
        luck = {i: noise.random() for i in range(10_000)}
        found = search(lambda c, luck=luck: {"value": luck[int(c.id, 16) % 10_000], "size": 0.0}, seed=seed)  # type: ignore[misc]
        right += best(found) == best(search())
    assert right <= 1


def test_copies_of_a_segment_are_measured_together_so_that_none_hides_the_other() -> None:
    twice = (
        "Show every step of your work before the answer. Be kind. Show every step of your work before the answer! Go."
    )

    def steps(candidate: Candidate) -> Mapping[str, float]:
        return {"value": float("every step" in candidate["prompt"]) + float("Go." in candidate["prompt"]), "size": 0.0}

    found = search(steps, Space({"prompt": Text(twice)}))
    kept = {trial.candidate["prompt"] for trial in found.state.history.trials}
    assert all("every step" in text for text in kept), "alone each copy would have looked idle"
    assert "Show every step of your work before the answer. Be kind. Go." in kept, "one of the two goes"


def test_words_of_the_users_own_are_measured_too_and_those_that_help_are_added() -> None:
    space = Space({"prompt": Text("Be kind.\nQuestion: {question}", placeholders=("question",))})
    words = ("Go step by step.", "Reply in a single word.", "Nice weather.")
    found = search(space=space, options={"vocabulary": words})
    assert best(found) == "Be kind.\nGo step by step.\nQuestion: {question}"
    tried = "".join(trial.candidate["prompt"] for trial in found.state.history.trials)
    assert "single word" not in tried and "Nice weather" not in tried, "they were looked at and not proposed"


class Writer:
    """Rewrites the segment that it is shown, and keeps what it was asked."""

    def __init__(self, *texts: str) -> None:
        self.texts, self.prompts = texts, list[str]()

    def __call__(self, request: ModelRequest) -> str:
        self.prompts.append(request.messages[0].text)
        return json.dumps({"why": "clearer", "text": self.texts[min(len(self.prompts), len(self.texts)) - 1]})


def test_a_model_rewrites_only_segments_that_have_an_influence() -> None:
    model = Writer("First apples.", "Second, pears are better.", "Third: plums in a bowl of milk.")
    found = search(ask=adviser(model), budget=16)
    asked = [prompt.split("Rewrite segment [")[1][0] for prompt in model.prompts]
    shown = model.prompts[0]
    assert "[1] (+0.3) Work through the problem step by step." in shown and "professor" not in shown
    assert "(needed: prompt: the text lost {question}) Question: {question}" in shown
    assert len(set(asked)) > 1
    written = [trial for trial in found.state.history.trials if trial.source == "claps:llm"]
    assert written and "rewrote “" in written[0].rationale and "clearer" in written[0].rationale
    assert all("Thank you" not in trial.candidate["prompt"] for trial in written), "the rest is the pruned prompt"


def test_where_two_segments_stand_in_for_each_other_both_stay_and_edits_go_to_the_third() -> None:
    def either(candidate: Candidate) -> Mapping[str, float]:
        text = candidate["prompt"]
        return {"value": 0.5 * ("red" in text or "blue" in text) + 0.3 * ("green" in text), "size": 0.0}

    model = Writer("Say green apples.", "Choose green pears now.", "A green plum in a bowl of milk.")
    space = Space({"prompt": Text("Paint it red. Paint it blue. Paint it green.")})
    found = search(either, space, ask=adviser(model), budget=16)
    tried = [trial.candidate["prompt"] for trial in found.state.history.trials]
    assert "Paint it green." in tried, "each alone looked idle"
    assert len(model.prompts) > 2
    assert all("Rewrite segment [3]" in prompt for prompt in model.prompts)
    assert all("red" in text and "blue" in text for text in tried[2:]), "the race said what one by one does not"


def test_edits_build_on_the_shorter_prompt_although_a_tie_is_no_gain() -> None:
    space = Space({"prompt": Text("The weather is nice. Go step by step. Check the units.")})
    model = Writer("First apples, step by step.", "Now step by step, a pear, units.", "A plum, units, step by step.")
    found = search(space=space, ask=adviser(model), budget=14)
    first, *others = found.state.history.trials[1:]
    assert first.candidate["prompt"] == "Go step by step. Check the units." and first.state == "dropped"
    assert others and not any("weather" in trial.candidate["prompt"] for trial in others)


def test_the_model_is_told_what_was_tried_and_what_came_of_it() -> None:
    model = Writer("First apples. {question}", "Second, pears are better. {question}", "Now a plum. {question}")
    search(ask=adviser(model), budget=13)
    told = model.prompts[1][model.prompts[1].index("New segments so far") :]
    assert ": First apples. {question}" in told and "New segments so far" not in model.prompts[0]


def test_a_better_segment_is_kept_and_measured_anew() -> None:
    WORTH["carefully, number by number"] = 0.6
    try:
        model = Writer("Go through it carefully, number by number. Step by step, check the units. {question}")
        found = search(ask=adviser(model), budget=20)
        assert "carefully, number by number" in best(found)
        assert "carefully, number by number" in json.dumps(found.state.memory["influence"])
    finally:
        del WORTH["carefully, number by number"]


def test_replies_of_no_use_are_recorded_with_the_reason() -> None:
    copy = "Work through the problem step by step."
    for text, why in (
        ("", "the segment is empty"),
        (copy, "near-duplicate of one that was tried"),
        ("{question} or not.", None),
    ):
        found = search(ask=adviser(Writer(text)), budget=12, seed=3)
        if why is not None:
            assert any(why in reason for reason in reasons(found)), reasons(found)
    lost = search(ask=adviser(Writer("Nothing to ask.")), budget=30, seed=3)
    assert any("the text lost {question}" in reason for reason in reasons(lost))


def test_where_every_answer_is_wrong_nothing_is_taken_to_be_idle() -> None:
    found = search(lambda c: {"value": 0.0, "size": 0.0})
    assert reasons(found)[0] == "no segment made any difference, so none is taken to be idle"
    assert all(trial.source != "claps:prune" for trial in found.state.history.trials)


def test_little_budget_measures_the_longest_segments_and_says_so() -> None:
    found = search(budget=8)
    assert any("the share of the budget measures 2 of 7 segments, the longest first" in r for r in reasons(found))
    assert len(found.state.memory["influence"]) == 2 and "Thank you" in json.dumps(found.state.memory)
    assert found.state.ledger.evaluations <= 8


def test_a_segment_without_which_everything_fails_is_needed() -> None:
    def fragile(candidate: Candidate) -> Mapping[str, float] | None:
        return measure(candidate) if "professor" in candidate["prompt"] else None

    found = search(fragile)
    assert found.state.memory["influence"]['["prompt", "You are a very famous professor of everything there is."]'][
        "needed"
    ]
    assert "professor" in best(found) and "weather" not in best(found) and "single word" not in best(found)


# On rows, in a run with all its parts.


def answered(candidate: Mapping[str, Any], row: Mapping[str, Any]) -> float:
    return float(random.Random(row["number"]).random() < score(candidate))


def test_on_rows_pairs_are_measured_and_the_race_leaves_these_rows_out(tmp_path: Path) -> None:
    made = run(
        tmp_path / "run",
        answered,
        rows(240),
        space=SPACE,
        objectives=(ACCURACY,),
        proposer="claps",
        budget=900,
        options={"rows": 16},
    )
    first = next(event for event in made.of("candidate.admitted") if event.source == "claps:prune")
    assert "step by step" in first.values["prompt"] and "single word" not in first.values["prompt"]
    looked = {event.example for event in made.of("evaluation.started") if event.stage == "look"}
    assert len(looked) == 16 and looked == set(first.read)
    raced = {e.example for e in made.of("evaluation.started") if e.candidate == first.candidate and e.stage != "look"}
    assert raced and not raced & looked
    assert made.result.best["prompt"] != PROMPT and made.replays((1, 4))


def polish(request: ModelRequest) -> str:
    """Improves the segment in question where the prompt says that it helps; another one it only draws out."""
    text = request.messages[0].text
    place = re.search(r"Rewrite segment \[(\d+)\]", text)[1]  # type: ignore[index]
    told, old = re.search(rf"^\[{place}\] \((.*?)\) (.*)$", text, re.MULTILINE).groups()  # type: ignore[union-attr]
    good = re.match(r"\+0\.[1-9]", told)
    rng = random.Random(text)
    more = "Do it number by number," if good else "Do it " + " ".join(rng.sample(PROMPT.split(), 4)).replace("{", "(")
    return json.dumps({"why": told, "text": f"{old} {more} {rng.getrandbits(60):x} {rng.getrandbits(60):x}"})


def polished(folder: Path) -> Ran:
    return run(
        folder,
        lambda candidate, row: answered(candidate, row),
        rows(160),
        space=SPACE,
        objectives=(ACCURACY,),
        proposer="claps",
        budget=600,
        options={"rows": 16},
        models={"propose": "scripted:polish"},
        model=Scripted(polish),
    )


def test_a_run_prunes_what_harms_and_has_rewritten_what_helps_and_proves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WORTH, "number by number", 0.2)
    made = polished(tmp_path / "run")
    assert made.result.status == "proven"
    assert "single word" not in made.result.best["prompt"] and "number by number" in made.result.best["prompt"]


def test_the_same_model_gains_nothing_where_the_measured_influence_is_masked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WORTH, "number by number", 0.2)
    whole = Ablation._scores

    async def masked(self: Ablation, *given: Any) -> list[float | None]:
        return [0.5] * len(await whole(self, *given))

    monkeypatch.setattr(Ablation, "_scores", masked)
    made = polished(tmp_path / "run")
    assert made.result.status == "initial" and len(made.result.trials) > 3
    assert any(trial.source == "claps:llm" for trial in made.result.trials)


def test_a_run_that_is_not_exact_is_measured_several_times(tmp_path: Path) -> None:
    def noisy(candidate: Mapping[str, Any], seed: int) -> float:
        return score(candidate) + random.Random(seed).gauss(0, 0.02)

    from agent.goals import Objective
    from agent.problem import Problem

    given = {"objectives": (Objective("accuracy", "maximize"),), "deterministic": False, "target": "suite"}
    assert set(given) <= set(Problem.__dataclass_fields__)
    made = run(
        tmp_path / "run", noisy, rows(1), space=SPACE, proposer="claps", budget=120, options={"rows": 3}, **given
    )
    looks = [event.key for event in made.of("look.asked") if event.proposal == 1]
    assert looks.count("base.0") == 1 and "base.2" in looks and "base.3" not in looks
    assert "single word" not in made.result.best["prompt"] and "step by step" in made.result.best["prompt"]
    assert made.replays()


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"rows": 0}, "rows"),
        ({"segments": 1}, "segments"),
        ({"share": 0}, "share"),
        ({"share": 1.5}, "share"),
        ({"tolerance": -1}, "tolerance"),
        ({"vocabulary": "Think."}, "vocabulary"),
        ({"vocabulary": ["Think.", " "]}, "vocabulary"),
        ({"temperature": "hot"}, "temperature"),
        ({"row": 3}, "unknown option"),
    ],
)
def test_wrong_options_are_refused(options: Mapping[str, Any], wrong: str) -> None:
    context = Search(ClaPS(), SPACE, measure, options=options).context()
    with pytest.raises(ConfigError, match=wrong):
        asyncio.run(ClaPS().propose(context, 1))


def test_a_space_without_texts_is_refused() -> None:
    context = Search(ClaPS(), Space({"x": Float(0, 1)}), measure).context()
    with pytest.raises(ConfigError, match="the space has none"):
        asyncio.run(ClaPS().propose(context, 1))


class TestContract(ProposerContract):
    spaces: Mapping[str, Space] = {
        "prompt": SPACE,
        "two texts": Space(
            {"system": Text("Be kind. Be brief.\nBe quick."), "prompt": Text("Say {q}.", placeholders=("q",))}
        ),
        "mixed": Space({"x": Float(0, 1), "prompt": Text("First think. Then answer. " * 20)}),
    }
    finite: Mapping[str, int] = {}

    def make(self) -> ClaPS:
        return ClaPS()

    def reply(self, request: ModelRequest) -> str:
        rng = random.Random(request.key("scripted:test"))
        words = " ".join(rng.choice("abcdefghijklmnop") * rng.randint(2, 9) for _ in range(9))
        return json.dumps({"why": "so", "text": f"{words} {{q}} {{question}}."})
