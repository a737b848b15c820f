"""The benchmark of the numeric proposers: its arithmetic, its resuming, and its simulated models."""

from __future__ import annotations

import json
import math
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

import numeric_models as models
import numeric_plot as plot
import numeric_runs as runs
import numeric_table as table
import numeric_worlds as worlds
from numeric_runs import Job

from agent.errors import OutputInvalid, PrerequisiteError, ProviderError
from agent.llm.types import Completion, Message, ModelRequest, Usage
from agent.parameters import Float
from agent.space import Candidate, Space

OPTIMUM = {"x0": 1.0, "x1": -2.0, "x2": 0.5}
SPACE = Space({name: Float(-5.0, 5.0) for name in OPTIMUM})
EVOLLM = "evollm=evollm?population=1&calls=1&block=3"


def sphere(values):
    return sum((values[name] - best) ** 2 for name, best in OPTIMUM.items()) + 7.0


def world(suite="bbob", task="f1", dim=3, instance=1, *, failing=False):
    cost = worlds.failing_in(worlds.FAILING, sphere) if failing else sphere
    return worlds._started(worlds.World(SPACE, (), cost, floor=7.0, optimum=OPTIMUM), f"{task} {instance}")


def job(arm="random", instance=1, budget=30, model=""):
    return Job("bbob", "f1", 3, instance, arm, budget, model)


def rows(name, values, task="f1", dim=5, at=100):
    """Runs of an arm: its regret on instances 1, 2, …"""
    return [
        {"name": name, "task": task, "dim": dim, "instance": number, f"at_{at}": value}
        for number, value in enumerate(values, 1)
    ]


@pytest.fixture(autouse=True)
def small_worlds(monkeypatch, tmp_path):
    monkeypatch.setattr(worlds, "make", world)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


# --- arithmetic


def test_a_ratio_is_the_geometric_mean_over_the_worlds_that_both_have():
    ours = table.regrets(rows("a", [1.0, 4.0, 9.0]), 100)
    theirs = table.regrets(rows("b", [2.0, 2.0]), 100)
    found = table.ratio(ours, theirs)
    assert found.pairs == 2
    assert found.mean == pytest.approx(math.sqrt(1 / 2 * 4 / 2))
    assert found.low == pytest.approx(0.5) and found.high == pytest.approx(2.0)


def test_worlds_are_drawn_anew_within_a_task_and_not_across():
    ours = {**table.regrets(rows("a", [4.0] * 3), 100), **table.regrets(rows("a", [0.25] * 3, task="f8"), 100)}
    theirs = dict.fromkeys(ours, 1.0)
    found = table.ratio(ours, theirs)
    assert (found.low, found.mean, found.high) == pytest.approx((1.0, 1.0, 1.0))


def test_regrets_have_a_floor_so_that_an_exact_hit_has_a_logarithm():
    hit = table.regrets(rows("a", [0.0]), 100)
    assert table.ratio(hit, table.regrets(rows("b", [1.0]), 100)).mean == pytest.approx(1e-8)


def test_what_was_not_measured_has_no_ratio():
    one = table.regrets(rows("a", [1.0]), 100)
    assert table.ratio(one, {}).pairs == 0
    assert table.regrets(rows("a", [""]), 100) == {}
    assert table.ratio(table.regrets(rows("a", [math.inf]), 100), one).pairs == 0, "a run in which everything failed"
    assert str(table.ratio({}, {})) == "–"


def test_the_best_rival_is_chosen_in_hindsight_for_each_setting():
    found = rows("random", [8.0, 8.0]) + rows("gp", [1.0, 2.0]) + rows("cmaes", [4.0, 1.0])
    found += rows("random", [8.0], dim=10) + rows("gp", [4.0], dim=10) + rows("cmaes", [1.0], dim=10)
    assert table.hindsight(found, ("gp", "cmaes", "optuna-tpe"), 5, 100) == "gp"
    assert table.hindsight(found, ("gp", "cmaes"), 10, 100) == "cmaes"
    assert table.hindsight(found, ("optuna-tpe",), 10, 100) is None


