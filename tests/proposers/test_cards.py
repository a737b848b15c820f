"""What prompts say of programs, and what shape a reply with one has."""

from __future__ import annotations

from agent.parameters import Int
from agent.proposers import cards
from agent.space import Space
from agent.texts import Code, Text

TREE = Code(
    {"pkg/main.py": "def solve(x):\n    return x\n", "pkg/data.txt": "a" * 1000},
    files=("pkg/*.py", "pkg/*.txt"),
    protected=("pkg/config.py",),
    entry="pkg.main:solve",
    signature="(x)",
    imports=("math", "numpy"),
    max_chars=20000,
)


def test_a_program_of_one_file() -> None:
    assert cards.told(Code("def f(): pass\n", entry="f")) == "program in python that defines f"
    whole = Code("def f(a): pass\n", entry="f", signature="(a)", imports=(), max_chars=300)
    assert cards.told(whole) == "program in python that defines f(a); it may import nothing; at most 300 characters"
    assert cards.told(Code("echo", language="shell")) == "program in shell"


def test_a_tree_is_told_by_its_files_what_may_be_added_and_how_it_is_entered() -> None:
    assert cards.told(TREE) == (
        "program in python of 2 files: pkg/data.txt, pkg/main.py; files that fit pkg/*.py or pkg/*.txt may be added, "
        "but not pkg/config.py; it is entered at pkg.main:solve(x); it may import math, numpy; at most 20000 characters"
    )
    many = Code({f"pkg/module_{number:03}.py": "" for number in range(200)}, files=("pkg/*.py",))
    assert "of 200 files: pkg/module_000.py, " in cards.told(many) and len(cards.told(many)) < 600


def test_a_reply_with_a_tree_is_a_text_for_each_file() -> None:
    space = Space({"program": TREE, "n": Int(1, 3), "one": Code("x = 1\n", max_chars=50)})
    fields = cards.properties(space, ["program", "n", "one"], space.initial())
    assert fields["one"] == {"type": "string", "maxLength": 50}
    tree = fields["program"]
    assert tree["type"] == "object" and tree["required"] == ["pkg/data.txt", "pkg/main.py"]
    assert tree["additionalProperties"] is False
    assert tree["properties"]["pkg/data.txt"] == {"type": "string", "maxLength": 2000}
    short = Space({"program": Code("x = 1\n"), "words": Text("Answer.")})
    found = cards.properties(short, list(short), short.initial())
    assert found["program"]["maxLength"] == 2000, "a stub may become a program"
    assert found["words"]["maxLength"] == 400
    reply = {"pkg/main.py": "def solve(x):\n    return 2 * x\n", "pkg/data.txt": ""}
    assert space["program"].check(reply) == reply, "what fits the schema fits the parameter"
    assert cards.reply_tokens(fields) > cards.reply_tokens({"n": fields["n"]}) + (2000 + 2000) // 2
