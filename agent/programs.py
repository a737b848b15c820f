"""What can be said about a Python program without running it: its syntax, signature, imports and normal form."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

Tree = Mapping[str, str]
"""Program files: path with "/" → text."""

DYNAMIC = frozenset({"locals", "vars", "dir", "eval", "exec", "compile"})
"""A program that calls one of these may look at the names of its variables, so they are part of what it does."""
LONGEST = 100_000
"""Characters up to which a program is taken apart; longer ones are compared as they are."""
ENTRIES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
TRIES = 100

T = TypeVar("T")


def syntax(text: str | bytes) -> ast.Module:
    """`ast.parse` for programs that are read in several threads.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: As `ast.parse`.
    """
    return _threaded(lambda: ast.parse(text))


def literal(text: str) -> Any:
    """`ast.literal_eval` likewise."""
    return _threaded(lambda: ast.literal_eval(text))


def _threaded(read: Callable[[], T]) -> T:
    """Python 3.11 counts how deep a tree is in one place for all threads. When the garbage collector lets another one
    build its tree meanwhile, the first fails with a SystemError, about a program that is right: so it is tried again.
    """
    for _ in range(TRIES):
        with contextlib.suppress(SystemError):
            return read()
    return read()


@lru_cache(maxsize=64)
def parse(text: str, name: str = "") -> ast.Module:
    """The syntax tree of a program; nobody may change it.

    Args:
        text: The program.
        name: Its file, for the message.

    Raises:
        ValueError: It does not parse; the text names the line and shows it.
    """
    where = f"{name} " if name else "the program "
    try:
        return syntax(text)
    except SyntaxError as error:
        lines = text.splitlines()
        number = error.lineno or 0
        shown = f": {lines[number - 1].strip()[:120]}" if 0 < number <= len(lines) else ""
        raise ValueError(f"{where}does not parse: line {number}, {error.msg}{shown}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{where}does not parse: {str(error) or type(error).__name__}") from None


def definition(text: str, entry: str, name: str = "") -> ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef:
    """The function or class that a program defines at its top level; the last one where there are several.

    Raises:
        ValueError: There is none, or the program does not parse.
    """
    for node in reversed(parse(text, name).body):
        if isinstance(node, ENTRIES) and node.name == entry:
            return node
    raise ValueError(f"{name or 'the program'} does not define {entry}")


@lru_cache(maxsize=64)
def misfit(text: str, entry: str, signature: str) -> str:
    """Why a function cannot be called as a signature says; "" when it can.

    Args:
        text: The program.
        entry: The function, or a class, whose `__init__` counts.
        signature: Parameters as in Python, such as "(text, requested)".
    """
    wanted = _arguments(signature)
    node: ast.AST = definition(text, entry)
    skip = 0
    if isinstance(node, ast.ClassDef):
        inits = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
        if not inits:
            return ""  # it is inherited; only a run tells
        node, skip = inits[-1], 1
    assert isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    given = node.args
    names = [item.arg for item in (*given.posonlyargs, *given.args)][skip:]
    needed = names[: len(names) - len(given.defaults)] if given.defaults else names
    ask = [item.arg for item in (*wanted.posonlyargs, *wanted.args)]
    found = f"{entry}({ast.unparse(given)})"
    if names[: len(ask)] != ask and not (given.vararg and names == ask[: len(names)]):
        return f"{found} does not take ({', '.join(ask)})"
    more = [
        *needed[len(ask) :],
        *(a.arg for a, d in zip(given.kwonlyargs, given.kw_defaults, strict=True) if d is None),
    ]
    return f"{found} needs {', '.join(more)} too, which nobody gives" if more else ""


@lru_cache(maxsize=64)
def _arguments(signature: str) -> ast.arguments:
    """The parameters that a signature names; nobody may change them.

    Raises:
        ValueError: It is none.
    """
    try:
        found = syntax(f"def f{signature.strip()}: ...").body[0]
    except SyntaxError:
        raise ValueError(f'signature: found {signature!r}, allowed is one such as "(text, limit)"') from None
    assert isinstance(found, ast.FunctionDef)
    return found.args


def required(signature: str) -> int:
    """How many positional arguments a signature needs.

    Raises:
        ValueError: It is no signature.
    """
    given = _arguments(signature)
    return len(given.posonlyargs) + len(given.args) - len(given.defaults)


def check_signature(signature: str) -> None:
    """Refuse what is no signature.

    Raises:
        ValueError: Says what is one.
    """
    _arguments(signature)


def imports(text: str) -> dict[str, int]:
    """The modules that a program imports by name, with the line of the first import of each.

    `__import__("x")` and `importlib.import_module("x")` count too. This finds mistakes, not malice: a program can
    reach a module without naming it, and only the sandbox keeps it from doing harm.
    """
    found: dict[str, int] = {}
    for node in ast.walk(parse(text)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [item.name for item in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = ["." * node.level + (node.module or "")]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = getattr(node.func, "id", getattr(node.func, "attr", ""))
            value = node.args[0].value
            if called in ("__import__", "import_module") and isinstance(value, str):
                names = [value]
        for name in names:
            found.setdefault(name, getattr(node, "lineno", 0))
    return found


def forbidden(text: str, allowed: Collection[str], own: Collection[str] = ()) -> str:
    """Why a program's imports are not allowed; "" when they are.

    Args:
        text: The program.
        allowed: Modules; "a" allows "a.b" too.
        own: Modules of the program's own tree. Relative imports stay in it.
    """
    for name, line in imports(text).items():
        parts = name.split(".")
        above = {".".join(parts[:end]) for end in range(1, len(parts) + 1)}
        if not name.startswith(".") and not above & {*allowed, *own, "__future__"}:
            listed = ", ".join(sorted(allowed)) or "no module"
            return f"line {line} imports {name}, allowed is {listed}"
    return ""


@lru_cache(maxsize=64)
def normal(text: str) -> str:
    """A form that equal programs share: comments, layout, docstrings and the names of local variables do not matter.

    Parameters of top-level functions and of methods keep their names, because a caller may use them. In a program
    that can look at its own names (`locals`, `eval`, `__doc__` …) they all stay.

    Raises:
        ValueError: The program does not parse.
    """
    tree = parse(text)
    if len(text) > LONGEST:
        return text
    try:
        return _normal(tree)
    except (RecursionError, MemoryError, ValueError, SyntaxError):  # too deep, or a number too long to be written out
        return text


def _normal(given: ast.Module) -> str:
    tree = syntax(ast.unparse(given))  # a copy, and without the layout that some literals keep
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    if "__doc__" not in names | attributes:
        _strip_strings(tree)
    if not names & DYNAMIC and not attributes & {"f_locals", "co_varnames", "__code__", "__name__", "__qualname__"}:
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        keywords = {item.arg for call in calls for item in call.keywords}
        tree = _Renamer(keywords).visit(tree)
    return ast.dump(tree)


def normal_tree(tree: Tree) -> str:
    """`normal` of all files of a tree; a file that is not Python counts as it is."""
    return "\n".join(f"{path}\n{normal(text) if path.endswith('.py') else text}" for path, text in sorted(tree.items()))


def _strip_strings(tree: ast.Module) -> None:
    """Remove docstrings and other strings that stand alone; a body that is left empty gets `pass`."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [s for s in body if not (isinstance(s, ast.Expr) and _is_string(s.value))]
            node.body = kept or ([] if isinstance(node, ast.Module) else [ast.Pass()])  # type: ignore[attr-defined]


