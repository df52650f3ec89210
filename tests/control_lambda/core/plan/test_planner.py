"""The planner against brute force, against HiGHS, and against what its docstring promises."""

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

from control_lambda.core.plan.planner import Need, Plan, PoolOption, plan
from control_lambda.core.plan.staffing import carried_table

PAPER = {  # PAPERS.md, section A: service seconds and on-demand USD per hour of the five units
    "inf2": (0.50, 0.7582),
    "trn1": (0.46, 1.3438),
    "g5-inductor": (0.60, 1.0060),
    "g6": (0.84, 0.8048),
    "g5-eager": (0.85, 1.0060),
}
TABLES = {unit: carried_table(service, 2.0, 0.005, 200) for unit, (service, _) in PAPER.items()}
LINEAR = (0.0, 10.0, 20.0, 30.0, 40.0, 50.0)


def compared_cost(options: Sequence[PoolOption], counts: Sequence[int]) -> float:
    """What the planner minimises: (price + risk) x nodes plus the premiums of new nodes."""
    return math.fsum(
        option.price_usd_per_hour * (count + option.start_premium * max(0, count - option.in_service))
        + option.risk_usd_per_hour * count
        for option, count in zip(options, counts, strict=True)
    )


def brought(
    options: Sequence[PoolOption],
    counts: Sequence[int],
    tables: Mapping[str, Sequence[float]],
    reserve: Mapping[str, float],
) -> tuple[float, float]:
    """What node counts carry and what of it survives, straight from the definition."""
    carried = surviving = 0.0
    for unit in dict.fromkeys(option.unit for option in options):
        members = [
            (option, count) for option, count in zip(options, counts, strict=True) if option.unit == unit
        ]
        size = sum(count for _, count in members)
        lost = sum(reserve.get(option.market, 0.0) * count for option, count in members)
        carried += tables[unit][size]
        surviving += tables[unit][size] * (1.0 - lost / size) if size else 0.0
    return carried, surviving


def left(
    options: Sequence[PoolOption], counts: Sequence[int], tables: Mapping[str, Sequence[float]], lost: int
) -> float:
    """What is carried after the loss of one pool, straight from the definition."""
    rest = [0 if position == lost else count for position, count in enumerate(counts)]
    return brought(options, rest, tables, {})[0]


def outlived(
    options: Sequence[PoolOption],
    counts: Sequence[int],
    tables: Mapping[str, Sequence[float]],
    need: Need,
) -> float:
    """The highest demand, up to what is carried, whose shares every loss leaves, or leaves at best."""
    highest = [option.high for option in options]
    reached = min(need.demand_rpm, brought(options, counts, tables, {})[0])
    for position, option in enumerate(options):
        share, rest = need.outlived.get(option.market, 0.0), left(options, counts, tables, position)
        if share and rest < left(options, highest, tables, position) - 1e-6:
            reached = min(reached, rest / share)
    return reached


def brute_force(
    options: Sequence[PoolOption], tables: Mapping[str, Sequence[float]], need: Need
) -> tuple[int, ...]:
    """The best counts by trying all: demand, survival, losses, cost, nodes, option order."""

    def worth(
        counts: tuple[int, ...], priced: Sequence[PoolOption]
    ) -> tuple[float, float, float, float, int, list[int]]:
        carried, surviving = brought(options, counts, tables, need.reserve)
        return (
            -round(min(carried, need.demand_rpm), 4),
            -round(min(surviving, need.survival_rpm), 4),
            -round(outlived(options, counts, tables, need), 4),
            round(compared_cost(priced, counts), 7),
            sum(counts),
            [-count for count in counts],
        )

    thrifty = [replace(option, start_premium=0.0, risk_usd_per_hour=0.0) for option in options]
    everything = list(itertools.product(*(range(option.low, option.high + 1) for option in options)))
    best = min(everything, key=lambda counts: worth(counts, options))
    budget = need.budget_usd_per_hour + 1e-9
    if compared_cost(thrifty, best) <= budget:
        return best
    lows = tuple(option.low for option in options)
    affordable = [counts for counts in everything if compared_cost(thrifty, counts) <= budget]
    return min(affordable, key=lambda counts: worth(counts, thrifty), default=lows)


@st.composite
def rising_tables(draw: st.DrawFn, high: int) -> tuple[float, ...]:
    """A table whose rate per node never falls."""
    rates = sorted(draw(st.lists(st.integers(1, 20), min_size=high, max_size=high)))
    return (0.0, *(float(rate * nodes) for nodes, rate in enumerate(rates, 1)))


