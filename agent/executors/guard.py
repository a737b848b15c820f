"""The process between ours and one that runs code we do not trust.

It starts that process, watches over it, and ends everything beneath it: when we say so, when we
die, and when the process itself ends and leaves others behind. It runs as a script, by its path, so
it imports nothing of the package and nothing can shadow it:

    python -P guard.py LIFELINE worker SOCKET
    python -I -S guard.py LIFELINE command MEMORY_MB ARGV...
    python -I -S guard.py LIFELINE grouped FOLDERS MEMORY_MB ARGV...

LIFELINE is a socket. A byte on it asks the process to terminate, its end (also: our death) kills it.
Before the guard exits it writes one line, "exit 3 51200" or "signal 11 51200": how the process ended
and its largest resident size in KiB. FOLDERS, with line breaks between them, are control groups that only
that process and its descendants have joined: they are removed in the end.
"""

import contextlib
import os
import select
import signal
import sys
import time

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
IGNORED = (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
RESET = (*IGNORED, signal.SIGTERM, signal.SIGCHLD)
CLEANING_SECONDS = 1.0


def main() -> None:
    lifeline, kind, *rest = sys.argv[1:]
    guard(int(lifeline), kind, rest)


def guard(lifeline: int, kind: str, arguments: list[str]) -> None:
    """Run a worker or a command in a child process of its own group, until it ends or must end."""
    folders = arguments.pop(0).split("\n") if kind == "grouped" else []
    os.set_inheritable(lifeline, False)
    prctl(PR_SET_CHILD_SUBREAPER, 1)  # whoever leaves the group (setsid, double fork) becomes our child in the end
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)  # for when somebody's fork holds a copy of the lifeline
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)

    parent = os.getpid()
    child = os.fork()
    if child == 0:
        signal.set_wakeup_fd(-1)
        for number in RESET:
            signal.signal(number, signal.SIG_DFL)
        for descriptor in (lifeline, wake, woken):
            os.close(descriptor)
        os.setpgid(0, 0)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        (become_worker if kind == "worker" else become_command)(arguments)
        sys.exit(0)
    with contextlib.suppress(OSError):
        os.setpgid(child, child)  # whichever of the two comes first
    let_go([int(arguments[0])] if kind == "worker" else [])

    watch(child, lifeline, wake)
    ending = finish(child)
    with contextlib.suppress(OSError):
        os.write(lifeline, ending.encode())
    for folder in folders:
        remove_group(folder)
    os._exit(0)


def watch(child: int, lifeline: int, wake: int) -> None:
    """Return when the child has ended."""
    poll = select.poll()
    poll.register(lifeline, select.POLLIN)
    poll.register(wake, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if wake in ready:
            numbers = os.read(wake, 512)
            if ended(child):
                return
            if signal.SIGTERM in numbers:
                kill_group(child, signal.SIGKILL)
        if lifeline in ready:
            try:
                asked = os.read(lifeline, 64)
            except OSError:
                asked = b""
            kill_group(child, signal.SIGTERM if asked else signal.SIGKILL)
            if not asked:
                poll.unregister(lifeline)


def ended(child: int) -> bool:
    """Whether the child has ended; processes that it left to us are reaped on the way, the child is not."""
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return True
        if found is None:
            return False
        if found.si_pid == child:
            return True
        os.waitpid(found.si_pid, 0)


def finish(child: int) -> str:
    """Kill what the ended child left behind; return the line that says how it ended."""
    kill_group(child, signal.SIGKILL)  # before it is reaped: until then its number is its group's alone
    _, status, usage = os.wait4(child, 0)
    peak = usage.ru_maxrss // (1024 if sys.platform == "darwin" else 1)
    until = time.monotonic() + CLEANING_SECONDS
    while (left := children()) and time.monotonic() < until:
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.001)
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)} {peak}\n"
    return f"exit {os.WEXITSTATUS(status)} {peak}\n"


def remove_group(folder: str) -> None:
    """Remove a control group, once those who were in it are gone."""
    until = time.monotonic() + CLEANING_SECONDS
    while time.monotonic() < until:
        try:
            return os.rmdir(folder)
        except FileNotFoundError:
            return None
        except OSError:
            time.sleep(0.005)


def children() -> list[int]:
    """Our child processes, where the system lists them."""
    try:
        with open("/proc/thread-self/children") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []


def kill_group(group: int, number: int) -> None:
    """Send a signal to a process group, if it is still there."""
    with contextlib.suppress(OSError):
        os.killpg(group, number)


def let_go(descriptors: list[int]) -> None:
    """Close what was meant for the child: while we hold it, its readers would never see an end."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    for descriptor in (null, *descriptors):
        os.close(descriptor)


def prctl(option: int, value: int) -> None:
    """Linux's prctl; elsewhere nothing happens."""
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(option, int(value), 0, 0, 0)


def become_command(arguments: list[str]) -> None:
    """Replace this process by a command, with its memory limited."""
    memory, *argv = arguments
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)  # Python ignores these, and an ignored signal stays ignored
    try:
        if float(memory):
            import resource

            size = int(float(memory) * 2**20)
            hard = resource.getrlimit(resource.RLIMIT_AS)[1]
            size = size if hard == resource.RLIM_INFINITY else min(size, hard)
            resource.setrlimit(resource.RLIMIT_AS, (size, size))
        os.execvp(argv[0], argv)
    except (OSError, ValueError) as error:
        os.write(2, f"cannot run {argv[0]}: {error}\n".encode())
    os._exit(127)


def become_worker(arguments: list[str]) -> None:
    """Turn this process into a worker that answers requests on a socket."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    # Our package is found first and for good; the folder that holds it, which may hold anything else
    # as well, comes last, so it shadows nothing.
    sys.path.insert(0, root)
    import agent  # noqa: F401

    sys.path.remove(root)
    if root not in sys.path:
        sys.path.append(root)
    from agent.executors.worker import main

    main(int(arguments[0]))


if __name__ == "__main__":
    main()
