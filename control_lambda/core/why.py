"""Why a tick did what it did: which reasons apply, and about whom."""

import math
from collections.abc import Iterator
from typing import Final

from control_lambda.core.model import EvidenceKind, Mode, PoolSignals, Reason, Refusal, Snapshot
from control_lambda.core.outlook import Outlook
from control_lambda.core.plan import sizes
from control_lambda.core.plan.planner import Plan
from control_lambda.core.reasons import (
    AS_MANY,
    BY_PERSON,
    EXPOSED,
    GOES_ON,
    HELD_BACK,
    OF_UNIT,
    ONE_LESS,
    OVER_BUDGET,
    PRICED,
    READ,
    STOPS,
    UNREAD,
    Code,
)
from control_lambda.core.record import Choice
from control_lambda.core.supply import rebalancing
from control_lambda.core.supply.health import Source
from control_lambda.core.supply.refusal_kinds import REFUSAL_KINDS
from control_lambda.core.supply.supply import Supply, cost_per_hour, spendable
from control_lambda.core.supply.zones import UNMET_SECONDS
from control_lambda.core.traffic import shares

# A smaller shortfall is rounding.
NOTABLE_RPM: Final = 0.5
# Less is shown as nothing.
NOTABLE_USD_PER_HOUR: Final = 0.005


def tell(outlook: Outlook, choice: Choice, plan: Plan, flow: shares.Traffic) -> tuple[Reason, ...]:
    """Every reason of this tick, in the order in which the steps were taken."""
    return (
        *_of_evidence(outlook),
        *_of_zones(outlook),
        *_of_signals(outlook),
        *_of_nodes(outlook, choice),
        *_of_rebalancing(outlook, choice),
        *_of_mode(outlook, choice),
        *_of_sizes(outlook, choice, plan),
        *_of_weights(outlook, choice, flow),
    )


def _of_evidence(outlook: Outlook) -> Iterator[Reason]:
    before = outlook.before.refusals
    for key, refusal in outlook.state.refusals.items():
        old = before.get(key)
        if refusal.count and (old is None or old.at < refusal.at):
            wait = max(0.0, refusal.until - outlook.snapshot.at)
            unread = _unread_words(refusal, outlook.snapshot)
            case = UNREAD if unread else READ
            yield Code.REFUSED.reason(refusal.pool, case=case, kind=refusal.kind, wait=wait, text=unread)
        elif old is not None and old.count and not refusal.count:
            yield Code.PROVEN.reason(refusal.pool)
    for item in outlook.snapshot.evidence:
        if item.kind is EvidenceKind.INTERRUPTION and item.node not in outlook.before.leaving:
            yield Code.INTERRUPTED.reason(item.pool, node=item.node)


def _unread_words(refusal: Refusal, snapshot: Snapshot) -> str:
    """What AWS said last of a refusal whose words say nothing to us."""
    said = [
        item
        for item in snapshot.evidence
        if item.text and (item.pool, item.kind) == (refusal.pool, refusal.kind)
    ]
    return max(said, key=lambda item: item.at).text if said else ""


def _of_signals(outlook: Outlook) -> Iterator[Reason]:
    if outlook.forecast.stale:
        yield Code.STALE.reason()
    for supply in outlook.supplies:
        yield from _of_pool(supply, outlook.snapshot.pools.get(supply.pool.name))
    yield from _of_health(outlook)
    for unit in dict.fromkeys(supply.unit.name for supply in outlook.supplies if supply.awaits_build):
        yield Code.NOT_BUILT.reason(unit, builds=outlook.snapshot.unbuilt[unit])
    for unit, level in outlook.state.trust.items():
        if level < outlook.before.trust.get(unit, 1.0):
            yield Code.TRUST_LOWERED.reason(unit, level=level)


def _of_health(outlook: Outlook) -> Iterator[Reason]:
    for unit, found in outlook.serving.items():
        if found.source is Source.UNKNOWN:
            yield Code.HEALTH_UNKNOWN.reason(unit, case=OF_UNIT)
        elif found.source in {Source.COUNTS, Source.MEMORY}:
            age = outlook.snapshot.at - found.at
            yield Code.HEALTH_INFERRED.reason(unit, nodes=found.nodes, source=found.source, age=age)
    if outlook.all_unhealthy:
        yield Code.ALL_UNHEALTHY.reason()


def _of_pool(supply: Supply, signals: PoolSignals | None) -> Iterator[Reason]:
    """Why the pool may not be sized as it would be."""
    name = supply.pool.name
    if signals is None or not supply.sensed:
        yield Code.NOT_SENSED.reason(name, nodes=supply.desired)
    elif signals.deleted:
        yield Code.GROUP_DELETED.reason(name)
    elif supply.fixed:
        yield Code.HELD.reason(name, nodes=signals.desired)
    elif supply.stopped:
        yield Code.LAUNCHES_STOPPED.reason(name)
    elif signals.launch_suspended:
        yield Code.SUSPENDED.reason(name)
    elif supply.limit < supply.pool.nodes.max:
        yield Code.LIMITED.reason(name, limit=supply.limit, most=supply.pool.nodes.max)