@st.composite
def small_fleets(draw: st.DrawFn) -> tuple[list[PoolOption], dict[str, tuple[float, ...]]]:
    """One to three units of one or two pools with at most three nodes each."""
    options = []
    for unit in range(draw(st.integers(1, 3))):
        for market in ("spot", "on-demand") if draw(st.booleans()) else ("on-demand",):
            low = draw(st.integers(0, 2))
            options.append(
                PoolOption(
                    name=f"u{unit}-{market}",
                    unit=f"u{unit}",
                    market=market,
                    price_usd_per_hour=draw(st.integers(1, 12)) / 4,
                    low=low,
                    high=draw(st.integers(low, 3)),
                    in_service=draw(st.integers(0, 4)),
                    start_premium=draw(st.sampled_from((0.0, 0.25, 1.0))),
                    risk_usd_per_hour=draw(st.sampled_from((0.0, 0.5, 3.0))) if market == "spot" else 0.0,
                )
            )
    return options, {option.unit: draw(rising_tables(6)) for option in options}


needs = st.builds(
    Need,
    demand_rpm=st.integers(0, 250).map(float),
    survival_rpm=st.integers(0, 250).map(float),
    reserve=st.sampled_from(({}, {"spot": 0.5}, {"spot": 0.5, "on-demand": 0.25}, {"on-demand": 0.5})),
    budget_usd_per_hour=st.sampled_from((math.inf, 2.0, 5.0, 10.0, 20.0)),
    outlived=st.sampled_from(({}, {"spot": 0.25}, {"spot": 0.5}, {"spot": 0.25, "on-demand": 0.5})),
)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(small_fleets(), needs)
def test_the_plan_is_what_brute_force_finds(
    fleet: tuple[list[PoolOption], dict[str, tuple[float, ...]]], need: Need
) -> None:
    """Demand first, then survival, then cost, then fewest nodes, then earlier options: exactly."""
    options, tables = fleet
    found = plan(options, tables, need)
    best = brute_force(options, tables, need)
    assert tuple(found.nodes[option.name] for option in options) == best
    carried, surviving = brought(options, best, tables, need.reserve)
    assert found.carried_rpm == pytest.approx(carried)
    assert found.surviving_rpm == pytest.approx(surviving)
    missing = max(need.demand_rpm - carried, need.survival_rpm - surviving, 0.0)
    assert found.shortfall_rpm == pytest.approx(missing, abs=1e-5)


def paper_fleet(seed: int, high: int, markets: Sequence[str]) -> list[PoolOption]:
    """The paper's five units in `markets` with random sizes up to `high`; spot at a random discount."""
    rng = random.Random(seed)
    options = []
    for unit, (_, price) in PAPER.items():
        premium = rng.choice((0.0, 0.1, 0.4))
        for market in markets:
            most = rng.randint(high // 2, high)
            discount = 1.0 if market == "on-demand" else rng.uniform(0.25, 0.6)
            options.append(
                PoolOption(
                    name=f"{unit}-{market}",
                    unit=unit,
                    market=market,
                    price_usd_per_hour=price * discount,
                    low=0,
                    high=most,
                    in_service=rng.choice((0, rng.randint(0, most))),
                    start_premium=premium,
                )
            )
    return options


def paper_need(options: Sequence[PoolOption], seed: int, reserve: Mapping[str, float]) -> Need:
    """A demand anywhere up to the fleet's capacity; with a reserve, part of it has to survive."""
    rng = random.Random(seed)
    capacity, safe = brought(options, [option.high for option in options], TABLES, reserve)
    demand = rng.uniform(0.05, 0.95) * capacity
    return Need(demand, min(0.9 * safe, rng.uniform(0.6, 1.0) * demand) if reserve else 0.0, reserve)


def cheapest_by_milp(options: Sequence[PoolOption], need: Need) -> float:
    """The least cost by HiGHS: one binary for each choice of nodes in each unit, exactly one per unit."""
    costs, carried, surviving, units = [], [], [], []
    rests: dict[str, list[float]] = {option.name: [] for option in options if option.market in need.outlived}
    for unit in PAPER:
        members = [option for option in options if option.unit == unit]
        for counts in itertools.product(*(range(option.low, option.high + 1) for option in members)):
            rpm, safe = brought(members, counts, TABLES, need.reserve)
            costs.append(compared_cost(members, counts))
            carried.append(rpm)
            surviving.append(safe)
            units.append([float(unit == name) for name in PAPER])
            for option in options:
                if option.name in rests:
                    lost = members.index(option) if option in members else len(members)
                    rests[option.name].append(left(members, counts, TABLES, lost))
    result = milp(
        costs,
        integrality=np.ones(len(costs)),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(np.array([carried, surviving]), [need.demand_rpm, need.survival_rpm], np.inf),
            LinearConstraint(np.array(units).T, 1, 1),
            *(
                LinearConstraint(np.array([rest]), need.outlived[option.market] * need.demand_rpm, np.inf)
                for option in options
                if (rest := rests.get(option.name))
            ),
        ],
        options={"mip_rel_gap": 1e-9},
    )
    assert result.success
    return float(result.fun)


