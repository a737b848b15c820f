"""What all who ask a model for programs have in common: sources, the length of replies, what earlier ones came to."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent import optimize
from agent.llm.types import ModelRequest
from agent.problem import Problem
from agent.proposers.base import Proposal, Proposer
from agent.proposers.best_of_n import BestOfN
from agent.proposers.evolve import Evolve
from agent.proposers.quality_diversity import QualityDiversity
from agent.proposers.tree import TreeSearch
from agent.space import Candidate, Space
from agent.texts import Code
from tests.proposers.evolve_worlds import edited, fenced, number, search

EVERYONE = [Evolve, TreeSearch, QualityDiversity, BestOfN]
PROGRAM = "def solve(x):\n    return x + 0\n"


class Dice:
    """A model that says anything: good programs, broken ones, edits, prose, nothing."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.requests: list[ModelRequest] = []
        self.written: set[str] = set()

    def __call__(self, request: ModelRequest) -> str:
        self.requests.append(request)
        n = self.rng.randrange(1, 900)
        self.written.add(str(n))
        kinds = [fenced(n), fenced(n, "    raise KeyError\n"), edited(0, n), "Good luck!", "", "```python\ndef"]
        return self.rng.choice(kinds)


@pytest.mark.parametrize("proposer", EVERYONE)
@pytest.mark.parametrize("seed", range(3))
def test_what_a_model_wrote_says_so_in_its_source(proposer: type[Proposer], seed: int) -> None:
    dice = Dice(seed)
    options = {"operators": ["edit", "rewrite", "cross", "fix"]} if proposer is Evolve else {}
    state = search(proposer(), dice, budget=30, options=options).run()
    proposed = [trial for trial in state.history.trials if trial.number]
    assert len(proposed) > 5
    for trial in proposed:
        assert trial.source.startswith(f"{proposer.name}:llm:"), trial.source
    refused = [item["source"] for item in state.history.rejections if "reply" in item["reason"]]
    assert refused and all(source.startswith(f"{proposer.name}:llm:") for source in refused)


@pytest.mark.parametrize("proposer", EVERYONE)
def test_a_reply_far_beyond_any_program_is_not_read_and_not_sent_back(proposer: type[Proposer]) -> None:
    requests: list[ModelRequest] = []

    def model(request: ModelRequest) -> str:
        requests.append(request)
        return "```python\n" + "# x\n" * 200_000 + PROGRAM + "```"

    state = search(proposer(), model, budget=8).run()
    assert len(state.history.trials) == 1
    first, second = list(state.history.rejections)[:2]
    assert "the reply has 800," in first["reason"] and "max_chars of program allows more" in second["reason"]
    assert max(sum(len(message.text) for message in request.messages) for request in requests) < 10_000


def test_a_program_longer_than_eight_times_the_first_is_refused_with_what_raises_the_limit() -> None:
    long = "```python\n" + "# x\n" * 5_000 + "def solve(x):\n    return x + 5\n```"
    for space, allowed in (
        (Space({"program": Code(PROGRAM, entry="solve")}), 20_000),
        (Space({"program": Code("# y\n" * 1_000 + PROGRAM, entry="solve")}), None),
        (Space({"program": Code(PROGRAM, entry="solve", max_chars=50_000)}), None),
    ):
        run = search(BestOfN(), lambda request: long, space=space)
        context = run.context()
        made = asyncio.run(BestOfN().propose(context, 1))
        assert bool(made) == (allowed is None)
        if allowed is not None:
            assert "has 20,031 characters, 20,000 are allowed" in context.rejections[0]["reason"]
            assert "sets max_chars of program" in context.rejections[0]["reason"]


def test_the_files_of_a_tree_count_together_and_the_longest_is_named() -> None:
    tree = {"a.py": PROGRAM, "b.py": "y = 1\n"}
    problem = search(BestOfN(), str, space=Space({"program": Code(tree, files=("*.py",))})).state.problem
    grown = {"a.py": PROGRAM + "# x\n" * 3_000, "b.py": "# x\n" * 2_000}
    told = problem.overlong({"program": grown})
    assert "has 20,031 characters (a.py has 12,031 of them), 20,000 are allowed" in told
    assert problem.overlong({"program": {**grown, "b.py": ""}}) == ""


def test_a_run_that_was_begun_without_a_limit_goes_on_without_one() -> None:
    problem = search(BestOfN(), str).state.problem
    old = problem.to_json()
    assert old.pop("bounded") is True
    before = Problem.from_json(old)
    long = {"program": "#" * 900_000}
    assert problem.overlong(long) and not before.overlong(long)
    assert "bounded" not in before.to_json()
    assert replace(problem, bounded=False).fingerprints == problem.fingerprints


class Own:
    """A proposer of a user's own."""

    name, needs_model, texts = "own", False, True

    async def propose(self, context: Any, n: int) -> list[Proposal]:
        size = 6_000 if context.decision == 1 else 1
        return [Proposal({"program": "# x\n" * size + f"def solve(x):\n    return {context.decision}\n"}, self.name)]

    def forecast(self, problem: Any, candidates: int, options: Any) -> tuple[int, int, int]:
        return 0, 0, 0


def test_nobodys_proposal_is_longer_not_that_of_a_users_own_proposer_either(tmp_path: Path) -> None:
    result = optimize(
        lambda candidate: float(candidate["program"].count("return")),
        space={"program": Code(PROGRAM, entry="solve")},
        objectives="maximize",
        deterministic=True,
        budget=4,
        model=None,
        options={"proposer": "tests.proposers.test_program_replies:Own"},
        runs=tmp_path,
    )
    assert len(result.trials) > 1
    assert max(len(trial.candidate["program"]) for trial in result.trials) < 100


@pytest.mark.parametrize("reply", [edited(0, 3), fenced(3)])
def test_what_came_of_a_reply_without_a_reason_is_told_by_its_lines(reply: str) -> None:
    requests: list[ModelRequest] = []

    def model(request: ModelRequest) -> str:
        requests.append(request)
        return (reply if len(requests) == 1 else fenced(100 + len(requests))).partition("\n")[2]

    search(TreeSearch(), model, budget=6, measure=worse).run()
    told = "\n".join(request.messages[0].text for request in requests)
    assert "no reason given" not in told
    assert ': changed "- return x + 0; + return x + 3"' in told


def worse(candidate: Candidate) -> dict[str, float]:
    """The first program is the best one, so that it is refined again."""
    return {"value": float(number(candidate)), "size": 0.0}
