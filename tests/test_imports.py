"""What is loaded when, and which module may know which."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli_helpers import cli, environment, folder

ROOT = Path(__file__).parents[1] / "agent"
HEAVY = (
    "openai",
    "anthropic",
    "httpx2",
    "httpx",
    "numpy",
    "pydantic",
    "rich",
    "jinja2",
    "sklearn",
    "optuna",
    "tenacity",
    "prompt_toolkit",
    "distributed",
    "dask",
)

SPY = """
import json, sys
from agent.cli.main import main
try:
    main(sys.argv[1:])
finally:
    print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})), file=sys.stderr)
"""
HELPS = """
import contextlib, json, sys
import click
from agent.cli.main import cli, main

def commands(group, path=()):
    yield path
    if isinstance(group, click.Group):
        for name in group.list_commands(click.Context(group)):
            yield from commands(group.get_command(click.Context(group), name), (*path, name))

for words in commands(cli):
    with contextlib.suppress(SystemExit):
        main([*words, "--help"])
    print(json.dumps([words, sorted({name.partition(".")[0] for name in sys.modules})]), file=sys.stderr)
"""


def loaded(*arguments: str, cwd: Path) -> set[str]:
    """The top-level packages in memory after a command."""
    return set(json.loads(spied(SPY, *arguments, cwd=cwd)[-1]))


def spied(script: str, *arguments: str, cwd: Path) -> list[str]:
    """What a script says on stderr."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, *arguments], cwd=cwd, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--version",),
        ("list",),
        ("show",),
        ("show", "last", "--json"),
        ("show", "last", "--gate"),
        ("show", "last", "--transcript"),
        ("diff",),
        ("events",),
        ("status",),
        ("watch",),
        ("watch", "last", "--json"),
        ("stop",),
        ("compare", "last", "last"),
    ],
    ids=" ".join,
)
def test_reading_commands_load_no_sdk_and_nothing_numeric(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    if arguments != ("--version",):
        assert cli("run", folder(tmp_path / "p"), "--evaluations", 5, cwd=tmp_path).code == 0
    assert not loaded(*arguments, cwd=tmp_path) & set(HEAVY)


def test_the_help_of_no_command_loads_an_sdk_or_anything_numeric(tmp_path: Path) -> None:
    told = [json.loads(line) for line in spied(HELPS, cwd=tmp_path)]
    assert [] in (words for words, _ in told) and ["gate", "open"] in (words for words, _ in told)
    for words, packages in told:
        assert not set(packages) & set(HEAVY), words


def test_the_package_and_its_public_names_load_no_sdk() -> None:
    script = "import agent, sys; [getattr(agent, name) for name in agent.__all__]; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", script], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not {name.partition(".")[0] for name in done.stdout.split()} & set(HEAVY)


# Floors. A module may import what stands on its own floor or below, never above. A package stands on one floor, but for
# the modules of it that are named elsewhere.

FLOORS = (
    (
        "errors",
        "parameters",
        "code",
        "texts",
        "space",
        "goals",
        "halving",
        "curves",
        "problem",
        "evaluation",
        "tracing.spans",
        "tracing.capping",
        "events",
        "redact",
        "lock",
        "notify",
        "tomlfile",
        "tomlread",
        "versions",
        "sharedlist",
        "sqlitefile",
    ),
    (
        "journal",
        "tracing",
        "code.codecall",
        "trace",
        "lines",
        "ordering.orders",
        "wall",
        "measuring",
        "history",
        "lagrange",
        "pareto",
        "nearness",
        "bandits",
        "inthread",
        "together",
        "ledger",
        "code.changes",
        "looking",
        "wishes",
        "datasets",
        "code.edits",
    ),
    ("surrogates",),
    (
        "llm",
        "executors",
        "embeddings",
    ),
    ("sandbox",),
    (
        "prompts",
        "evaluators",
        "metrics",
        "routing",
    ),
    (
        "gate",
        "blame",
    ),
    (
        "settings",
        "evolution",
    ),
    (
        "proposers",
        "tools",
    ),
    (
        "folds",
        "state",
        "moments",
        "decide",
        "decide_gate",
        "watching",
        "waits",
        "paying",
        "evaluating",
        "effects",
        "proposing",
        "loop",
        "results",
        "rehearsal",
        "warm",
        "opening",
        "folders",
        "recorded",
        "replay",
    ),
    (
        "config",
        "control",
        "program_setup",
        "setup",
        "refusals",
        "doors",
        "session",
        "shardfiles",
        "sharding",
        "beforehand",
        "forecast",
        "applying",
    ),
    (
        "api",
        "batch",
        "drafting",
    ),
    (
        "asktell",
        "ordering",
        "testing",
    ),
    ("telling",),
    (
        "dialogue",
        "report",
        "serving",
        "view",
        "integrations",
    ),
    ("cli", "__main__"),
)


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name, without `agent.`."""
    out = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[0] != "examples":
            out[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return out


def imports(path: Path, eager: bool) -> set[str]:
    """The package's own modules that one imports: all of them, or only those that are needed to load it.

    What is imported for types alone never runs, so it does not count.
    """
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if eager and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            found.update({node.module, *(f"{node.module}.{alias.name}" for alias in node.names)})
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return {name.removeprefix("agent.") for name in found if name.startswith("agent.")}


def floor(module: str) -> int:
    """How high a module stands."""
    name = module
    while not any(name in names for names in FLOORS):
        name = name.rpartition(".")[0]
    return next(number for number, names in enumerate(FLOORS) if name in names)


def test_every_module_has_a_floor() -> None:
    listed = [name for names in FLOORS for name in names]
    there = {name.partition(".")[0] for name in modules()} - {""}
    assert not there - set(listed), "say in FLOORS where these stand"
    assert len(listed) == len(set(listed)) and set(listed) <= set(modules()), "FLOORS names one twice, or none"


def test_no_import_runs_upward() -> None:
    known = modules()
    upward = [
        f"{module} imports {other}"
        for module, path in known.items()
        if module
        for other in imports(path, eager=False)
        if other in known and floor(other) > floor(module)
    ]
    assert not upward


def test_no_modules_need_each_other_to_load() -> None:
    known = modules()
    graph = {module: imports(path, eager=True) & known.keys() - {module} for module, path in known.items()}
    done: set[str] = set()

    def walk(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, "a cycle: " + " → ".join((*trail[trail.index(module) :], module))
        if module not in done:
            for other in sorted(graph[module]):
                walk(other, (*trail, module))
            done.add(module)

    for module in sorted(graph):
        walk(module, ())


def test_nothing_imports_a_package_that_is_not_a_dependency() -> None:
    """What the package imports is the standard library, itself, or named in pyproject.toml."""
    import tomllib

    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["project"]
    listed = [*project["dependencies"], *(i for extra in project["optional-dependencies"].values() for i in extra)]
    allowed = {item.split(">")[0].split("[")[0].replace("-", "_") for item in listed}
    allowed |= {"agent", "httpx2", "sklearn"} | set(sys.stdlib_module_names)  # httpx2 comes with both SDKs
    found: dict[str, str] = {}
    for module, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found |= {name.partition(".")[0]: module for name in names}
    assert not {name: module for name, module in found.items() if name not in allowed}
