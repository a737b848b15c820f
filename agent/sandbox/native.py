"""The few system calls that Python has no function for. Linux; elsewhere every call fails with OSError."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
PR_SET_CHILD_SUBREAPER = 36
CLONE_NEWNS = 0x00020000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
MS_NOEXEC, MS_NOSYMFOLLOW, MS_NOATIME = 8, 256, 1024
_CAPABILITY_VERSION_3 = 0x20080522

_libc: Any = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _library() -> Any:
    if _libc is None:
        raise OSError(errno.ENOSYS, "only on Linux")
    return _libc


def syscall(number: int, *arguments: Any) -> int:
    """Call by number; integers are passed as 64 bits.

    Raises:
        OSError: It failed, or this is not Linux.
    """
    plain = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return _checked(_library().syscall(ctypes.c_long(number), *plain), f"system call {number}")


def prctl(option: int, *arguments: Any) -> int:
    """prctl(2), which wants all five arguments.

    Raises:
        OSError: It failed, or this is not Linux.
    """
    plain = [ctypes.c_ulong(a) if isinstance(a, int) else a for a in arguments]
    plain += [ctypes.c_ulong(0)] * (4 - len(plain))
    return _checked(_library().prctl(ctypes.c_int(option), *plain), f"prctl {option}")


def unshare(flags: int) -> None:
    """unshare(2).

    Raises:
        OSError: It failed, or this is not Linux.
    """
    _checked(_library().unshare(ctypes.c_int(flags)), "unshare")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2).

    Raises:
        OSError: It failed, or this is not Linux.
    """
    words = [os.fsencode(word) or None for word in (source, target, kind)]
    _checked(_library().mount(*words, ctypes.c_ulong(flags), os.fsencode(data) or None), f"mount {target}")


def drop_capabilities() -> None:
    """Give up every capability of this thread; a root without them is an ordinary user that owns root's files.

    Raises:
        OSError: It failed, or this is not Linux.
    """
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    _checked(_library().capset(header, (ctypes.c_uint32 * 6)()), "capset")
