"""The candidate's side: the priority of every room for every size. It never sees the items that are to be packed."""

from priority import priority


def table(given):
    """Return, by size, the priority of a bin with each room from that size to the capacity."""
    capacity = given["capacity"]
    return {str(size): [float(priority(size, room)) for room in range(size, capacity + 1)] for size in given["sizes"]}
