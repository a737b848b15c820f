"""Changes to any Python program that may make it faster, made on its syntax tree. Some break some programs."""

import ast

READ = ast.parse("import sys\ninput = lambda: sys.stdin.readline().rstrip('\\n')").body
KEEP = ast.parse("import functools").body
COLLECT = ast.parse("_lines = []\nprint = lambda *words: _lines.append(' '.join(map(str, words)))").body
WRITE = ast.parse("__import__('sys').stdout.write('\\n'.join(_lines) + '\\n')").body
DEFINITIONS = (ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)


def reading(tree):
    """Read lines without the prompt that `input` offers."""
    tree.body[:0] = READ


def printing(tree):
    """Write everything at once, at the end."""
    tree.body[:] = [*COLLECT, *tree.body, *WRITE]


def caching(tree):
    """Remember what functions that call themselves returned."""
    found = False
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.args.args:
            calls = [n for n in ast.walk(node) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == node.name]
            if calls:
                node.decorator_list.append(ast.parse("functools.lru_cache(None)", mode="eval").body)
                found = True
    if found:
        tree.body[:0] = KEEP


def locals_(tree):
    """Move what stands at the top into a function, where names are found faster."""
    inside = [node for node in tree.body if not isinstance(node, DEFINITIONS)]
    if not inside:
        return
    body = [ast.Global(sorted(_shared(tree, inside)))] if _shared(tree, inside) else []
    main = ast.FunctionDef("main", ast.arguments([], [], None, [], [], None, []), [*body, *inside], [])
    tree.body[:] = [node for node in tree.body if isinstance(node, DEFINITIONS)]
    tree.body += [main, *ast.parse("main()").body]


def _shared(tree, inside):
    """Names that are set at the top and used in a function."""
    bound = {
        n.id for part in inside for n in ast.walk(part) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    }
    functions = [node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    return bound & {n.id for part in functions for n in ast.walk(part) if isinstance(n, ast.Name)}


def halving(tree):
    """Go through half of every range: fast, and nearly always wrong. The tests are there for this one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "range" and len(node.args) == 1:
            node.args[0] = ast.BinOp(node.args[0], ast.FloorDiv(), ast.Constant(2))


REWRITES = {"locals": locals_, "caching": caching, "reading": reading, "printing": printing, "halving": halving}


def rewritten(text, names):
    """Return a program with some of the changes."""
    tree = ast.parse(text)
    for name, change in REWRITES.items():
        if name in names:
            change(tree)
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n"
