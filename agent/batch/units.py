"""What starts a batch night after night: units for systemd, a line for cron, and the file with the keys."""

from __future__ import annotations

import getpass
import os
import re
import shlex
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.errors import AgentError, ConfigError

KEYS = "truegain/keys.env"
"""Where the units look for the keys: in ~/.config, or in /etc."""
KEPT = ("TRUEGAIN_RUNS", "TRUEGAIN_WEIGHTS", "XDG_CACHE_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""Variables that the units repeat when they are set: they say where things are, and hold no secret."""
MARGIN, WITHOUT = 60, 900
"""Seconds for saving after the last evaluation, and for an evaluation that has no timeout."""

SERVICE = """\
[Unit]
Description=TrueGain batch {name}
{network}
[Service]
Type=oneshot
{account}WorkingDirectory={folder}
# ":" keeps systemd from reading "$" in paths as variables.
ExecStart=:{command}
Environment={environment}
# Keys, one NAME=VALUE a line, mode 0600. "-": without the file it starts too.
EnvironmentFile=-{keys}

# A night may take as long as the batch file allows. SIGTERM goes to truegain alone: it finishes the evaluations that
# are in flight, saves, and ends with 143. That takes as long as the longest evaluation may.
TimeoutStartSec=infinity
KillMode=mixed
KillSignal=SIGTERM
TimeoutStopSec={stop}
# 75: the last night is still running, or a provider asked to come back later. The next night goes on with either.
SuccessExitStatus=75 143

# Evaluators run as children of this service. What is shut here rarely stands in their way; take out what does.
UMask=0077
NoNewPrivileges=yes
LimitCORE=0
# One evaluation that runs out of memory is a failed evaluation, not the end of the night.
OOMPolicy=continue
"""

TIMER = """\
[Unit]
Description=TrueGain batch {name}, every night

[Timer]
OnCalendar={at}
RandomizedDelaySec=10min
# A night that was missed while the machine was off is made up for.
Persistent=true

[Install]
WantedBy=timers.target
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """What the units say of a machine and its user.

    Args:
        command: The words that start `truegain`, the first one an absolute path.
        path: PATH for evaluators.
        account: The user's name.
        more: Other environment variables.
    """

    command: tuple[str, ...]
    path: str
    account: str
    more: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def here(cls) -> Machine:
        """This one, as the caller's shell knows it."""
        script = Path(sys.executable).with_name("truegain")
        command = (str(script),) if os.access(script, os.X_OK) else (sys.executable, "-P", "-m", "agent")
        given = os.environ.get("PATH", os.defpath).split(os.pathsep)
        places = [
            str(Path(sys.executable).parent),
            *(place for place in given if os.path.isabs(place) and os.path.isdir(place)),
        ]
        kept = {name: os.environ[name] for name in KEPT if os.environ.get(name)}
        return cls(command, os.pathsep.join(dict.fromkeys(places)), getpass.getuser(), kept)


def systemd(file: Path, *, user: bool = True, at: str = "*-*-* 01:00", runs: str | None = None) -> str:
    """Service and timer for a batch file, filled in for this machine, with the commands that install them.

    Args:
        file: The batch file.
        user: For the user's own service manager; False for the system's.
        at: When, as systemd.time(7) has it.
        runs: The folder of runs, where it is not the batch file's.

    Raises:
        ConfigError: The batch file cannot be read, or a path cannot stand in a unit.
    """
    from agent.batch.plan import load

    plan = load(file)
    more = ("--runs", str(Path(runs).expanduser().resolve())) if runs else ()
    made = unit_files(plan.file, plan.name, Machine.here(), more, stop=_stop(file), user=user, at=at)
    service = next(iter(made)).removesuffix(".service")
    place = "~/.config/systemd/user" if user else "/etc/systemd/system"
    control = "systemctl --user" if user else "systemctl"
    head = [
        f"# Two files for {place}; then:",
        f"#   {control} daemon-reload && {control} enable --now {service}.timer",
        f"#   {control} start {service}.service    runs it now",
        f"#   journalctl {'--user ' if user else ''}-u {service}    shows its log",
    ]
    if user:
        head.append("#   loginctl enable-linger    lets it run while you are not logged in")
    parts = [f"# --- {place}/{name}\n{text}" for name, text in made.items()]
    return "\n".join(head) + "\n\n" + "\n".join(parts)


def unit_files(
    file: Path,
    name: str,
    machine: Machine,
    more: tuple[str, ...] = (),
    *,
    stop: int,
    user: bool = True,
    at: str = "*-*-* 01:00",
) -> dict[str, str]:
    """The texts of service and timer by their file names.

    Args:
        file: Absolute path of the batch file.
        name: Of the batch.
        machine: Where it runs.
        more: Options of `truegain batch`.
        stop: Seconds that saving may take at the end.
        user: For the user's own service manager.
        at: When.

    Raises:
        ConfigError: A path or a time holds a line break.
    """
    for text in (str(file), name, at, machine.path, *more, *machine.command, *machine.more.values()):
        if not text.isprintable():
            raise ConfigError(f"{text!r} cannot stand in a unit file", hint="rename it: no control characters")
    if re.search(r"""['"\\]""", machine.command[0]):  # systemd refuses such a command
        raise ConfigError(
            f"{machine.command[0]} cannot be started by systemd, for the quotes or backslashes in its path",
            hint="install truegain into a virtual environment of a plainer path",
        )
    plain = re.sub(r"[^A-Za-z0-9:_.-]", "-", name)
    unit = plain if plain.startswith("truegain") else f"truegain-{plain}"
    environment = {"PATH": machine.path, "LANG": "C.UTF-8", **machine.more}
    service = SERVICE.format(
        name=_percent(name),
        network="" if user else "Wants=network-online.target\nAfter=network-online.target\n",
        account="" if user else f"User={machine.account}\n",
        folder=_path(str(file.parent)),
        command=" ".join(_word(word) for word in (*machine.command, "batch", str(file), *more)),
        environment=" ".join(_word(f"{key}={value}") for key, value in environment.items()),
        keys=f"%h/.config/{KEYS}" if user else f"/etc/{KEYS}",
        stop=stop,
    )
    return {f"{unit}.service": service, f"{unit}.timer": TIMER.format(name=_percent(name), at=_percent(at))}


def crontab(file: Path, *, machine: Machine | None = None, hour: int = 1, minute: int = 0) -> str:
    """The line for `crontab -e`.

    Args:
        file: Absolute path of the batch file; the log goes beside it.
        machine: Where it runs; None for this one.
        hour: 0 to 23, local time.
        minute: 0 to 59.

    Raises:
        ConfigError: A path cannot stand in a crontab.
    """
    machine = machine or Machine.here()
    words = [*machine.command, "batch", str(file)]
    if not all(text.isprintable() for text in (*words, machine.path)):
        raise ConfigError(f"{file} cannot stand in a crontab", hint="rename it: no control characters")
    keys = f'"$HOME/.config/{KEYS}"'
    given = " ".join(f"{name}={shlex.quote(value)}" for name, value in {"PATH": machine.path, **machine.more}.items())
    log = shlex.quote(str(file.with_suffix(".log")))
    line = (
        f"export {given}; if [ -r {keys} ]; then set -a; . {keys}; set +a; fi;"
        f" flock -n -E 75 {shlex.quote(str(file))} {shlex.join(words)} >> {log} 2>&1"
    )
    # cron reads "%" as the end of the line.
    return f"{minute} {hour} * * * " + line.replace("%", r"\%")


def _stop(file: Path) -> int:
    """Seconds until all that is in flight has ended and is saved."""
    from agent.batch.plan import load

    longest = 0.0
    for entry in load(file).entries:
        try:
            longest = max(longest, entry.load().problem.limits.seconds or WITHOUT)
        except AgentError:  # it may be mended before the night; `doctor` tells of it
            longest = max(longest, WITHOUT)
    return int(longest) + MARGIN


def _percent(text: str) -> str:
    return text.replace("%", "%%")


def _path(text: str) -> str:
    """A path that is the rest of a line: quotes mean themselves, and a last backslash would join the next line."""
    return _percent(text) + ("/" if text.endswith("\\") else "")


def _word(text: str) -> str:
    """One word of a line with several."""
    plain = _percent(text)
    if re.fullmatch(r"[A-Za-z0-9_./:=%@+,-]+", text):
        return plain
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


_LINE = re.compile(
    r"""(?P<name>[A-Za-z_][A-Za-z0-9_]*)=(?:'(?P<single>[^']*)'|"(?P<double>[^"$`\\]*)"|(?P<bare>[^\s'"$`\\#;&|<>()*?~]*))"""
)


def read_env(path: Path) -> dict[str, str]:
    """The variables of an environment file: one NAME=VALUE a line, # for remarks.

    Only what a shell, systemd and this function read in the same way is allowed: a bare word, or quotes around the
    whole value, and nothing that a shell would expand.

    Args:
        path: Readable by its owner alone, since it holds keys.

    Raises:
        ConfigError: It cannot be read, others may read it, or a line is something else. Values are never shown.
    """
    try:
        with path.open("rb") as file:
            kept = os.fstat(file.fileno())
            if not stat.S_ISREG(kept.st_mode):
                raise ConfigError(f"{path} is not a file", hint="one NAME=VALUE a line")
            # systemd hands credentials to the service alone, with a mode of its own.
            private = os.environ.get("CREDENTIALS_DIRECTORY")
            if stat.S_IMODE(kept.st_mode) & 0o077 and not (private and path.is_relative_to(private)):
                raise ConfigError(
                    f"{path} may be read or written by others (mode {stat.S_IMODE(kept.st_mode):04o})",
                    hint=f"chmod 600 {path}",
                )
            text = file.read(1 << 20).decode("utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint="name another file: --env-file FILE") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8", hint="one NAME=VALUE a line") from None
    out: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if found is None or not line.isprintable():
            raise ConfigError(
                f"{path}, line {number}: this is not NAME=VALUE",
                hint="no spaces around =, no export, no $; put quotes around a value with spaces",
            )
        out[found["name"]] = next(found[kind] for kind in ("single", "double", "bare") if found[kind] is not None)
    return out
