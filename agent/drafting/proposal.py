"""A draft: the files of a problem, as a model or a template wrote them, and why one cannot be used."""

from __future__ import annotations

import ast
import os
import tempfile
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent.code.trees import bad_path
from agent.code.untrusted import cleaned
from agent.drafting.tomlkey import changed
from agent.errors import AgentError, ConfigError
from agent.setup import Setup

PROBLEM = "problem.toml"
MOST_FILES, FILE_CHARS = 6, 20_000
TIMEOUT = 60
"""Seconds of one evaluation where a draft says nothing: one that hangs must end."""

ALLOWED: Mapping[str, Collection[str] | None] = {
    "name": None,
    "description": None,
    "evaluator": ("function", "code", "prompt", "deterministic", "exclusive", "timeout", "memory_mb", "isolate"),
    "evaluator.prompt": (
        "template", "system", "demos", "demo", "max_output_tokens", "temperature", "metric", "metric_options",
    ),
    "space": None,
    "objectives": None,
    "constraints": None,
    "starts": None,
    "data": None,
    "budget": ("evaluations", "calls", "tokens", "usd", "seconds"),
    "proposer": ("name",),
}  # fmt: skip
"""What a model may write into a problem file. No commands, environment, checks, own proposers, servers, or a weaker
sandbox: those run or send things before anybody has read them, or decide how strict the gate is."""
OWN_CODE = ("evaluator.prompt.metric", "proposer.name")
"""Values that may be names of ours, and never "module:attr": reading the problem would import that."""


@dataclass(frozen=True, slots=True)
class Draft:
    """Files by path, of which `problem.toml` is one.

    Args:
        files: Path → text.
        explanation: What it measures and changes, in words of its author.
        trusted: Whether a person's own answers wrote it, so that its keys need no list.
    """

    files: Mapping[str, str]
    explanation: str = ""
    trusted: bool = False

    def changed(self, name: str, text: str) -> Draft:
        """The same with one file replaced."""
        return replace(self, files={**self.files, name: text})


def admit(draft: Draft, folder: Path, named: Collection[str], model: str | None) -> tuple[Draft, Setup]:
    """Check a draft without writing into the folder, and without running anything of it.

    Args:
        draft: To check.
        folder: Where it is meant to go.
        named: The files it may refer to, beside its own: those that the person named.
        model: Who proposes, and answers a prompt: `provider:model`, "none", or None for what is usual.

    Returns:
        The draft, with that model and with a time limit where it had none, and what it means.

    Raises:
        ConfigError: It cannot be used; says why, in words for a model or a person.
    """
    _check_files(draft)
    raw = _toml(draft.files[PROBLEM])
    if not draft.trusted:
        _check_keys(raw)
    for where, name in _named(raw):
        if name not in draft.files and name not in named:
            raise ConfigError(
                f"{where}: the file {name!r} is not there",
                hint="give it among the files, or name one that you were shown: "
                + (", ".join(named) or "there is none"),
            )
    _check_function(raw, draft.files)
    text = _with_timeout(draft.files[PROBLEM], raw)
    roles = ("propose", "task") if "prompt" in raw.get("evaluator", {}) else ("propose",)
    for role in roles if model is not None else ():
        text = changed(text, "models", role, model)
    draft = draft.changed(PROBLEM, text)
    return draft, tried(draft, folder)


def tried(draft: Draft, folder: Path) -> Setup:
    """What a draft means, read in a place of its own where everything else of the folder is beside it.

    Raises:
        ConfigError: It cannot be read, or a run of it could not begin.
    """
    from agent.config import load
    from agent.session import Session

    with tempfile.TemporaryDirectory(prefix="truegain-draft-") as place:
        root = Path(place).resolve()
        _beside(root, folder.resolve(), draft.files)
        for name, text in draft.files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text, encoding="utf-8", newline="\n")
        try:
            setup = load(root)
            session = Session.of(setup)
            session.divide()
            session.check()
        except AgentError as error:
            raise ConfigError(
                error.message.replace(f"{root}{os.sep}", "").replace(str(root), "the folder"), hint=error.hint
            ) from None
    return setup


def _beside(root: Path, folder: Path, ours: Collection[str]) -> None:
    """Links to what is in a folder already, where the draft has nothing of the same name."""
    tops = {name.partition("/")[0] for name in ours}
    deep = {name.partition("/")[0] for name in ours if "/" in name}
    for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
        if entry.name not in tops:
            (root / entry.name).symlink_to(entry)
        elif entry.name in deep and entry.is_dir():
            (root / entry.name).mkdir()
            inner = [name.partition("/")[2] for name in ours if name.startswith(f"{entry.name}/")]
            _beside(root / entry.name, entry, inner)


