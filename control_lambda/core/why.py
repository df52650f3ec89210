"""Why a tick did what it did: which reasons apply, and about whom."""

from collections.abc import Iterator
from typing import Final

from control_lambda.core.model import EvidenceKind, Mode, Reason, Refusal, Snapshot
from control_lambda.core.outlook import Outlook
from control_lambda.core.plan.planner import Plan
from control_lambda.core.reasons import HELD_BACK, OVER_BUDGET, READ, UNREAD, Code
from control_lambda.core.record import Choice
from control_lambda.core.supply.refusal_kinds import REFUSAL_KINDS
from control_lambda.core.supply.supply import Supply, cost_per_hour
from control_lambda.core.traffic import shares

# A smaller shortfall is rounding.
NOTABLE_RPM: Final = 0.5


def tell(outlook: Outlook, choice: Choice, plan: Plan, flow: shares.Traffic) -> tuple[Reason, ...]:
    """Every reason of this tick, in the order in which the steps were taken."""
    return (
        *_of_evidence(outlook),
        *_of_signals(outlook),
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
        name = supply.pool.name
        if not supply.sensed:
            yield Code.NOT_SENSED.reason(name, nodes=supply.desired)
        elif supply.fixed:
            yield Code.HELD.reason(name, nodes=supply.desired)
        elif outlook.snapshot.pools[name].launch_suspended:
            yield Code.SUSPENDED.reason(name)
    for unit in dict.fromkeys(supply.unit.name for supply in outlook.supplies if supply.awaits_build):
        yield Code.NOT_BUILT.reason(unit, builds=outlook.snapshot.unbuilt[unit])
    for unit, level in outlook.state.trust.items():
        if level < outlook.before.trust.get(unit, 1.0):
            yield Code.TRUST_LOWERED.reason(unit, level=level)


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
    yield from _of_budget(outlook, choice, plan)


def _of_budget(outlook: Outlook, choice: Choice, plan: Plan) -> Iterator[Reason]:
    budget = outlook.fleet.budget_usd_per_hour
    cost = cost_per_hour(outlook.supplies, choice.sizes)
    dearest = max(supply.price for supply in outlook.supplies)
    if cost > budget:
        yield Code.BUDGET.reason(case=OVER_BUDGET, cost=cost, budget=budget)
    elif plan.shortfall_rpm > NOTABLE_RPM and plan.cost_usd_per_hour + dearest > budget:
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
