"""Telling people that a run or a night has ended: a command of theirs, and a web address.

What a model wrote reaches neither a command line nor a shell: a command gets its data by environment
variables and files, an address by JSON in the body.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from agent.redact import redact

LOG = "on-finish.log"
LARGEST_LOG = 1_000_000
"""Bytes of the command's output that are kept."""
LARGEST_OUTPUT = 50_000_000
"""Bytes of output at which the command is stopped."""
LARGEST_BODY = 256_000
"""Bytes that are sent; a longer summary is sent without its longest parts, and says so."""
LONGEST = 500
"""Characters of an environment variable."""
ATTEMPTS = 4
LOCAL = ("localhost", "127.0.0.1", "::1")


def finished(
    folder: Path, summary: Mapping[str, Any], *, command: str | None, webhook: str | None, timeout: float = 60
) -> list[str]:
    """Run the command and call the address; what goes wrong is told and changes nothing.

    The command runs in a shell and in a process group of its own, with TRUEGAIN_NAME, TRUEGAIN_STATUS,
    TRUEGAIN_EXIT_CODE, TRUEGAIN_FOLDER, TRUEGAIN_SUMMARY_MD and TRUEGAIN_SUMMARY_JSON in its environment. What it
    prints is in `on-finish.log` of the folder, if that exists. The address gets the summary by POST, as JSON.

    Args:
        folder: Of the run or the night.
        summary: What is in its summary.json; `name` (or `run`), `status` and `exit_code` are read from it.
        command: For the shell; None for none.
        webhook: An https address, or an http one on this machine; None for none.
        timeout: Seconds for the command, and for the address with all its retries.

    Returns:
        One sentence for each thing that went wrong.
    """
    wrong = []
    if command:
        wrong += _command(folder, summary, command, timeout)
    if webhook:
        wrong += _webhook(summary, webhook, timeout)
    return wrong


def variables(folder: Path, summary: Mapping[str, Any]) -> dict[str, str]:
    """What the command finds in its environment, beside everything that is there already."""
    name = summary.get("name") or summary.get("run") or folder.name
    return {
        "TRUEGAIN_NAME": _clean(name),
        "TRUEGAIN_STATUS": _clean(summary.get("status", "")),
        "TRUEGAIN_EXIT_CODE": _clean(summary.get("exit_code", "")),
        "TRUEGAIN_FOLDER": str(folder),
        "TRUEGAIN_SUMMARY_MD": str(folder / "summary.md"),
        "TRUEGAIN_SUMMARY_JSON": str(folder / "summary.json"),
    }


def _clean(value: Any) -> str:
    """On one line, without control characters."""
    text = "".join(char if char.isprintable() else " " for char in str(redact(str(value))))
    return text.encode("utf-8", "replace").decode()[:LONGEST].strip()


# A command


def _command(folder: Path, summary: Mapping[str, Any], command: str, timeout: float) -> list[str]:
    wrong = []
    try:
        with tempfile.TemporaryFile() as output:
            problem, log = _wait(folder, summary, command, timeout, output), folder.is_dir()
            if problem:
                there = f"; what it printed is in {folder / LOG}" if log else ""
                wrong.append(f"--on-finish: the command {problem}{there}")
            if log:
                _keep(folder, output)
    except (OSError, ValueError) as error:
        wrong.append(f"--on-finish: {error}")
    return wrong


