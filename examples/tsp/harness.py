"""The candidate's side: builds a round trip from a city on, by what the program says each next city is worth."""

import math

from worth import worth


def tour(given):
    """Return the cities' numbers in the order of the trip; of cities that are worth the same, the first one is next."""
    cities, here = given["cities"], given["start"]
    count = len(cities)
    between = [[math.dist(a, b) for b in cities] for a in cities]
    near = [sorted(range(count), key=row.__getitem__) for row in between]
    width, height = (max(c[k] for c in cities) - min(c[k] for c in cities) for k in (0, 1))
    unit = math.sqrt(width * height / count) or 1.0
    left, start, trip = set(range(count)) - {here}, here, [here]
    while left:
        share = len(left) / count
        middle = [sum(cities[k][axis] for k in left) / len(left) for axis in (0, 1)]
        best, following = -math.inf, -1
        for city in sorted(left):
            lonely = next((between[city][k] for k in near[city] if k in left and k != city), 0.0)
            distances = between[here][city], between[city][start], math.dist(cities[city], middle), lonely
            value = worth(*(distance / unit for distance in distances), share)
            if value > best:
                best, following = value, city
        if following < 0:
            raise ValueError("no city is worth anything: worth() gave no number")
        here = following
        left.remove(here)
        trip.append(here)
    return trip
