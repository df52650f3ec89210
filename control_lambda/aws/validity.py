"""What numbers from outside may be; whatever else comes is refused where it comes in."""

from math import inf


def is_price(usd_per_hour: float) -> bool:
    """Whether a node can cost that much: above 0 and finite."""
    return 0 < usd_per_hour < inf


def is_count(value: float) -> bool:
    """Whether something can be counted or measured as that: 0 or more, and finite."""
    return 0 <= value < inf
