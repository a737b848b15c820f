"""One linear system, solved with the omega that a policy gives for its shift."""

from sor import iterations, place

LIMIT = 100
"""A solve is given up after so many iterations. The narrower a score's range, the fewer rows prove a gain."""


def omega(candidate, shift):
    """level + slope · p + bend · (2p² − 1), kept in [1, 1.95], where p is the shift's place on [-1, 1]."""
    p = place(shift)
    return min(1.95, max(1.0, candidate["level"] + candidate["slope"] * p + candidate["bend"] * (2 * p * p - 1)))


def measure(candidate, row):
    """Return `iterations`, which the solver took."""
    chosen = omega(candidate, row["shift"])
    used = int(iterations(row["shift"], row["seed"], [chosen], cap=LIMIT)[0])
    return {"iterations": float(used), "feedback": f"shift {row['shift']:.3g}, omega {chosen:.3f}: {used} of {LIMIT}"}