def _wait(folder: Path, summary: Mapping[str, Any], command: str, timeout: float, output: IO[bytes]) -> str:
    """Run it to its end; what was wrong with it, or ""."""
    process = subprocess.Popen(
        command,
        shell=True,  # it is the user's own line
        cwd=folder if folder.is_dir() else None,  # of a run that could not begin nothing is kept
        env={**os.environ, **variables(folder, summary)},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    end = time.monotonic() + timeout
    try:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(0.1)
                if code < 0:
                    return f"was ended by signal {-code}"
                return f"failed with exit code {code}" if code else ""
            if time.monotonic() > end:
                return f"took longer than {timeout:g} seconds and was stopped"
            if os.fstat(output.fileno()).st_size > LARGEST_OUTPUT:
                return f"printed more than {LARGEST_OUTPUT // 1_000_000} MB and was stopped"
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _keep(folder: Path, output: IO[bytes]) -> None:
    """The beginning of the output, without what looks like a key."""
    output.seek(0)
    text = str(redact(output.read(LARGEST_LOG).decode("utf-8", "replace")))
    file = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(file, "w", encoding="utf-8") as log:
        log.write(text)


# An address


def refused(webhook: str) -> str:
    """Why nothing is sent to an address, or ""."""
    try:
        parts = urlsplit(webhook)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return f"it is no address: {error}"
    if parts.scheme not in ("http", "https") or not host:
        return "it is no https address"
    if parts.scheme == "http" and host not in LOCAL:
        return "http is for this machine alone; give an https address"
    return ""


def _webhook(summary: Mapping[str, Any], webhook: str, timeout: float) -> list[str]:
    why = refused(webhook)
    if why:
        return [f"--webhook: {why}"]
    parts = urlsplit(webhook)
    where = f"{parts.scheme}://{parts.hostname}"  # the rest may be a secret
    try:
        problem = _post(webhook, body(summary), timeout)
    except Exception as error:  # whatever a server, a proxy or a certificate does, the run has ended as it has
        problem = f"{type(error).__name__}: {str(redact(str(error).replace(webhook, where)))[:LONGEST]}"
    return [f"--webhook: {where} was not told: {problem}"] if problem else []


def body(summary: Mapping[str, Any]) -> bytes:
    """The JSON that is sent; of a long summary the longest parts are left out, and named in `left_out`."""
    plain: dict[str, Any] = redact(dict(summary))
    sizes = {name: len(json.dumps(value)) for name, value in plain.items()}
    left_out: list[str] = []
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        if sum(sizes.values()) - sum(sizes[other] for other in left_out) <= LARGEST_BODY * 0.9:
            break
        left_out.append(name)
    if left_out:
        plain = {name: value for name, value in plain.items() if name not in left_out} | {"left_out": left_out}
    return json.dumps(plain).encode()


def _post(webhook: str, data: bytes, timeout: float) -> str:
    """Send it, again when that may help; what was wrong, or ""."""
    import httpx2  # comes with both SDKs
    from tenacity import (
        Retrying,
        retry_if_exception_type,
        stop_after_attempt,
        stop_after_delay,
        wait_random_exponential,
    )

    class Again(Exception):
        pass

    end = time.monotonic() + timeout

    def once(client: httpx2.Client) -> str:
        left = max(0.1, min(15.0, end - time.monotonic()))
        try:
            # The answer is closed unread; redirects are not followed, for the summary is for this address alone.
            with client.stream(
                "POST", webhook, content=data, headers={"content-type": "application/json"}, timeout=left
            ) as answer:
                code = answer.status_code
        except httpx2.TransportError as error:
            raise Again(f"{type(error).__name__}: {error}") from None
        if code in (408, 425, 429) or code >= 500:
            raise Again(f"it answered {code}")
        if 300 <= code < 400:
            return f"it answered {code} and sends us elsewhere; give the address that it sends to"
        return "" if code < 300 else f"it answered {code}"

    trying = Retrying(
        retry=retry_if_exception_type(Again),
        stop=stop_after_attempt(ATTEMPTS) | stop_after_delay(timeout),
        wait=wait_random_exponential(multiplier=0.5, max=10),
        reraise=True,
    )
    # Without TLS it goes to this machine alone, and not to a proxy that the environment names.
    with httpx2.Client(follow_redirects=False, trust_env=not webhook.startswith("http:")) as client:
        try:
            return trying(once, client)
        except Again as error:
            return f"{error}, {trying.statistics['attempt_number']} times"
