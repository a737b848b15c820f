"""Whether circles lie in the unit square and do not overlap: exactly, with fractions, and without a tolerance."""

from fractions import Fraction
from itertools import combinations


def fault(circles):
    """Why a layout is none; "" when it is valid.

    A float is a fraction with a power of two below the line, so its value is known exactly, and nothing is rounded.

    Args:
        circles: Lists of centre and radius, [x, y, r], as finite numbers.
    """
    exact = [[Fraction(value) for value in circle] for circle in circles]
    for number, (x, y, r) in enumerate(exact):
        if r < 0:
            return f"circle {number} has a negative radius"
        if beyond := max(r - x, x + r - 1, r - y, y + r - 1, Fraction(0)):
            return f"circle {number} leaves the square by {float(beyond):.3g}"
    for (i, (ax, ay, ar)), (j, (bx, by, br)) in combinations(enumerate(exact), 2):
        if (ax - bx) ** 2 + (ay - by) ** 2 < (ar + br) ** 2:
            gap = float(ar + br) - float((ax - bx) ** 2 + (ay - by) ** 2) ** 0.5
            return f"circles {i} and {j} overlap" + (f" by {gap:.3g}" if gap > 0 else " by less than a float can tell")
    return ""


def total(circles):
    """The sum of the radii."""
    return float(sum(Fraction(circle[2]) for circle in circles))