def test_a_verdict_compares_at_two_numbers_of_evaluations():
    ours = [{**row, "at_80": 3.0} for row in rows("portfolio", [1.0, 1.0])]
    found = ours + rows("gp", [2.0, 2.0])
    assert table.verdict(found, "portfolio", "gp", 5, 100, 100, 1.0).startswith("pass")
    assert table.verdict(found, "portfolio", "gp", 5, 80, 100, 1.0).startswith("FAIL")
    assert "1.5 (1.5–1.5)" in table.verdict(found, "portfolio", "gp", 5, 80, 100, 1.0)
    assert table.verdict(found, "portfolio", "nobody", 5, 80, 100, 1.0).startswith("not measured")


def test_normalised_regret_spans_all_arms_of_a_task():
    found = [
        {"name": name, "task": task, "at_5": first, "at_10": last}
        for name, task, first, last in [("a", "t", 4.0, 2.0), ("b", "t", 3.0, 3.0), ("a", "u", 10.0, 0.0)]
    ]
    assert table.normalised(found, [5, 10]) == {"a": {5: 1.0, 10: 0.0}, "b": {5: 0.5, 10: 0.5}}


def test_published_scores_stand_beside_ours():
    found = [{"name": "portfolio", "task": "rf-breast", "at_10": 0.05, "at_30": 0.03}]
    shown = table.scores(found, "rf-breast", [10, 30])
    assert "| portfolio | .9500 ± .0000 | .9700 ± .0000 |" in shown
    assert "| *LLAMBO (gpt-3.5)* | .9508 ± .011 | .9622 ± .010 |" in shown


# --- runs


def test_a_run_counts_every_evaluation_and_its_regret_never_rises(tmp_path):
    row = runs.run(job(budget=30))
    told = [float(row[f"at_{n}"]) for n in (5, 10, 15, 20, 30)]
    assert row["evaluations"] == 30 and told == sorted(told, reverse=True)
    sources = dict(item.split("=") for item in row["sources"].split())
    assert sources == {"initial": "1", "start": "4", "random": "24"}, "one is spent on the initial candidate again"
    assert row["at_50"] == ""


def test_all_arms_begin_at_the_same_points():
    first = {arm: runs.run(job(arm, instance=3, budget=10))["at_5"] for arm in ("random", "coordinate", "evollm-null")}
    assert len(set(first.values())) == 1
    other = runs.run(job("random", instance=4, budget=10))["at_5"]
    assert other not in first.values()


def test_equal_jobs_give_equal_curves():
    one, two = (runs.run(job("coordinate")) for _ in range(2))
    timed = ("cpu_ms", "cpu_ms_p95", "wall_ms", "wall_ms_p95")
    assert {k: v for k, v in one.items() if k not in timed} == {k: v for k, v in two.items() if k not in timed}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("gp", ("gp", "gp", {})),
        ("gp?beta=2.5&acquisition=ucb", ("gp?beta=2.5&acquisition=ucb", "gp", {"beta": 2.5, "acquisition": "ucb"})),
        ("bold=gp?beta=3", ("bold", "gp", {"beta": 3})),
        ("some.module:Mine", ("some.module:Mine", "some.module:Mine", {})),
    ],
)
def test_an_arm_has_a_label_a_proposer_and_options(text, told):
    assert runs.spec(text) == told


def test_a_command_goes_on_where_it_stopped(tmp_path, monkeypatch):
    path = tmp_path / "numeric.csv"
    jobs = [job(instance=n) for n in (1, 2, 3)]
    first, words = runs.run_all(jobs[:2], path)
    assert len(first) == 2 and not words
    done = []
    real = runs.run
    monkeypatch.setattr(runs, "run", lambda one, warmup: done.append(one) or real(one, warmup=warmup))
    found, _ = runs.run_all(jobs, path)
    assert done == jobs[2:] and set(found) == set(jobs)
    assert found[jobs[0]] == first[jobs[0]]


def test_a_row_that_was_cut_off_is_run_again(tmp_path):
    path = tmp_path / "numeric.csv"
    runs.run_all([job(), job(instance=2)], path)
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole[:-20], encoding="utf-8")
    assert set(runs.stored(path)) == {job()}
    runs.run_all([job(), job(instance=2)], path)
    assert set(runs.stored(path)) == {job(), job(instance=2)}


def test_one_arm_is_measured_anew(tmp_path):
    path = tmp_path / "numeric.csv"
    runs.run_all([job(), job("coordinate"), job("quick=coordinate")], path)
    runs.discard(path, ["coordinate", "quick"])
    assert set(runs.stored(path)) == {job()}
    runs.discard(path, ["random"])
    assert runs.stored(path) == {}
    runs.run_all([job()], path)
    assert set(runs.stored(path)) == {job()}


