"""Fast starters for a gap: nodes that serve before those that the plan launches, where that pays.

The cheapest node may start late: its unit starts slowly, or it can only be launched when one is lost that
AWS has announced to take. Until then requests come late that a faster one would answer. It is bought while

    requests saved x what a late request costs  >  price x the time until the last late one serves.

Which is the rule of the margin (`demand.worth`), asked of a gap that is there instead of one that may come.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from control_lambda.core.plan.planner import Plan
from control_lambda.core.supply.supply import Supply, Tables, cost_per_hour, rpm_of

# AWS takes a node two minutes after it said so, and only then does the group replace it.
NOTICE_SECONDS: Final = 120.0
# A node that is no longer needed is given up at the next tick.
TICK_SECONDS: Final = 60.0


class _Lack(NamedTuple):
    """From one arrival of the plan's nodes to the next (seconds from now), the rpm that are not carried."""

    since: float
    until: float
    rpm: float


class _Bridge(NamedTuple):
    """One more node of a pool: what it carries (rpm), and what it saves beyond its cost (USD)."""

    supply: Supply
    rpm: float
    profit: float


def bridged(
    supplies: Sequence[Supply], plan: Plan, tables: Tables, budget: float, now_rpm: float, late_usd: float
) -> Plan:
    """The plan with the nodes that pay for the time until its own ones serve.

    `now_rpm` is what comes now, `late_usd` what a request answered late costs. Nodes that start already
    count as serving: what they come too late for was weighed when they were launched.
    """
    lacks = _lacks(supplies, plan, tables, now_rpm)
    nodes = dict(plan.nodes)
    while lacks:
        best = max(
            (
                bridge
                for supply in supplies
                if (bridge := _bridge(supplies, supply, nodes, tables, lacks, late_usd)) is not None
                and cost_per_hour(supplies, nodes) + supply.price <= budget
            ),
            key=lambda bridge: (bridge.profit, bridge.supply.pool.name),
            default=None,
        )
        if best is None or best.profit <= 0:
            break
        name = best.supply.pool.name
        nodes[name] = max(nodes[name], best.supply.in_service) + 1
        lacks = _filled(lacks, best)
    if nodes == plan.nodes:
        return plan
    return replace(plan, nodes=nodes, cost_usd_per_hour=cost_per_hour(supplies, nodes))


def _lacks(supplies: Sequence[Supply], plan: Plan, tables: Tables, now_rpm: float) -> list[_Lack]:
    """What is not carried until the plan's last node serves, as far as anything is lacking."""
    arrivals = sorted(_arrivals(supplies, plan))
    present = dict.fromkeys(tables, 0)
    for supply in supplies:
        present[supply.unit.name] += supply.coming
    lacks, since = [], 0.0
    for at, unit, nodes in arrivals:
        lacking = now_rpm - sum(rpm_of(tables[name], count) for name, count in present.items())
        if lacking > 0 and at > since:
            lacks.append(_Lack(since, at, lacking))
        since = at
        present[unit] += nodes
    return lacks


def _arrivals(supplies: Sequence[Supply], plan: Plan) -> list[tuple[float, str, int]]:
    """When the plan's new nodes serve (seconds from now), of which unit, and how many.

    As many as are about to be lost can be launched in their pool only when they are.
    """
    arrivals = []
    for supply in supplies:
        start, name = supply.unit.profile.start_seconds, supply.unit.name
        missing = max(0, plan.nodes[supply.pool.name] - supply.coming)
        later = min(missing, supply.leaving)
        arrivals += [(start, name, missing - later), (NOTICE_SECONDS + start, name, later)]
    return [arrival for arrival in arrivals if arrival[2]]


def _bridge(
    supplies: Sequence[Supply],
    supply: Supply,
    nodes: Mapping[str, int],
    tables: Tables,
    lacks: Sequence[_Lack],
    late_usd: float,
) -> _Bridge | None:
    """One more node of the pool, where it may be launched now and comes before the last late one."""
    start, last = supply.unit.profile.start_seconds, lacks[-1].until
    size = max(nodes[supply.pool.name], supply.in_service)
    if supply.fixed or supply.leaving or supply.refusal is not None or size >= supply.most or start >= last:
        return None
    table = tables[supply.unit.name]
    beside = sum(
        max(nodes[other.pool.name], other.in_service) - other.leaving
        for other in supplies
        if other.unit.name == supply.unit.name
    )
    rpm = rpm_of(table, beside + 1) - rpm_of(table, beside)
    saved = sum(
        min(rpm, lack.rpm) * (lack.until - max(lack.since, start)) / 60
        for lack in lacks
        if lack.until > start
    )
    cost = (supply.price + supply.risk) * (last + TICK_SECONDS) / 3600
    return _Bridge(supply, rpm, saved * late_usd - cost)


def _filled(lacks: Sequence[_Lack], bridge: _Bridge) -> list[_Lack]:
    """What is still lacking once the node serves."""
    start = bridge.supply.unit.profile.start_seconds
    cut = [
        part
        for lack in lacks
        for part in (
            [lack._replace(until=start), lack._replace(since=start)]
            if lack.since < start < lack.until
            else [lack]
        )
    ]
    less = [lack._replace(rpm=lack.rpm - bridge.rpm) if lack.since >= start else lack for lack in cut]
    left = [lack for lack in less if lack.rpm > 0]
    return left if any(lack.since >= start for lack in left) else []
