"""What a tick works with: the snapshot, and memory brought up to date by it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from control_lambda.core.demand import counts, idle, worth
from control_lambda.core.demand.forecast import (
    look_ahead,
    observe,
    saving_up_to,
)
from control_lambda.core.fleet import Fleet, Objective, Pool, Unit
from control_lambda.core.model import (
    CountMemory,
    DemandMemory,
    Evidence,
    EvidenceKind,
    Forecast,
    Idleness,
    Snapshot,
    State,
)
from control_lambda.core.plan.staffing import carried_table
from control_lambda.core.supply import health, losses, nodes, overload, service, trust, zones
from control_lambda.core.supply.refusals import INTERRUPTION_SECONDS, forget_proven, remember
from control_lambda.core.supply.supply import Supply, Tables, supplies_of

# A launch decided on now serves after its start; the decision itself waited for the next tick.
TICK_SECONDS: Final = 60
# What a refused write taught is tried again after this: nobody tells when a person has changed his mind.
LIMIT_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class Outlook:
    """A tick's view of the fleet. `state` is the memory with this snapshot learned; `before` without.

    `serving` says what is known of the nodes of each unit, over its pools, and `ready` how many of them
    serve. `all_unhealthy`: those that served last are unhealthy, all of them.
    """

    snapshot: Snapshot
    before: State
    state: State
    fleet: Fleet
    forecast: Forecast
    tables: Tables
    supplies: tuple[Supply, ...]
    serving: Mapping[str, health.Serving]
    ready: Mapping[str, int]
    all_unhealthy: bool

    @property
    def anything_serves(self) -> bool:
        """Whether any node is known to serve, be it for two more minutes."""
        return any(self.ready.values()) or any(supply.leaving for supply in self.supplies)

    @property
    def demand_to_carry(self) -> float:
        """The highest upper forecast of the last start time (rpm): what nodes are kept for.

        An idle node is worth keeping as long as its restart would cost: the break-even rule of the
        ski-rental problem, at most twice the cost of perfect foresight (Karlin et al., 1988).
        """
        return self.state.peaks[0][1] if self.state.peaks else 0.0


def look(snapshot: Snapshot, before: State, fleet: Fleet) -> Outlook:
    """Learn what the snapshot teaches and see the fleet through it."""
    before = _forget_future(before, snapshot.at)
    start_seconds = slowest_start(fleet)
    horizon = _horizon_minutes(start_seconds)
    learned = _learn(snapshot, before, fleet, horizon)
    tables = {unit.name: _table(unit, snapshot, learned, fleet.objective) for unit in fleet.units}
    trusted = _learn_of_load(learned, snapshot, before.demand.minute, tables, fleet)
    late_usd = worth.usd_per_late_request(fleet, tables)
    seen = supplies_of(snapshot, trusted, fleet, late_usd)
    serving = health.serving_by_unit(snapshot, trusted, seen, fleet)
    supplies = health.as_known(seen, serving)
    expected = look_ahead(trusted.demand, snapshot.at, horizon, _miss_share(fleet.objective))
    forecast = _worth_carrying(expected, trusted.demand, supplies, tables, late_usd)
    state = _remember_peak(trusted, snapshot.at, forecast, start_seconds)
    return Outlook(
        snapshot,
        before,
        state,
        fleet,
        forecast,
        tables,
        supplies,
        serving,
        {unit: found.nodes for unit, found in serving.items()},
        health.all_unhealthy(snapshot, state, serving),
    )


def _learn_of_load(
    state: State, snapshot: Snapshot, since: int, tables: Mapping[str, tuple[float, ...]], fleet: Fleet
) -> State:
    """The state with what the minutes after `since` teach of each unit under load: how far its profile can be
    trusted, and what its servers do with too much.
    """
    learning = {name for name, memory in state.service.items() if service.is_learning(memory)}
    return replace(
        state,
        trust=trust.learn(state.trust, snapshot.minutes, tables, fleet, since, learning=learning),
        queueing=overload.learn(state.queueing, snapshot.minutes, tables, fleet, since),
    )


def _remember_peak(state: State, at: float, forecast: Forecast, window: float) -> State:
    """The state with this tick's forecast among the highest of the last `window` seconds."""
    return replace(state, peaks=_peaks(state.peaks, at, forecast, window))


