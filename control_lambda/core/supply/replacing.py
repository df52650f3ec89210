"""Which nodes are terminated by id: those of no use, then slow ones; at a bounded pace, never all at once.

When everything that served looks dead at once, the checks or the image are to blame, and terminating would
make a false alarm an outage. That is the breaker: one replacement at a time, the next only when that one
serves.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from control_lambda.core.fleet import Fleet
from control_lambda.core.model import (
    Cause,
    NodesMemory,
    PoolSignals,
    Snapshot,
    State,
    Termination,
    Trial,
)
from control_lambda.core.supply import refusals
from control_lambda.core.supply.nodes import NEVER_READY_STARTS, Census

# At most this share of a pool, or one node, within each such period: a wrong belief costs little before
# somebody sees it, and a rack that is lost is replaced within the time that a start takes three times over.
PACE_SHARE: Final = 0.1
PACE_SECONDS: Final = 180.0
# Ticks come every minute: a longer gap means that one died after it had acted, and nothing of that was saved.
UNSAVED_SECONDS: Final = 90.0
# What fails for one reason fails together.
TOGETHER_SECONDS: Final = 600.0


class Replacing(NamedTuple):
    """What becomes of the nodes of no use, and of those that serve far worse than they should.

    `doomed` are terminated now, by pool, `breaker` are the units that are spared but for the `trial` that is
    under way or begins now.
    """

    doomed: Mapping[str, tuple[str, ...]]
    breaker: frozenset[str]
    trial: Trial | None


def plan_replacing(snapshot: Snapshot, state: State, fleet: Fleet, found: Mapping[str, Census]) -> Replacing:
    """Choose whom to terminate; `found` is the census of every pool that was sensed."""
    breaker = open_breaker(snapshot, state, fleet, found)
    expendable = frozenset() if breaker else _expendable(snapshot, state, fleet, found)
    doomed: dict[str, tuple[str, ...]] = {}
    for name, census in found.items():
        spared = fleet.unit_of[name].name in breaker
        useless = census.hung if spared else census.useless
        staying = [node for node in useless if node not in state.leaving]
        staying += [node for node in census.slow if node in expendable]
        if staying and snapshot.pools[name].sizable:
            doomed[name] = tuple(staying[: allowance(name, snapshot, state)])
    trial = _under_way(snapshot, state, fleet) if breaker else None
    if breaker and trial is None and not _may_have_begun(snapshot, state):
        trial, node = _next_trial(snapshot, state, fleet, found, breaker)
        if trial is not None:
            doomed[trial.pool] = (*doomed.get(trial.pool, ()), node)
    return Replacing({pool: nodes for pool, nodes in doomed.items() if nodes}, breaker, trial)


def _expendable(
    snapshot: Snapshot, state: State, fleet: Fleet, found: Mapping[str, Census]
) -> frozenset[str]:
    """The slow nodes whose units have others that serve."""
    chosen: set[str] = set()
    for unit in fleet.units:
        pools = [pool.name for pool in unit.pools if pool.name in found]
        serving = sum(len(snapshot.pools[pool].ready.difference(state.leaving)) for pool in pools)
        slow = [node for pool in pools for node in found[pool].slow if node not in state.leaving]
        chosen.update(slow[: max(0, serving - 1)])
    return frozenset(chosen)


def open_breaker(
    snapshot: Snapshot, state: State, fleet: Fleet, found: Mapping[str, Census]
) -> frozenset[str]:
    """The units all of whose nodes ceased to serve together, where that is two of them or all that served."""
    gone = {
        unit.name: since for unit in fleet.units if (since := _gone_since(unit.name, snapshot, state, fleet))
    }
    latest = max(gone.values(), default=0.0)
    together = frozenset(name for name, since in gone.items() if since >= latest - TOGETHER_SECONDS)
    any_dead = any(
        found[pool.name].dead for pool in fleet.pools if pool.unit in together and pool.name in found
    )
    everything = not _any_serves(snapshot, state, fleet)
    return together if any_dead and (len(together) > 1 or everything) else frozenset()


def allowance(pool: str, snapshot: Snapshot, state: State) -> int:
    """How many nodes of the pool may be terminated by id now.

    After a tick that left no memory, what is on its way out counts as terminated lately.
    """
    signals = snapshot.pools[pool]
    lately = len(recent(state.nodes.get(pool, NodesMemory()).terminated, snapshot.at))
    if _is_unsaved(snapshot, state):
        lately = max(lately, signals.terminating)
    return max(0, max(1, int(PACE_SHARE * signals.in_service)) - lately)


def recent(terminated: Sequence[float], at: float) -> tuple[float, ...]:
    """Those of the times that still count for the pace."""
    return tuple(min(when, at) for when in terminated if when > at - PACE_SECONDS)


def terminations(
    pool: str, census: Census, doomed: Sequence[str], surplus: Sequence[str], decrements: int
) -> Iterator[Termination]:
    """The nodes to be terminated in a pool: the `doomed`, so many of which give up their place, and a
    surplus.
    """
    for place, node in enumerate(doomed):
        yield Termination(pool, node, place < decrements, _why(node, census))
    for node in surplus:
        yield Termination(pool, node, decrement=True, why=_why(node, census))


def _why(node: str, census: Census) -> Cause:
    causes = {Cause.DEAD: census.dead, Cause.HUNG: census.hung, Cause.SLOW: census.slow}
    return next((cause for cause, nodes in causes.items() if node in nodes), Cause.SURPLUS)


def leaving_first(
    census: Census, signals: PoolSignals, nodes: int, doomed: Sequence[str] = ()
) -> tuple[str, ...]:
    """The nodes that serve and leave first when the pool shrinks by so many: slow ones, then the oldest.

    The `doomed` leave anyway.
    """
    slow = [node for node in census.slow if node not in doomed]
    oldest = sorted(
        signals.ready.difference(census.slow),
        key=lambda node: (signals.nodes[node].launched_at, node),
    )
    return (*slow, *oldest)[:nodes]


def _is_unsaved(snapshot: Snapshot, state: State) -> bool:
    return snapshot.at - state.at > UNSAVED_SECONDS


def _may_have_begun(snapshot: Snapshot, state: State) -> bool:
    """Whether a tick that left no memory may have begun a trial."""
    return _is_unsaved(snapshot, state) and any(pool.terminating for pool in snapshot.pools.values())


def _gone_since(unit: str, snapshot: Snapshot, state: State, fleet: Fleet) -> float:
    """Since when none of the unit's nodes has served that did; 0 while one does, or none ever did."""
    last = 0.0
    for pool in fleet.pools:
        if pool.unit != unit:
            continue
        signals = snapshot.pools.get(pool.name)
        if signals is None or not signals.health_known:
            if _served_last(pool.unit, state):
                return 0.0
        elif signals.ready:
            return 0.0
        else:
            last = max(last, *state.nodes.get(pool.name, NodesMemory()).unhealthy.values(), 0.0)
    return last


