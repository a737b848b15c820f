"""Whether the function that a program has to define can still be called as it was."""

from __future__ import annotations

import ast

from agent.code.programs import ENTRIES, definition, inside, parse


def kind(text: str, entry: str) -> str:
    """What the entry of a program is, in words: a function, a generator, an async function …"""
    node = definition(text, entry)
    if isinstance(node, ast.ClassDef):
        return "a class"
    name = "generator" if any(isinstance(item, (ast.Yield, ast.YieldFrom)) for item in inside(node)) else "function"
    return f"an async {name}" if isinstance(node, ast.AsyncFunctionDef) else f"a {name}"


def rebound(text: str, entry: str) -> int:
    """The line after the entry on which a program gives its name to something else, or deletes it; 0 for none."""
    node = definition(text, entry)
    for item in inside(parse(text)):
        line = getattr(item, "lineno", 0)
        names = []
        if isinstance(item, (ast.Import, ast.ImportFrom)):
            names = [alias.asname or alias.name for alias in item.names]
        elif isinstance(item, ast.Name) and not isinstance(item.ctx, ast.Load):
            names = [item.id]
        elif isinstance(item, ENTRIES) and item is not node:
            names = [item.name]
        if line > node.lineno and entry in names:
            return line
    return 0


def stricter(text: str, entry: str, before: ast.arguments) -> str:
    """Which way of calling a function that `before` allowed is none any more; "" where all of them still work."""
    node = definition(text, entry)
    if isinstance(node, ast.ClassDef):
        return ""
    now = node.args
    optional = (
        {item.arg for item in before.args[len(before.args) - len(before.defaults) :]} if before.defaults else set()
    )
    places = [*now.posonlyargs, *now.args]
    needed = {item.arg for item in places[: len(places) - len(now.defaults)]}
    by_name = {item.arg for item in before.args} & {item.arg for item in now.posonlyargs}
    lost = {item.arg for item in before.kwonlyargs} - {item.arg for item in (*now.args, *now.kwonlyargs)}
    if by_name:
        return f"{', '.join(sorted(by_name))} cannot be given by name"
    if lost and now.kwarg is None:
        return f"it does not take {', '.join(sorted(lost))}"
    if optional & needed:
        return f"{', '.join(sorted(optional & needed))} has no default"
    return ""
