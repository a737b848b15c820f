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
    "connect": (42, 203), "bind": (49, 200), "shmat": (30, 196), "shmctl": (31, 195), "shmdt": (67, 197),
    "semop": (65, 193), "semctl": (66, 191), "semtimedop": (220, 192), "msgsnd": (69, 189), "msgrcv": (70, 188),
    "msgctl": (71, 187), "mq_unlink": (241, 181), "inotify_init1": (294, 26), "fcntl": (72, 25), "ioctl": (16, 29),
    "fallocate": (285, 47), "sendmsg": (46, 211), "sendmmsg": (307, 269),
    "sync": (162, 81), "syncfs": (306, 267), "flock": (73, 32),
    "fchmodat": (268, 53), "fchownat": (260, 54), "unheard of": (900, 900), "x32's": (0x40000000, 0x40000000),
}  # fmt: skip
THREAD = 0x3D0F00
FORK = 0x1200011
NEW_USER = 0x10000000


def run(code: bytes, arch: int, number: int, argument: int, second: int = 0) -> int:
    """What the filter answers."""
    data = struct.pack("<iIQQQ", number, arch, 0, argument, second)
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

    def answer(name: str, argument: int = 0, second: int = 0, arch: int = arch) -> int:
        return run(code, arch, CALLS[name][column], argument, second)

    assert {answer(name) for name in ("read", "openat", "mmap", "futex", "fcntl", "ioctl")} == {ALLOW}
    for name in ("socket", "ptrace", "mount", "unshare", "bpf", "memfd_create", "connect", "bind", "inotify_init1"):
        assert answer(name) == EPERM, name
    assert {answer(name) for name in ("sendmsg", "sendmmsg", "sync", "syncfs")} == {EPERM}
    assert answer("flock") == ERRNO, "nothing happens, and it seems to work"
    for name in CALLS:
        if name.startswith(("shm", "sem", "msg", "mq_")):
            assert answer(name) == EPERM, name
    assert answer("fallocate") == ERRNO | errno.EOPNOTSUPP
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


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_socket_is_a_connected_pair_and_nothing_has_another_owner(machine: str) -> None:
    arch, column = ARCHITECTURES[machine]
    code = program(machine, False, PID)

    def answer(name: str, argument: int, second: int) -> int:
        return run(code, arch, CALLS[name][column], argument, second)

    for flags in (0, 0x800, 0x80000, 0x80800):  # SOCK_NONBLOCK and SOCK_CLOEXEC
        assert answer("socketpair", 1, 1 | flags) == ALLOW
        for kind in (2, 3, 5):  # SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET
            assert answer("socketpair", 1, kind | flags) == EPERM
    assert answer("socketpair", 30, 1) == EPERM  # AF_TIPC
    refused = {8, 10, 15, 1024, 1026, 1036, 1038}  # owners and signals; F_SETLEASE, F_NOTIFY, hints on writing
    for command in (*range(40), *range(1020, 1040)):
        expected = ERRNO if command in (6, 7, 37, 38) else EPERM if command in refused else ALLOW  # the first are locks
        assert answer("fcntl", 3, command) == expected, command
    for request in (0x8901, 0x8902, 0x40086602, 0x40046602, 0x401C5820, 0x40087602):
        assert answer("ioctl", 3, request) == EPERM, hex(request)
    for request in (0x5401, 0x541B, 0x80086601, 0x8900, 0x8903):  # TCGETS, FIONREAD, FS_IOC_GETFLAGS
        assert answer("ioctl", 3, request) == ALLOW, hex(request)
