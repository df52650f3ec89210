"""Steady demand: levels with the jitter of counts, the same every time."""

import random

from twin.world.steady import steady


def test_each_minute_is_its_level_times_the_same_jitter() -> None:
    """round(rpm × gauss(1, .05)) from one stream, whatever the level."""
    draw = random.Random(3)
    expected = [round(level * draw.gauss(1, 0.05)) for level in (500, 500, 900, 900)]
    assert steady([(0, 500), (2, 900)], 4) == expected


def test_no_minute_is_negative() -> None:
    """Nor is there a request where none is wanted."""
    assert steady([(0, 0)], 3) == [0, 0, 0]
