"""Letting another user reach Python where it lies under a folder that only root may enter.

In a mount namespace of the zygote's own, such a folder (a home with mode 0700, say) is covered by an
empty one that anyone may enter, and only the paths that are needed are put back into it. The rest of the
machine sees nothing of this.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from agent.sandbox.native import (
    CLONE_NEWNS,
    MS_BIND,
    MS_NOATIME,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_NOSYMFOLLOW,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    mount,
    unshare,
)

KEPT = {
    "ro": MS_RDONLY,
    "nosuid": MS_NOSUID,
    "nodev": MS_NODEV,
    "noexec": MS_NOEXEC,
    "nosymfollow": MS_NOSYMFOLLOW,
}
"""What a mount must be told again when it is changed."""
DISTANT = ("nfs", "cifs", "smb", "ceph", "fuse", "autofs", "9p")
"""Kinds of mounts that may not answer for a long time."""
DEPTH = 8
"""Closed folders, one in the other, that are opened at most."""


def closed(path: Path) -> Path | None:
    """The first folder on the way to a path that others may not enter, if any; the path itself counts."""
    for place in (*reversed(path.parents), path):
        mode = place.stat().st_mode
        if stat.S_ISDIR(mode) and not mode & stat.S_IXOTH:
            return place
    return None


def unreachable(paths: Iterable[str]) -> list[str]:
    """Those of the paths that exist and that only root can reach."""
    return [path for path in paths if os.path.exists(path) and closed(Path(path).resolve()) is not None]


def leave() -> None:
    """Take this process to a mount namespace of its own.

    Raises:
        OSError: We may not.
    """
    unshare(CLONE_NEWNS)
    mount("none", "/", flags=MS_REC | MS_PRIVATE)


def keep_no_times() -> None:
    """Let reading leave no access times, by which one candidate could tell another what it has seen.

    Only in this process's own mount namespace. A mount that cannot be changed stays as it is.
    """
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[fields.index("-") + 1].startswith(DISTANT):
            continue
        place = re.sub(r"\\(\d{3})", lambda found: chr(int(found[1], 8)), fields[4])
        options = set(fields[5].split(","))
        kept = sum(flag for name, flag in KEPT.items() if name in options)
        with contextlib.suppress(OSError):
            mount("none", place, flags=MS_REMOUNT | MS_BIND | MS_NOATIME | kept)


def open_up(paths: Iterable[str]) -> None:
    """Make the paths reachable for everyone, in this process's own mount namespace.

    Raises:
        OSError: We may not, or a path is a file that is itself closed to others.
    """
    os.umask(0o022)
    there = [Path(path) for path in paths if os.path.exists(path)]
    wanted = {path.resolve() for path in there}
    wanted |= {path.parent.resolve() / path.name for path in there}  # the link as well as what it leads to
    for _ in range(DEPTH):  # below a folder that was opened there may be another one
        covers: dict[Path, set[Path]] = {}
        for path in wanted:
            place = closed(path)
            if place is not None:
                covers.setdefault(place, set()).update(place.iterdir() if place == path else [path])
        if not covers:
            return
        for place, insides in covers.items():
            _cover(place, insides)
    raise PermissionError(f"{unreachable(paths)[0]} may be read by its owner only")


def _cover(place: Path, insides: Iterable[Path]) -> None:
    """Lay an open folder over a closed one, with nothing in it but these."""
    links = {path: os.readlink(path) for path in insides if path.is_symlink()}
    kept = {path: os.open(path, os.O_PATH) for path in insides if path not in links}
    folders = {path for path in kept if path.is_dir()}
    mount("tmpfs", str(place), "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=64k")
    for path, descriptor in sorted(kept.items()):
        if not path.exists():
            (path if path in folders else path.parent).mkdir(mode=0o755, parents=True, exist_ok=True)
            if path not in folders:
                path.touch()
            mount(f"/proc/self/fd/{descriptor}", str(path), flags=MS_BIND | MS_REC)
        os.close(descriptor)
    for path, aim in links.items():
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if not os.path.lexists(path):
            path.symlink_to(aim)
