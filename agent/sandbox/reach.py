"""Letting another user reach Python where it lies under a folder that only root may enter.

In a mount namespace of the zygote's own, such a folder (a home with mode 0700, say) is covered by an
empty one that anyone may enter, and only the paths that are needed are put back into it. The rest of the
machine sees nothing of this.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from agent.sandbox.native import CLONE_NEWNS, MS_BIND, MS_NODEV, MS_NOSUID, MS_PRIVATE, MS_REC, mount, unshare


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


def open_up(paths: Iterable[str]) -> None:
    """Make the paths reachable for everyone, in a new mount namespace of this process.

    Raises:
        OSError: We may not, or a path is itself closed to others.
    """
    wanted: dict[Path, set[Path]] = {}
    for path in paths:
        real = Path(path).resolve()
        place = closed(real)
        if place == real:
            raise PermissionError(f"{real} may be read by its owner only")
        if place is not None:
            wanted.setdefault(place, set()).add(real)
    os.umask(0o022)
    unshare(CLONE_NEWNS)
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    for place, insides in wanted.items():
        kept = {path: os.open(path, os.O_PATH) for path in insides}
        mount("tmpfs", str(place), "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=64k")
        for inside, descriptor in sorted(kept.items()):
            if not inside.exists():
                inside.mkdir(mode=0o755, parents=True)
                mount(f"/proc/self/fd/{descriptor}", str(inside), flags=MS_BIND | MS_REC)
            os.close(descriptor)
    still = unreachable(paths)
    if still:
        raise PermissionError(f"{still[0]} may be read by its owner only")
