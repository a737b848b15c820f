"""Landlock: a process gives up files, TCP, and signals to others. Linux 5.13 and later, no package needed.

Source: Linux kernel documentation, "Landlock: unprivileged access control" (ABI 1 to 6).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from collections.abc import Iterable

from agent.sandbox.native import syscall

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same on every architecture
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
TRUNCATE, IOCTL_DEV = 1 << 14, 1 << 15
READ = EXECUTE | READ_FILE | READ_DIR
ON_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
FS_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
TCP = 3  # bind and connect, from ABI 4
SCOPES = 3  # abstract sockets and signals, from ABI 6


def abi() -> int:
    """The kernel's version of it.

    Raises:
        OSError: There is none.
    """
    return syscall(CREATE_RULESET, None, 0, 1)


def ruleset(readable: Iterable[str], writable: Iterable[str], version: int) -> int:
    """A descriptor that stands for: nothing but these paths.

    Args:
        readable: Files and folders to read and execute; one that does not exist is left out.
        writable: Folders to do everything in but make devices, and device files to read and write.
        version: From `abi`.

    Raises:
        OSError: It failed.
    """
    rights = FS_RIGHTS[min(version, 5)]
    fields = [rights] + [TCP] * (version >= 4) + [SCOPES] * (version >= 6)
    attributes = struct.pack(f"{len(fields)}Q", *fields)
    rules = syscall(CREATE_RULESET, ctypes.c_char_p(attributes), len(attributes), 0)
    for path in readable:
        _allow(rules, path, READ)
    for path in writable:
        _allow(rules, path, rights & ~(1 << 6 | 1 << 11 | IOCTL_DEV))
    return rules


def restrict(rules: int) -> None:
    """Put a ruleset on this thread and all it starts, and close it; no_new_privs must be set.

    Raises:
        OSError: It failed; nothing is restricted.
    """
    syscall(RESTRICT_SELF, rules, 0)
    os.close(rules)


def _allow(rules: int, path: str, rights: int) -> None:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not os.path.isdir(path):
                rights &= ON_FILES
            syscall(ADD_RULE, rules, 1, ctypes.c_char_p(struct.pack("=Qi", rights, descriptor)), 0)
        finally:
            os.close(descriptor)
