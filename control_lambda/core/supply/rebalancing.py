"""Whether each group may even out its zones by itself, which costs nodes that serve (AZRebalance).

The loop keeps it suspended, because a group that swaps nodes terminates one that serves before the new one
does. While EKS updates a node group it has to run: the update needs it (EKS User Guide, managed node update
behavior).
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from control_lambda.core.model import PoolSignals, Suspension

UPDATING: Final = "UPDATING"
# Empty: unreadable. In any other status the node group comes or goes, and is none of the loop's business.
STEADY: Final = frozenset({"ACTIVE", "DEGRADED", ""})


class Rebalancing(NamedTuple):
    """The pools whose rebalancing is to be suspended and resumed now, and those that the loop suspends.

    A pool is `remembered` a tick before its first suspension: a tick that dies in between leaves no
    suspension behind that looks like a person's.
    """

    suspend: tuple[str, ...] = ()
    resume: tuple[str, ...] = ()
    remembered: tuple[str, ...] = ()


def choose(pools: Mapping[str, PoolSignals], before: tuple[str, ...]) -> Rebalancing:
    """Compare what stands with what should; `before` are the pools that the loop suspends."""
    suspend, resume, remembered = [], [], set(before)
    for name, signals in pools.items():
        suspended = signals.rebalance_suspended
        if signals.status in STEADY and not suspended:
            if name in before:
                suspend.append(name)
            remembered.add(name)
        elif signals.status == UPDATING and name in before and suspended is Suspension.LOOP_OR_PERSON:
            resume.append(name)
        elif signals.deleted:
            remembered.discard(name)
    return Rebalancing(tuple(suspend), tuple(resume), tuple(sorted(remembered)))


def missing_for_update(pools: Mapping[str, PoolSignals], before: tuple[str, ...]) -> tuple[str, ...]:
    """The pools that EKS updates while a person keeps their rebalancing suspended, and it is left so."""
    return tuple(
        name
        for name, signals in pools.items()
        if signals.status == UPDATING
        and signals.rebalance_suspended is Suspension.LOOP_OR_PERSON
        and name not in before
    )
