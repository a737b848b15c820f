"""GGUF files from the Hugging Face hub, or a server that looks like it: `local:hf/ORG/REPO/FILE.gguf`."""

from __future__ import annotations

import http.client
import os
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

from agent.errors import ConfigError, PrerequisiteError

Progress = Callable[[int, int, str], None]
"""Called with bytes so far, bytes in all (0 when unknown) and a sentence for people."""

FIX = "check the name and the network, or download the file and name it as local:/path/to/FILE.gguf"


def place(name: str) -> Path:
    """Where the file of `hf/ORG/REPO/FILE.gguf` is kept, relative to the cache.

    Raises:
        ConfigError: The name has another form.
    """
    parts = name.split("/")
    odd = any(part in ("", ".", "..") or "\\" in part for part in parts)
    if len(parts) < 4 or parts[0] != "hf" or odd or not name.endswith(".gguf"):
        raise ConfigError(f"local:{name} names no file on the hub", hint="write local:hf/ORG/REPO/FILE.gguf")
    return Path(*parts)


def download(name: str, target: Path, progress: Progress | None = None) -> Path:
    """Fetch the main revision of a file to `target`, from HF_ENDPOINT (by default the hub itself).

    A token in HF_TOKEN is used, for models whose license has to be accepted first.

    Raises:
        PrerequisiteError: It is not there, or did not arrive whole.
        OSError: It cannot be written.
    """
    _, organisation, repository, *inside = place(name).parts
    host = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    url = f"{host}/{organisation}/{repository}/resolve/main/{urllib.parse.quote('/'.join(inside))}"
    try:
        request = urllib.request.Request(url)
        if token := os.environ.get("HF_TOKEN"):
            # Not sent on when the hub redirects, which it does to servers of another company.
            request.add_unredirected_header("Authorization", f"Bearer {token}")
        response = urllib.request.urlopen(request, timeout=30)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise PrerequisiteError(f"local:{name} cannot be fetched from {url}: {error}", fix=FIX) from error
    total = int(response.headers.get("Content-Length") or 0)
    words = f"fetching the {total / 1e6:.0f} MB model local:{name} (once)"
    with response, target.open("wb") as file:
        while True:
            try:
                block = response.read(1 << 20)
            except (OSError, http.client.HTTPException) as error:
                raise PrerequisiteError(f"local:{name} came incomplete: {error}", fix=FIX) from error
            if not block:
                break
            file.write(block)
            if progress is not None:
                progress(file.tell(), total, words)
        if file.tell() < total:
            raise PrerequisiteError(f"local:{name} came incomplete: {file.tell()} of {total} bytes", fix=FIX)
    return target
