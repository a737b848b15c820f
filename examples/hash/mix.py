"""A hash of 32-bit keys: shift, multiply, shift."""


def mix(x):
    """A whole number from 0 to 2**32 - 1, of another one."""
    first = tune(16, 1, 31)
    second = tune(16, 1, 31)
    factor = tune(2654435761, 1, 4294967295)  # 2**32 divided by the golden ratio
    x ^= x >> first
    x = (x * (factor | 1)) & 0xFFFFFFFF
    x ^= x >> second
    return x


def tune(value, *rest, **more):
    """A number that may be changed: where the search runs a program, the value stands in its place."""
    return value
