"""Reads a word problem about two things as a linear program, by rules."""

import re

NUMBER = r"\$?\d+(?:\.\d+)?"
SKIPPED = {"the", "of", "a", "an", "each", "units", "total", "number", "in", "is", "and", "or", "to", "can", "be"}


def read(text):
    """Return what is to be maximized or minimized, and the limits."""
    letters = tune(6, 2, 8)  # of a word that count
    behind = tune(1, 1, 5)  # words behind a number that may say of what it is
    whole = tune(False, [True, False])
    unsaid = tune("none", ["<=", ">=", "none"])  # a bound where neither most nor least is said
    carried = tune(False, [True, False])  # a bound word holds for the rest of its sentence
    text = text.lower()
    things = two(text, letters)
    amounts, limits = {}, []
    for sentence in re.split(r"[.?;] ", text + " "):
        way, thing = "", ""
        for part in re.split(r",| and | while | whereas ", sentence):
            way = way if carried else ""
            way = "<=" if re.search(r"at most|no more than|maximum of|available", part) else way
            way = ">=" if re.search(r"at least|minimum of|must", part) else way
            thing = next((one for one in things if named(one, part)), thing)
            if ratio := re.search(r"(twice|three times) as many (\w+) as (\w+)", part):
                first, second = ratio[2][:letters], ratio[3][:letters]
                limits.append([{first: 1.0, second: -2.0 if ratio[1] == "twice" else -3.0}, ">=", 0.0])
                continue
            for found in re.finditer(NUMBER, part):
                value = float(found[0].strip("$"))
                words = [w for w in re.findall(r"[a-z]+", part[found.end() :]) if w not in SKIPPED][:behind]
                of = "$" if found[0].startswith("$") else words[-1][:letters] if words else ""
                counted = next((one for one in things if any(w.startswith(one) for w in words)), "")
                if way and counted:
                    limits.append([{counted: 1.0}, way, value])
                elif way or not thing:
                    limits.append([of, way or unsaid, value])
                else:
                    amounts.setdefault(of, {})[thing] = value
    goal = re.search(r"(maximize|minimize)(.*)", text)
    ends = [w[:letters] for w in re.findall(r"[a-z]+", goal[2])] if goal else []
    objective = next((amounts[end] for end in ends if end in amounts), None)
    if objective is None:
        objective = amounts.get("$") if set(ends) & {w[:letters] for w in ("profit", "cost")} else None
    known = [[amounts.get(a, {}) if isinstance(a, str) else a, way, bound] for a, way, bound in limits]
    return {
        "maximize": bool(goal) and goal[1] == "maximize",
        "objective": objective or dict.fromkeys(things, 1.0),
        "limits": [limit for limit in known if limit[0] and limit[1] != "none"],
        "whole": whole,
    }


def two(text, letters):
    """The beginnings of the two words that come behind each, per, one and a most often, in the order of the text."""
    found = [word[:letters] for word in re.findall(r"\b(?:each|per|one|a|an) ([a-z]+)", text)]
    often = sorted(dict.fromkeys(found), key=lambda word: -found.count(word))[:2]
    return sorted(often, key=found.index)


def named(thing, part):
    """Whether a part of a sentence names a thing."""
    return any(word.startswith(thing) for word in re.findall(r"[a-z]+", part))


def tune(value, *rest, **more):
    """A number that may be changed: where the search runs a program, the value stands in its place."""
    return value
