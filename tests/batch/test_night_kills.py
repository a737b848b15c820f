"""A night that is killed at random moments, on a machine that is rebooted, ends as it would have ended undisturbed."""

from __future__ import annotations

import os
import random
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from agent.control.wire import address
from agent.lock import LOCK, LOCKS
from agent.results.result import load_result
from tests.batch.support import batch, bowl, problems, provider
from tests.cli_helpers import begin, cli, finish

PATIENCE = 120.0
HEAD = """
[caps]
evaluations = 160

[drift]
split = "off"
"""
"""What was cut off is measured again and counts too, so the cap leaves some room for that."""
MODEL = """
[models]
propose = "openai:fake"
base_url = "{url}"
"""


def world(place: Path, url: str) -> Path:
    """Three problems under one cap: one that asks a model, a classical one, and a noisy one with an exam."""
    model = {'"coordinate"': '"evollm"'}
    bowl(place / "asks", evaluations=24, toml=MODEL.format(url=url), **model)
    bowl(place / "exact", evaluations=36)
    bowl(place / "noisy", evaluations=80, noise=0.05)
    return batch(place, HEAD, "asks\npriority = 2", "exact\npriority = 1", "noisy")


def ends(document: dict[str, Any], runs: Path) -> dict[str, Any]:
    """What must not depend on kills."""
    out = {}
    for name, problem in problems(document).items():
        result = load_result(runs / problem["run"])
        out[name] = {
            "status": result.status,
            "best": result.best.values_json,
            "released": result.released.values_json,
            "verdict": result.verdict,
            "evaluations": result.spent["evaluations"],
            "charged": problem["spent"]["evaluations"],
            "sentence": problem["sentence"],
        }
    return out


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def reboot(runs: Path) -> None:
    """Lock files name a living stranger, and the sockets of the dead lie where they were."""
    locks = [*runs.glob(f"*/{LOCK}"), *runs.glob(f"batches/*/{LOCK}"), *(runs / LOCKS).glob("*")]
    assert len(locks) >= 3, "of the batch, of a run, and of its problem"
    for path in locks:
        path.write_text(str(os.getpid()))
    for folder in (path for path in runs.glob("*-*") if path.is_dir()):
        place = address(folder)
        if not place.exists():
            with socket.socket(socket.AF_UNIX) as left:
                left.bind(str(place))


@pytest.mark.parametrize("seed", [1, 2, 6])
def test_a_night_that_was_killed_twice_ends_as_if_it_had_not_been(tmp_path: Path, seed: int) -> None:
    rng = random.Random(f"night {seed}")
    key = {"OPENAI_API_KEY": "sk-test"}
    with provider() as server:
        calm = tmp_path / "calm"
        calm.mkdir()
        undisturbed = cli("batch", world(calm, server.url), "--json", cwd=calm, **key)
        assert undisturbed.code == 0, undisturbed.err
        calls, tokens = server.calls, server.tokens

        place = tmp_path / "killed"
        place.mkdir()
        file = world(place, server.url)
        marks = sorted(rng.sample(range(3, 110), 2))
        for number, mark in enumerate(marks):
            process = begin("batch", file, cwd=place, **key)
            end = time.monotonic() + PATIENCE
            while size(place / "count") < mark and process.poll() is None:
                assert time.monotonic() < end
                time.sleep(0.002)
            time.sleep(rng.uniform(0, 0.03))
            assert process.poll() is None, finish(process).err
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate(timeout=PATIENCE)
            if number:
                reboot(place / "runs")
        resumed = cli("batch", file, "--json", cwd=place, **key)
        assert resumed.code == 0, resumed.err
        took, billed = server.calls - calls, server.tokens - tokens

    for folder in (place / "runs").glob("*-*"):
        address(folder).unlink(missing_ok=True)
    before, after = undisturbed.json, resumed.json
    assert before["night"].rpartition("-")[2] == after["night"].rpartition("-")[2] == "1", "it is one night"
    assert ends(after, place / "runs") == ends(before, calm / "runs")
    assert after["spent"]["night"]["evaluations"] == 140
    spent = after["spent"]["night"]
    possibly = spent["possibly_spent"]
    assert 0 < spent["calls"] <= took <= spent["calls"] + possibly.get("calls", 0)
    assert spent["tokens"] <= billed <= spent["tokens"] + possibly.get("tokens", 0)
    assert before["spent"]["night"]["calls"] == calls and before["spent"]["night"]["tokens"] == tokens
    assert not before["spent"]["night"]["possibly_spent"]
