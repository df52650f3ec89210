"""The rules that the loop never breaks, each a check of one tick: what went in and what was decided.

The checks see only the decision's outside: what was sensed, what was written and what is remembered.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from control_lambda.core.demand.forecast import STALE_SECONDS
from control_lambda.core.fleet import Fleet, Pool
from control_lambda.core.model import (
    Cause,
    Decision,
    EvidenceKind,
    Minute,
    Mode,
    NodesMemory,
    PoolSignals,
    Snapshot,
    State,
    state_from_json,
    state_to_json,
)
from control_lambda.core.reasons import Code
from control_lambda.core.supply import nodes, refusals
from control_lambda.core.supply.refusal_kinds import REFUSAL_KINDS
from control_lambda.core.supply.replacing import PACE_SECONDS, TOGETHER_SECONDS
from control_lambda.core.supply.trust import TRUSTED_ERRORS
from control_lambda.core.traffic.weights import to_shares

Decide = Callable[[Snapshot, State, Fleet], tuple[Decision, State]]

HIGHEST_WEIGHT: Final = 999
MOST_A_TICK: Final = 0.20
MOST_FOR_NEW: Final = 0.05
# Integer weights cannot hit a share closer than this.
ROUNDING: Final = 0.002
USD_TOLERANCE: Final = 1e-6
# Every so many ticks a decision is made again: it costs as much as the first time.
REPEAT_EVERY: Final = 8


@dataclass(frozen=True, slots=True)
class Tick:
    """One tick of a history.

    `refused` holds the pools that were refused a launch since a node of their family was last granted,
    `returning` the units that had no ready node lately.
    """

    fleet: Fleet
    snapshot: Snapshot
    before: State
    decision: Decision
    after: State
    refused: frozenset[str]
    returning: frozenset[str]
    decide: Decide

    def sizable(self) -> Iterator[tuple[Pool, PoolSignals]]:
        """The pools whose size can be changed now."""
        for pool in self.fleet.pools:
            signals = self.snapshot.pools.get(pool.name)
            if signals is not None and signals.sizable:
                yield pool, signals

    def size(self, pool: str) -> int:
        """The desired size of a sensed pool once the decision is written."""
        given_up = sum(1 for item in self.decision.terminate if item.pool == pool and item.decrement)
        return self.decision.sizes.get(pool, self.snapshot.pools[pool].desired - given_up)

    def terminated(self, pool: str) -> int:
        """How many of the pool's nodes are terminated by id."""
        return sum(1 for item in self.decision.terminate if item.pool == pool)

    def census(self, pool: str) -> nodes.Census:
        """The nodes of a sensed pool by state."""
        signals, memory = self.snapshot.pools[pool], self.after.nodes[pool]
        return nodes.census(memory, signals, self.fleet.unit_of[pool], self.snapshot.at)

    def ready(self, unit: str) -> int | None:
        """The unit's ready nodes, interrupted ones included; None when neither they nor targets were read."""
        if not self._all_seen(unit):
            return self.snapshot.healthy.get(unit)
        return sum(len(signals.ready) for _, signals in self._sensed(unit))

    def staying(self, unit: str) -> int:
        """Those of them that are not announced to leave; of unread ones, those that were sensed."""
        if not self._all_seen(unit) and unit in self.snapshot.healthy:
            held = {node for _, signals in self._sensed(unit) for node in signals.nodes}
            return max(0, self.snapshot.healthy[unit] - len(held & self.after.leaving.keys()))
        return sum(len(signals.ready - self.after.leaving.keys()) for _, signals in self._sensed(unit))

    def _all_seen(self, unit: str) -> bool:
        """Whether the nodes of every pool of the unit were."""
        return all(signals is not None and signals.health_known for signals in self._pools(unit))

    def kept(self, unit: str) -> int:
        """Those of them that surely stay when the groups shrink to the sizes of this tick."""
        kept = 0
        for pool, signals in self._sensed(unit):
            removed = max(0, signals.in_service - self.terminated(pool) - self.size(pool))
            kept += max(0, len(signals.ready - self.after.leaving.keys()) - removed)
        return kept

    def _sensed(self, unit: str) -> Iterator[tuple[str, PoolSignals]]:
        for pool in self.fleet.pools:
            signals = self.snapshot.pools.get(pool.name)
            if signals is not None and self.fleet.unit_of[pool.name].name == unit:
                yield pool.name, signals

    def _pools(self, unit: str) -> list[PoolSignals | None]:
        return [
            self.snapshot.pools.get(pool.name)
            for pool in self.fleet.pools
            if self.fleet.unit_of[pool.name].name == unit
        ]


