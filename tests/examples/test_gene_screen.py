"""A gene screen in rounds, and the control with shuffled reports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from agent.llm.scripted import Scripted
from tests.cli_helpers import environment
from tests.examples.support import EXAMPLES, modules


@pytest.fixture
def example() -> Iterator[tuple[ModuleType, ...]]:
    with modules("gene-screen", "screen", "screens", "pickers") as found:
        yield found


def run(example: Any, picker: str, path: Path, *, seed: int = 0, shuffled: bool = False, **more: Any) -> Any:
    screen, screens, _ = example
    given = {"model": None, "rounds": 3, **more}
    made = given.pop("made", None) or screens.synthetic(200)
    return screen.run(made, picker, seed, shuffled=shuffled, runs=path, **given)


def test_shuffled_reports_are_the_same_scores_of_other_genes(example: Any) -> None:
    true = example[1].synthetic(300)
    false = true.shuffled(1)
    assert false.genes == true.genes == sorted(true.genes)
    assert sorted(false.scores.values()) == sorted(true.scores.values())
    assert len(false.hits) == len(true.hits) == 15 and len(false.hits & true.hits) < 8
    by_score = sorted(false.scores, key=false.scores.__getitem__)[-15:]
    assert {false.scores[gene] for gene in false.hits} == {false.scores[gene] for gene in by_score}
    assert true.shuffled(1) == false != true.shuffled(2)


def test_no_gene_is_tested_twice_and_recall_only_grows(example: Any, tmp_path: Path) -> None:
    found = run(example, "random", tmp_path)
    assert len(found["recall"]) == 3 and found["recall"] == sorted(found["recall"]) and found["calls"] == 0
    all_of_them = run(example, "random", tmp_path, rounds=7)  # 7 x 32 are more than 200
    assert all_of_them["recall"][-1] == 1.0


def test_a_lab_does_not_test_more_than_a_batch(example: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Greedy(example[2].Random):
        async def pick(self, context: Any, left: list[str], known: Any, size: int) -> Any:
            return left[: size + 1], ""

    monkeypatch.setattr(example[2], "Greedy", Greedy, raising=False)
    assert run(example, "greedy", tmp_path)["recall"] == []


def test_families_learn_from_true_reports_and_not_from_shuffled_ones(example: Any, tmp_path: Path) -> None:
    names = [f"{letter * 4}{number}" for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" for number in range(12)]
    hits = frozenset(name for name in names if name[0] in "CQ")
    made = example[1].Screen("planted", "find hits", "1 for a hit", {n: float(n in hits) for n in names}, hits, 32)
    true, false = (
        [run(example, "families", tmp_path, seed=s, shuffled=shuffled, made=made)["recall"][-1] for s in range(4)]
        for shuffled in (False, True)
    )
    assert min(true) > 0.6 > max(false)  # 96 of 312 genes are tested


def test_what_a_model_names_is_used_and_the_rest_is_counted(example: Any, tmp_path: Path) -> None:
    """Named by heart, then from a menu, then drawn; what does not exist is refused with a reason."""
    made = example[1].synthetic(200)

    def says(request: Any) -> str:
        wanted = request.schema["properties"]["genes"]
        menu = wanted["items"].get("enum")
        named = menu[:20] if menu else [*made.genes[:5], *made.genes[:2]]
        return json.dumps({"genes": named + ["XYZ1" if menu is None else menu[0]] * (wanted["minItems"] - len(named))})

    model = Scripted(says)
    found = run(example, "model", tmp_path, made=made, model=model, rounds=2)
    assert found["model"] == [5, 40, 19] and sum(found["model"]) == 64
    first, asked, later = (model.requests[number].messages[0].text for number in (0, 1, 2))
    assert "Name 32 further genes" in first and "Choose 27 of these" in asked
    assert "Tested so far: 32 genes" in later and all(gene in later for gene in made.genes[:5])


def test_a_made_up_screen_runs_by_one_command_and_says_so(tmp_path: Path) -> None:
    script = str(EXAMPLES / "gene-screen" / "screen.py")
    command = [sys.executable, script, "--picker", "random", "--picker", "families", "--seeds", "2", "--rounds", "2"]
    env = environment(PYTHONPATH=str(EXAMPLES.parent))
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=env, check=True, cwd=tmp_path)
    assert "a made-up screen" in done.stdout and "| families |" in done.stdout
    assert "| random |" in done.stdout and "+0.000 ± 0.000" in done.stdout
    lost = [sys.executable, script, "--data", str(tmp_path)]
    refused = subprocess.run(lost, capture_output=True, text=True, timeout=100, env=env, check=False)
    assert refused.returncode == 2 and "there is no Scharenberg22.csv" in refused.stderr


def test_on_a_real_screen(example: Any, tmp_path: Path) -> None:
    folder = Path(os.environ.get("TRUEGAIN_DATA", "-")) / "biodiscovery"
    if not (folder / "Scharenberg22.csv").is_file():
        pytest.skip("the shared data is not here: TRUEGAIN_DATA names no folder with it")
    made = example[1].read(folder, "Scharenberg22")
    assert len(made.hits) == 53 and made.batch == 32 and made.scores["SPNS1"] == 464
    assert made.genes == sorted(made.genes)
    assert 0 <= run(example, "families", tmp_path, made=made)["recall"][-1] < 0.6
