"""The hostile set: what a candidate may try, as code that really tries it.

Each attack's `solve` gets a mapping that tells it where the things lie that it should not reach, and
returns what it got. Whether it was stopped is judged from outside, by `agent.sandbox.drill`. An attack
does no lasting harm where nothing stops it: its bombs are bounded, its victims are made for it.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.sandbox.types import Caps

ALWAYS = ("process",)
FILES = ("uid", "landlock", "bubblewrap")
LONG = Caps(seconds=20, memory_mb=128)
SHORT = Caps(seconds=0.7, memory_mb=256)


@dataclass(frozen=True)
class Attack:
    """One attack.

    Args:
        name: Two or three words.
        source: Code with a function `solve`.
        stoppers: The layers any one of which stops it.
        tries: What it tries, as the end of "it tries to …".
        caps: Limits that it runs under.
    """

    name: str
    source: str
    stoppers: tuple[str, ...]
    tries: str
    caps: Caps = LONG


ATTACKS = (
    Attack("infinite loop", "def solve(x):\n    while True:\n        pass\n", ALWAYS, "compute for ever", SHORT),
    Attack(
        "SIGTERM ignored",
        """
import signal, time

def solve(x):
    for number in range(1, 65):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            pass
    while True:
        time.sleep(1)
""",
        ALWAYS,
        "ignore every signal and wait",
        SHORT,
    ),
    Attack(
        "fork bomb",
        """
import os, time

def solve(x):
    started = 0
    for _ in range(x["forks"]):
        try:
            if os.fork() == 0:
                time.sleep(600)
        except OSError:
            break
        started += 1
    return started
""",
        ("rlimits", "seccomp", "cgroup"),
        "start processes without end",
    ),
    Attack(
        "setsid child",
        """
import os, time

def solve(x):
    for depth in range(2):
        try:
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    time.sleep(600)
                os._exit(0)
        except OSError:
            pass
    return "left them"
""",
        ALWAYS,
        "leave processes behind in sessions of their own",
    ),
    Attack(
        "4 GB",
        """
import mmap