def _check_files(draft: Draft) -> None:
    if PROBLEM not in draft.files:
        there = cleaned(", ".join(draft.files), 200) or "none"
        raise ConfigError(f"there is no {PROBLEM} among its files ({there})", hint=f"give {PROBLEM} in full")
    if len(draft.files) > MOST_FILES:
        raise ConfigError(f"it has {len(draft.files)} files or more, at most {MOST_FILES} can be looked through")
    for name, text in draft.files.items():
        why = bad_path(name) or ("hidden files are not written" if name.startswith(".") or "/." in name else "")
        if why:
            raise ConfigError(cleaned(why, 200), hint='a path is relative, such as "evaluate.py"')
        if len(text) > FILE_CHARS:
            raise ConfigError(f"{name} has {len(text):,} characters, at most {FILE_CHARS:,} can be looked through")
        if cleaned(text, FILE_CHARS) != text:  # else the person would not see what is written
            raise ConfigError(f"{name} has control characters or invisible ones", hint="write plain text")


def _toml(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{PROBLEM} is not TOML: {error}", hint="write [section] and key = value lines") from None


def _check_keys(raw: Mapping[str, Any]) -> None:
    for key, allowed in ALLOWED.items():
        inside: Any = raw
        for part in key.split("."):
            inside = inside.get(part) if isinstance(inside, dict) else None
        if allowed is not None and isinstance(inside, dict):
            for name in inside:
                if name not in allowed:
                    raise ConfigError(f"{key}.{name} may not be in a draft", hint=f"allowed: {', '.join(allowed)}")
    tops = [key for key in ALLOWED if "." not in key]
    for key in raw:
        if key not in tops:
            raise ConfigError(f"{key} may not be in a draft", hint=f"allowed: {', '.join(tops)}")
    for place in OWN_CODE:
        value: Any = raw
        for part in place.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if isinstance(value, str) and ":" in value:
            raise ConfigError(f"{place}: {value!r} may not be code of the draft's own", hint="name a built-in one")
    for name, item in _tables(raw.get("space")):
        if item.get("files"):
            raise ConfigError(f"space.{name}.files: a draft may have programs of one file only", hint='file = "…"')


def _tables(value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, item in value.items() if isinstance(value, dict) else ():
        if isinstance(item, dict):
            yield name, item


def _named(raw: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The files that a problem file refers to, by key."""
    data = raw.get("data")
    if isinstance(data, str):
        yield "data", data
    for key in ("file", "train", "val", "test"):
        if isinstance(data, dict) and isinstance(data.get(key), str):
            yield f"data.{key}", data[key]
    for name, item in _tables(raw.get("space")):
        if isinstance(item.get("file"), str):
            yield f"space.{name}.file", item["file"]


def _check_function(raw: Mapping[str, Any], files: Mapping[str, str]) -> None:
    """That what measures is there, read and not run."""
    for name, text in files.items():
        if name.endswith(".py"):
            try:
                ast.parse(text)
            except (SyntaxError, ValueError, RecursionError) as error:
                raise ConfigError(f"{name} is not Python: {error}", hint="give the whole file again") from None
    evaluator = raw.get("evaluator")
    if not isinstance(evaluator, dict):
        return  # the reader of problem files says what is missing
    for key in ("function", "code"):
        target = evaluator.get(key)
        if not isinstance(target, str):
            continue
        module, _, attribute = target.partition(":")
        path = module.replace(".", "/") + ".py"
        if path not in files:
            continue
        found = {n.name: n for n in ast.parse(files[path]).body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
        if attribute.partition(".")[0] not in found:
            raise ConfigError(
                f"evaluator.{key}: {path} has no {attribute!r} at its top level, as a plain def or class",
                hint=f"it has {', '.join(found) or 'none'}",
            )
        node = found[attribute.partition(".")[0]]
        if isinstance(node, ast.FunctionDef) and any(argument.arg == "ask" for argument in node.args.args):
            raise ConfigError(
                f"{path}: {attribute} may not ask models", hint="use [evaluator.prompt] to measure a prompt"
            )


def _with_timeout(text: str, raw: Mapping[str, Any]) -> str:
    evaluator = raw.get("evaluator")
    if (
        not isinstance(evaluator, dict)
        or "timeout" in evaluator
        or not ("function" in evaluator or "code" in evaluator)
    ):
        return text
    return changed(text, "evaluator", "timeout", TIMEOUT)