def _any_serves(snapshot: Snapshot, state: State, fleet: Fleet) -> bool:
    """Whether any node is known to serve, or was and is out of sight."""
    for pool in fleet.pools:
        signals = snapshot.pools.get(pool.name)
        if signals is None or not signals.health_known:
            if _served_last(pool.unit, state):
                return True
        elif signals.ready:
            return True
    return False


def _served_last(unit: str, state: State) -> bool:
    """Whether target health last said that some node of the unit serves."""
    known = state.health.get(unit)
    return known is not None and known.nodes > 0


def _under_way(snapshot: Snapshot, state: State, fleet: Fleet) -> Trial | None:
    """The replacement that has not served yet and still may."""
    trial = state.trial
    if trial is None or trial.pool not in fleet.unit_of:
        return None
    start = fleet.unit_of[trial.pool].profile.start_seconds
    if not trial.at <= snapshot.at <= trial.at + NEVER_READY_STARTS * start + PACE_SECONDS:
        return None
    signals = snapshot.pools.get(trial.pool)
    if signals is not None and any(signals.nodes[node].launched_at >= trial.at for node in signals.ready):
        return None
    return trial


def _next_trial(
    snapshot: Snapshot,
    state: State,
    fleet: Fleet,
    found: Mapping[str, Census],
    breaker: frozenset[str],
) -> tuple[Trial | None, str]:
    """The node that has been dead in the first pool that can be expected to get another one."""
    for pool in fleet.pools:
        unit = fleet.unit_of[pool.name]
        dead = found[pool.name].dead if pool.name in found else ()
        candidates = [node for node in dead if node not in state.leaving]
        if (
            unit.name in breaker
            and candidates
            and snapshot.pools[pool.name].sizable
            and not snapshot.pools[pool.name].launch_suspended
            and refusals.refusal_of(state.refusals, pool, unit) is None
            and allowance(pool.name, snapshot, state)
        ):
            return Trial(pool.name, snapshot.at), candidates[0]
    return None, ""
