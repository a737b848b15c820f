"""The candidate's side: the hashes of many keys, as hexadecimal digits."""

from mix import mix


def hashes(keys):
    """Return eight digits for each key, and for each key with one of its 32 bits turned."""
    return "".join(f"{mix(key ^ turned):08x}" for key in keys for turned in (0, *(1 << bit for bit in range(32))))