def test_results_of_another_layout_are_refused(tmp_path):
    path = tmp_path / "numeric.csv"
    path.write_text("arm,regret\nrandom,1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="delete it"):
        runs.run_all([job()], path)


def test_an_arm_that_breaks_does_not_stop_the_others(tmp_path):
    found, words = runs.run_all([job("no-such-proposer"), job()], tmp_path / "numeric.csv")
    assert set(found) == {job()}
    assert len(words) == 1 and "no-such-proposer" in words[0]


def test_no_run_begins_when_the_time_is_over(tmp_path):
    found, words = runs.run_all([job(), job(instance=2)], tmp_path / "numeric.csv", minutes=-1)
    assert not found and words == ["2 runs are left for the next call of this command"]


def test_costs_are_computed_once_and_kept(tmp_path):
    asked = []

    def cost(values):
        asked.append(values["x"])
        return None if values["x"] < 0 else values["x"] / 3

    for _ in range(2):
        known = worlds._Stored("task").of(cost)
        assert [known({"x": 1.0}), known({"x": -1.0}), known({"x": 1.0})] == [1 / 3, None, 1 / 3]
    assert asked == [1.0, -1.0]


# --- models


def simulated(kind, arm=EVOLLM, budget=65):
    return runs.run(job(arm, budget=budget, model=kind))


@pytest.mark.parametrize("arm", [EVOLLM, "llambo?warm=0", "opro"])
def test_whatever_an_adversary_proposes_fails(arm, monkeypatch):
    searches = watched(monkeypatch)
    row = simulated("adversarial", arm)
    trials = [trial for trial in searches[0].state.history.trials if runs.by_model(trial.source)]
    assert len(trials) > 40 and all(trial.state == "failed" for trial in trials)
    assert row["llm_share"] > 0.9 and row["calls"] >= len(trials)


def watched(monkeypatch):
    """Every search that is begun from now on."""
    found = []

    class Watched(runs.Search):
        def __init__(self, *given, **more):
            super().__init__(*given, **more)
            found.append(self)

    monkeypatch.setattr(runs, "Search", Watched)
    return found


@pytest.mark.parametrize("arm", [EVOLLM, "llambo?warm=0", "opro"])
def test_an_oracle_is_near_the_optimum_one_time_in_three(arm, monkeypatch):
    searches = watched(monkeypatch)
    simulated("oracle", arm)
    trials = [trial for trial in searches[0].state.history.trials if runs.by_model(trial.source)]
    worst = [max(abs(trial.candidate[name] - best) for name, best in OPTIMUM.items()) for trial in trials]
    third = [value for place, value in enumerate(worst, 1) if place % 3 == 0]
    assert max(third) < 3.5 < sorted(value for place, value in enumerate(worst, 1) if place % 3)[len(worst) // 3]


def test_it_knows_which_coordinates_a_prompt_is_about():
    known = [[1, 2, 3, 4], [5, 6, 7, 8]]
    prompt = "90 : 4, 1\n100 : 8, 5\n110 :"
    assert models.rows(prompt, 2) == [[4, 1], [8, 5]]
    assert models.coordinates([[4, 1], [8, 5]], known, 4, 2) == [3, 0]
    assert models.coordinates([[2, 3]], known, 4, 2) == [1, 2]
    with pytest.raises(OutputInvalid):
        models.coordinates([[4, 8]], known, 4, 2)


NUMBER = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"], "additionalProperties": False}
WORD = {"type": "object", "properties": {"y": {"type": "string"}}, "required": ["y"], "additionalProperties": False}


def request(schema, text="go"):
    return ModelRequest((Message("user", text),), schema=schema)


async def said(model, schema, times):
    return [(await model.complete(request(schema), seed=None)).text for _ in range(times)]


async def test_answers_are_given_to_other_questions_of_their_kind():
    numbers = [f'{{"x": {n}}}' for n in range(8)]
    told = [(models.kind_of(NUMBER), text) for text in numbers]
    told.append((models.kind_of(WORD), '{"y": "no"}'))
    model = models.Shuffled(told, "seed")
    first, second = await said(model, NUMBER, 8), await said(model, NUMBER, 8)
    assert sorted(first) == sorted(second) == numbers
    assert first != numbers and first != second
    assert await said(model, WORD, 2) == ['{"y": "no"}'] * 2


async def test_where_no_answer_has_the_kind_one_that_fits_is_given():
    wider = {**NUMBER, "properties": {"x": {"type": "integer", "minimum": 3}}}
    told = [(models.kind_of(NUMBER), f'{{"x": {n}}}') for n in range(5)]
    assert sorted(await said(models.Shuffled(told, ""), wider, 2)) == ['{"x": 3}', '{"x": 4}']
    assert await said(models.Shuffled(told, ""), WORD, 1) == [""]


def test_answers_that_were_never_recorded_are_not_made_up():
    with pytest.raises(PrerequisiteError, match="no answers") as caught:
        runs.run(job(EVOLLM, model="shuffled:local:tiny"))
    assert "models --model local:tiny" in caught.value.fix


class Talker:
    """A model that says another point each time, until it breaks down."""

    endpoint = "talker"

    def __init__(self, answers=math.inf):
        self.count = 0
        self.answers = answers

    async def complete(self, request, *, seed):
        if self.count >= self.answers:
            raise RuntimeError("the machine was switched off")
        self.count += 1
        return Completion(text=json.dumps({"solution": [self.count * 20, 500, 500]}), usage=Usage(input=9, output=3))

    async def close(self):
        return None


TALK = job(EVOLLM, budget=30, model="scripted:talker")


def test_a_models_answers_are_recorded_and_can_be_shuffled(monkeypatch):
    searches = watched(monkeypatch)
    monkeypatch.setattr(models, "connect", lambda name: Talker())
    first = runs.run(TALK)
    assert first["tokens_in"] == 9 * first["calls"] > 0
    told = models.told(models.recorded(TALK, TALK.model))
    assert [json.loads(text)["solution"][0] for _, text in told] == [20 * n for n in range(1, len(told) + 1)]
    with pytest.raises(PrerequisiteError, match="another world"):
        runs.run(replace(TALK, model=f"shuffled:{TALK.model}"))
    other = replace(TALK, instance=2, model=f"shuffled:{TALK.model}")
    assert sorted(models.foreign(other, TALK.model)) == sorted(told), "its own answers are not among them"
    again = runs.run(other)
    assert 0 < again["calls"] <= first["calls"] + 2 and searches


def test_a_run_that_was_cut_off_uses_the_answers_that_it_got(monkeypatch):
    whole = Talker()
    monkeypatch.setattr(models, "connect", lambda name: whole)
    expected = runs.run(TALK)
    models.recorded(TALK, TALK.model).unlink()
    monkeypatch.setattr(models, "connect", lambda name: Talker(answers=10))
    with pytest.raises(ProviderError, match="switched off"):
        runs.run(TALK)
    rest = Talker()
    rest.count = 10
    monkeypatch.setattr(models, "connect", lambda name: rest)
    found = runs.run(TALK)
    assert rest.count == whole.count, "ten were not asked for again"
    same = ("calls", "tokens_in", "tokens_out", "at_10", "at_30", "sources", "rejected")
    assert {name: found[name] for name in same} == {name: expected[name] for name in same}
    assert len(models.told(models.recorded(TALK, TALK.model))) == whole.count


# --- pictures


def test_a_plot_is_sound_and_leaves_out_what_failed_throughout():
    told = [{"at_5": "3", "at_10": "1"}, {"at_5": "5", "at_10": "0"}, {"at_5": "9", "at_10": "2"}]
    curve = plot.quartiles(told, [5, 10, 20], 1e-8)
    assert curve == [(5.0, 3.0, 5.0, 9.0), (10.0, 1e-8, 1.0, 2.0)]
    assert plot.quartiles([{"at_5": "inf"}], [5], 1e-8) == []
    picture = plot.svg("a < b", "regret", {"f1 & co": {"portfolio": curve, "random": []}})
    root = ElementTree.fromstring(picture)
    words = [item.text for item in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"a < b", "f1 & co", "portfolio", "random"} <= set(words)
    assert len(list(root.iter("{http://www.w3.org/2000/svg}polygon"))) == 1


def test_an_empty_panel_is_no_error():
    assert ElementTree.fromstring(plot.svg("t", "l", {"p": {"a": []}})) is not None


def test_costs_of_failing_places():
    cost = worlds.failing_in((4.9, 4.91), sphere)
    assert cost(Candidate({**OPTIMUM, "x1": 4.905})) is None
    assert cost(Candidate({**OPTIMUM, "x1": 5.0})) == pytest.approx(56.0)
