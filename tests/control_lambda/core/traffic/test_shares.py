"""Which unit gets which share of traffic, by policy, mode and what is ready."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from control_lambda.core.fleet import Fleet
from control_lambda.core.model import Evidence, EvidenceKind, Mode, State
from control_lambda.core.outlook import Outlook, look
from control_lambda.core.plan.sizes import current
from control_lambda.core.traffic.shares import Traffic, choose_traffic, overloaded
from tests.control_lambda.core.examples import NOON, fleet, group, nodes, snapshot, unit

UNITS = (unit("cheap", price=0.5), unit("middle", price=1.0), unit("dear", price=2.0))
FLEET = fleet(*UNITS)
CHEAP, MIDDLE, DEAR = (pool.name for pool in FLEET.pools)


def outlook_on(ready: Mapping[str, int], rpm: float, steered: Fleet = FLEET, **told: Any) -> Outlook:
    """The outlook on ready nodes by pool under `rpm`."""
    before = told.pop("before", State())
    return look(snapshot(steered, ready, rpm, **told), before, steered)


def traffic_of(outlook: Outlook, mode: Mode = Mode.COST, sizes: Mapping[str, int] | None = None) -> Traffic:
    """The traffic while the pools stay as they are, but for the given sizes."""
    stand = {supply.pool.name: current(supply) for supply in outlook.supplies}
    return choose_traffic(outlook, mode, {**stand, **(sizes or {})})


def shares_of(
    ready: Mapping[str, int], rpm: float, steered: Fleet = FLEET, mode: Mode = Mode.COST
) -> dict[str, float]:
    """The shares where nothing stood before."""
    return dict(traffic_of(outlook_on(ready, rpm, steered), mode).shares)


def test_cost_mode_fills_the_cheapest_ready_unit_first() -> None:
    """Little demand needs nobody else."""
    found = shares_of({CHEAP: 4, MIDDLE: 4, DEAR: 4}, 60.0)

    assert found["cheap"] == pytest.approx(1.0)


def test_cost_mode_goes_on_to_the_next_unit_only_when_the_first_is_full() -> None:
    """Merit order up to what is ready."""
    found = shares_of({CHEAP: 1, MIDDLE: 5, DEAR: 5}, 300.0)

    assert 0 < found["cheap"] < found["middle"]
    assert not found.get("dear")


def test_capacity_mode_spreads_by_what_is_ready() -> None:
    """Three times the nodes, about three times the traffic."""
    found = shares_of({CHEAP: 3, DEAR: 9}, 100.0, mode=Mode.CAPACITY)

    assert found["dear"] > 2.5 * found["cheap"]
    assert "middle" not in found


@pytest.mark.parametrize("policy", ["equal", "paper-capacity"])
def test_the_equal_policies_ignore_size_and_price(policy: str) -> None:
    """w_i = A_i / sum A_j in either mode."""
    steered = fleet(*UNITS, policy=policy)
    for mode in Mode:
        found = shares_of({CHEAP: 9, DEAR: 1}, 100.0, steered, mode)
        assert found == pytest.approx({"cheap": 0.5, "dear": 0.5})


def test_the_papers_formulas_hold_in_cost_mode_and_share_equally_in_capacity_mode() -> None:
    """The paper's two modes; as printed, the cost formula favours the dear unit."""
    steered = fleet(*UNITS, policy="paper-cost")
    ready = {CHEAP: 1, DEAR: 1}

    assert shares_of(ready, 10.0, steered) == pytest.approx({"cheap": 0.2, "dear": 0.8})
    assert shares_of(ready, 10.0, steered, Mode.CAPACITY) == pytest.approx({"cheap": 0.5, "dear": 0.5})


def test_before_demand_is_known_what_is_ready_gets_traffic() -> None:
    """The first tick of all creates the rule; without it nobody could be served or counted."""
    found = traffic_of(outlook_on({MIDDLE: 2}, 0.0, minutes={}))

    assert found.weights == {"cheap": 0, "middle": 999, "dear": 0}


