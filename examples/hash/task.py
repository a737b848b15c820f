"""The scorer's side: how far a hash is from turning each bit by an even chance, whichever bit of a key turns."""

import random
from pathlib import Path

import numpy as np

KEYS = 512
FAMILIES = ("counter", "aligned", "any")


def keys(family, seed):
    """Keys as they come: numbers in a row, addresses whose lower 12 bits are zero, or any."""
    rng = random.Random(f"{family} {seed}")
    if family == "any":
        return [rng.getrandbits(32) for _ in range(KEYS)]
    first, step = rng.randrange(1 << 20), 4096 if family == "aligned" else 1
    return [((first + number) * step) & 0xFFFFFFFF for number in range(KEYS)]


def bias(digits):
    """The root mean square of 2p - 1 over all pairs of a key's bit and a hash's bit, in percent.

    p is the share of the keys with which the hash's bit turns when the key's bit turns. Of a perfect hash it is
    100 / sqrt(KEYS) = 4.4 for a sample of this size, of a hash that ignores the key 100.
    """
    found = np.frombuffer(bytes.fromhex(digits), dtype=">u4").reshape(KEYS, 33)
    turned = (found[:, 1:] ^ found[:, :1]).astype(">u4")
    bits = np.unpackbits(turned.view(np.uint8).reshape(KEYS, 32, 4), axis=2)
    return float(100.0 * np.sqrt(np.mean((2.0 * bits.mean(axis=0) - 1.0) ** 2)))


class Task:
    """Bias of a 32-bit hash, on three families of keys."""

    entry = "harness:hashes"
    schema = {"type": "string", "pattern": f"^[0-9a-f]{{{KEYS * 33 * 8}}}$"}  # noqa: RUF012
    bounds = {"bias": (3.0, 100.0)}  # noqa: RUF012  # a perfect hash has 4.4: below is no hash

    def files(self, candidate):
        """What calls the program."""
        return {"harness.py": (Path(__file__).parent / "harness.py").read_text(encoding="utf-8")}

    def inputs(self, seed, stage):
        """One set of keys of each family; the search has the same ones all the time, `confirm` has others."""
        chosen = "train" if stage == "train" else f"{stage} {seed}"
        return [] if stage == "smoke" else [{"family": family, "seed": chosen} for family in FAMILIES]

    def question(self, given):
        """The keys."""
        return keys(given["family"], given["seed"])

    def score(self, given, output):
        """The bias on these keys."""
        found = bias(output)
        return {"bias": found, given["family"]: found, "feedback": f"{given['family']} keys: {found:.1f} %"}

    def combine(self, scores):
        """The mean, and each family's own."""
        names = ["bias", *FAMILIES]
        parts = {name: [score[name] for score in scores if name in score] for name in names}
        return {name: sum(values) / len(values) for name, values in parts.items()}
