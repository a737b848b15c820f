"""Online bin packing: an item goes into the bin with the highest priority. As it stands this is best fit."""


def priority(item, room):
    """How good a bin with so much room is for an item that fits."""
    tight = tune(0, 0, 10)  # a gap up to this is as good as filled
    wide = tune(30, 5, 90)  # a gap from this on is room for another item
    rise = tune(-1.0, -3, 3)  # what a unit more is worth in a gap below `wide`,
    fall = tune(1.0, -1, 3)  # and what it costs above
    left = room - item
    if left <= tight:
        return 1000.0 - left
    return rise * min(left, wide) - fall * max(0, left - wide)


def tune(value, *rest, **more):
    """A number that may be changed: where the search runs a program, the value stands in its place."""
    return value