def _of_zones(outlook: Outlook) -> Iterator[Reason]:
    snapshot, state = outlook.snapshot, outlook.state
    short = {supply.pool.name for supply in outlook.supplies if supply.refusal is not None}
    for pool, refused in state.refused_zones.items():
        before = outlook.before.refused_zones.get(pool, {})
        for zone, found in refused.items():
            if pool not in short and before.get(zone) != found:
                yield Code.ZONE_REFUSED.reason(pool, kind=found.kind, zone=zone)
    for pool, since in state.unmet.items():
        if snapshot.at - since >= UNMET_SECONDS:
            signals, minutes = snapshot.pools[pool], (snapshot.at - since) / 60
            yield Code.UNMET.reason(pool, desired=signals.desired, nodes=signals.in_service, minutes=minutes)


def _of_nodes(outlook: Outlook, choice: Choice) -> Iterator[Reason]:
    spared = {supply.unit.name: None for supply in outlook.supplies if supply.spared}
    if spared:
        yield Code.BREAKER.reason(units=", ".join(spared))
    for supply in outlook.supplies:
        for code, nodes in (
            (Code.DEAD, supply.census.dead),
            (Code.HUNG, supply.census.hung),
            (Code.SLOW, supply.census.slow),
        ):
            if nodes:
                yield code.reason(supply.pool.name, nodes=len(nodes))
    for item in choice.terminate:
        case = ONE_LESS if item.decrement else AS_MANY
        yield Code.REPLACED.reason(item.pool, case=case, node=item.node, why=item.why)


def _of_rebalancing(outlook: Outlook, choice: Choice) -> Iterator[Reason]:
    for pool in choice.rebalancing.suspend:
        yield Code.REBALANCING.reason(pool, case=STOPS)
    for pool in choice.rebalancing.resume:
        yield Code.REBALANCING.reason(pool, case=GOES_ON)
    for pool in rebalancing.missing_for_update(outlook.snapshot.pools, outlook.before.rebalancing):
        yield Code.REBALANCING.reason(pool, case=BY_PERSON)


def _of_mode(outlook: Outlook, choice: Choice) -> Iterator[Reason]:
    if choice.mode is outlook.before.mode:
        return
    if choice.mode is Mode.CAPACITY:
        short = [
            supply.pool.name
            for supply in outlook.supplies
            if supply.refusal is not None and REFUSAL_KINDS[supply.refusal.kind].flips_mode
        ]
        yield Code.CAPACITY_MODE.reason(pools=", ".join(short))
    else:
        yield Code.COST_MODE.reason()


def _of_sizes(outlook: Outlook, choice: Choice, plan: Plan) -> Iterator[Reason]:
    for supply in outlook.supplies:
        yield from _of_size(supply, choice)
    if plan.shortfall_rpm > NOTABLE_RPM:
        yield Code.SHORTFALL.reason(rpm=plan.shortfall_rpm)
    yield from _of_reserve(outlook, plan)
    yield from _of_budget(outlook, choice, plan)


def _of_reserve(outlook: Outlook, plan: Plan) -> Iterator[Reason]:
    if plan.outlives_rpm == math.inf:
        return
    demand, survival = outlook.demand_to_carry, outlook.forecast.mean
    usd = sizes.price_of_outliving(outlook.supplies, outlook.tables, outlook.fleet, demand, survival)
    if usd > NOTABLE_USD_PER_HOUR:
        yield Code.OUTLIVED.reason(case=PRICED, usd=usd)
    if plan.outlives_rpm < demand - NOTABLE_RPM:
        yield Code.OUTLIVED.reason(case=EXPOSED)


def _of_budget(outlook: Outlook, choice: Choice, plan: Plan) -> Iterator[Reason]:
    budget = outlook.fleet.budget_usd_per_hour
    cost = cost_per_hour(outlook.supplies, choice.sizes)
    dearest = max(supply.price for supply in outlook.supplies)
    if cost > budget:
        yield Code.BUDGET.reason(case=OVER_BUDGET, cost=cost, budget=budget)
    elif plan.shortfall_rpm > NOTABLE_RPM and plan.cost_usd_per_hour + dearest > spendable(
        outlook.supplies, outlook.fleet
    ):
        yield Code.BUDGET.reason(case=HELD_BACK, budget=budget)


def _of_size(supply: Supply, choice: Choice) -> Iterator[Reason]:
    name, size = supply.pool.name, choice.sizes[supply.pool.name]
    if supply.fixed:
        return
    if size > max(supply.in_service, supply.least) and supply.refusal is not None:
        yield Code.PROBE.reason(name, kind=supply.refusal.kind)
    elif size > max(supply.desired, supply.in_service):
        yield Code.GROW.reason(name, before=supply.in_service, after=size)
    elif size < supply.in_service:
        yield Code.SHRINK.reason(name, before=supply.in_service, after=size)
    elif size > choice.planned[name]:
        yield Code.WAITING.reason(name, surplus=size - choice.planned[name])


def _of_weights(outlook: Outlook, choice: Choice, flow: shares.Traffic) -> Iterator[Reason]:
    snapshot, before = outlook.snapshot, outlook.before
    if before.weights and snapshot.weights is not None and dict(before.weights) != dict(snapshot.weights):
        yield Code.FOREIGN_WEIGHTS.reason()
    if not any(outlook.ready.values()):
        yield Code.NO_READY_UNIT.reason()
    for unit, weight in choice.weights.items():
        if not weight and before.weights.get(unit, 0) and not outlook.ready[unit]:
            yield Code.FAILOVER.reason(unit)
    if flow.jumped:
        yield Code.JUMP.reason()
    if dict(choice.weights) != dict(before.weights):
        yield Code.SHIFT.reason(weights=", ".join(f"{u} {w}" for u, w in choice.weights.items()))