def _miss_share(objective: Objective) -> float:
    """The share of requests that may come in minutes whose demand exceeds the upper forecast."""
    return (1 - objective.attainment) * worth.MINUTES_PER_LATE


def _worth_carrying(
    forecast: Forecast, memory: DemandMemory, supplies: tuple[Supply, ...], tables: Tables, late_usd: float
) -> Forecast:
    """The forecast, its upper end lowered to what is worth carrying, but never below the mean."""
    if forecast.stale:
        return forecast

    def upper_at(saved: float) -> float:
        return saving_up_to(memory, forecast.mean, saved)

    upper = worth.demand_worth_carrying(late_usd, supplies, tables, upper_at, forecast.upper)
    return replace(forecast, upper=max(upper, min(forecast.mean, forecast.upper)))


def _forget_future(state: State, at: float) -> State:
    """The state without what a clock that ran ahead has dated later than now: it would never expire."""
    return replace(
        state,
        mode_since=min(state.mode_since, at),
        demand=state.demand if state.demand.minute <= at else DemandMemory(),
        settled=state.settled if state.demand.minute <= at else DemandMemory(),
        counts=state.counts if state.demand.minute <= at else CountMemory(),
        idle=state.idle if state.idle.since <= at else Idleness(),
        peaks=tuple(peak for peak in state.peaks if peak[0] <= at),
        refusals={key: refusal for key, refusal in state.refusals.items() if refusal.at <= at},
        health={unit: read for unit, read in state.health.items() if read.at <= at},
        leaving={node: until for node, until in state.leaving.items() if until <= at + INTERRUPTION_SECONDS},
        nodes={pool: replace(known, at=min(known.at, at)) for pool, known in state.nodes.items()},
        limits={pool: limit for pool, limit in state.limits.items() if limit.until <= at + LIMIT_SECONDS},
    )


def slowest_start(fleet: Fleet) -> float:
    """The longest start of a unit that may have nodes, in seconds."""
    return max(
        (unit.profile.start_seconds for unit in fleet.units if any(pool.nodes.max for pool in unit.pools)),
        default=0.0,
    )


def _horizon_minutes(start_seconds: float) -> int:
    """From the last counted minute to when a node that is launched now serves."""
    return math.ceil((counts.LATENESS_SECONDS + TICK_SECONDS + start_seconds) / 60)


def _table(unit: Unit, snapshot: Snapshot, state: State, objective: Objective) -> tuple[float, ...]:
    """What the unit carries, up to the most nodes that it may have or has."""
    seconds = service.planned_seconds(unit, state.service)
    trusted = trust.trusted_service_seconds(unit, seconds, state.trust, objective)
    sizes = sum(max(pool.nodes.max, _size(pool, snapshot, state)) for pool in unit.pools)
    most = max(sizes, snapshot.healthy.get(unit.name, 0))
    return carried_table(trusted, objective.latency_seconds, 1 - objective.percentile / 100, most)


def _size(pool: Pool, snapshot: Snapshot, state: State) -> int:
    signals = snapshot.pools.get(pool.name)
    return state.desired.get(pool.name, 0) if signals is None else max(signals.desired, signals.in_service)


