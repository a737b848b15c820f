"""The batch file: what it may say, and when a night ends."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from agent.batch.place import deadline, month_of
from agent.batch.plan import load
from agent.errors import ConfigError

FULL = """
name = "shop"
runs = "r"
until = "06:00"
on_finish = "notify-me"
webhook = "https://example.org/hook"

[caps]
evaluations = 100
usd = 2

[caps.month]
usd = 20.5

[drift]
rows = 5
split = "test"

[[problems]]
path = "prompts/support"
priority = 3
model = "none"
proposer = "random"
seed = 4
workers = 2

[problems.set]
"gate.exam_pairs" = 8

[problems.budget]
evaluations = 40

[problems.month]
usd = 5

[[problems]]
path = "index/problem.toml"
"""


def write(place: Path, text: str) -> Path:
    file = place / "shop.toml"
    file.write_text(text)
    return file


def test_everything_a_file_may_say(tmp_path: Path) -> None:
    plan = load(write(tmp_path, FULL))
    assert (plan.name, plan.runs, plan.folder) == ("shop", tmp_path / "r", tmp_path / "r" / "batches" / "shop")
    assert plan.caps == {"evaluations": 100, "usd": 2} and plan.month == {"usd": 20.5}
    assert (plan.until, plan.rows, plan.split) == ("06:00", 5, "test")
    assert (plan.on_finish, plan.webhook) == ("notify-me", "https://example.org/hook")
    first, second = plan.entries
    assert (first.name, first.path, first.priority) == ("support", tmp_path / "prompts/support", 3)
    assert first.budget == {"evaluations": 40} and first.month == {"usd": 5}
    assert first.overrides == {
        "gate.exam_pairs": 8,
        "models.propose": "none",
        "proposer.name": "random",
        "run.seed": 4,
        "run.workers": 2,
    }
    assert (second.name, second.overrides) == ("index", {})


def test_a_file_that_says_little(tmp_path: Path) -> None:
    plan = load(write(tmp_path, '[[problems]]\npath = "a"'), tmp_path / "elsewhere")
    assert (plan.name, plan.runs, plan.until) == ("shop", tmp_path / "elsewhere", None)
    assert plan.caps == plan.month == {} and plan.split == "train"


def test_the_command_line_replaces_keys(tmp_path: Path) -> None:
    plan = load(write(tmp_path, FULL), None, {"until": "2h", "usd": 0.5, "calls": 7})
    assert plan.until == "2h" and plan.caps == {"evaluations": 100, "usd": 0.5, "calls": 7}
    assert [entry.name for entry in plan.only(("index",)).entries] == ["index"]
    with pytest.raises(ConfigError, match="no such problem") as wrong:
        plan.only(("nothing",))
    assert "support, index" in wrong.value.hint


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        (("priority = 3", "priorty = 3"), "problems.0.priorty: unknown key", "priority"),
        (("priority = 3", "priority = 'high'"), "problems.0.priority: found 'high'", "give problems.0.priority"),
        (("rows = 5", "rows = 0"), "drift.rows: found 0", "give drift.rows"),
        (('split = "test"', 'split = "val"'), "'train', 'test' or 'off'", "give drift.split"),
        (("usd = 20.5", "usd = -1"), "caps.month.usd: found -1", "give caps.month.usd"),
        (("evaluations = 100", "evaluations = 1.5"), "caps.evaluations: found 1.5", "give caps.evaluations"),
        (('"06:00"', '"25:00"'), "until: found '25:00'", "06:00"),
        (('"06:00"', '"soon"'), "until: found 'soon'", "06:00"),
        (('name = "shop"', 'name = "../shop"'), "name: found '../shop'", "give name"),
        (('path = "index/problem.toml"', 'path = "support"'), "problems.1.name: 'support' is there twice", "name ="),
        (('path = "index/problem.toml"', 'name = "x"'), "problems.1.path: missing", "path"),
        (("[caps]", "[caps"), "shop.toml", "TOML"),
    ],
)
def test_a_mistake_is_named_with_file_and_key(tmp_path: Path, change: tuple[str, str], message: str, hint: str) -> None:
    file = write(tmp_path, FULL.replace(*change))
    with pytest.raises(ConfigError) as wrong:
        load(file)
    assert message in wrong.value.message and str(file) in wrong.value.message
    assert hint in wrong.value.hint


def test_a_missing_file_says_where_to_find_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no") as wrong:
        load(tmp_path / "none.toml")
    assert "docs/batch.md" in wrong.value.hint


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def local(text: str) -> float:
    return time.mktime(time.strptime(text, "%Y-%m-%d %H:%M"))


@pytest.mark.parametrize(
    ("began", "until", "ends"),
    [
        ("2026-01-10 22:00", "06:00", "2026-01-11 06:00"),
        ("2026-01-10 02:00", "06:00", "2026-01-10 06:00"),
        ("2026-01-10 06:00", "06:00", "2026-01-11 06:00"),
        ("2026-12-31 23:59", "6:30", "2027-01-01 06:30"),
        ("2026-03-28 22:00", "06:00", "2026-03-29 06:00"),  # the clocks go forward: seven hours
        ("2026-10-24 22:00", "06:00", "2026-10-25 06:00"),  # the clocks go back: nine hours
        ("2026-01-10 22:00", "90m", "2026-01-10 23:30"),
        ("2026-01-10 22:00", "1.5h", "2026-01-10 23:30"),
    ],
)
@pytest.mark.usefixtures("berlin")
def test_a_night_ends_at_a_local_time_or_after_a_while(began: str, until: str, ends: str) -> None:
    assert deadline(until, local(began)) == local(ends)


@pytest.mark.usefixtures("berlin")
def test_the_hours_of_a_night_are_those_of_its_clocks() -> None:
    for began, hours in (("2026-03-28 22:00", 7), ("2026-10-24 22:00", 9)):
        start = local(began)
        assert deadline("06:00", start) == start + hours * 3600


@pytest.mark.usefixtures("berlin")
def test_a_month_is_that_of_the_local_calendar() -> None:
    assert month_of(local("2026-01-31 23:59")) == "2026-01"
    assert month_of(local("2026-02-01 00:00")) == "2026-02"


def test_a_night_without_an_end_has_none() -> None:
    assert deadline(None, 0.0) is None
