"""A round trip, city by city: the one that is worth most comes next. As it stands that is the nearest one."""


def worth(distance, home, middle, lonely, share):
    """How good it is to go to a city now; distances are in units of a typical step.

    distance: from here. home: from the city to the start. middle: from the city to the middle of those that are left.
    lonely: from the city to the nearest other one that is left. share: of the cities, how many are left, 1 to 0.
    """
    back = tune(0.0, -1.0, 1.0)
    edge = tune(0.0, -1.0, 1.0)
    alone = tune(0.0, -1.0, 1.0)
    late = tune(0.0, -1.0, 1.0)
    return -distance + back * home + edge * middle + alone * lonely + late * home * share


def tune(value, *rest, **more):
    """A number that may be changed: where the search runs a program, the value stands in its place."""
    return value
