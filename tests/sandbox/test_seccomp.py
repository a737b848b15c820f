"""The filter for both processors, run by a small interpreter of its instructions."""

from __future__ import annotations

import errno
import struct

import pytest

from agent.sandbox.seccomp import ABOVE, ALLOW, ARCHITECTURES, EQUAL, ERRNO, HAS, KILL, LOAD, RETURN, program

EPERM, ENOSYS = ERRNO | errno.EPERM, ERRNO | errno.ENOSYS
PID = 4321
CALLS = {  # from the kernel's tables: x86-64, aarch64
    "read": (0, 63), "openat": (257, 56), "mmap": (9, 222), "futex": (202, 98), "socketpair": (53, 199),
    "socket": (41, 198), "ptrace": (101, 117), "mount": (165, 40), "unshare": (272, 97), "bpf": (321, 280),
    "memfd_create": (319, 279), "shmget": (29, 194), "clone3": (435, 435), "io_uring_setup": (425, 425),
    "execve": (59, 221), "kill": (62, 129), "tgkill": (234, 131), "prlimit64": (302, 261), "clone": (56, 220),
    "fchmodat": (268, 53), "fchownat": (260, 54), "unheard of": (900, 900), "x32's": (0x40000000, 0x40000000),
}  # fmt: skip
THREAD = 0x3D0F00
FORK = 0x1200011
NEW_USER = 0x10000000


def run(code: bytes, arch: int, number: int, argument: int) -> int:
    """What the filter answers."""
    data = struct.pack("<iIQQ", number, arch, 0, argument)
    at = accumulator = 0
    while True:
        operation, true, false, value = struct.unpack_from("HBBI", code, 8 * at)
        at += 1
        if operation == RETURN:
            return int(value)
        if operation == LOAD:
            accumulator = struct.unpack_from("<I", data, value)[0]
        else:
            test = {EQUAL: accumulator == value, ABOVE: accumulator > value, HAS: bool(accumulator & value)}[operation]
            at += true if test else false


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("single", [True, False])
def test_the_filter(machine: str, single: bool) -> None:
    arch, column = ARCHITECTURES[machine]
    code = program(machine, single, PID)
    assert len(code) // 8 <= 4096

    def answer(name: str, argument: int = 0, arch: int = arch) -> int:
        return run(code, arch, CALLS[name][column], argument)

    assert {answer(name) for name in ("read", "openat", "mmap", "futex", "socketpair")} == {ALLOW}
    for name in ("socket", "ptrace", "mount", "unshare", "bpf", "memfd_create", "shmget"):
        assert answer(name) == EPERM, name
    for name in ("clone3", "io_uring_setup", "unheard of", "x32's"):
        assert answer(name) == ENOSYS, name
    assert answer("read", arch=0x40000003) == KILL  # i386, whose 198 is another call
    assert answer("clone", THREAD) == ALLOW and answer("clone", FORK | NEW_USER) == EPERM
    assert answer("clone", FORK) == (EPERM if single else ALLOW)
    assert answer("execve") == (EPERM if single else ALLOW)
    assert answer("kill", PID) == answer("tgkill", PID) == ALLOW
    assert answer("kill", 1) == (EPERM if single else ALLOW)
    assert answer("prlimit64", 0) == answer("prlimit64", PID) == ALLOW and answer("prlimit64", 1) == EPERM
    assert answer("fchmodat") == answer("fchownat") == (EPERM if single else ERRNO)
