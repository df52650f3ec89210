"""Steady demand: a level for so many minutes, with the jitter of counts."""

import random
from collections.abc import Sequence
from typing import Final

SPREAD: Final = 0.05
SEED: Final = 3

# From the first minute of each level on, so many requests per minute.
Levels = Sequence[tuple[int, float]]


def steady(levels: Levels, minutes: int) -> list[int]:
    """Requests in each of `minutes` minutes: round(rpm × gauss(1, SPREAD)), from one seeded stream.

    Levels are in order of their first minute, the first one 0.
    """
    draw = random.Random(SEED)
    return [max(0, round(_level(levels, minute) * draw.gauss(1, SPREAD))) for minute in range(minutes)]


def _level(levels: Levels, minute: int) -> float:
    return next(rpm for first, rpm in reversed(levels) if first <= minute)