def test_units_that_cannot_keep_the_objective_serve_when_nobody_else_is_ready() -> None:
    """Late is better than never."""
    slow = fleet(unit("slow", service=3.0), unit("other"))

    assert shares_of({"slow-on-demand": 2}, 100.0, slow) == {"slow": 1.0}


def test_nodes_that_are_about_to_go_serve_while_there_is_nobody_else() -> None:
    """They answer for two minutes more; no weight at all would answer nobody."""
    told = tuple(Evidence(CHEAP, EvidenceKind.INTERRUPTION, NOON, node=node) for node in nodes(CHEAP, 2))
    alone = traffic_of(outlook_on({CHEAP: 2}, 100.0, evidence=told))
    beside = traffic_of(outlook_on({CHEAP: 2, DEAR: 1}, 100.0, evidence=told))

    assert alone.weights["cheap"] == 999
    assert beside.weights == {"cheap": 0, "middle": 0, "dear": 999}


def test_a_unit_whose_nodes_are_to_go_by_plan_is_ramped_down() -> None:
    """Its traffic leaves in steps, first to what stays."""
    before = State(weights={"cheap": 500, "middle": 499, "dear": 0})
    outlook = outlook_on({CHEAP: 6, MIDDLE: 6}, 100.0, before=before)
    found = traffic_of(outlook, sizes={MIDDLE: 0})

    assert 0 < found.shares["middle"] < 0.499
    assert overloaded(outlook, found, {CHEAP: 6, MIDDLE: 0, DEAR: 0}) == ["middle"]


def test_tiny_moves_leave_the_rule_alone() -> None:
    """It would be written for nothing."""
    before = State(weights={"cheap": 995, "middle": 4, "dear": 0})
    found = traffic_of(outlook_on({CHEAP: 9, MIDDLE: 9}, 1300.0, before=before), Mode.CAPACITY)
    settled = State(weights={"cheap": 505, "middle": 494, "dear": 0})
    still = traffic_of(outlook_on({CHEAP: 9, MIDDLE: 9}, 100.0, before=settled), Mode.CAPACITY)

    assert found.weights != before.weights
    assert still.weights == settled.weights


def test_a_rule_that_names_other_units_is_written_anew() -> None:
    """Every unit is listed, zeros included, and nobody else."""
    before = State(weights={"cheap": 500, "dropped": 499})
    found = traffic_of(outlook_on({CHEAP: 3}, 50.0, before=before))

    assert found.weights == {"cheap": 999, "middle": 0, "dear": 0}


def test_the_first_tick_starts_from_the_rule_as_it_stands() -> None:
    """What another hand has left is a start, not a jump."""
    found = traffic_of(outlook_on({CHEAP: 9, DEAR: 9}, 50.0, weights={"cheap": 0, "middle": 0, "dear": 999}))

    assert 0.19 < found.shares["cheap"] <= 0.2


def test_a_dead_unit_loses_its_traffic_in_the_same_tick() -> None:
    """Whatever the ramp says."""
    before = State(weights={"cheap": 900, "middle": 99, "dear": 0})
    outlook = outlook_on(
        {MIDDLE: 1},
        50.0,
        before=before,
        pools={CHEAP: group(CHEAP), MIDDLE: group(MIDDLE, 1), DEAR: group(DEAR)},
    )

    assert traffic_of(outlook).weights == {"cheap": 0, "middle": 999, "dear": 0}


def test_a_group_that_is_updated_keeps_the_nodes_above_its_maximum_in_traffic() -> None:
    """Nobody can take them away while it is; a degraded group is sized like any other."""
    lowered = fleet(unit("cheap", price=0.5, most=1), unit("dear", price=2.0))
    rpm = 100.0

    def share(status: str) -> float:
        pools = {CHEAP: group(CHEAP, 3, status=status), DEAR: group(DEAR, 3)}
        found = traffic_of(look(snapshot(lowered, {}, rpm, pools=pools), State(), lowered))
        return found.shares["cheap"]

    assert share("UPDATING") == pytest.approx(1.0)
    assert share("DEGRADED") < 1.0


