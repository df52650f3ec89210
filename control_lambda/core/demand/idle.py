"""What a fleet keeps while nothing comes: zero demand is believed slowly, and given way to reversibly.

Counts of nothing look like counts that are lost, and one metric pipeline brings them all. Where minutes
without a request are ordinary, a run of them is zero demand only once it is longer than those of the last
day.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from control_lambda.core.model import Idleness

# So long sizes stay: an outage of the metrics is usually over by then.
HOLD_SECONDS: Final = 1800.0
# Then at most a tenth of the nodes is given up every ten minutes: a mistake stays small for long.
STEP_SECONDS: Final = 600.0
STEP_SHARE: Final = 0.1
# A run of empty minutes that is so many times as long as the longest known is no chance.
UNUSUAL: Final = 2.0
# The longest run fades over a day: nights are longer than days, and last night is what tonight is like.
MEMORY_MINUTES: Final = 1440.0


def learn(idle: Idleness, counts: Mapping[int, float], nodes: int, at: float) -> Idleness:
    """Whether nothing comes, by `counts` (rpm by minute), and the nodes that are kept then.

    `nodes` are those that the groups hold now. Without counts what was known stays.
    """
    if not counts:
        return idle
    for minute in sorted(counts):
        if minute > idle.minute:
            idle = _after(idle, minute, empty=counts[minute] == 0)
    if idle.run <= UNUSUAL * idle.longest:
        return replace(idle, since=0.0, nodes=0, at=0.0)
    if not idle.since:
        return replace(idle, since=at, nodes=nodes, at=at + HOLD_SECONDS)
    if at < idle.at:
        return idle
    fewer = idle.nodes - max(1, int(idle.nodes * STEP_SHARE))
    return replace(idle, nodes=fewer, at=at + STEP_SECONDS)


def often_empty(idle: Idleness) -> bool:
    """Whether minutes without a request are so ordinary that one more is no news."""
    return idle.longest >= 1


def kept_nodes(idle: Idleness) -> int:
    """How many nodes the groups hold at least while nothing comes; 0 while something does."""
    return max(0, idle.nodes) if idle.since else 0


def _after(idle: Idleness, minute: int, *, empty: bool) -> Idleness:
    """The run of empty minutes so far; what ends it makes it one of those known."""
    if empty:
        return replace(idle, minute=minute, run=idle.run + 1)
    faded = idle.longest * math.exp(-(idle.run + 1) / MEMORY_MINUTES)
    return replace(idle, minute=minute, run=0, longest=max(float(idle.run), faded))
