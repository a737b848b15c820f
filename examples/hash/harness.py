"""The candidate's side: the hashes of many keys, as hexadecimal digits.

A hash is a function of its key and of nothing else: not of when it is asked, nor of what it was asked before. So each
key is hashed twice, in two orders, the second time by a program that was loaded anew.
"""

import importlib
import random
import sys


def hashes(keys):
    """Return eight digits for each key, and for each key with one of its 32 bits turned."""
    wanted = [key ^ turned for key in keys for turned in (0, *(1 << bit for bit in range(32)))]
    rng = random.Random(str(keys))
    found, again = hashed(wanted, rng), hashed(wanted, rng)
    for key, digits in found.items():
        if again[key] != digits:
            raise ValueError(f"the answers differ: mix({key}) was {digits} and, in another order, {again[key]}")
    return "".join(found[key] for key in wanted)


def hashed(wanted, rng):
    """The digits of each key, by a program that knows of no other key yet."""
    sys.modules.pop("mix", None)
    mix = importlib.import_module("mix").mix
    order = sorted(set(wanted))
    rng.shuffle(order)
    return {key: f"{mix(key):08x}" for key in order}
