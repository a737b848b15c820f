"""Every attack of the set, as root and as an ordinary user, with all layers and with each by itself."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sandbox_helpers import AS_ROOT, ON, ROOT, USER, linux_only, needs, needs_root

from agent.sandbox.attacks import ALWAYS, ATTACKS
from agent.sandbox.drill import Outcome, drill, stoppers
from agent.sandbox.layers import NAMES, UIDS
from tests.cli_helpers import cli, environment

pytestmark = linux_only
LAYERED = tuple(attack.name for attack in ATTACKS if attack.stoppers != ALWAYS)


def missed(outcomes: list[Outcome]) -> dict[str, str]:
    return {outcome.attack.name: outcome.said for outcome in outcomes if not outcome.stopped}


@needs("rlimits", "landlock", "seccomp")
async def test_every_attack_fails() -> None:
    outcomes, honest, layers = await drill()
    assert missed(outcomes) == {} and honest and layers == ON
    assert len(outcomes) == len(ATTACKS) >= 17
    assert all(outcome.by for outcome in outcomes)


@pytest.mark.parametrize("layer", NAMES)
async def test_each_layer_stops_what_it_says_and_nothing_else(layer: str) -> None:
    if layer not in ON:
        pytest.skip(f"a sandbox layer is missing here: {layer}")
    outcomes, honest, layers = await drill(layers=[layer], names=LAYERED)
    stopped = {outcome.attack.name for outcome in outcomes if outcome.stopped}
    assert honest
    assert stopped == {a.name for a in ATTACKS if a.name in LAYERED and stoppers(a, layers, AS_ROOT)}, missed(outcomes)


async def test_what_no_layer_is_there_for_is_always_stopped() -> None:
    outcomes, honest, _ = await drill(layers=["process"], names=[a.name for a in ATTACKS if a.stoppers == ALWAYS])
    assert missed(outcomes) == {} and honest


@needs_root
@needs("landlock", "seccomp", "uid")
def test_every_attack_fails_as_an_ordinary_user_too(tmp_path: Path) -> None:
    done = as_user(tmp_path, "-m", "agent", "doctor", "--sandbox", "--json")
    said = json.loads(done.stdout)
    assert done.returncode == 0, [attack for attack in said["attacks"] if not attack["stopped"]]
    on = {layer["name"] for layer in said["layers"] if layer["on"]}
    assert said["ok"] and said["honest_unchanged"] and not said["unsafe_needed"] and "uid" not in on


def as_user(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    script = Path(__file__).with_name("as_user.py")
    command = [sys.executable, str(script), str(USER), "--", sys.executable, "-P", "-B", *words]
    return subprocess.run(
        command, cwd="/", env=environment(PYTHONPATH=str(ROOT)), capture_output=True, text=True, timeout=250
    )


@needs_root
@needs("uid")
def test_an_ordinary_users_candidate_cannot_hide_what_it_holds_open(tmp_path: Path) -> None:
    script = """
import asyncio
from agent.sandbox.pool import Sandbox
from agent.sandbox.types import Caps, Job

SOURCE = b'''
import ctypes, time

def solve(x):
    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE
    time.sleep(600)
'''

async def main():
    async with Sandbox(workers=1, layers=["rlimits"], unsafe=True) as sandbox:
        result = await sandbox.run(Job({"c.py": SOURCE}, "c:solve", [1], Caps(seconds=120)))
        print(result.status, result.message, sep=": ")

asyncio.run(main())
"""
    done = as_user(tmp_path, "-c", script)
    assert done.stdout == "forbidden: it hid its open files\n", done.stderr


@needs("landlock", "seccomp")
def test_the_doctor_names_what_is_no_longer_stopped(tmp_path: Path) -> None:
    done = cli(
        "doctor", "--without", "seccomp", "--without", "bubblewrap", "--sandbox", cwd=tmp_path, PYTHONPATH=str(ROOT)
    )
    assert done.code == 1
    assert "off seccomp     switched off" in done.out
    assert re.search("FAIL network +not stopped +it sent over UDP\n", done.out)
    assert "network, " in done.out.splitlines()[-2] and "A run would be refused" in done.out.splitlines()[-1]
    assert "network, files" not in done.out and done.err == ""


def test_the_doctor_knows_its_layers(tmp_path: Path) -> None:
    done = cli("doctor", "--sandbox", "--without", "walls", cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert done.code == 2 and "there is no layer 'walls'" in done.err
    done = cli("doctor", "--sandbox", "--without", "process", cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert done.code == 2 and "cannot be switched off" in done.err


@needs_root
@needs("uid")
@pytest.mark.parametrize("deep", [False, True], ids=["below it", "below it and itself closed"])
def test_python_under_a_closed_home_is_no_obstacle(tmp_path: Path, deep: bool) -> None:
    """A virtual environment below a folder that only root may enter, with a sandbox that runs as nobody."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    for place in tmp_path.parents:
        if place.owner() == "root" and place != Path("/") and place != Path("/tmp"):
            place.chmod(0o755)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--copies", str(home / "venv")], check=True)
    if deep:
        (home / "venv").chmod(0o700)
    script = """
import asyncio, json
from agent.sandbox.pool import Sandbox
from agent.sandbox.types import Caps, Job

SOURCE = b'''
import os, sys, wave

def solve(x):
    try:
        os.listdir(x)
    except OSError as error:
        return [os.getuid(), sys.prefix, wave.__name__, type(error).__name__]
'''

async def main():
    async with Sandbox(workers=1, layers=["rlimits", "uid"], unsafe=True) as sandbox:
        result = await sandbox.run(Job({"c.py": SOURCE}, "c:solve", ["/proc/1/cwd"], Caps(seconds=120)))
        print(json.dumps([result.status, result.message, *result.outputs]))

asyncio.run(main())
"""
    done = subprocess.run(
        [str(home / "venv/bin/python"), "-c", script],
        env=environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    status, message, found = json.loads(done.stdout)
    assert status == "ok", message
    assert found[0] in UIDS and found[1:] == [str(home / "venv"), "wave", "PermissionError"]
    assert os.stat(home).st_mode & 0o777 == 0o700  # nobody else noticed
