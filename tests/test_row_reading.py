"""What a proposer reads of the rows is known, and learning it by heart is not rewarded."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.gate.arena import FEWEST
from agent.problem import Example
from agent.proposers.base import Context, Proposal
from agent.replay import replay
from agent.session import Session
from agent.texts import Text
from tests.row_support import Ran, Steps, luck, problem, resumed, rows, run, session


def halves() -> list[Example]:
    """Rows that the user has divided: numbers below 100 are train, the others val."""
    return [*rows(100), *rows(100, start=100, split="val")]


class Memoriser:
    """Reads rows on which the champion failed, and writes what it read into its candidate."""

    name = "memoriser"
    needs_model = False

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        champion = context.history[context.history.champion]
        failed = [name for name, (value, _) in sorted(champion.rows.items()) if value == 0.0]
        wanted = failed[:12] if not context.options else list(champion.rows)[:40]
        views = [await context.read(name) for name in wanted]
        assert all(view.measured and (view.score == 0.0 or context.options) for view in views)
        known = {*str(champion.candidate["prompt"]).split(), *(f"<{view.row['number']}>" for view in views)}
        return [Proposal({"prompt": " ".join(sorted(known))}, self.name, parents=(champion.id,))]

    forecast = Steps.forecast


def by_heart(candidate: Mapping[str, Any], row: Mapping[str, Any]) -> float:
    """Right on what the prompt holds; on all else the coin decides, whatever the candidate is."""
    return 1.0 if f"<{row['number']}>" in candidate["prompt"] else float(luck("coin", row["number"]) < 0.5)


HEART = {"prompt": Text("Think.")}


def memorised(folder: Path, **more: Any) -> Ran:
    given = {"budget": 800, "proposer": "tests.test_row_reading:Memoriser", "space": HEART, **more}
    return run(folder / "run", by_heart, **given)


def test_learning_by_heart_what_was_read_wins_no_race(tmp_path: Path) -> None:
    found = memorised(tmp_path)
    admitted = found.of("candidate.admitted")
    assert admitted and all(event.read for event in admitted), "what was read goes with every proposal"
    assert {event.decision for event in found.of("race.decided")} <= {"drop"}
    assert found.result.status == "initial"
    for event in admitted:
        rows_raced = {e.example for e in found.of("evaluation.started") if e.candidate == event.candidate}
        assert rows_raced.isdisjoint(event.read)


def test_without_that_account_it_would_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Context, "finished", lambda self, proposal: proposal.to_json())
    found = memorised(tmp_path)
    assert "promote" in {event.decision for event in found.of("race.decided")}, "the race alone is taken in"
    assert found.result.released == found.result.initial, "the exam is not"


def test_who_has_read_the_whole_race_set_is_raced_on_other_rows(tmp_path: Path) -> None:
    found = memorised(tmp_path, options={"everything": True}, budget=800)
    assert {event.decision for event in found.of("race.decided")} <= {"drop"}
    for event in found.of("candidate.admitted"):
        raced = {e.example for e in found.of("evaluation.started") if e.candidate == event.candidate}
        assert raced.isdisjoint(event.read)
    assert len(event.read) > 40 - FEWEST, "without other rows too few would be left"


def test_what_was_read_is_in_the_journal_and_replays(tmp_path: Path) -> None:
    found = memorised(tmp_path, workers=4, pause=0.001, budget=500)
    read = found.of("row.read")
    assert read and {event.example for event in read} <= {row.id for row in found.split("train")}
    content = {row.id: row.row for row in found.split("train")}
    assert all(event.row == content[event.example] for event in read)
    assert found.replays((1, 2, 8))


class Curious(Memoriser):
    """Asks for the gate's rows, and for a train row after its first proposal was made."""

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        for name in context.options["wanted"]:
            try:
                await context.read(name)
            except Exception as error:
                context.reject(str(error), self.name)
        context.exhausted = True
        own = Proposal({"prompt": "own"}, self.name, read=("row-3",))
        return [own, Proposal({"prompt": "other"}, self.name)]


def test_only_rows_of_train_can_be_read_and_all_are_counted(tmp_path: Path) -> None:
    options = {"wanted": ["row-150", "row-1", "row-2", "row-1", "nothing"]}
    found = run(
        tmp_path / "run",
        by_heart,
        data=halves(),
        budget=300,
        space=HEART,
        proposer="tests.test_row_reading:Curious",
        options=options,
    )
    assert [event.read for event in found.of("candidate.admitted")] == [["row-3", "row-1", "row-2"], ["row-1", "row-2"]]
    (ended,) = found.of("proposal.ended")
    for name, item in zip(("row-150", "nothing"), ended.rejections, strict=True):
        assert f"there is no row {name!r} to read" in item["reason"]
    assert len(found.of("row.read")) == 2, "a row that is read twice is told once"


class Slow(Memoriser):
    """Is cut off between what it reads and what it proposes."""

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        made = await super().propose(context, n)
        if context.decision == 2 and not Path(context.options["go"]).exists():
            await asyncio.Event().wait()
        return made


async def test_a_cut_off_proposal_reads_the_same_again(tmp_path: Path) -> None:
    go = tmp_path / "go"

    def fresh() -> Session:
        options = {"go": str(go)}
        return session(problem(by_heart, space=HEART), 500, proposer="tests.test_row_reading:Slow", options=options)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(fresh().run(tmp_path / "run"), 0.5)
    go.touch()
    found = await resumed(fresh(), tmp_path / "run")
    reads = [(event.proposal, event.example) for event in found.of("row.read")]
    assert len(set(reads)) == len(reads) and any(proposal == 2 for proposal, _ in reads)
    assert len(found.of("proposal.started")) > 2
    assert (await replay(found.folder))[1] is None