class Rule(NamedTuple):
    """A rule in one sentence, and the check that yields what breaks it."""

    sentence: str
    broken: Callable[[Tick], Iterator[str]]


def violations(tick: Tick) -> list[str]:
    """What the tick breaks: the rule's name, its sentence and what is wrong."""
    return [f"{name}: {rule.sentence} {wrong}" for name, rule in RULES.items() for wrong in rule.broken(tick)]


# --- Weights -------------------------------------------------------------------------------------------


def _weights_are_valid(tick: Tick) -> Iterator[str]:
    weights = tick.decision.weights
    if weights is None:
        return
    if set(weights) != {unit.name for unit in tick.fleet.units} or not any(weights.values()):
        yield f"units {weights}"
    for unit, weight in weights.items():
        if type(weight) is not int or not 0 <= weight <= HIGHEST_WEIGHT:
            yield f"{unit}: {weight!r}"


def _something_serves(tick: Tick) -> Iterator[str]:
    ready = [unit.name for unit in tick.fleet.units if tick.ready(unit.name)]
    if ready and not any(tick.after.weights.values()):
        yield f"ready: {ready}"


def _no_dead_weight(tick: Tick) -> Iterator[str]:
    some_ready = any(tick.ready(unit.name) for unit in tick.fleet.units)
    others_stay = any(tick.staying(unit.name) for unit in tick.fleet.units)
    for unit in (unit.name for unit in tick.fleet.units):
        weight, ready = tick.after.weights.get(unit, 0), tick.ready(unit)
        dead = (some_ready and ready == 0) or (others_stay and not tick.staying(unit))
        if weight and ready is not None and dead:
            yield f"{unit}: weight {weight}, {ready} ready, {tick.staying(unit)} staying"


def _fails_open(tick: Tick) -> Iterator[str]:
    known = [unit.name for unit in tick.fleet.units if tick.decision.units[unit.name].ready]
    if tick.decision.weights is not None and not known and not tick.after.leaving:
        yield f"{tick.decision.weights}"


def _no_shrinking_under_traffic(tick: Tick) -> Iterator[str]:
    left = {unit.name: tick.ready(unit.name) for unit in tick.fleet.units}
    for pool, signals in tick.sizable():
        unit = tick.fleet.unit_of[pool.name].name
        now = left[unit]
        # What stands above a maximum that the owner has lowered goes by the owner's will.
        in_service = min(signals.in_service - tick.terminated(pool.name), pool.nodes.max)
        if now is not None:
            left[unit] = now - min(len(signals.ready), max(0, in_service - tick.size(pool.name)))
    if not any(left.values()):
        return  # a fleet that nobody uses may be sized to nothing
    for unit, count in left.items():
        if tick.after.weights.get(unit) and count == 0:
            yield f"{unit}: weight {tick.after.weights[unit]}, its last ready node leaves"