def _learn(snapshot: Snapshot, state: State, fleet: Fleet, horizon: int) -> State:
    """The state with what the snapshot teaches of demand and of capacity."""
    announced = [replace(item, at=min(item.at, snapshot.at)) for item in snapshot.evidence]
    known_nodes = nodes.learn(state, snapshot, fleet)
    hanging = _hanging(snapshot, replace(state, nodes=known_nodes), fleet)
    unmet = zones.unmet(state, snapshot)
    refused_zones = zones.note(state.refused_zones, announced, snapshot.at)
    evidence = (
        *zones.of_pools(announced, refused_zones, snapshot.pools, state.refusals),
        *zones.unmet_evidence(unmet, refused_zones, snapshot.at),
        *(Evidence(name, EvidenceKind.NEVER_READY, snapshot.at) for name in hanging),
    )
    refusals = remember(state.refusals, evidence, fleet)
    live = {name: pool.price for name, pool in snapshot.pools.items() if pool.price is not None}
    known_service = service.learn(state.service, snapshot.minutes, fleet, state.demand.minute)
    return replace(
        _count(snapshot, state, fleet, horizon),
        service=known_service,
        losses=losses.learn(state, snapshot),
        health=health.remember(state.health, snapshot),
        refusals=forget_proven(refusals, snapshot.pools, fleet, snapshot.at, state.in_service, hanging),
        nodes=known_nodes,
        refused_zones=refused_zones,
        unmet=unmet,
        limits={pool: limit for pool, limit in state.limits.items() if snapshot.at < limit.until},
        leaving=_leaving(snapshot, state),
        served=_served(snapshot, state, fleet),
        prices={**state.prices, **live},
    )


def _count(snapshot: Snapshot, state: State, fleet: Fleet, horizon: int) -> State:
    """The state with what came, as far as it is known by now."""
    often_empty = idle.often_empty(state.idle)
    shown = counts.counted_minutes(snapshot, _shares(snapshot, state, fleet), often_empty=often_empty)
    memory = counts.settle(state.counts, shown, snapshot.at)
    final = counts.settled(shown, snapshot.at)
    settled = observe(state.settled, final, horizon)
    estimates = dict(memory.estimates)
    nodes = sum(pool.in_service for pool in snapshot.pools.values())
    return replace(
        state,
        counts=memory,
        settled=settled,
        demand=_demand(state, settled, estimates, horizon),
        idle=idle.learn(state.idle, {**final, **estimates}, nodes, snapshot.at),
    )


def _demand(
    state: State, settled: DemandMemory, estimates: Mapping[int, float], horizon: int
) -> DemandMemory:
    """What is known of demand: what was known, if only newer minutes have come, else learned anew."""
    told = dict(state.counts.estimates)
    known = {start: count for start, count in estimates.items() if start <= state.demand.minute}
    unchanged = all(told.get(start) == count for start, count in known.items())
    if unchanged and settled.minute <= state.demand.minute:
        return observe(state.demand, estimates, horizon)
    return observe(settled, estimates, horizon)


def _shares(snapshot: Snapshot, state: State, fleet: Fleet) -> Mapping[str, float]:
    """The share of traffic that each unit is known to get; none where others than the one rule decide."""
    if fleet.routing == "router" or len(fleet.classes) > 1:
        return {}
    weights = snapshot.weights or state.weights
    total = sum(weights.values())
    return {unit: weight / total for unit, weight in weights.items()} if total else {}


def _served(snapshot: Snapshot, state: State, fleet: Fleet) -> tuple[str, ...]:
    ready = {fleet.unit_of[name].name for name, signals in snapshot.pools.items() if signals.ready}
    return tuple(sorted(ready.union(state.served)))


def _hanging(snapshot: Snapshot, state: State, fleet: Fleet) -> list[str]:
    """The pools that hold a node which should have served by now and never has."""
    found = nodes.censuses(snapshot, state, fleet)
    return [name for name, census in found.items() if census.hung]


def _leaving(snapshot: Snapshot, state: State) -> dict[str, float]:
    """The interrupted nodes, until they are gone for certain."""
    announced = {
        item.node: min(item.at, snapshot.at) + INTERRUPTION_SECONDS
        for item in snapshot.evidence
        if item.kind is EvidenceKind.INTERRUPTION and item.node
    }
    return {node: until for node, until in {**state.leaving, **announced}.items() if until > snapshot.at}


def _peaks(
    peaks: tuple[tuple[float, float], ...], at: float, forecast: Forecast, window: float
) -> tuple[tuple[float, float], ...]:
    """The maxima of the upper forecast over the window: each later and lower than the one before."""
    if forecast.stale:
        return peaks
    higher = tuple(peak for peak in peaks if peak[0] > at - window and peak[1] > forecast.upper)
    return (*higher, (at, forecast.upper))