def test_a_unit_that_shrinks_gets_no_more_than_the_nodes_that_stay_carry() -> None:
    """Merit order goes on wanting it, and would fill the nodes that are about to go."""
    outlook = outlook_on({CHEAP: 8, MIDDLE: 8}, 300.0)
    all_stay = traffic_of(outlook)
    shrinks = traffic_of(outlook, sizes={CHEAP: 2})

    assert all_stay.shares["cheap"] == pytest.approx(1.0)
    assert shrinks.shares["cheap"] == pytest.approx(outlook.tables["cheap"][2] / outlook.demand_to_carry)


def test_a_unit_that_does_not_keep_its_nodes_gets_nothing_while_another_does() -> None:
    """The cheapest goes to zero: where nothing stood before, traffic goes to what stays at once."""
    assert traffic_of(outlook_on({CHEAP: 3, MIDDLE: 3}, 50.0), sizes={CHEAP: 0}).weights["cheap"] == 0


def test_a_unit_that_is_filled_exactly_is_not_overloaded() -> None:
    """Its nodes may go as long as what stays carries its share, to the last request."""
    outlook = outlook_on({CHEAP: 4}, 100.0)
    stays = {CHEAP: 2, MIDDLE: 0, DEAR: 0}
    all_of_it = Traffic({"cheap": 1.0}, {"cheap": 999, "middle": 0, "dear": 0}, jumped=False)

    def found(now: float) -> list[str]:
        return overloaded(replace(outlook, forecast=replace(outlook.forecast, now=now)), all_of_it, stays)

    filled = outlook.tables["cheap"][2]
    assert found(filled) == []
    assert found(filled + 0.001) == ["cheap"]


def settled_on(before: Mapping[str, int], wanted: Mapping[str, int]) -> bool:
    """Whether the weights `before` are left alone where capacity mode wants shares like those nodes."""
    ready = {f"{name}-on-demand": nodes for name, nodes in wanted.items()}
    outlook = outlook_on(ready, 10.0, before=State(weights=before))
    return traffic_of(outlook, Mode.CAPACITY).weights == before


def test_units_without_traffic_are_part_of_what_is_settled() -> None:
    """A weight of 0 stays 0, and is no reason to write the rule."""
    assert settled_on({"cheap": 505, "middle": 494, "dear": 0}, {"cheap": 5, "middle": 5})
    assert not settled_on({"cheap": 545, "middle": 454, "dear": 0}, {"cheap": 5, "middle": 5})


@pytest.mark.parametrize(
    ("before", "wanted"),
    [
        ({"cheap": 499, "middle": 490, "dear": 10}, {"cheap": 5, "middle": 5}),
        ({"cheap": 999, "middle": 0, "dear": 0}, {"cheap": 10, "middle": 10, "dear": 10}),
    ],
    ids=["leaves", "comes"],
)
def test_who_comes_or_leaves_is_written_however_small_the_share(
    before: Mapping[str, int], wanted: Mapping[str, int]
) -> None:
    """No deadband may keep traffic on a unit without nodes, or a unit with nodes from any."""
    assert not settled_on(before, wanted)


def test_merit_order_goes_by_the_price_of_a_request_and_not_of_a_node() -> None:
    """A node at half the price that carries a fifth is the dearer one."""
    steered = fleet(unit("small", price=0.4, service=1.5), unit("strong", price=0.8, service=0.3))

    found = shares_of({"small-on-demand": 4, "strong-on-demand": 4}, 20.0, steered)

    assert found["strong"] == pytest.approx(1.0)


def test_while_nodes_are_swapped_only_a_unit_without_any_node_keeps_one() -> None:
    """All that stays carries less than comes: no other share would help."""
    outlook = outlook_on({CHEAP: 4, MIDDLE: 1}, 100.0)
    outlook = replace(outlook, forecast=replace(outlook.forecast, now=1000.0))
    both = Traffic({"cheap": 0.8, "middle": 0.2}, {"cheap": 800, "middle": 200, "dear": 0}, jumped=False)
    stays = {CHEAP: 3, MIDDLE: 0, DEAR: 0}

    assert overloaded(outlook, both, stays) == ["cheap", "middle"]
    assert overloaded(outlook, both, stays, swapping=True) == ["middle"]
