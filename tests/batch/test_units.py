"""What starts a batch: units, a crontab line, and the file with the keys."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from agent.batch.units import Machine, crontab, read_env, systemd, unit_files
from agent.errors import ConfigError
from tests.cli_helpers import folder

ODD = "odd %n $HOME 'q\" é\\"
"""A folder's name with everything that systemd, cron or a shell reads as something else."""


def batch(place: Path, timeout: int = 20) -> Path:
    """A batch file over one problem."""
    toml = (folder(place / "bowl") / "problem.toml").read_text().replace("timeout = 20", f"timeout = {timeout}")
    (place / "bowl" / "problem.toml").write_text(toml)
    file = place / "nightly.toml"
    file.write_text('[[problems]]\npath = "bowl"\n')
    return file


def fields(unit: str) -> dict[str, str]:
    """The settings of a unit file."""
    return dict(line.split("=", 1) for line in unit.splitlines() if "=" in line and not line.startswith("#"))


def words(line: str) -> list[str]:
    """A line's words, as systemd.syntax(7) splits them, with "%%" read back."""
    found = re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', line)
    plain = [re.sub(r"\\(.)", r"\1", quoted) if quoted else bare for quoted, bare in found]
    assert all(re.fullmatch(r"(?:[^%]|%%)*", word) for word in plain), "a single % is a specifier"
    return [word.replace("%%", "%") for word in plain]


def printer(place: Path) -> Path:
    """A command that prints its arguments and its PATH."""
    place.mkdir(parents=True)
    script = place / "true gain"
    script.write_text('#!/bin/sh\nfor word in "$@"; do echo "[$word]"; done\necho "PATH=$PATH"\necho "KEY=$KEY"\n')
    script.chmod(0o755)
    return script


def test_paths_of_any_name_reach_systemd_as_they_are(tmp_path: Path) -> None:
    place = tmp_path / ODD
    script = printer(tmp_path / "b %n $x")
    machine = Machine((str(script), "-P"), f"{place}:/bin", "me", {"TRUEGAIN_RUNS": str(place / "runs")})
    made = unit_files(place / "nightly.toml", "nightly", machine, stop=80)
    unit = fields(made["truegain-nightly.service"])
    command = words(unit["ExecStart"].removeprefix(":"))
    assert unit["ExecStart"].startswith(":"), "so that $ means itself"
    assert command == [str(script), "-P", "batch", str(place / "nightly.toml")]
    assert words(unit["Environment"]) == [f"PATH={place}:/bin", "LANG=C.UTF-8", f"TRUEGAIN_RUNS={place / 'runs'}"]
    assert unit["WorkingDirectory"].replace("%%", "%") == f"{place}/", "a last backslash must not join the next line"


@pytest.mark.parametrize("user", [True, False])
def test_systemd_itself_accepts_the_units(tmp_path: Path, user: bool) -> None:
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("systemd-analyze is not installed")
    place = tmp_path / ODD
    place.mkdir()
    machine = Machine((str(printer(tmp_path / "b %n $x")),), f"{place}:/bin", "root")
    made = unit_files(place / "nightly.toml", "nightly", machine, stop=80, user=user)
    for name, text in made.items():
        (tmp_path / name).write_text(text)
    told = [verify, "verify", "--man=no", *(["--user"] if user else []), *made]
    env = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(told, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_stopping_takes_as_long_as_the_longest_evaluation_may(tmp_path: Path) -> None:
    assert "TimeoutStopSec=160\n" in systemd(batch(tmp_path, timeout=100))
    file = batch(tmp_path)
    toml = (tmp_path / "bowl" / "problem.toml").read_text()
    (tmp_path / "bowl" / "problem.toml").write_text(toml.replace("timeout = 20", ""))
    assert "TimeoutStopSec=960\n" in systemd(file)


def test_the_units_say_where_they_go_and_when_they_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUEGAIN_RUNS", "/somewhere")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-never-in-a-unit")
    mine = systemd(batch(tmp_path), at="Mon..Fri 02:30")
    assert "~/.config/systemd/user/truegain-nightly.timer" in mine and "enable-linger" in mine
    assert "OnCalendar=Mon..Fri 02:30\n" in mine and "Persistent=true" in mine and "TRUEGAIN_RUNS=/somewhere" in mine
    assert "sk-never" not in mine and "User=" not in mine
    other = systemd(batch(tmp_path), runs=str(tmp_path / "o r"))
    assert words(fields(other)["ExecStart"])[-2:] == ["--runs", str(tmp_path / "o r")]
    ours = systemd(batch(tmp_path), user=False)
    assert "/etc/systemd/system" in ours and "User=" in ours and "/etc/truegain/keys.env" in ours
    command = fields(mine)["ExecStart"].removeprefix(":").split()[0]
    assert os.path.isabs(command) and os.access(command, os.X_OK)