@pytest.mark.parametrize("seed", range(8))
def test_highs_finds_nothing_cheaper_for_large_on_demand_fleets(seed: int) -> None:
    """Five units of up to 80 nodes."""
    options = paper_fleet(seed, 80, ["on-demand"])
    need = paper_need(options, seed, {})
    found = plan(options, TABLES, need)
    assert found.carried_rpm >= need.demand_rpm - 1e-5
    assert compared_cost(options, list(found.nodes.values())) == pytest.approx(
        cheapest_by_milp(options, need), abs=1e-6
    )


@pytest.mark.parametrize("seed", range(6))
def test_highs_finds_nothing_cheaper_where_spot_may_be_lost(seed: int) -> None:
    """Five units in both markets, half of the spot capacity to be survived."""
    options = paper_fleet(seed, 10, ["on-demand", "spot"])
    need = paper_need(options, seed, {"spot": 0.5})
    found = plan(options, TABLES, need)
    assert found.surviving_rpm >= need.survival_rpm - 1e-5
    assert compared_cost(options, list(found.nodes.values())) == pytest.approx(
        cheapest_by_milp(options, need), abs=1e-6
    )


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("outlived", [{"spot": 0.25}, {"spot": 0.5}, {"spot": 0.45, "on-demand": 0.4}])
def test_highs_finds_nothing_cheaper_where_any_pool_may_go_whole(
    seed: int, outlived: dict[str, float]
) -> None:
    """Five units in both markets; after the loss of any pool a share of the demand is carried."""
    options = paper_fleet(seed, 10, ["on-demand", "spot"])
    need = replace(paper_need(options, seed, {"spot": 0.5}), outlived=outlived)
    need = replace(need, demand_rpm=need.demand_rpm / 2, survival_rpm=need.survival_rpm / 2)
    found = plan(options, TABLES, need)
    counts = list(found.nodes.values())
    for position, option in enumerate(options):
        rest = left(options, counts, TABLES, position)
        assert rest >= outlived.get(option.market, 0.0) * need.demand_rpm - 1e-5
    assert compared_cost(options, counts) == pytest.approx(cheapest_by_milp(options, need), abs=1e-6)


def pool(name: str = "a-on-demand", **changes: Any) -> PoolOption:
    """A pool of the unit `a` with up to five nodes at one dollar."""
    unit, _, market = name.partition("-")
    return replace(PoolOption(name, unit, market, 1.0, 0, 5), **changes)


def planned(options: Sequence[PoolOption], **need: Any) -> Plan:
    """The plan where every node carries 10 rpm."""
    return plan(
        options, {option.unit: tuple(10.0 * nodes for nodes in range(11)) for option in options}, Need(**need)
    )


def test_without_demand_only_the_lowest_bounds_are_planned() -> None:
    """Nodes that nobody needs are not paid for."""
    assert planned([pool(low=1), pool("b-on-demand")], demand_rpm=0.0).nodes == {
        "a-on-demand": 1,
        "b-on-demand": 0,
    }


def test_a_running_node_is_kept_while_a_new_one_would_cost_more_than_it_saves() -> None:
    """The start premium counts in the comparison, not in the reported cost."""
    options = [
        pool(price_usd_per_hour=0.9, start_premium=0.2),
        pool("b-on-demand", in_service=2, start_premium=0.2),
    ]
    found = planned(options, demand_rpm=20.0)
    assert found.nodes == {"a-on-demand": 0, "b-on-demand": 2}
    assert found.cost_usd_per_hour == pytest.approx(2.0)
    assert planned([replace(option, start_premium=0.05) for option in options], demand_rpm=20.0).nodes == {
        "a-on-demand": 2,
        "b-on-demand": 0,
    }