def _refusal_takes_no_weight(tick: Tick) -> Iterator[str]:
    kept = tuple(item for item in tick.snapshot.evidence if item.kind is EvidenceKind.INTERRUPTION)
    refused = {
        tick.fleet.unit_of[item.pool].name
        for item in tick.snapshot.evidence
        if item not in kept and item.pool in tick.fleet.unit_of
    }
    if not refused:
        return
    _, quiet = tick.decide(replace(tick.snapshot, evidence=kept), tick.before, tick.fleet)
    for unit in sorted(refused):
        if quiet.weights.get(unit) and tick.staying(unit) and not tick.after.weights.get(unit):
            yield f"{unit}: {tick.staying(unit)} ready, weight {quiet.weights[unit]} without refusal"


def _shares_ramp(tick: Tick) -> Iterator[str]:
    limits = _ramp_limits(tick)
    in_force = tick.before.weights or tick.snapshot.weights or {}
    for unit, share in to_shares(tick.after.weights).items() if limits else ():
        bound = unit not in in_force or unit in tick.returning
        if bound and share > limits[unit] + ROUNDING and _rest_carries(tick, unit, limits):
            yield f"{unit}: {share:.3f}, at most {limits[unit]:.3f}"


def _ramp_limits(tick: Tick) -> dict[str, float]:
    """How far each unit's share may rise, where anything that had traffic still serves."""
    reports = tick.decision.units
    in_force = to_shares(tick.before.weights or tick.snapshot.weights or {})
    alive = {unit: in_force.get(unit, 0.0) for unit, report in reports.items() if report.ready}
    whole = sum(alive.values())
    if not whole:
        return {}
    return {
        unit: alive.get(unit, 0.0) / whole + (MOST_A_TICK if unit in in_force else MOST_FOR_NEW)
        for unit in reports
    }


def _rest_carries(tick: Tick, unit: str, limits: Mapping[str, float]) -> bool:
    """Whether the other units, within their own limits, surely carry what `unit` must leave to them.

    A unit of n nodes carries at least n times what one node carries. Nodes that a lowered maximum takes away
    in this tick carry nothing.
    """
    demand = tick.decision.demand_rpm
    rest = [
        min(tick.kept(name) * report.trusted_rpm, (limits[name] - ROUNDING) * demand)
        for name, report in tick.decision.units.items()
        if name != unit
    ]
    return any(rest) and sum(rest) >= (1 - limits[unit] + ROUNDING) * demand


# --- Sizes ---------------------------------------------------------------------------------------------


def _sizes_keep_limits(tick: Tick) -> Iterator[str]:
    for pool, _ in tick.sizable():
        least, most, size = pool.nodes.min, pool.nodes.max, tick.size(pool.name)
        if type(size) is not int or not least <= size <= most:
            yield f"{pool.name}: {size!r}, valid {least} to {most}"
    for name in tick.decision.sizes.keys() - {pool.name for pool, _ in tick.sizable()}:
        yield f"{name}: written although it is held or was not sensed"


def _budget_holds(tick: Tick) -> Iterator[str]:
    reports, budget = tick.decision.pools, tick.fleet.budget_usd_per_hour
    sizes = {name: report.desired for name, report in reports.items()}
    planned = {name: report.planned for name, report in reports.items()}
    for what, counts in (("decided", sizes), ("planned", planned)):
        cost = sum(counts[name] * report.price for name, report in reports.items())
        if cost <= budget + USD_TOLERANCE:
            continue
        if Code.BUDGET not in {reason.code for reason in tick.decision.reasons}:
            yield f"{cost:.2f} USD per hour {what}, {budget:.2f} allowed: no reason"
        for pool, signals in tick.sizable():
            if counts[pool.name] > max(signals.in_service, pool.nodes.min):
                yield f"{pool.name}: {counts[pool.name]} {what} at {cost:.2f} of {budget:.2f} USD per hour"