def solve(x):
    block = mmap.mmap(-1, 4 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for at in range(0, 400 << 20, 4096):
        block[at] = 1
    return "got it"
""",
        ("rlimits", "cgroup"),
        "take 4 GB of memory, and use 400 MB of it",
    ),
    Attack("segfault", "import ctypes\n\ndef solve(x):\n    ctypes.string_at(0)\n", ALWAYS, "crash the process"),
    Attack("os._exit", "import os\n\ndef solve(x):\n    os._exit(0)\n", ALWAYS, "end as if all were well"),
    Attack(
        "environment read",
        """
import glob, os

def solve(x):
    found = [repr(dict(os.environ)).encode()]
    for name in ["/proc/self/environ", *glob.glob("/proc/[0-9]*/environ")]:
        try:
            with open(name, "rb") as file:
                found.append(file.read())
        except OSError:
            pass
    return [text.decode("latin-1") for text in found if x["key"].encode() in text]
""",
        FILES,
        "find keys in its own and other processes' environment",
    ),
    Attack(
        "evaluator edit",
        """
def solve(x):
    with open(x["folder"] + "/evaluator.py", "w") as file:
        file.write("def score(*_): return 1e9")
    return "edited"
""",
        FILES,
        "rewrite the evaluator",
    ),
    Attack(
        "evaluator's mode",
        "import os\n\ndef solve(x):\n    os.chmod(x['folder'] + '/evaluator.py', 0)\n",
        ("uid", "seccomp", "bubblewrap"),
        "close the evaluator's file to its owner",
    ),
    Attack(
        "reading the run folder",
        """
def solve(x):
    with open(x["folder"] + "/gate.sqlite", "rb") as file:
        return file.read().decode("latin-1")
""",
        FILES,
        "read the hidden rows",
    ),
    Attack(
        "frame walk",
        """
import gc, sys

def solve(x):
    found, frame = [], sys._getframe()
    while frame is not None:
        found.append(repr(frame.f_locals) + repr(frame.f_globals))
        frame = frame.f_back
    found += [thing for thing in gc.get_objects() if isinstance(thing, (str, dict))]
    return [str(thing)[:200] for thing in found if x["needle"] + "-answer" in str(thing)]
""",
        ALWAYS,
        "find the expected answer in the frames above it, and in all of memory",
    ),
    Attack(
        "atexit rewrite",
        """
import agent.sandbox.candidate as ours, atexit, os, struct

BODY = struct.pack("<I", 10) + b"1000000000"
send, seen = ours._send, []

def forge():
    for _ in range(3):
        send(seen[0], seen[1], b"O", BODY)

def twice(channel, nonce, kind, data):
    seen[:] = channel, nonce
    send(channel, nonce, kind, data)
    if kind == b"O":
        forge()

def solve(x):
    ours._send = twice
    atexit.register(forge)
    return 0
""",
        ALWAYS,
        "send a second, better result with the first one's nonce, and another one at exit",
    ),
    Attack(
        "__reduce__",
        """
import os

class Bomb:
    def __init__(self, path):
        self.path = path
    def __reduce__(self):
        return os.system, ("touch '" + self.path + "/bomb'",)

def solve(x):
    return Bomb(x["folder"])
""",
        ALWAYS,
        "return an object that runs code where it is unpickled",
    ),
    Attack(
        "monkeypatched scorer",
        """
def solve(x):
    import agent.sandbox.codec, agent.sandbox.candidate, builtins, json
    forged = lambda *_, **__: b"\\x0a\\0\\0\\x001000000000"
    for module in (agent.sandbox.codec, agent.sandbox.candidate):
        module.encode = forged
    json.dumps = forged
    builtins.sum = builtins.abs = lambda *_: 1e9
    try:
        import agent.sandbox.drill
        agent.sandbox.drill.score = lambda *_: 1e9
    except ImportError:
        pass
    return 0
""",
        ALWAYS,
        "replace the functions that score it",
    ),
    Attack(
        "network",
        """
import socket

def solve(x):
    for kind, act in ((socket.SOCK_STREAM, "connect"), (socket.SOCK_DGRAM, "connect")):
        try:
            with socket.socket(socket.AF_INET, kind) as s:
                s.settimeout(2)
                s.connect(("127.0.0.1", x["tcp"] if kind == socket.SOCK_STREAM else x["udp"]))
                s.send(b"hello")
        except OSError:
            pass
""",
        ("seccomp", "bubblewrap"),
        "send something over TCP and UDP",
    ),
    Attack(
        "datagrams",
        """
import socket

def solve(x):
    ours, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for name in (x["unix"], "\\0" + x["needle"]):
        try:
            ours.sendto(b"hello", name)
        except OSError:
            pass
""",
        ("seccomp", "bubblewrap"),
        "write to other programs' sockets on this machine",
    ),
    Attack(
        "NaN",
        "def solve(x):\n    return {'centres': [[float('nan'), float('inf')]]}\n",
        ALWAYS,
        "pass every comparison with a number that is none",
    ),
    Attack(
        "1 GB of stdout",
        "import os\n\ndef solve(x):\n    for _ in range(1024):\n        os.write(1, b'x' * 2**20)\n    return 0\n",
        ALWAYS,
        "flood the log",
    ),
    Attack(
        "signals",
        "import os\n\ndef solve(x):\n    os.kill(x['pid'], 9)\n",
        ("uid", "seccomp", "landlock", "bubblewrap"),
        "kill one of our processes",
    ),
    Attack(
        "signals by the kernel",
        """
import fcntl, os, signal, socket, time

def solve(x):
    ours, other = socket.socketpair()
    fcntl.fcntl(ours, fcntl.F_SETOWN, x["pid"])
    fcntl.fcntl(ours, 10, signal.SIGKILL)  # F_SETSIG
    fcntl.fcntl(ours, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    other.send(b"x")
    time.sleep(0.5)  # a process takes a moment to die
""",
        ("uid", "seccomp", "landlock", "bubblewrap"),
        "have one of our processes killed when its own socket can be read",
    ),
    Attack(
        "files left outside",
        """
import os

def solve(x):
    for place in ("/dev/shm", "/tmp", "/var/tmp", os.path.dirname(os.getcwd())):
        try:
            with open(place + "/" + x["needle"], "w") as file:
                file.write("left")
        except OSError:
            pass
""",
        ("landlock", "bubblewrap"),
        "leave files where everyone may write",
    ),
    Attack(
        "memory left behind",
        """
import ctypes

def solve(x):
    return ctypes.CDLL(None).shmget(x["shm"], 2**20, 0o1600)
""",
        ("seccomp", "bubblewrap"),
        "leave a shared memory segment, which outlives every process",
    ),
    Attack(
        "memory of others",
        """
import ctypes

def solve(x):
    libc = ctypes.CDLL(None)
    libc.shmat.restype = ctypes.c_ssize_t
    at = libc.shmat(x["segment"], None, 0o10000)  # SHM_RDONLY
    return ctypes.string_at(at).decode("latin-1") if at != -1 else ""
""",
        ("uid", "seccomp", "bubblewrap"),
        "read shared memory that belongs to another program of its user",
    ),
    Attack(
        "disk full",
        """
import os, time

def solve(x):
    for number in range(300):
        with open(f"f{number}", "wb") as file:
            file.write(bytes(2**20))
    os.makedirs("d/" * 800)
    time.sleep(600)
""",
        ALWAYS,
        "write 300 MB in small files, and folders too deep to remove",
        Caps(seconds=20, memory_mb=256, disk_mb=32),
    ),
    Attack(
        "deleted files",
        """
import os, time

def solve(x):
    for number in range(20):
        file = os.open("f", os.O_RDWR | os.O_CREAT, 0o600)
        os.unlink("f")
        os.write(file, bytes(15 * 2**20))
    time.sleep(600)
""",
        ALWAYS,
        "write 300 MB to files that no folder shows any more",
        Caps(seconds=20, memory_mb=256, disk_mb=32),
    ),
    Attack(
        "files in flight",
        """
import array, os, socket, time

def solve(x):
    ours, theirs = socket.socketpair()
    for number in range(8):
        file = os.open("f", os.O_RDWR | os.O_CREAT, 0o600)
        os.unlink("f")
        ours.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file]))])
        os.write(file, bytes(10 * 2**20))
        os.close(file)
    time.sleep(0.6)  # so that whoever looks has looked
    return "80 MB"
""",
        ("seccomp",),
        "fill the disk with files that only a message between its two processes holds",
        Caps(seconds=20, memory_mb=256, disk_mb=32, processes=2),
    ),
)
