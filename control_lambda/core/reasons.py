"""Why a tick did what it did, in words for whoever is paged; the codes are stable."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Final

from control_lambda.core.model import EvidenceKind, Mode, Reason, Refusal, Snapshot
from control_lambda.core.outlook import Outlook
from control_lambda.core.plan.planner import Plan
from control_lambda.core.record import Choice
from control_lambda.core.supply.refusal_kinds import REFUSAL_KINDS
from control_lambda.core.supply.supply import Supply, cost_per_hour
from control_lambda.core.traffic import shares

# A smaller shortfall is rounding.
NOTABLE_RPM: Final = 0.5


class Code(StrEnum):
    """Every reason that a decision record can give; each has a heading in docs/operating.md."""

    REFUSED = "launch-refused"
    PROBE = "probe"
    PROVEN = "capacity-back"
    INTERRUPTED = "interrupted"
    NOT_SENSED = "pool-not-sensed"
    HELD = "node-group-held"
    SUSPENDED = "launches-suspended"
    NOT_BUILT = "unit-not-built"
    STALE = "demand-stale"
    CAPACITY_MODE = "capacity-mode"
    COST_MODE = "cost-mode"
    GROW = "grow"
    SHRINK = "shrink"
    WAITING = "waiting-for-ready"
    SHORTFALL = "shortfall"
    BUDGET = "budget-reached"
    NO_READY_UNIT = "no-ready-unit"
    FAILOVER = "failover"
    JUMP = "survival-before-ramp"
    SHIFT = "weights-shifted"
    FOREIGN_WEIGHTS = "foreign-weights"
    TRUST_LOWERED = "trust-lowered"
    FLEET_UNREADABLE = "fleet-unreadable"
    FLEET_INVALID = "fleet-invalid"
    PAUSED = "paused"


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
            kind = f"{refusal.kind}{_unread_words(refusal, outlook.snapshot)}"
            text = f"{refusal.pool}: launch refused ({kind}); next probe in {wait:.0f} s"
            yield Reason(Code.REFUSED, text, refusal.pool)
        elif old is not None and old.count and not refusal.count:
            yield Reason(
                Code.PROVEN, f"{refusal.pool}: a launch was granted, it may grow again", refusal.pool
            )
    for item in outlook.snapshot.evidence:
        if item.kind is EvidenceKind.INTERRUPTION and item.node not in outlook.before.leaving:
            yield Reason(Code.INTERRUPTED, f"{item.pool}: AWS takes {item.node} away within 120 s", item.pool)


def _unread_words(refusal: Refusal, snapshot: Snapshot) -> str:
    """What AWS said last of a refusal whose words say nothing to us, in quotes."""
    said = [
        item
        for item in snapshot.evidence
        if item.text and (item.pool, item.kind) == (refusal.pool, refusal.kind)
    ]
    return f': "{max(said, key=lambda item: item.at).text}"' if said else ""


def _of_signals(outlook: Outlook) -> Iterator[Reason]:
    if outlook.forecast.stale:
        yield Reason(Code.STALE, "no recent request counts: sizes are held, dead weights still removed")
    for supply in outlook.supplies:
        name = supply.pool.name
        if not supply.sensed:
            yield Reason(Code.NOT_SENSED, f"{name}: not sensed, held at {supply.desired} nodes", name)
        elif supply.fixed:
            yield Reason(
                Code.HELD, f"{name}: node group is being updated, held at {supply.desired} nodes", name
            )
        elif outlook.snapshot.pools[name].suspended:
            yield Reason(Code.SUSPENDED, f"{name}: AWS suspended the group's launches", name)
    for unit in dict.fromkeys(supply.unit.name for supply in outlook.supplies if supply.awaits_build):
        text = f"{unit}: gets no nodes before it is built ({outlook.snapshot.unbuilt[unit]})"
        yield Reason(Code.NOT_BUILT, text, unit)
    for unit, level in outlook.state.trust.items():
        if level < outlook.before.trust.get(unit, 1.0):
            text = f"{unit}: slower than its profile, now trusted with {level:.0%} of its throughput"
            yield Reason(Code.TRUST_LOWERED, text, unit)


def _of_mode(outlook: Outlook, choice: Choice) -> Iterator[Reason]:
    if choice.mode is outlook.before.mode:
        return
    if choice.mode is Mode.CAPACITY:
        short = [
            supply.pool.name
            for supply in outlook.supplies
            if supply.refusal is not None and REFUSAL_KINDS[supply.refusal.kind].flips_mode
        ]
        yield Reason(Code.CAPACITY_MODE, f"capacity mode: the cheapest units are short ({', '.join(short)})")
    else:
        yield Reason(Code.COST_MODE, "cost mode: the cheapest units can carry the forecast again")


def _of_sizes(outlook: Outlook, choice: Choice, plan: Plan) -> Iterator[Reason]:
    for supply in outlook.supplies:
        yield from _of_size(supply, choice)
    if plan.shortfall_rpm > NOTABLE_RPM:
        text = (
            f"{plan.shortfall_rpm:.0f} requests/min of the forecast cannot be carried by what may be launched"
        )
        yield Reason(Code.SHORTFALL, text)
    yield from _of_budget(outlook, choice, plan)


def _of_budget(outlook: Outlook, choice: Choice, plan: Plan) -> Iterator[Reason]:
    budget = outlook.fleet.budget_usd_per_hour
    cost = cost_per_hour(outlook.supplies, choice.sizes)
    dearest = max(supply.price for supply in outlook.supplies)
    if cost > budget:
        text = f"what runs costs {cost:.2f} USD per hour, above the budget of {budget:g}: nothing is added"
        yield Reason(Code.BUDGET, text)
    elif plan.shortfall_rpm > NOTABLE_RPM and plan.cost_usd_per_hour + dearest > budget:
        yield Reason(Code.BUDGET, f"the budget of {budget:g} USD per hour holds back further nodes")


def _of_size(supply: Supply, choice: Choice) -> Iterator[Reason]:
    name, size = supply.pool.name, choice.sizes[supply.pool.name]
    if supply.fixed:
        return
    if size > max(supply.in_service, supply.least) and supply.refusal is not None:
        yield Reason(Code.PROBE, f"{name}: one probe node after {supply.refusal.kind}", name)
    elif size > max(supply.desired, supply.in_service):
        yield Reason(Code.GROW, f"{name}: {supply.in_service} -> {size} nodes for the forecast", name)
    elif size < supply.in_service:
        yield Reason(
            Code.SHRINK, f"{name}: {supply.in_service} -> {size} nodes, the rest carries demand", name
        )
    elif size > choice.planned[name]:
        text = f"{name}: {size - choice.planned[name]} more than planned until others are ready"
        yield Reason(Code.WAITING, text, name)


def _of_weights(outlook: Outlook, choice: Choice, flow: shares.Traffic) -> Iterator[Reason]:
    snapshot, before = outlook.snapshot, outlook.before
    if before.weights and snapshot.weights is not None and dict(before.weights) != dict(snapshot.weights):
        yield Reason(Code.FOREIGN_WEIGHTS, "the rule's weights are not those that the loop wrote; corrected")
    if not any(outlook.ready.values()):
        yield Reason(Code.NO_READY_UNIT, "no unit has a ready node: nothing can be served")
    for unit, weight in choice.weights.items():
        if not weight and before.weights.get(unit, 0) and not outlook.ready[unit]:
            yield Reason(Code.FAILOVER, f"{unit}: no ready node left, its traffic moves to the others", unit)
    if flow.jumped:
        yield Reason(Code.JUMP, "shares moved at once: the ready rest could not carry demand")
    if dict(choice.weights) != dict(before.weights):
        yield Reason(Code.SHIFT, "weights: " + ", ".join(f"{u} {w}" for u, w in choice.weights.items()))
