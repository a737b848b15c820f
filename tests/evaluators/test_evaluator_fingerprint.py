"""When an evaluator counts as changed."""

from __future__ import annotations

import functools
import textwrap
from pathlib import Path
from typing import Any

import pytest

from agent.evaluators.function import FunctionEvaluator
from agent.evaluators.source import locate, sources

FILES = {
    "evaluate.py": "import helper\nfrom lib import tools\nfrom pack.inner import deep\nimport json, numpy\n",
    "helper.py": "def lazy():\n    import second\n",
    "second.py": "import evaluate  # a circle",
    "lib/tools.py": "",
    "pack/__init__.py": "",
    "pack/inner.py": "from . import sibling\nfrom .. import nothing\nfrom .sub.leaf import x\n",
    "pack/sibling.py": "",
    "pack/sub/__init__.py": "from ..cousin import y",
    "pack/sub/leaf.py": "",
    "pack/cousin.py": "this is not Python",
    "json.py": "# never imported: the library comes first",
    "unrelated.py": "",
    ".venv/lib/site-packages/thing.py": "",
}
IMPORTED = set(FILES) - {"json.py", "unrelated.py", ".venv/lib/site-packages/thing.py"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def fingerprint(folder: Path) -> str:
    return FunctionEvaluator("evaluate:evaluate", folder=folder, names=["value"]).fingerprint


def of(function: Any) -> str:
    return FunctionEvaluator(function, names=["value"]).fingerprint


def test_sources_are_what_is_imported_from_the_folder(folder: Path) -> None:
    found = {str(file.relative_to(folder)) for file in sources("evaluate", folder).values()}
    assert found == IMPORTED


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_change_counts_where_it_is_imported(folder: Path, name: str) -> None:
    before = fingerprint(folder)
    with (folder / name).open("a") as file:
        file.write("\n# changed\n")
    assert (fingerprint(folder) != before) == (name in IMPORTED)


def test_it_does_not_depend_on_where_the_folder_is(folder: Path) -> None:
    before = fingerprint(folder)
    moved = folder.with_name("moved")
    folder.rename(moved)
    assert fingerprint(moved) == before


def test_what_is_not_there_has_a_fingerprint_too(tmp_path: Path) -> None:
    assert fingerprint(tmp_path)


def test_a_function_that_can_be_imported_counts_with_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "imported_fine.py").write_text("def evaluate(candidate): return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    import imported_fine  # type: ignore[import-not-found]

    evaluator = FunctionEvaluator(imported_fine.evaluate, names=["value"])
    assert evaluator.spec is not None and evaluator.spec["folder"] == str(tmp_path)
    by_path = FunctionEvaluator("imported_fine:evaluate", folder=tmp_path, names=["value"])
    assert evaluator.fingerprint == by_path.fingerprint


def test_a_function_without_an_import_path_counts_with_what_it_uses() -> None:
    def make(constant: float, default: int = 1, version: int = 1) -> Any:
        def helper(x: float) -> float:
            return x + constant

        def evaluate(candidate: Any, scale: int = default) -> float:
            return helper(candidate["x"]) * scale

        return evaluate

    assert of(make(1.0)) == of(make(1.0))
    assert len({of(make(1.0)), of(make(2.0)), of(make(1.0, default=2))}) == 3


def test_objects_and_partials_count_with_their_values() -> None:
    class Scaled:
        def __init__(self, scale: float) -> None:
            self.scale = scale

        def __call__(self, candidate: Any) -> float:
            return self.scale

        def method(self, candidate: Any) -> float:
            return self.scale

    assert of(Scaled(1)) == of(Scaled(1)) != of(Scaled(2))
    assert of(Scaled(1).method) == of(Scaled(1).method) != of(Scaled(2).method)
    assert of(functools.partial(Scaled(1), seed=1)) != of(functools.partial(Scaled(1), seed=2))


def test_code_without_a_source_counts_with_its_bytecode() -> None:
    def make(text: str) -> Any:
        scope: dict[str, Any] = {"__name__": "__main__"}
        exec(textwrap.dedent(text), scope)
        return scope["evaluate"]

    one, same, other = (make(f"def evaluate(c): return [n + {n} for n in (1, 2)]") for n in (1, 1, 2))
    assert of(one) == of(same) != of(other)


def test_locating_follows_the_import_system(tmp_path: Path) -> None:
    for name in ("first/space/a.py", "second/space/b.py", "second/whole/__init__.py", "first/whole/part.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    path = [str(tmp_path / "first"), str(tmp_path / "second")]
    assert locate("space.a", path) == tmp_path / "first/space/a.py"
    assert locate("space.b", path) == tmp_path / "second/space/b.py"
    assert locate("whole", path) == tmp_path / "second/whole/__init__.py"  # a package wins over a bare folder
    assert locate("whole.part", path) is None
    assert locate("space", path) is None and locate("sys", path) is None and locate("nowhere", path) is None