def test_a_pool_without_room_leaves_the_demand_to_the_next_cheapest() -> None:
    """A refused pool is offered with its ready nodes as `high`."""
    found = planned([pool(high=1), pool("b-on-demand", price_usd_per_hour=2.0)], demand_rpm=30.0)
    assert found.nodes == {"a-on-demand": 1, "b-on-demand": 2}


def test_spot_is_doubled_where_half_of_it_may_be_lost_and_it_is_cheap_enough() -> None:
    """Two spot nodes of which one survives cost less than one on-demand node here."""
    options = [pool("a-spot", price_usd_per_hour=0.4), pool()]
    found = planned(options, demand_rpm=20.0, survival_rpm=20.0, reserve={"spot": 0.5})
    assert found.nodes == {"a-spot": 4, "a-on-demand": 0}
    assert found.surviving_rpm == pytest.approx(20.0)


def test_the_budget_holds_and_the_shortfall_is_told() -> None:
    """More demand than money: as much as the money carries."""
    found = planned([pool()], demand_rpm=50.0, budget_usd_per_hour=3.5)
    assert found.nodes == {"a-on-demand": 3}
    assert found.shortfall_rpm == pytest.approx(20.0)


def test_lowest_bounds_beyond_the_budget_are_kept_and_nothing_is_added() -> None:
    """Nodes that cannot be dropped now are reported with their cost, even above the budget."""
    found = planned([pool(low=4)], demand_rpm=50.0, budget_usd_per_hour=3.5)
    assert found.nodes == {"a-on-demand": 4}
    assert found.cost_usd_per_hour == pytest.approx(4.0)


def test_demand_beyond_the_fleet_takes_every_node() -> None:
    """What cannot be carried is the shortfall."""
    found = planned([pool(), pool("b-on-demand")], demand_rpm=130.0)
    assert found.nodes == {"a-on-demand": 5, "b-on-demand": 5}
    assert found.shortfall_rpm == pytest.approx(30.0)


def test_equal_prices_go_to_the_earlier_option() -> None:
    """The same input always gives the same plan."""
    found = planned([pool("b-on-demand"), pool()], demand_rpm=30.0)
    assert found.nodes == {"b-on-demand": 3, "a-on-demand": 0}


def rejected() -> Iterator[tuple[str, list[PoolOption], tuple[float, ...], Need]]:
    """What the planner refuses, with the word its message must hold."""
    need = Need(10.0)
    yield "low 3, high 2", [pool(low=3, high=2)], LINEAR, need
    yield "in_service", [pool(in_service=-1)], LINEAR, need
    yield "price", [pool(price_usd_per_hour=0.0)], LINEAR, need
    yield "start_premium", [pool(start_premium=-0.1)], LINEAR, need
    yield "ends at 2", [pool()], LINEAR[:3], need
    yield "must not fall", [pool()], (0.0, 10.0, 15.0, 30.0, 40.0, 50.0), need
    yield "start with 0", [pool()], (1.0, 10.0, 20.0, 30.0, 40.0, 50.0), need
    yield "at most 2", [pool("a-x"), pool("a-y"), pool("a-z")], LINEAR * 3, need
    yield "demand_rpm", [pool()], LINEAR, Need(-1.0)
    yield "survival_rpm", [pool()], LINEAR, Need(1.0, math.nan)
    yield "reserve", [pool()], LINEAR, Need(1.0, 1.0, {"spot": 1.0})
    yield "outlived", [pool()], LINEAR, Need(1.0, outlived={"spot": 0.6})
    yield "budget", [pool()], LINEAR, Need(1.0, budget_usd_per_hour=-1.0)


@pytest.mark.parametrize(("word", "options", "table", "need"), list(rejected()))
def test_what_cannot_be_planned_is_refused_by_name(
    word: str, options: list[PoolOption], table: tuple[float, ...], need: Need
) -> None:
    """One line that names what is wrong and what would be valid."""
    with pytest.raises(ValueError, match=word):
        plan(options, {"a": table}, need)


def test_a_unit_without_a_table_is_refused_by_name() -> None:
    """Every unit of the options needs a table."""
    with pytest.raises(ValueError, match="no unit a"):
        plan([pool()], {}, Need(10.0))