def _is_string(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


class _Names(NamedTuple):
    """The names that a scope binds: its own, those of them that nobody may rename, and the module's."""

    own: set[str]
    kept: set[str]
    outer: set[str]


class _Scope:
    """A function, class or comprehension around the place where we are, and what its names are called."""

    def __init__(self, own: Collection[str], kept: Collection[str], outer: Collection[str] = (), *, cls: bool = False):
        self.own, self.kept, self.outer = set(own), set(kept), set(outer)
        self.is_class = cls
        self.called: dict[str, str] = {}


class _Renamer(ast.NodeTransformer):
    """Gives local variables numbers, in the order in which they occur."""

    def __init__(self, keywords: Collection[str | None]) -> None:
        self.keywords = keywords
        self.scopes: list[_Scope] = []
        self.count = 0

    def name(self, name: str) -> str:
        """What a name is called where we are."""
        for depth, scope in enumerate(reversed(self.scopes)):
            if scope.is_class and depth:
                continue  # the names of a class are not seen from its methods
            if name in scope.outer or (name in scope.own and (name in scope.kept or scope.is_class)):
                return name
            if name in scope.own:
                if name not in scope.called:
                    scope.called[name] = f"·{self.count}"
                    self.count += 1
                return scope.called[name]
        return name

    def visit_Name(self, node: ast.Name) -> ast.Name:
        node.id = self.name(node.id)
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.arg = self.name(node.arg)
        return node

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        node.name = self.name(node.name) if node.name else None
        return self.generic_visit(node)

    def visit_MatchAs(self, node: ast.MatchAs) -> ast.AST:
        node.name = self.name(node.name) if node.name else None
        return self.generic_visit(node)

    def visit_MatchStar(self, node: ast.MatchStar) -> ast.AST:
        node.name = self.name(node.name) if node.name else None
        return node

    def visit_MatchMapping(self, node: ast.MatchMapping) -> ast.AST:
        node.rest = self.name(node.rest) if node.rest else None
        return self.generic_visit(node)

    def visit_Nonlocal(self, node: ast.Nonlocal) -> ast.AST:
        node.names = [self.name(name) for name in node.names]
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self._outside(node, "decorator_list", "bases", "keywords")
        self.scopes.append(_Scope(_bound(node).own, (), cls=True))
        node.body = [self.visit(item) for item in node.body]
        self.scopes.pop()
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._function(node)

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        return self._function(node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> ast.AST:
        self._outside(node, "decorator_list", "returns")
        given = node.args
        given.defaults = [self.visit(item) for item in given.defaults]
        given.kw_defaults = [self.visit(item) if item else None for item in given.kw_defaults]
        parameters = [*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, (given.vararg, given.kwarg))]
        for item in parameters:
            item.annotation = self.visit(item.annotation) if item.annotation else None
        # Who calls a function of a function is in this program, so its keywords are known.
        inner = bool(self.scopes) and not self.scopes[-1].is_class
        kept = {item.arg for item in parameters if not inner or item.arg in self.keywords or None in self.keywords}
        if not isinstance(node, ast.Lambda):
            node.name = self.name(node.name) if inner else node.name
        elif None not in self.keywords:
            kept = {item.arg for item in parameters if item.arg in self.keywords}
        names = _bound(node)
        own = {*names.own, *(item.arg for item in parameters)}
        self.scopes.append(_Scope(own, kept | names.kept, names.outer))
        for item in parameters:
            item.arg = self.name(item.arg)
        if isinstance(node, ast.Lambda):
            node.body = self.visit(node.body)
        else:
            node.body = [self.visit(item) for item in node.body]
        self.scopes.pop()
        return node

    def _outside(self, node: ast.AST, *fields: str) -> None:
        """Visit what stands in a definition and is evaluated around it."""
        for field in fields:
            found = getattr(node, field, None)
            if isinstance(found, list):
                setattr(node, field, [self.visit(item) for item in found])
            elif found is not None:
                setattr(node, field, self.visit(found))

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if not isinstance(node, COMPREHENSIONS):
            return super().generic_visit(node)
        first = node.generators[0]
        first.iter = self.visit(first.iter)
        bound = {n.id for g in node.generators for n in ast.walk(g.target) if isinstance(n, ast.Name)}
        self.scopes.append(_Scope(bound, ()))
        for number, item in enumerate(node.generators):
            item.target = self.visit(item.target)
            item.iter = item.iter if number == 0 else self.visit(item.iter)
            item.ifs = [self.visit(test) for test in item.ifs]
        for field in ("elt", "key", "value"):
            if hasattr(node, field):
                setattr(node, field, self.visit(getattr(node, field)))
        self.scopes.pop()
        return node


def _bound(scope: ast.AST) -> _Names:
    """The names that a function or class binds itself; imports and classes keep theirs."""
    found: set[str] = set()
    kept: set[str] = set()
    elsewhere: set[str] = set()
    outer: set[str] = set()
    for node in inside(scope):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found.add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            kept.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            kept.update((item.asname or item.name).partition(".")[0] for item in node.names)
        elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
            found.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            found.add(node.rest)
        elif isinstance(node, ast.Nonlocal):
            elsewhere.update(node.names)
        elif isinstance(node, ast.Global):
            outer.update(node.names)
    return _Names((found | kept) - elsewhere - outer, kept, outer)


def inside(scope: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a scope, without those of the scopes in it; of a comprehension only what `:=` binds outside."""
    body = getattr(scope, "body", [])
    waiting = list(body) if isinstance(body, list) else [body]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, COMPREHENSIONS):
            waiting += [item.target for item in ast.walk(node) if isinstance(item, ast.NamedExpr)]
        elif not isinstance(node, (*SCOPES, ast.ClassDef)):
            waiting += ast.iter_child_nodes(node)
