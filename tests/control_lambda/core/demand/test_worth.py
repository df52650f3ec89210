"""How much of a possible demand is worth carrying."""

import math
from collections.abc import Callable

import pytest

from control_lambda.core.demand.worth import WORTH, demand_worth_carrying, usd_per_late_request
from control_lambda.core.model import Snapshot, State
from control_lambda.core.supply.supply import Supply, supplies_of
from tests.control_lambda.core.examples import NOON, fleet, group, unit

TABLES = {
    "aa": tuple(100.0 * nodes for nodes in range(11)),
    "bb": tuple(100.0 * nodes for nodes in range(11)),
}
CHEAP = 0.76


def carried(saving_up_to: Callable[[float], float], *, dear: float = 10.0, in_service: int = 0) -> float:
    """What is worth carrying with ten cheap nodes and ten whose price is `dear` times as high."""
    steered = fleet(unit("aa", price=CHEAP), unit("bb", price=CHEAP * dear))
    found: tuple[Supply, ...] = supplies_of(
        Snapshot(NOON, pools={pool.name: group(pool.name, in_service) for pool in steered.pools}),
        State(),
        steered,
        0.0,
    )
    late_usd = usd_per_late_request(steered, TABLES)
    return demand_worth_carrying(late_usd, found, TABLES, saving_up_to, most=5000.0)


def falling(saved: float) -> float:
    """The less has to be saved, the higher the demand that is worth carrying."""
    return 800.0 / math.sqrt(saved)


def test_cheap_capacity_gets_a_wider_margin_than_dear_capacity() -> None:
    """What every node has to save grows with its price."""
    cheap = fleet(unit("aa", price=CHEAP))
    found = supplies_of(Snapshot(NOON, pools={"aa-on-demand": group("aa-on-demand")}), State(), cheap, 0.0)
    risen = supplies_of(
        Snapshot(NOON, pools={"aa-on-demand": group("aa-on-demand")}),
        State(prices={"aa-on-demand": 4 * CHEAP}),
        cheap,
        0.0,
    )
    late_usd = usd_per_late_request(cheap, TABLES)
    low, high = (
        demand_worth_carrying(late_usd, each, TABLES, lambda saved: 90 / math.sqrt(saved), 5000.0)
        for each in (risen, found)
    )

    assert low < high


def test_dear_capacity_is_bought_only_for_what_it_saves() -> None:
    """Beyond the cheap unit's thousand the dear one carries less the dearer it is."""
    assert carried(falling, dear=100.0) == pytest.approx(1000.0)
    assert carried(falling, dear=2.0) > 1000.0


def test_nothing_beyond_the_most_is_carried() -> None:
    """The upper forecast bounds what anything may be worth."""
    assert carried(lambda _: 1e9) == 5000.0


def test_demand_that_is_worth_nothing_is_not_carried() -> None:
    """When no request would be saved, not even the first node pays."""
    assert carried(lambda _: 0.0) == 0.0


def test_nodes_that_run_are_worth_more_than_nodes_to_be_started() -> None:
    """Their start is paid for already."""

    def steps(saved: float) -> float:
        return 900.0 if saved < 0.1 else 0.0

    assert carried(steps, in_service=10) >= carried(steps, in_service=0)


def test_a_late_request_costs_twelve_of_the_cheapest_on_demand() -> None:
    """Spot's price may move by the hour; what a request is worth does not."""
    steered = fleet(unit("aa", price=CHEAP, markets=("on-demand", "spot")), unit("bb", price=2 * CHEAP))

    assert usd_per_late_request(steered, TABLES) == pytest.approx(WORTH * CHEAP / 100.0 / 60)


def test_a_late_request_has_a_price_in_dollars() -> None:
    """Twelve times 0.76 USD per hour, over a node's 100 rpm and an hour's 60 minutes."""
    steered = fleet(unit("aa", price=CHEAP, markets=("on-demand", "spot")), unit("bb", price=2 * CHEAP))

    assert usd_per_late_request(steered, TABLES) == pytest.approx(0.00152)


def test_where_nothing_is_sold_on_demand_spot_sets_the_price() -> None:
    """The examples' spot costs 0.4 of the price."""
    steered = fleet(unit("aa", price=CHEAP, markets=("spot",)))

    assert usd_per_late_request(steered, TABLES) == pytest.approx(0.000608)


def test_each_step_of_the_supply_is_asked_for_what_its_price_has_to_save() -> None:
    """A request in every minute is worth 60 x 0.00152 USD per hour; a start adds a third to a new node."""
    asked: list[float] = []

    def saving_up_to(saved: float) -> float:
        asked.append(saved)
        return 5000.0

    carried(saving_up_to, dear=2.0, in_service=4)

    assert asked == pytest.approx([1 / 12, 4 / 3 / 12, 2 / 12, 8 / 3 / 12])
