"""Seccomp: a process gives up system calls. A small filter made by hand, so that no package is needed.

Refused: the network, every socket but a connected pair, and messages on it that hold open files; the
attributes of files, watching and holding them; other processes (trace, read, signal, change their
limits), new namespaces and mounts, the kernel's own machinery, and memory that would outlive the process.
A job of one process may not start another. clone3 answers "no such call", because its flags lie in memory
where a filter cannot look; the C library then falls back to clone. fallocate answers as a file system that
cannot: the C library then writes, at the disk's pace.

Source: Linux kernel documentation, "Seccomp BPF (SECure COMPuting with filters)"; numbers from the
kernel's tables syscall_64.tbl (x86-64) and unistd.h (generic, aarch64).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

from agent.sandbox.native import PR_SET_SECCOMP, prctl

ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
"""Machine → (its AUDIT_ARCH, its column below)."""

NEWEST = 462  # what came after this answers "no such call" until somebody has looked at it

REFUSED: tuple[tuple[int, int], ...] = (
    (41, 198),  # socket
    (42, 203),  # connect
    (49, 200),  # bind
    (50, 201),  # listen
    (43, 202),  # accept
    (288, 242),  # accept4
    (101, 117),  # ptrace
    (310, 270),  # process_vm_readv
    (311, 271),  # process_vm_writev
    (312, 272),  # kcmp
    (424, 424),  # pidfd_send_signal
    (434, 434),  # pidfd_open
    (438, 438),  # pidfd_getfd
    (440, 440),  # process_madvise
    (448, 448),  # process_mrelease
    (428, 428),  # open_tree
    (429, 429),  # move_mount
    (430, 430),  # fsopen
    (431, 431),  # fsconfig
    (432, 432),  # fsmount
    (433, 433),  # fspick
    (442, 442),  # mount_setattr
    (165, 40),  # mount
    (166, 39),  # umount2
    (155, 41),  # pivot_root
    (161, 51),  # chroot
    (272, 97),  # unshare
    (308, 268),  # setns
    (321, 280),  # bpf
    (298, 241),  # perf_event_open
    (248, 217),  # add_key
    (249, 218),  # request_key
    (250, 219),  # keyctl
    (323, 282),  # userfaultfd
    (319, 279),  # memfd_create: memory that no limit of the process counts
    (447, 447),  # memfd_secret
    (29, 194),  # shmget: from here to mq_unlink outlives the process, or is the user's already
    (30, 196),  # shmat
    (31, 195),  # shmctl
    (67, 197),  # shmdt
    (64, 190),  # semget
    (65, 193),  # semop
    (66, 191),  # semctl
    (220, 192),  # semtimedop
    (68, 186),  # msgget
    (69, 189),  # msgsnd
    (70, 188),  # msgrcv
    (71, 187),  # msgctl
    (240, 180),  # mq_open
    (241, 181),  # mq_unlink
    (133, -1),  # mknod
    (259, 33),  # mknodat
    (167, 224),  # swapon
    (168, 225),  # swapoff
    (169, 142),  # reboot
    (246, 104),  # kexec_load
    (320, 294),  # kexec_file_load
    (175, 105),  # init_module
    (313, 273),  # finit_module
    (176, 106),  # delete_module
    (303, 264),  # name_to_handle_at
    (304, 265),  # open_by_handle_at
    (179, 60),  # quotactl
    (443, 443),  # quotactl_fd
    (163, 89),  # acct
    (164, 170),  # settimeofday
    (227, 112),  # clock_settime
    (159, 171),  # adjtimex
    (305, 266),  # clock_adjtime
    (172, -1),  # iopl
    (173, -1),  # ioperm
    (154, -1),  # modify_ldt
    (134, -1),  # uselib
    (135, 92),  # personality
    (103, 116),  # syslog
    (153, 58),  # vhangup
    (170, 161),  # sethostname
    (171, 162),  # setdomainname
    (300, 262),  # fanotify_init
    (253, -1),  # inotify_init: landlock does not look at it
    (294, 26),  # inotify_init1
    (46, 211),  # sendmsg: an open file on its way between two sockets is in nobody's list
    (307, 269),  # sendmmsg
    (162, 81),  # sync: it makes everybody wait
    (306, 267),  # syncfs
    (141, 140),  # setpriority
    (251, 30),  # ioprio_set
    (256, 238),  # migrate_pages
    (279, 239),  # move_pages
)
ATTRIBUTES: tuple[tuple[int, int], ...] = (
    (90, -1),  # chmod: landlock does not look at any of these
    (91, 52),  # fchmod
    (268, 53),  # fchmodat
    (452, 452),  # fchmodat2
    (92, -1),  # chown
    (93, 55),  # fchown
    (94, -1),  # lchown
    (260, 54),  # fchownat
    (132, -1),  # utime
    (235, -1),  # utimes
    (261, -1),  # futimesat
    (280, 88),  # utimensat
    (188, 5),  # setxattr
    (189, 6),  # lsetxattr
    (190, 7),  # fsetxattr
    (197, 14),  # removexattr
    (198, 15),  # lremovexattr
    (199, 16),  # fremovexattr
)
"""Refused to a function. To a program it looks as if they worked, since tools that copy files give up else."""
UNKNOWN: tuple[tuple[int, int], ...] = ((435, 435), (425, 425), (426, 426), (427, 427))  # clone3, io_uring
FALLOCATE = (285, 47)
FLOCK = (73, 32)
STARTING: tuple[tuple[int, int], ...] = ((57, -1), (58, -1), (59, 221), (322, 281))  # fork, vfork, execve, execveat
TKILL = (200, 130)
SIGNALLING: tuple[tuple[int, int], ...] = ((62, 129), (234, 131), (129, 138), (297, 240))
"""kill, tgkill, rt_sigqueueinfo, rt_tgsigqueueinfo."""
ABOUT_A_PROCESS: tuple[tuple[int, int], ...] = ((302, 261), (203, 122), (144, 119), (142, 118), (314, 274))
"""prlimit64, sched_setaffinity, sched_setscheduler, sched_setparam, sched_setattr."""
SOCKETPAIR, FCNTL, IOCTL = (53, 199), (72, 25), (16, 29)
UNIX, STREAMS = 1, (0x1, 0x801, 0x80001, 0x80801)
"""AF_UNIX; SOCK_STREAM, without and with SOCK_NONBLOCK and SOCK_CLOEXEC. A pair of datagram sockets can write to any
socket that has a name; a stream is connected for good."""
LOCKS = (6, 7, 37, 38)
"""F_SETLK, F_SETLKW, F_OFD_SETLK, F_OFD_SETLKW. They and flock do nothing, and seem to work: a lock on a file that
two jobs can read would tell one of them what the other has seen."""
FCNTL_REFUSED = (8, 10, 15, 1024, 1026, 1036, 1038)
"""F_SETOWN, F_SETSIG, F_SETOWN_EX: with them the kernel signals another process in our name. F_SETLEASE, F_NOTIFY,
F_SET_RW_HINT, F_SET_FILE_RW_HINT: they watch, hold up or mark files that others can read as well."""
IOCTL_REFUSED = (0x8901, 0x8902, 0x40086602, 0x40046602, 0x401C5820, 0x40087602)
"""FIOSETOWN, SIOCSPGRP; FS_IOC_SETFLAGS (also with 32 bits), FS_IOC_FSSETXATTR, FS_IOC_SETVERSION, which change a
file's attributes where it is only open for reading."""
CLONE = (56, 220)
CLONE_THREAD = 0x00010000
CLONE_NEW = 0x7E020000 | 0x80  # every namespace

ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
LOAD, EQUAL, ABOVE, HAS, RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
NUMBER, ARCH, ARGUMENT, SECOND = 0, 4, 16, 24


