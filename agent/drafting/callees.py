"""What gives the number: a function of the person's, or a command; and the evaluator that calls it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.drafting.questions import Back, GivenUp, asked, by_hand, name_of_number, one
from agent.drafting.signature import Signature, functions
from agent.errors import ConfigError

if TYPE_CHECKING:
    from agent.dialogue.talk import Talk

Made = tuple[dict[str, dict[str, Any]], dict[str, str], str, str]
"""The space, files by path, the evaluator's function, the objective's name."""


def of_function(folder: Path, talk: Talk) -> Made:
    def find(answer: str) -> tuple[str, Signature]:
        if not answer:
            raise Back
        file, _, wanted = answer.partition(":")
        path = folder / file
        if not file.endswith(".py") or not path.is_file():
            near = sorted(item.name for item in folder.glob("*.py"))[:10] if folder.is_dir() else []
            raise ConfigError(
                f"there is no Python file {file!r} in {folder}", hint=f"here are: {', '.join(near) or 'none'}"
            )
        module = file.removesuffix(".py").replace("/", ".")
        if not all(part.isidentifier() for part in module.split(".")):
            raise ConfigError(f"{file!r} cannot be imported", hint="its name needs letters, digits and underscores")
        known = functions(path)
        if not wanted and len(known) == 1:
            return module, known[0]
        found = next((item for item in known if item.name == wanted), None)
        if found is None:
            names = ", ".join(f"{file}:{item.name}" for item in known) or "none"
            raise ConfigError(f"which function of {file}?" if not wanted else f"{file} has no {wanted}", hint=names)
        return module, found

    module, found = asked(talk, "File and function, such as train.py:train (Enter: back)", find)
    if found.takes_mapping:
        talk.say(f"{found.name} takes all values as one mapping. Which are they?")
        space = by_hand(talk)
    else:
        talk.say("Which of these may change, and how far? Enter takes the suggestion, - leaves it as it is.")
        space = {}
        for parameter, default in found.defaults.items():
            if (table := one(talk, parameter, default)) is not None:
                space[parameter] = table
        if not space:
            raise GivenUp("nothing may change")
    name = name_of_number(talk)
    if module == "evaluate":  # the wrapper's own name is taken
        file, target = "measure_it.py", "measure_it:measure"
    else:
        file, target = "evaluate.py", "evaluate:measure"
    return space, {file: _wrapper(module, found, name)}, target, name


def _wrapper(module: str, found: Signature, name: str) -> str:
    filled = "".join(f", {item}" for item in found.filled)
    call = "candidate" if found.takes_mapping else "**candidate"
    passed = "".join(f", {item}={item}" for item in found.filled)
    return (
        f'"""Measures a candidate: calls {found.name} of {module.replace(".", "/")}.py."""\n\n'
        f"from {module} import {found.name}\n\n\n"
        f"def measure(candidate{filled}):\n"
        f"    found = {found.name}({call}{passed})\n"
        f'    return found if isinstance(found, dict) else {{"{name}": float(found)}}\n'
    )


COMMAND = '''"""Measures a candidate: runs a command, and reads the last number that it prints."""

import re
import subprocess
import time
from pathlib import Path

COMMAND = {command}


def measure(candidate):
    argv = COMMAND
    for name, value in candidate.items():
        argv = [part.replace("{{" + name + "}}", str(value)) for part in argv]
    begun = time.perf_counter()
    done = subprocess.run(argv, cwd=Path(__file__).parent, capture_output=True, text=True)
    seconds = time.perf_counter() - begun
    if done.returncode != 0:
        raise RuntimeError(f"exit code {{done.returncode}}: {{done.stderr[-500:]}}")
{result}'''
PRINTED = """    numbers = re.findall(r"[-+]?(?:\\d+\\.?\\d*|\\.\\d+)(?:[eE][-+]?\\d+)?", done.stdout)
    if not numbers:
        raise RuntimeError(f"it printed no number: {{done.stdout[-500:]}}")
    return {{"{name}": float(numbers[-1])}}
"""
TIMED = """    return {{"{name}": seconds}}
"""


def of_command(folder: Path, talk: Talk) -> Made:
    def read(answer: str) -> tuple[list[str], list[str]]:
        if not answer:
            raise Back
        try:
            argv = shlex.split(answer)
        except ValueError as error:
            raise ConfigError(f"{answer}: {error}", hint="close the quotes") from None
        names = list(dict.fromkeys(re.findall(r"\{([A-Za-z_]\w*)\}", answer)))
        if not argv or not names:
            raise ConfigError("no {name} is in it", hint="write {name} where a value goes, as in: ./run --size {size}")
        return argv, names

    question = "The command, with {name} for each value, such as python train.py --lr {lr} (Enter: back)"
    argv, names = asked(talk, question, read)
    talk.say(f"It is run in {folder}. How far may each value go?")
    space = {}
    for name in names:
        table = one(talk, name, None)
        if table is None:
            raise GivenUp(f"{name} stands in the command")
        space[name] = table

    def what(answer: str) -> bool:
        if answer.casefold() not in ("", "number", "seconds"):
            raise ConfigError(f"found {answer!r}", hint="answer number or seconds")
        return answer.casefold() == "seconds"

    timed = asked(talk, "Is it about the last number it prints, or the seconds it takes? (Enter: number)", what)
    name = "seconds" if timed else name_of_number(talk)
    result = (TIMED if timed else PRINTED).format(name=name)
    text = COMMAND.format(command=json.dumps(argv, ensure_ascii=False), result=result)
    if timed:
        text = text.replace("reads the last number that it prints", "takes the time").replace("import re\n", "")
    else:
        text = text.replace("import time\n", "").replace("    begun = time.perf_counter()\n", "")
        text = text.replace("    seconds = time.perf_counter() - begun\n", "")
    return space, {"evaluate.py": text}, "evaluate:measure", name
