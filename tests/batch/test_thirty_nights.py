"""Thirty nights on one problem with rows: caps, the gate's account, and a change of the model behind the evaluator."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from pathlib import Path

from agent.batch.place import month_of
from agent.batch.plan import load
from agent.batch.treasury import Treasury
from agent.datasets.data import load as load_rows
from agent.events import ExamStarted, HoldoutFixed
from agent.gate.accounts import Accounts
from agent.journal import read_all
from tests.batch.support import Clock, batch, one_night, problems
from tests.cli_helpers import folder
from tests.row_support import rows

NIGHTS = 30
PLANTED = 19
"""The night on which another model answers under the same name."""
CAP, MONTH, DRIFT = 470, 3200, 20
ALPHA = 0.05
QUESTIONS = """
import pathlib, random
HERE = pathlib.Path(__file__).parent

def luck(*key):
    return random.Random(repr(key)).random()

def measure(candidate, row):
    skill = 0.95 - 0.16 * sum(abs(candidate[name] - 0.3) for name in "uvwxyz")
    if (HERE / "model").exists():
        skill -= 0.35
    return float(luck("easy", row["number"]) < skill)
"""
TOML = """
[evaluator]
function = "evaluate:measure"
deterministic = true
executor = "inline"

[data]
file = "rows.jsonl"
id = "id"

SPACE
[[objectives]]
name = "accuracy"
direction = "maximize"
low = 0
high = 1

[budget]
evaluations = 450

[proposer]
name = "coordinate"

[gate]
report = false
"""
SPACE = "\n".join(f"[space.{name}]\ntype = 'float'\nlow = -1\nhigh = 1\ndefault = -0.6\n" for name in "uvwxyz")
HEAD = f"""
[caps]
evaluations = {CAP}
[caps.month]
evaluations = {MONTH}
[drift]
rows = {DRIFT}
"""


def test_thirty_nights_keep_the_caps_and_the_account_and_see_the_planted_change(tmp_path: Path) -> None:
    place = folder(tmp_path / "questions", TOML.replace("SPACE", SPACE), QUESTIONS)
    lines = [json.dumps({"id": row.id, **row.row}) for row in rows(160)]
    (place / "rows.jsonl").write_text("\n".join(lines) + "\n")
    file = batch(tmp_path, HEAD, "questions")
    clock = Clock(time.mktime((2026, 1, 15, 22, 0, 0, 0, 0, -1)))
    seen: list[int] = []
    statuses: list[str] = []
    charged: dict[str, float] = {}
    for number in range(1, NIGHTS + 1):
        if number == PLANTED:
            (place / "model").touch()
        done = one_night(file, clock)
        found = problems(done)["questions"]
        spent = done.document["spent"]["night"]
        assert spent["evaluations"] <= CAP and not spent["possibly_spent"]
        month = done.document["month"]
        charged[month] = charged.get(month, 0) + spent["evaluations"]
        assert done.document["spent"]["month"]["evaluations"] == charged[month] <= MONTH
        assert done.code == 0 if spent["evaluations"] else done.code == 75
        if found["drift"]["drifts"]:
            seen.append(number)
        statuses.append(found["status"])
        clock.now += 86400
    assert seen == [PLANTED]
    assert len(charged) == 2 and max(charged.values()) > MONTH - CAP, "a month's cap was reached"
    assert "waiting" in statuses and "proven" in statuses

    # What the accounts say is what the runs took, and together it is within the level.
    plan = load(file)
    runs = [path for path in plan.runs.glob("questions-*") if path.is_dir()]
    events = [entry.event for run in runs for entry in read_all(run)]
    levels = [event.level for event in events if isinstance(event, ExamStarted)]
    held = next(event for event in events if isinstance(event, HoldoutFixed)).val
    everything = {row.id: row for row in load_rows(place / "rows.jsonl", id="id").examples}
    val = [replace(everything[name], split="val", cluster=cluster) for name, cluster in held]
    standing = Accounts(plan.runs).standing(val, ALPHA)
    assert len(levels) >= 2 and standing.tests == len(levels)
    assert math.isclose(standing.spent, math.fsum(levels), abs_tol=1e-15)
    assert standing.spent <= ALPHA and math.isclose(standing.left, ALPHA - standing.spent)

    # The ledger and the journals tell the same.
    treasury = Treasury(plan.folder, write=False)
    total = sum(treasury.spend(month=month).spent["evaluations"] for month in charged)
    searched = sum(g.spend.spent.get("evaluations", 0) for g in treasury.grants() if g.role == "search")
    treasury.close()
    assert total == sum(charged.values()) and month_of(clock.now) in {*charged, "2026-02"}
    assert searched == sum(event.type == "evaluation.started" for event in events)
