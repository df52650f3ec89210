"""From the plan to sizes: make before break, and within the budget."""

from collections.abc import Mapping

import pytest

from control_lambda.core.fleet import Fleet
from control_lambda.core.model import EvidenceKind, PoolSignals, Refusal, Snapshot, State
from control_lambda.core.plan import sizes
from control_lambda.core.plan.planner import Plan
from control_lambda.core.supply.supply import Supply, supplies_of
from tests.control_lambda.core.examples import NOON, fleet, group, unit

FLEET = fleet(unit("cheap", price=0.5), unit("dear", price=2.0))
CHEAP, DEAR = (pool.name for pool in FLEET.pools)
TABLES = {name: tuple(100.0 * nodes for nodes in range(11)) for name in ("cheap", "dear")}
# As of a queue: the first node carries little.
QUEUES = {name: (0.0, *(100.0 * nodes - 80.0 for nodes in range(1, 11))) for name in TABLES}


def found(
    pools: Mapping[str, PoolSignals], refusals: Mapping[str, Refusal] | None = None, steered: Fleet = FLEET
) -> tuple[Supply, ...]:
    """The supplies of these groups."""
    return supplies_of(Snapshot(NOON, pools=pools), State(refusals=refusals or {}), steered, 0.0)


def wanted(
    pools: Mapping[str, PoolSignals], plan: Mapping[str, int], demand: float, steered: Fleet = FLEET
) -> dict[str, int]:
    """The sizes of this tick on the way to the plan."""
    return sizes.desired(
        found(pools, steered=steered), Plan(plan, 0.0, 0.0, 0.0, 0.0), TABLES, steered, demand
    )


def test_what_the_plan_adds_is_asked_for_at_once() -> None:
    """Growth does not wait."""
    assert wanted({CHEAP: group(CHEAP, 2), DEAR: group(DEAR)}, {CHEAP: 6, DEAR: 0}, 600.0)[CHEAP] == 6


def test_a_node_that_is_replaced_stays_until_its_replacement_is_ready() -> None:
    """Make before break: the dear nodes carry demand while the cheap ones start."""
    starting = {CHEAP: group(CHEAP, 0, starting=[NOON - 60] * 4), DEAR: group(DEAR, 4)}
    ready = {CHEAP: group(CHEAP, 4), DEAR: group(DEAR, 4)}
    plan = {CHEAP: 4, DEAR: 0}

    assert wanted(starting, plan, 400.0) == {CHEAP: 4, DEAR: 4}
    assert wanted(ready, plan, 400.0) == {CHEAP: 4, DEAR: 0}


def test_surplus_leaves_as_far_as_the_ready_rest_carries_demand() -> None:
    """Of four dear nodes two are still needed beside two cheap ones."""
    pools = {CHEAP: group(CHEAP, 2, starting=[NOON - 60] * 2), DEAR: group(DEAR, 4)}

    assert wanted(pools, {CHEAP: 4, DEAR: 0}, 400.0) == {CHEAP: 4, DEAR: 2}


def test_the_dearest_surplus_per_request_leaves_first() -> None:
    """Both units have one node too many, and one may go."""
    assert wanted({CHEAP: group(CHEAP, 2), DEAR: group(DEAR, 2)}, {CHEAP: 1, DEAR: 1}, 300.0) == {
        CHEAP: 2,
        DEAR: 1,
    }


def test_a_pool_with_starting_nodes_is_not_shrunk() -> None:
    """The group would terminate its oldest nodes, which serve, and keep those that start."""
    pools = {CHEAP: group(CHEAP, 5, starting=[NOON - 60]), DEAR: group(DEAR)}

    assert wanted(pools, {CHEAP: 2, DEAR: 0}, 100.0)[CHEAP] == 6


def test_a_held_pool_keeps_its_size() -> None:
    """Its node group is being updated."""
    pools = {CHEAP: group(CHEAP, 5, status="UPDATING"), DEAR: group(DEAR)}

    assert wanted(pools, {CHEAP: 5, DEAR: 0}, 0.0)[CHEAP] == 5


def test_desired_falls_back_to_what_is_in_service() -> None:
    """A group that asks for more than it got would go on asking behind the loop's back."""
    pools = {CHEAP: group(CHEAP, 2, desired=7), DEAR: group(DEAR)}

    assert wanted(pools, {CHEAP: 2, DEAR: 0}, 200.0)[CHEAP] == 2


def test_what_stands_is_clamped_to_the_limits_of_the_fleet() -> None:
    """A foreign hand may have grown the group beyond its maximum."""
    (supply, _) = found({CHEAP: group(CHEAP, 14), DEAR: group(DEAR)})

    assert sizes.current(supply) == 10


def test_growth_waits_for_the_shrinking_that_pays_for_it() -> None:
    """Old and new nodes together would cost more than the budget."""
    tight = fleet(unit("cheap", price=0.5), unit("dear", price=2.0), budget_usd_per_hour=8.5)
    pools = {CHEAP: group(CHEAP), DEAR: group(DEAR, 4)}
    found_sizes = wanted(pools, {CHEAP: 5, DEAR: 0}, 400.0, tight)

    assert found_sizes[DEAR] == 4
    assert found_sizes[CHEAP] == 1