def program(machine: str, single: bool, pid: int) -> bytes:
    """The filter's instructions.

    Args:
        machine: As `platform.machine` has it; a key of `ARCHITECTURES`.
        single: Whether the process may not start another.
        pid: Its own number.
    """
    arch, column = ARCHITECTURES[machine]
    refuse, unknown = ERRNO | errno.EPERM, ERRNO | errno.ENOSYS
    code: list[tuple[int, int, int, int]] = [
        (LOAD, 0, 0, ARCH),
        (EQUAL, 1, 0, arch),
        (RETURN, 0, 0, KILL),  # the same processor's other set of calls has other numbers
        (LOAD, 0, 0, NUMBER),
        (ABOVE, 0, 1, NEWEST),  # x32's numbers lie up there too
        (RETURN, 0, 0, unknown),
    ]

    def answer(calls: tuple[tuple[int, int], ...], what: int) -> None:
        for call in calls:
            if call[column] >= 0:
                code.extend([(EQUAL, 0, 1, call[column]), (RETURN, 0, 0, what)])

    def only_on(calls: tuple[tuple[int, int], ...], allowed: tuple[int, ...]) -> None:
        """These calls only where the first argument is one of `allowed`."""
        for call in calls:
            tests = [(EQUAL, len(allowed) - i, 0, value) for i, value in enumerate(allowed)]
            body = [(LOAD, 0, 0, ARGUMENT), *tests, (RETURN, 0, 0, refuse), (RETURN, 0, 0, ALLOW)]
            code.extend([(EQUAL, 0, len(body), call[column]), *body])

    def never_with(call: tuple[int, int], answers: dict[int, int]) -> None:
        """This call, except where its second argument is one of these: it is answered so."""
        body = [(LOAD, 0, 0, SECOND)]
        for value, what in answers.items():
            body += [(EQUAL, 0, 1, value), (RETURN, 0, 0, what)]
        body.append((RETURN, 0, 0, ALLOW))
        code.extend([(EQUAL, 0, len(body), call[column]), *body])

    answer(REFUSED, refuse)
    answer(UNKNOWN, unknown)
    answer((FALLOCATE,), ERRNO | errno.EOPNOTSUPP)
    answer((FLOCK,), ERRNO)
    never_with(FCNTL, dict.fromkeys(LOCKS, ERRNO) | dict.fromkeys(FCNTL_REFUSED, refuse))
    never_with(IOCTL, dict.fromkeys(IOCTL_REFUSED, refuse))
    kinds = [(EQUAL, len(STREAMS) - i, 0, kind) for i, kind in enumerate(STREAMS)]
    pair = [(LOAD, 0, 0, ARGUMENT), (EQUAL, 0, 1 + len(kinds), UNIX), (LOAD, 0, 0, SECOND), *kinds]
    pair += [(RETURN, 0, 0, refuse), (RETURN, 0, 0, ALLOW)]
    code.extend([(EQUAL, 0, len(pair), SOCKETPAIR[column]), *pair])
    answer(ATTRIBUTES, refuse if single else ERRNO)
    only_on(ABOUT_A_PROCESS, (0, pid))
    if single:
        answer((*STARTING, TKILL), refuse)
        only_on(SIGNALLING, (pid,))
    body = [(LOAD, 0, 0, ARGUMENT), (HAS, 0, 1, CLONE_NEW), (RETURN, 0, 0, refuse)]
    if single:
        body += [(HAS, 1, 0, CLONE_THREAD), (RETURN, 0, 0, refuse)]
    code.extend([(EQUAL, 0, len(body), CLONE[column]), *body, (RETURN, 0, 0, ALLOW)])
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)


PID = 0x7A7A7A7A
"""Stands for the number of a process that does not exist yet."""


def template(single: bool) -> bytes:
    """The filter for this machine, to be finished by `restrict`.

    Raises:
        KeyError: There is no table for this processor.
    """
    return program(platform.machine(), single, PID)


def restrict(code: bytes) -> None:
    """Filter this thread, and all it starts, from now on; no_new_privs must be set.

    Args:
        code: From `template`.

    Raises:
        OSError: The kernel has no filters; nothing is filtered.
    """
    code = code.replace(struct.pack("I", PID), struct.pack("I", os.getpid()))
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))
    prctl(PR_SET_SECCOMP, 2, ctypes.c_char_p(header))
