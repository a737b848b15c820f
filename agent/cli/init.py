"""`truegain init`"""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from agent.cli.common import emit, json_option

EXAMPLES = {
    "starter": "two numbers and one function, to be replaced by your own",
    "sqlite": "twelve indexes and four settings of a real SQLite database, timed",
    "relax": "a solver's setting for each of 600 related systems, with held-out ones",
    "speedup": "rewrites that make a program faster, tested and timed in the sandbox",
    "spans": "regular expressions, run in the sandbox and scored by span F1 on held-out rows",
    "bin-packing": "a program that packs items online, with four numbers in it; instances are held back",
    "circle-packing": "a program that packs circles, checked with fractions (needs scipy)",
    "hash": "a hash of 32-bit keys as a program, by how evenly its bits turn",
    "tsp": "a round trip built city by city, by a program that says what comes next; instances are held back",
    "sql": "a tree of SQL queries, run read-only and compared by their results",
    "solver": "a program that reads word problems as linear programs (needs scipy)",
    "intent": "a prompt and its examples for the embedded model, on held-out requests",
    "label-free": "a prompt without right answers: outputs are compared in pairs",
    "judge": "what a judge of answers is told, scored by its agreement with labels",
    "reward": "a reward function, from which a small learner has to balance a pole",
    "autolrs": "a learning rate's schedule for a small network (needs scikit-learn)",
    "optimizer-discovery": "the update rule of a network's training, as a program; tasks are held back",
    "sklearn-forest": "a random forest's six settings, by cross-validation (needs scikit-learn)",
    "sklearn-digits": "a digit reader's settings on 600 rows, with held-out rows (needs scikit-learn)",
    "sklearn-mlp": "a neural network's settings, by cross-validation (needs scikit-learn)",
}
CHECKOUT = {name: name.replace("-", "/") for name in EXAMPLES if name.startswith("sklearn-")}


def example_folder(name: str) -> Path:
    """Where an example's files are: inside the installed package, or in the checkout it was installed from.

    Raises:
        ConfigError: There is no such example.
    """
    from agent.errors import ConfigError

    if name not in EXAMPLES:
        raise ConfigError(f"there is no example {name!r}", hint=f"choose one of {', '.join(EXAMPLES)}")
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "examples" / name, package.parent / "examples" / CHECKOUT.get(name, name)):
        if (folder / "problem.toml").is_file():
            return folder
    raise ConfigError(
        f"the files of the example {name!r} are missing from this installation", hint="pip install -U truegain"
    )


@click.command("init", help="Write a working problem FOLDER to start from; --list shows the examples.")
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option("--example", default="starter", metavar="NAME", help="Which example; starter unless you say otherwise.")
@click.option("--list", "listing", is_flag=True, help="List the examples.")
@json_option
def command(folder: Path | None, example: str, listing: bool, as_json: bool) -> None:
    from agent.errors import ConfigError

    if listing:
        if as_json:
            emit({"examples": EXAMPLES})
        else:
            for name, text in EXAMPLES.items():
                click.echo(f"{name:19} {text}")
        return
    source = example_folder(example)
    target = folder or Path(example)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{target} exists and is not empty", hint="name another folder: truegain init FOLDER")
    try:
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", "*.pyc", ".*"))
    except OSError as error:
        raise ConfigError(f"cannot write {target}: {error}", hint="name a folder that can be written") from None
    files = sorted(path.name for path in target.iterdir())
    if as_json:
        emit({"folder": str(target), "files": files, "next": f"truegain run {target}"})
        return
    click.echo(f"wrote {target}: {', '.join(files)}")
    click.echo(f"Next: truegain estimate {target}   truegain run {target}")