def test_above_the_budget_nodes_leave_although_demand_needs_them() -> None:
    """The budget holds: a price has risen, and what the plan affords is what stays."""
    tight = fleet(unit("cheap", price=0.5), unit("dear", price=2.0), budget_usd_per_hour=5.0)
    pools = {CHEAP: group(CHEAP, 2), DEAR: group(DEAR, 4)}

    assert wanted(pools, {CHEAP: 2, DEAR: 2}, 600.0, tight) == {CHEAP: 2, DEAR: 2}


def test_the_target_is_the_cheapest_that_carries_demand() -> None:
    """Cheap capacity first, within what may be launched."""
    plan = sizes.target(found({CHEAP: group(CHEAP), DEAR: group(DEAR)}), TABLES, FLEET, 700.0, 0.0)

    assert plan.nodes == {CHEAP: 7, DEAR: 0}


def test_a_refused_pool_is_planned_at_what_it_has_and_the_rest_elsewhere() -> None:
    """Its probe is not due yet."""
    refusals = {"x": Refusal(EvidenceKind.SHORTAGE, CHEAP, NOON - 60, NOON + 60, 1)}
    supplied = found({CHEAP: group(CHEAP, 3), DEAR: group(DEAR)}, refusals)

    assert sizes.target(supplied, TABLES, FLEET, 500.0, 0.0).nodes == {CHEAP: 3, DEAR: 2}


def due(pool: str) -> dict[str, Refusal]:
    """A refusal of the pool whose back-off is over."""
    return {"x": Refusal(EvidenceKind.SHORTAGE, pool, NOON - 180, NOON - 60, 1)}


def test_a_refused_pool_is_probed_although_one_node_replaces_nothing() -> None:
    """A queue's first node carries little: without the probe nothing would prove that more can be had."""
    supplied = found({CHEAP: group(CHEAP), DEAR: group(DEAR, 5)}, due(CHEAP))

    assert sizes.target(supplied, QUEUES, FLEET, 420.0, 0.0).nodes == {CHEAP: 1, DEAR: 5}


def test_a_probe_that_starts_is_not_followed_by_another() -> None:
    """One at a time: the first one has not answered yet."""
    supplied = found({CHEAP: group(CHEAP, 0, starting=[NOON - 200]), DEAR: group(DEAR, 5)}, due(CHEAP))

    assert sizes.target(supplied, TABLES, FLEET, 500.0, 0.0).nodes[CHEAP] <= 1


def test_a_refused_pool_that_would_not_grow_is_not_probed() -> None:
    """The proof would be of no use: with their start paid, its nodes are no cheaper than those that run."""
    alike = fleet(unit("cheap", price=0.5, start=600.0), unit("dear", price=0.55))
    supplied = found({CHEAP: group(CHEAP), DEAR: group(DEAR, 5)}, due(CHEAP), alike)

    assert sizes.target(supplied, TABLES, alike, 500.0, 0.0).nodes == {CHEAP: 0, DEAR: 5}


def test_the_last_node_of_a_refused_pool_is_kept() -> None:
    """Given up, it could not be had again."""
    refusals = {"x": Refusal(EvidenceKind.SHORTAGE, DEAR, NOON - 60, NOON + 60, 1)}
    supplied = found({CHEAP: group(CHEAP, 3), DEAR: group(DEAR, 2)}, refusals)

    assert sizes.target(supplied, TABLES, FLEET, 0.0, 0.0).nodes == {CHEAP: 0, DEAR: 1}


def test_a_reserve_buys_nodes_whose_loss_is_survived() -> None:
    """Half of the spot nodes may go, and the mean is still carried."""
    spot = fleet(unit("cheap", price=0.5, markets=("spot",)), reserve={"spot": 0.5})
    (pool,) = (pool.name for pool in spot.pools)
    plan = sizes.target(found({pool: group(pool)}, steered=spot), TABLES, spot, 300.0, 300.0)

    assert plan.nodes == {pool: 6}


def test_unconstrained_means_as_if_every_pool_could_be_had() -> None:
    """What the mode machine compares with: refusals do not count."""
    refusals = {"x": Refusal(EvidenceKind.SHORTAGE, CHEAP, NOON - 60, NOON + 60, 1)}
    supplied = found({CHEAP: group(CHEAP), DEAR: group(DEAR)}, refusals)

    assert sizes.unconstrained_plan(supplied, TABLES, FLEET, 500.0).nodes == {CHEAP: 5, DEAR: 0}


def test_a_units_pools_carry_together() -> None:
    """They share the unit's queue."""
    both = fleet(unit("cheap", markets=("on-demand", "spot")))
    names = [pool.name for pool in both.pools]
    supplied = found({name: group(name, 2) for name in names}, steered=both)

    assert sizes.carried(supplied, dict.fromkeys(names, 2), TABLES) == pytest.approx(400.0)


def test_what_has_to_survive_is_asked_for_in_twentieths_of_the_demand() -> None:
    """301 rpm of 2,000 are asked for as 400, as 399 are: so that the same plan serves for minutes."""
    steered = fleet(unit("cheap", price=0.5, most=60), reserve={"on-demand": 0.9})
    tables = {"cheap": tuple(100.0 * nodes for nodes in range(61))}
    supplies = found({CHEAP: group(CHEAP)}, steered=steered)

    def planned(survival: float) -> int:
        return sizes.target(supplies, tables, steered, 2000.0, survival).nodes[CHEAP]

    assert planned(301.0) == planned(399.0) == planned(400.0)
    assert planned(300.0) < planned(301.0) < planned(401.0)