def test_what_cannot_stand_in_a_unit_is_refused(tmp_path: Path) -> None:
    machine = Machine(("/bin/true",), "/bin", "me")
    for file in ("/a\nExecStart=/bin/evil", "/a\x1b"):
        with pytest.raises(ConfigError, match="cannot stand"):
            unit_files(Path(file), "n", machine, stop=1)
        with pytest.raises(ConfigError, match="cannot stand"):
            crontab(Path(file), machine=machine)
    with pytest.raises(ConfigError, match="cannot stand"):
        unit_files(Path("/a"), "n", machine, stop=1, at="daily\nOnBootSec=1")
    with pytest.raises(ConfigError, match="quotes or backslashes"):
        unit_files(Path("/a"), "n", Machine(('/a"b/truegain',), "/bin", "me"), stop=1)
    with pytest.raises(ConfigError, match="there is no"):
        systemd(tmp_path / "nothing.toml")


def cron(line: str) -> str:
    """The command that cron would give to sh."""
    command = line.split(None, 5)[5]
    assert not re.search(r"(?<!\\)%", command), "cron ends the line at a bare %"
    return command.replace(r"\%", "%")


def test_the_crontab_line_runs_under_a_bare_shell(tmp_path: Path) -> None:
    place = tmp_path / ODD
    place.mkdir()
    (place / "nightly.toml").write_text("")
    keys = place / ".config" / "truegain" / "keys.env"
    keys.parent.mkdir(parents=True)
    keys.write_text("KEY='a b'\n")
    machine = Machine((str(printer(tmp_path / "b %n $x")), "-P"), f"{place}:/usr/bin:/bin", "me")
    line = crontab(place / "nightly.toml", machine=machine, hour=2, minute=30)
    assert line.startswith("30 2 * * * ") and "\n" not in line
    told = ["env", "-i", f"HOME={place}", "LOGNAME=me", "SHELL=/bin/sh", "PATH=/usr/bin:/bin", "/bin/sh", "-c"]
    done = subprocess.run([*told, cron(line)], cwd=place, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    log = (place / "nightly.log").read_text().splitlines()
    assert log == ["[-P]", "[batch]", f"[{place}/nightly.toml]", f"PATH={place}:/usr/bin:/bin", "KEY=a b"]


def test_a_second_night_waits_for_nobody(tmp_path: Path) -> None:
    (tmp_path / "nightly.toml").write_text("")
    line = crontab(tmp_path / "nightly.toml", machine=Machine(("/bin/echo", "ran"), "/usr/bin:/bin", "me"))
    env = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    held = subprocess.Popen(["flock", str(tmp_path / "nightly.toml"), "sh", "-c", "echo held; cat"], **PIPES)  # type: ignore[call-overload]
    try:
        assert held.stdout.readline() == b"held\n"
        assert subprocess.run(["/bin/sh", "-c", cron(line)], env=env).returncode == 75
    finally:
        held.communicate()
    assert subprocess.run(["/bin/sh", "-c", cron(line)], env=env).returncode == 0
    assert (tmp_path / "nightly.log").read_text() == f"ran batch {tmp_path}/nightly.toml\n"


PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}


# The file with the keys


def env(place: Path, text: str | bytes, mode: int = 0o600) -> Path:
    file = place / "keys.env"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    file.chmod(mode)
    return file


def test_an_env_file_means_what_a_shell_makes_of_it(tmp_path: Path) -> None:
    text = """# keys\n\nA=sk-1_2/3+4=\nB='two words $HOME "x" \\'\nC="it's; fine #1"\nD=\n  E=é  \r\nA=last\n"""
    file = env(tmp_path, text.replace("\r", ""))
    want = {"A": "last", "B": 'two words $HOME "x" \\', "C": "it's; fine #1", "D": "", "E": "é"}
    assert read_env(file) == want
    for name, value in want.items():
        shell = f'set -a; . "{file}"; printf %s "${name}"'
        done = subprocess.run(["/bin/sh", "-c", shell], env={}, capture_output=True, text=True)
        assert done.stdout == value
    assert read_env(env(tmp_path, "A=1\r\nB=2\r\n")) == {"A": "1", "B": "2"}


@pytest.mark.parametrize(
    "line",
    ["A", "A = 1", "export A=1", "1A=2", "A=$B", 'A="$B"', "A=`id`", "A=a b", "A='x", "A=x # no", "A=\\n", "A='\x1b'"],
)
def test_a_line_that_others_read_differently_is_refused_and_its_value_not_shown(tmp_path: Path, line: str) -> None:
    with pytest.raises(ConfigError, match="line 2") as error:
        read_env(env(tmp_path, f"OK=1\n{line}sk-secret\n"))
    assert "sk-secret" not in error.value.message + error.value.hint


def test_a_control_character_is_no_part_of_a_value(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="line 1"):
        read_env(env(tmp_path, "A='\x1b[31m'\n"))


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int, monkeypatch: pytest.MonkeyPatch) -> None:
    file = env(tmp_path, "A=1\n", mode)
    with pytest.raises(ConfigError, match="by others") as error:
        read_env(file)
    assert error.value.hint == f"chmod 600 {file}"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))  # systemd keeps it to the service by other means
    assert read_env(file) == {"A": "1"}


def test_what_is_no_env_file_is_refused(tmp_path: Path) -> None:
    for file, word in (
        (tmp_path / "none", "cannot read"),
        (tmp_path, "cannot read"),
        (env(tmp_path, b"\xff"), "UTF-8"),
    ):
        with pytest.raises(ConfigError, match=word):
            read_env(file)
    with pytest.raises(ConfigError, match="not a file"):
        read_env(Path("/dev/null"))
