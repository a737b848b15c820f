"""Which layers of protection this machine has, and whether they are enough."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from agent.errors import ConfigError, PrerequisiteError
from agent.sandbox import bubblewrap, cgroups
from agent.sandbox.types import Layer

STOPS = {
    "process": "reaching the scorer, forging a score, outliving the job",
    "rlimits": "endless computing, filling memory or the disk with one process or file",
    "uid": "reading or changing our files, looking into or signalling our processes, fork bombs",
    "landlock": "reading or changing files outside its folder, looking into or signalling our processes",
    "seccomp": "the network, other sockets, tracing, starting processes, namespaces, memory that outlives it",
    "bubblewrap": "seeing our files, processes or the network at all, surviving",
    "cgroup": "filling memory or the process table with several processes together",
}
NAMES = tuple(STOPS)
NEEDED = {
    "reading and changing your files": {"uid", "landlock", "bubblewrap"},
    "using the network": {"seccomp", "bubblewrap"},
    "starting processes without end": {"uid", "seccomp", "bubblewrap", "cgroup"},
}
"""What a run must not allow → the layers of which one suffices."""

UIDS = range(60578, 61184)
"""Numbers that nobody gives out: in systemd's table of users they lie between its homes' and its services'."""

PYTHON_PARTS = ("bin", "include", "lib", "lib64", "libexec", "pyvenv.cfg", "share")


def python_paths() -> tuple[str, ...]:
    """Files and folders of this Python and its libraries, and of this package.

    Not the whole folder that it lies in: ~/bin/python3 lies in a home, and a project may be its own environment.
    """
    executable = os.path.realpath(sys.executable)
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    prefixes.add(os.path.dirname(os.path.dirname(executable)))
    found = {os.path.join(prefix, part) for prefix in prefixes for part in PYTHON_PARTS}
    found |= {sys.executable, executable, str(Path(__file__).parents[1]), "/nix/store"}
    outer = {path for path in found if os.path.exists(path) and found.isdisjoint(map(str, Path(path).parents))}
    return tuple(sorted(outer))


def probe() -> tuple[Layer, ...]:
    """Every layer, tried on this machine; what was found is remembered."""
    return tuple(Layer(name, not why, why, STOPS[name]) for name, why in _tried())


@cache
def _tried() -> tuple[tuple[str, str], ...]:
    why = {"process": "", "rlimits": "" if os.name == "posix" else "only on Linux and macOS"}
    paths = python_paths()
    if sys.platform == "linux":
        script = Path(__file__).with_name("check.py")
        done = subprocess.run(
            [sys.executable, "-P", "-s", "-B", str(script), str(UIDS[-1]), *paths],
            capture_output=True,
            text=True,
            timeout=60,
            env={},
        )
        said = json.loads(done.stdout) if done.returncode == 0 else {}
        for name in ("uid", "landlock", "seccomp"):
            why[name] = said.get(name, (done.stderr.strip().splitlines() or ["its test failed"])[-1])
        why["bubblewrap"] = bubblewrap.check(paths)
        try:
            cgroups.Group.make().remove()
            why["cgroup"] = ""
        except OSError as error:
            why["cgroup"] = error.strerror or str(error)
    return tuple((name, why.get(name, "only on Linux")) for name in NAMES)


def named(wanted: Iterable[str] | None) -> frozenset[str] | None:
    """The layers of these names, and "process", which is always on; None means all that work.

    Raises:
        ConfigError: There is no such layer.
    """
    names = None if wanted is None else frozenset({"process", *wanted})
    if unknown := (names or frozenset()) - set(NAMES):
        raise ConfigError(f"there is no layer {min(unknown)!r}", hint=f"one of {', '.join(NAMES)}")
    return names


def chosen(wanted: Iterable[str] | None) -> tuple[str, ...]:
    """Names of the layers that are going to be on; `wanted` as in `named`.

    Raises:
        ConfigError: There is no such layer.
        PrerequisiteError: One that is wanted does not work here.
    """
    names = named(wanted)
    for layer in probe():
        if names is not None and layer.name in names and not layer.on:
            raise PrerequisiteError(
                f"the layer {layer.name} does not work here: {layer.why}",
                fix="truegain doctor --sandbox shows what does",
            )
    return tuple(layer.name for layer in probe() if layer.on and (names is None or layer.name in names))


def unstopped(layers: Iterable[str]) -> list[str]:
    """Which of the dangers that a run must not allow these layers do not stop."""
    have = set(layers)
    return [danger for danger, any_of in NEEDED.items() if not have & any_of]


def require(layers: Iterable[str]) -> PrerequisiteError | None:
    """Whether code that nobody has looked at may run behind these layers.

    Args:
        layers: Names of the layers that are on.

    Returns:
        None, or the error to raise, which names what they do not stop and asks for `--unsafe`.
    """
    have = set(layers)
    lacking = unstopped(have)
    if not lacking:
        return None
    off = {layer.name: layer.why for layer in probe() if layer.name not in have and not layer.on}
    reasons = "; ".join(f"{name}: {why}" for name, why in off.items())
    here = [layer.name for layer in probe() if layer.on and layer.name not in have]
    named = f"name more layers, or none, so that all are used ({', '.join(here)} would work here); or " if here else ""
    return PrerequisiteError(
        f"this machine does not keep candidate code from {_joined(lacking)}" + (f" ({reasons})" if reasons else ""),
        fix=f"{named}install bubblewrap, or run in a container or virtual machine that you can lose and add --unsafe; "
        "`truegain doctor --sandbox` shows what is missing",
    )


def _joined(words: list[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _named(number: int) -> bool:
    """Whether there is a user with this number here."""
    with contextlib.suppress(KeyError):
        return bool(pwd.getpwuid(number))
    return False


def _running() -> set[int]:
    """User numbers that processes have, in whichever of its four roles."""
    found: set[int] = set()
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{entry.name}/status", "rb") as file:
                line = next((line for line in file if line.startswith(b"Uid:")), b"")
                found |= {int(word) for word in line.split()[1:]}
    return found


class User:
    """A user number that no other sandbox of this machine uses while we hold it, nor anybody else.

    Raises:
        PrerequisiteError: All are taken.
    """

    def __init__(self) -> None:
        used = _running()  # who cannot see our names, in a network of its own, still shows its processes
        for number in UIDS:
            if number in used or _named(number):
                continue
            self._lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                self._lock.bind(f"\0truegain-uid-{number}")  # gone when we are, leaves no file
                self.number = number
                return
            except OSError:
                self._lock.close()
        raise PrerequisiteError("every user number for sandboxes is in use", fix="stop other runs")

    def release(self) -> None:
        """Let others use it."""
        with contextlib.suppress(OSError):
            self._lock.close()
