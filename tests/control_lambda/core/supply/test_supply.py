"""What each pool has and may get, from the snapshot and from memory."""

from collections.abc import Mapping
from typing import Any

import pytest

from control_lambda.core.model import EvidenceKind, PoolSignals, Refusal, Snapshot, State
from control_lambda.core.supply.supply import Supply, cost_per_hour, rpm_of, supplies_of
from tests.control_lambda.core.examples import NOON, START, fleet, group, unit

FLEET = fleet(unit("aa", markets=("on-demand", "spot"), least=1), unit("bb"))
A, A_SPOT, B = (pool.name for pool in FLEET.pools)


def supplied(pools: Mapping[str, PoolSignals], **state: Any) -> dict[str, Supply]:
    """Every pool's supply at noon; pools that are not given were not sensed."""
    return {
        supply.pool.name: supply
        for supply in supplies_of(Snapshot(NOON, pools=pools), State(**state), FLEET, 0.0)
    }


def test_nodes_that_are_announced_to_leave_no_longer_count_as_ready() -> None:
    """Two ready, one interrupted: one to count on."""
    found = supplied({A: group(A, 2)}, leaving={f"i-{A}-0": NOON + 100.0})

    assert found[A].ready == 1
    assert found[A].in_service == 2


def test_overdue_nodes_are_not_expected_any_more() -> None:
    """Of two starting nodes one has been at it for more than twice the start time."""
    found = supplied({A: group(A, 1, starting=[NOON - 60, NOON - 2 * START - 60])})

    assert found[A].starting == 1
    assert found[A].coming == found[A].in_service == 2
    assert found[A].members == 3


def test_a_refused_pool_may_have_what_is_in_service_until_its_probe_is_due() -> None:
    """Then one node more."""
    refusals = {"x": Refusal(EvidenceKind.SHORTAGE, A, NOON - 60, NOON + 60, 1)}
    due = {"x": Refusal(EvidenceKind.SHORTAGE, A, NOON - 180, NOON - 60, 1)}

    assert supplied({A: group(A, 3)}, refusals=refusals)[A].most == 3
    assert supplied({A: group(A, 3)}, refusals=due)[A].most == 4


def test_the_minimum_holds_even_where_launches_are_refused() -> None:
    """fleet.yaml's minimum is not given up for want of capacity."""
    refusals = {"x": Refusal(EvidenceKind.SHORTAGE, A, NOON - 60, NOON + 60, 1)}

    assert supplied({A: group(A, 0)}, refusals=refusals)[A].most == 1


def test_a_pool_that_was_not_sensed_is_fixed_at_what_is_remembered() -> None:
    """Its size is not touched; that any of its nodes serves, others have to know."""
    found = supplied({}, desired={B: 4})[B]

    assert (found.sensed, found.fixed, found.desired, found.ready) == (False, True, 4, 0)


@pytest.mark.parametrize("status", ["CREATING", "UPDATING", "DELETING", "DELETED"])
def test_a_pool_whose_node_group_changes_or_is_gone_is_fixed(status: str) -> None:
    """An update replaces the nodes by itself, and nothing can be had from a group that is gone."""
    found = supplied({B: group(B, 2, status=status)})[B]

    assert (found.fixed, found.sensed) == (True, True)


@pytest.mark.parametrize("status", ["", "ACTIVE", "DEGRADED", "CREATE_FAILED", "UPDATE_FAILED"])
def test_a_pool_in_any_other_status_is_sized(status: str) -> None:
    """A degraded node group takes no update, but its Auto Scaling group is sized as ever."""
    assert not supplied({B: group(B, 2, status=status)})[B].fixed


def test_a_pool_of_which_nobody_knows_who_serves_is_fixed_at_its_size() -> None:
    """The sizes are the group's."""
    found = supplied({B: group(B, 4, desired=5, health_known=False)}, desired={B: 2})[B]

    assert (found.sensed, found.fixed) == (False, True)
    assert (found.desired, found.in_service, found.ready) == (5, 4, 0)


@pytest.mark.parametrize(("known", "price"), [({}, 0.76), ({B: 0.5}, 0.5)])
def test_the_last_good_price_counts_before_the_one_in_the_fleet(
    known: dict[str, float], price: float
) -> None:
    """The file's dated price is the last resort."""
    assert supplied({B: group(B)}, prices=known)[B].price == price


def test_a_units_pools_add_up() -> None:
    """Each at its price."""
    found = tuple(supplied({A: group(A, 2), A_SPOT: group(A_SPOT, 3), B: group(B, 1)}).values())

    assert cost_per_hour(found, {A: 2, A_SPOT: 3, B: 1}) == pytest.approx(3 * 0.76 + 3 * 0.76 * 0.4)


def test_beyond_its_table_a_unit_carries_what_the_table_ends_with() -> None:
    """More nodes than expected are no error."""
    assert rpm_of((0.0, 10.0, 25.0), 7) == 25.0
