"""What a fleet keeps while nothing comes: zero demand is believed slowly, and given way to reversibly.

Counts of nothing look like counts that are lost, and one metric pipeline brings them all.
"""

from collections.abc import Mapping
from typing import Final

from control_lambda.core.model import Idleness

# So long sizes stay: an outage of the metrics is usually over by then.
HOLD_SECONDS: Final = 1800.0
# Then at most a tenth of the nodes is given up every ten minutes: a mistake stays small for long.
STEP_SECONDS: Final = 600.0
STEP_SHARE: Final = 0.1


def learn(idle: Idleness, counts: Mapping[int, float], nodes: int, at: float) -> Idleness:
    """Whether nothing comes, by the newest of `counts` (rpm by minute), and the nodes that are kept then.

    `nodes` are those that the groups hold now. Without counts what was known stays.
    """
    if not counts:
        return idle
    if counts[max(counts)] > 0:
        return Idleness()
    if not idle.since:
        return Idleness(since=at, nodes=nodes, at=at + HOLD_SECONDS)
    if at < idle.at:
        return idle
    return Idleness(idle.since, idle.nodes - max(1, int(idle.nodes * STEP_SHARE)), at + STEP_SECONDS)


def kept_nodes(idle: Idleness) -> int:
    """How many nodes the groups hold at least while nothing comes; 0 while something does."""
    return max(0, idle.nodes) if idle.since else 0