def _stale_data_holds(tick: Tick) -> Iterator[str]:
    """The budget comes first: above it what was lost is not replaced."""
    age, decision = tick.decision.signal_age_seconds, tick.decision
    if age is not None and age <= STALE_SECONDS:
        return
    held = {pool.name: _clamped(pool, signals.desired) for pool, signals in tick.sizable()}
    cost = sum(held.get(name, report.desired) * report.price for name, report in decision.pools.items())
    for pool, signals in tick.sizable():
        replaces = decision.pools[pool.name].available and cost <= tick.fleet.budget_usd_per_hour
        lowest = signals.desired
        if not replaces:
            lowest = min(signals.in_service, signals.desired) - tick.terminated(pool.name)
        if not _clamped(pool, lowest) <= tick.size(pool.name) <= held[pool.name]:
            yield f"{pool.name}: {signals.desired} -> {tick.size(pool.name)}, {signals.in_service} in service"


def _clamped(pool: Pool, nodes: int) -> int:
    return min(max(nodes, pool.nodes.min), pool.nodes.max)


def _terminations_keep_pace(tick: Tick) -> Iterator[str]:
    for pool, signals in tick.sizable():
        before = tick.before.nodes.get(pool.name, NodesMemory()).terminated
        lately = [at for at in before if at > tick.snapshot.at - PACE_SECONDS]
        most = max(1, signals.in_service // 10)
        if tick.terminated(pool.name) and tick.terminated(pool.name) + len(lately) > most:
            yield f"{pool.name}: {tick.terminated(pool.name)} after {lately}, at most {most}"


def _the_right_node_leaves(tick: Tick) -> Iterator[str]:
    for item in tick.decision.terminate:
        census = tick.census(item.pool)
        signals = tick.snapshot.pools[item.pool]
        if not signals.sizable:
            yield f"{item.pool}: {item.node} is terminated although the pool is held"
        if item.node not in census.useless + census.slow and signals.desired <= tick.size(item.pool):
            yield f"{item.node}: neither dead, hung nor slow, and {item.pool} does not shrink"
        if item.decrement and tick.size(item.pool) >= signals.desired:
            yield f"{item.node}: its place is given up, and {item.pool} does not shrink"


def _breaker(tick: Tick) -> Iterator[str]:
    """Of what has served one node goes at a time while nothing that served does."""
    gone = [item for item in tick.decision.terminate if item.why is Cause.DEAD]
    pools = tick.snapshot.pools
    if len(pools) < len(tick.fleet.pools) or not all(signals.health_known for signals in pools.values()):
        return
    fell = {at for name in pools for at in tick.after.nodes[name].unhealthy.values()}
    together = bool(fell) and max(fell) - min(fell) < TOGETHER_SECONDS
    if together and len(gone) > 1 and not any(signals.ready for signals in pools.values()):
        yield f"{[item.node for item in gone]} at once"


def _refusal_caps(tick: Tick) -> Iterator[str]:
    for pool, signals in tick.sizable():
        census = tick.census(pool.name)
        if pool.name not in tick.refused and not census.hung:
            continue
        probe = 0 if census.starting else 1
        most = max(signals.in_service + probe, pool.nodes.min)
        size, planned = tick.size(pool.name), tick.decision.pools[pool.name].planned
        if max(size, planned) > most:
            yield f"{pool.name}: desired {size}, planned {planned}, {signals.in_service} in service"


# --- Mode, signals and memory --------------------------------------------------------------------------


def _only_shortage_flips(tick: Tick) -> Iterator[str]:
    if tick.before.mode is not Mode.COST or tick.after.mode is not Mode.CAPACITY:
        return
    if not any(
        refusal.kind is EvidenceKind.SHORTAGE and refusal.count for refusal in tick.after.refusals.values()
    ):
        yield f"remembered: {sorted(refusal.kind for refusal in tick.after.refusals.values())}"


def _errors_hide_latency(tick: Tick) -> Iterator[str]:
    for name, report in tick.decision.units.items():
        minutes = tick.snapshot.minutes.get(name, ())
        if minutes and report.latency_seconds is not None and _error_share(minutes[-1]) > TRUSTED_ERRORS:
            yield f"{name}: {report.latency_seconds} s at {_error_share(minutes[-1]):.1%} errors"


def _error_share(minute: Minute) -> float:
    return (minute.errors or 0.0) / max(minute.requests or 0.0, 1.0)


def _same_again(tick: Tick) -> Iterator[str]:
    """The state goes through JSON on the way, as it does between two real ticks."""
    if tick.decision.tick % REPEAT_EVERY:
        return
    before = state_from_json(state_to_json(tick.before))
    if before != tick.before:
        yield "the state changes on its way through JSON"
    decision, after = tick.decide(tick.snapshot, before, tick.fleet)
    if decision != tick.decision:
        yield "another decision"
    if after != tick.after:
        yield "another state"


def _nothing_from_the_future(tick: Tick) -> Iterator[str]:
    now, state = tick.snapshot.at, tick.after
    longest = max(row.longest_back_off for row in REFUSAL_KINDS.values())
    remembered = {
        "demand": float(state.demand.minute),
        "mode": state.mode_since,
        "tick": state.at,
        "peaks": max((at for at, _ in state.peaks), default=0.0),
        "refusals": max((refusal.at for refusal in state.refusals.values()), default=0.0),
        "back-off": max((refusal.until for refusal in state.refusals.values()), default=0.0) - longest,
        "interruptions": max(state.leaving.values(), default=0.0) - refusals.INTERRUPTION_SECONDS,
    }
    yield from (f"{name}: {at - now:.0f} s ahead" for name, at in remembered.items() if at > now + 1)


RULES: Final[Mapping[str, Rule]] = {
    "valid-weights": Rule(
        "What is written gives every unit an integer from 0 to 999, not 0 to all.", _weights_are_valid
    ),
    "something-serves": Rule("A weight is positive while any unit is ready.", _something_serves),
    "no-dead-weight": Rule(
        "No weight goes to a unit without a ready node while another has one.", _no_dead_weight
    ),
    "fails-open": Rule("With no unit known to serve weights are not written.", _fails_open),
    "no-shrinking-under-traffic": Rule(
        "No unit keeps weight whose last ready node is taken away, while another has one.",
        _no_shrinking_under_traffic,
    ),
    "refusal-takes-no-weight": Rule(
        "A refused launch never takes weight from ready nodes.", _refusal_takes_no_weight
    ),
    "ramp": Rule(
        "A returning unit's share rises by at most 20 points a tick, a new one's to at most 5, unless the "
        "rest cannot carry demand.",
        _shares_ramp,
    ),
    "limits": Rule("min <= desired <= max; what cannot be changed is not written.", _sizes_keep_limits),
    "budget": Rule("Beyond the budget nothing grows, and a reason says so.", _budget_holds),
    "stale-holds": Rule("Missing or stale data holds sizes.", _stale_data_holds),
    "refusal-caps": Rule(
        "A refused or hanging pool is planned and desired at what is in service plus one probe at most.",
        _refusal_caps,
    ),
    "pace": Rule(
        "At most a tenth of a pool, or one node, is terminated by id within three minutes.",
        _terminations_keep_pace,
    ),
    "right-node": Rule(
        "Unless its pool shrinks, only a dead, hung or slow node is terminated by id, and keeps its place.",
        _the_right_node_leaves,
    ),
    "breaker": Rule("When everything ceased to serve together, one node is replaced at a time.", _breaker),
    "only-shortage-flips": Rule("Only shortage leads to capacity mode.", _only_shortage_flips),
    "errors-hide-latency": Rule(
        "A latency percentile is not trusted above 1 % errors.", _errors_hide_latency
    ),
    "same-again": Rule("The same inputs give the same decision, also through JSON.", _same_again),
    "nothing-from-the-future": Rule("Nothing is remembered from the future.", _nothing_from_the_future),
}
