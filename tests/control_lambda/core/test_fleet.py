"""The fleet's rules: what is refused, with which words, and what survives the way through JSON."""

import copy
import math
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_lambda.core.fleet import (
    MAX_JSON_BYTES,
    MAX_NODES,
    MAX_UNITS,
    Accelerator,
    Fleet,
    FleetError,
    fleet_from_json,
    parse_fleet,
)
from control_lambda.core.fleet_words import choice

ABSENT = object()

names = st.from_regex(r"[a-z][a-z0-9-]{0,30}[a-z0-9]", fullmatch=True)
positives = st.floats(min_value=1e-6, max_value=1e6)
shares = st.floats(min_value=0, max_value=1, exclude_max=True)
markets = st.sampled_from(["on-demand", "spot"])
profiles = st.fixed_dictionaries(
    {
        "service_seconds": positives,
        "throughput_rpm": positives,
        "latency_seconds": positives,
        "start_seconds": positives,
    }
)


def pool(market: str = "on-demand", **changes: Any) -> dict[str, Any]:
    """A valid pool as the file describes it."""
    return {"market": market, "nodes": {"min": 0, "max": 4}, "price_usd_per_hour": 1.0, **changes}


def unit(name: str = "inf2-neuron", **changes: Any) -> dict[str, Any]:
    """A valid unit as the file describes it."""
    profile = {"service_seconds": 0.5, "throughput_rpm": 105, "latency_seconds": 0.67, "start_seconds": 600}
    return {
        "name": name,
        "instance_type": "inf2.xlarge",
        "accelerator": "neuron",
        "framework": "neuronx",
        "profile": profile,
        "pools": [pool()],
        **changes,
    }


def description(**changes: Any) -> dict[str, Any]:
    """A valid fleet as the file describes it."""
    return {
        "fleet": "sd21",
        "model": "stabilityai/stable-diffusion-2-1-base",
        "objective": {"latency_seconds": 2.0},
        "budget_usd_per_hour": 40,
        "units": [unit()],
        **changes,
    }


def changed(key: tuple[str | int, ...], value: object) -> dict[str, Any]:
    """A valid fleet with one value replaced, or taken out where `value` is ABSENT."""
    raw = copy.deepcopy(description())
    part: Any = raw
    for step in key[:-1]:
        part = part[step]
    if value is ABSENT:
        del part[key[-1]]
    else:
        part[key[-1]] = value
    return raw


@st.composite
def node_limits(draw: st.DrawFn) -> dict[str, int]:
    """Limits of a pool, min at most max."""
    most = draw(st.integers(0, MAX_NODES))
    return {"min": draw(st.integers(0, most)), "max": most}


def pools_of(market: str) -> st.SearchStrategy[dict[str, Any]]:
    """Valid pools in one market."""
    return st.builds(pool, st.just(market), nodes=node_limits(), price_usd_per_hour=positives)


units = st.builds(
    unit,
    names,
    profile=profiles,
    pools=st.lists(markets, min_size=1, max_size=2, unique=True).flatmap(
        lambda chosen: st.tuples(*map(pools_of, chosen)).map(list)
    ),
)
descriptions = st.builds(
    description,
    fleet=names,
    objective=st.fixed_dictionaries({"latency_seconds": positives}, optional={"percentile": st.just(99)}),
    budget_usd_per_hour=st.just(1e12),
    reserve=st.dictionaries(markets, shares),
    threshold=positives,
    routing=st.sampled_from(["weights", "router"]),
    classes=st.lists(names, max_size=3, unique=True),
    units=st.lists(units, min_size=1, max_size=MAX_UNITS, unique_by=lambda raw: raw["name"]),
)


@given(descriptions)
def test_every_valid_fleet_survives_the_way_through_json(raw: dict[str, Any]) -> None:
    """What SSM holds reads back to an equal fleet."""
    fleet = parse_fleet(raw)
    assert fleet_from_json(fleet.to_json()) == fleet


def test_a_fleet_with_a_router_may_hold_requests() -> None:
    """And says so in what SSM holds."""
    fleet = parse_fleet(description(routing="router", hold_seconds=300))
    assert fleet_from_json(fleet.to_json()).hold_seconds == 300


@given(descriptions)
def test_every_valid_fleet_fits_the_parameter(raw: dict[str, Any]) -> None:
    """Five units with both markets stay below SSM's 8 KB."""
    assert len(parse_fleet(raw).to_json().encode()) <= MAX_JSON_BYTES


def test_defaults_are_those_of_the_design() -> None:
    """What the file leaves out takes the documented default."""
    fleet = parse_fleet(description())
    assert (fleet.policy, fleet.routing, fleet.threshold) == ("merit-order", "weights", 1.0)
    assert (fleet.reserve, fleet.classes) == ({}, ())
    assert (fleet.objective.percentile, fleet.objective.attainment) == (95, 0.995)


def test_pools_are_named_after_unit_and_market() -> None:
    """A pool's name is <unit>-<market>, and leads back to its unit."""
    fleet = parse_fleet(description(units=[unit(pools=[pool("spot"), pool("on-demand")])]))
    assert [pool.name for pool in fleet.pools] == ["inf2-neuron-spot", "inf2-neuron-on-demand"]
    assert fleet.unit_of["inf2-neuron-spot"] is fleet.units[0]
    assert fleet.pool_named["inf2-neuron-spot"] is fleet.pools[0]


def test_a_fleet_does_not_change() -> None:
    """A parsed fleet is frozen."""
    with pytest.raises(ValueError, match="frozen"):
        parse_fleet(description()).threshold = 2.0


NODES = ("units", 0, "pools", 0, "nodes")
PRICE = ("units", 0, "pools", 0, "price_usd_per_hour")
COUNT = "a whole number from 0 to 450"
ABOVE_ZERO = "a number above 0"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ((*NODES, "min"), -1, f"units[0].pools[0].nodes.min: given -1; valid: {COUNT}"),
        ((*NODES, "max"), 451, f"units[0].pools[0].nodes.max: given 451; valid: {COUNT}"),
        ((*NODES, "max"), "3", f"units[0].pools[0].nodes.max: given '3'; valid: {COUNT}"),
        ((*NODES, "max"), True, f"units[0].pools[0].nodes.max: given true; valid: {COUNT}"),
        ((*NODES, "max"), 4.0, f"units[0].pools[0].nodes.max: given 4.0; valid: {COUNT}"),
        ((*NODES, "max"), None, f"units[0].pools[0].nodes.max: given nothing; valid: {COUNT}"),
        ((*NODES, "max"), ABSENT, f"units[0].pools[0].nodes.max: missing; valid: {COUNT}"),
        ((*NODES, "min"), 5, "units[0].pools[0].nodes: min 5 is above max 4; valid: min at most max"),
        (PRICE, "1", f"units[0].pools[0].price_usd_per_hour: given '1'; valid: {ABOVE_ZERO}"),
        (PRICE, True, f"units[0].pools[0].price_usd_per_hour: given true; valid: {ABOVE_ZERO}"),
        (PRICE, 0, f"units[0].pools[0].price_usd_per_hour: given 0; valid: {ABOVE_ZERO}"),
        (PRICE, math.nan, f"units[0].pools[0].price_usd_per_hour: given nan; valid: {ABOVE_ZERO}"),
        (PRICE, math.inf, f"units[0].pools[0].price_usd_per_hour: given inf; valid: {ABOVE_ZERO}"),
        (
            ("units", 0, "pools", 0, "market"),
            "Spot",
            "units[0].pools[0].market: given 'Spot'; valid: on-demand or spot",
        ),
        (
            ("units", 0, "pools", 0, "unit"),
            "inf2-neuron",
            "units[0].pools[0].unit: unknown key; valid: market, nodes, price_usd_per_hour",
        ),
        (
            ("units", 0, "pools"),
            [pool(), pool()],
            "units[0].pools: two pools in the market on-demand; valid: one pool per market",
        ),
        (
            ("units", 0, "instance_type"),
            "inf2",
            "units[0].instance_type: given 'inf2'; valid: an EC2 instance type such as inf2.xlarge",
        ),
        (
            ("units",),
            [unit(), unit()],
            "units: two units are named inf2-neuron; valid: a name of its own for every unit",
        ),
        (
            ("objective", "colour"),
            1,
            "objective.colour: unknown key; valid: latency_seconds, percentile, attainment",
        ),
        (
            ("objective", "percentile"),
            100,
            "objective.percentile: given 100; valid: a number above 0 and below 100",
        ),
        (("objective", "attainment"), 1, "objective.attainment: given 1; valid: a share above 0 and below 1"),
        (("threshold",), "1.0", f"threshold: given '1.0'; valid: {ABOVE_ZERO}"),
        (("routing",), "magic", "routing: given 'magic'; valid: weights or router"),
        (
            ("hold_seconds",),
            901,
            "hold_seconds: given 901; valid: a number from 0 to 900, above 0 with routing: router alone",
        ),
        (
            ("hold_seconds",),
            60,
            "hold_seconds: given 60 with routing: weights; valid: 0, or routing: router, whose router holds",
        ),
        (("classes",), ["big", "big"], "classes: big stands twice; valid: every class once"),
        (("two\nlines",), 1, "'two\\nlines': unknown key; valid: fleet, model, "),
        ((7,), 1, "[7]: unknown key; valid: fleet, model, "),
    ],
)
def test_a_bad_value_is_refused_with_its_key_and_what_would_be_valid(
    key: tuple[str | int, ...], value: object, message: str
) -> None:
    """The message names the key as the file writes it, what stands there, and what may."""
    with pytest.raises(FleetError) as refused:
        parse_fleet(changed(key, value))
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("reserve", "message"),
    [
        ({"spot": 1}, "reserve.spot: given 1; valid: a share from 0 to below 1 for on-demand, spot or both"),
        ({"unit": 0.5}, "reserve.unit: unknown key; valid: a share from 0 to below 1 for on-demand, spot"),
        ([0.5], "reserve: given a list of 1; valid: a share from 0 to below 1 for on-demand, spot or both"),
    ],
)
def test_a_bad_reserve_is_refused(reserve: object, message: str) -> None:
    """A reserve is a share per market."""
    with pytest.raises(FleetError) as refused:
        parse_fleet(description(reserve=reserve))
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(("count", "shown"), [(0, "an empty list"), (MAX_UNITS + 1, "a list of 6")])
def test_no_unit_and_a_sixth_unit_are_refused(count: int, shown: str) -> None:
    """A forward action of the load balancer takes at most five target groups."""
    with pytest.raises(FleetError) as refused:
        parse_fleet(description(units=[unit(f"unit-{number}") for number in range(count)]))
    assert str(refused.value).startswith(f"units: given {shown}; valid: a list of 1 to 5 units")


def test_a_budget_below_the_minimum_nodes_is_refused() -> None:
    """The minimum nodes have to be affordable; the message says what they cost in USD per hour."""
    minimum = unit(pools=[pool(nodes={"min": 3, "max": 4}, price_usd_per_hour=0.75)])
    with pytest.raises(FleetError) as refused:
        parse_fleet(description(budget_usd_per_hour=2.24, units=[minimum]))
    assert str(refused.value) == (
        "budget_usd_per_hour: 2.24 does not pay for the minimum nodes; "
        "valid: at least 2.25, or lower nodes.min"
    )


def test_a_budget_of_exactly_the_minimum_nodes_is_accepted() -> None:
    """The bound itself is affordable."""
    minimum = unit(pools=[pool(nodes={"min": 3, "max": 4}, price_usd_per_hour=0.75)])
    assert parse_fleet(description(budget_usd_per_hour=2.25, units=[minimum])).pools[0].nodes.min == 3


def test_a_fleet_above_eight_kilobytes_is_refused_with_its_largest_key() -> None:
    """An SSM parameter holds 8 KB."""
    with pytest.raises(
        FleetError, match=r"^model: makes the fleet \d{4} bytes of JSON; valid: at most 8192 "
    ):
        parse_fleet(description(model="m" * MAX_JSON_BYTES))


def test_several_faults_are_told_in_one_line_without_their_consequences() -> None:
    """Faults are joined in the order of the description; what follows from another is not told."""
    raw = description(threshold=-1, units=[unit(accelerator="tpu", pools=[pool(colour="red")])])
    with pytest.raises(FleetError) as refused:
        parse_fleet(raw)
    assert str(refused.value) == (
        "threshold: given -1; valid: a number above 0; "
        f"units[0].accelerator: given 'tpu'; valid: {choice(get_args(Accelerator))}; "
        "units[0].pools[0].colour: unknown key; valid: market, nodes, price_usd_per_hour"
    )


@pytest.mark.parametrize(
    ("raw", "shown"), [(None, "nothing"), ([1, 2], "a list of 2"), ("sd21", "'sd21'"), (3, "3")]
)
def test_what_is_no_mapping_is_refused(raw: object, shown: str) -> None:
    """A description is a mapping; the message lists its keys."""
    with pytest.raises(FleetError) as refused:
        parse_fleet(raw)
    assert str(refused.value).startswith(f"given {shown}; valid: a mapping with the keys fleet, model, ")


def test_a_long_bad_value_is_quoted_in_part() -> None:
    """A message stays readable whatever the file holds."""
    with pytest.raises(FleetError) as refused:
        parse_fleet(description(fleet="A" * 500))
    assert str(refused.value).startswith(f"fleet: given '{'A' * 40}'...; valid: ")


@pytest.mark.parametrize("text", ["", "{", "nonsense"])
def test_what_is_no_json_is_refused(text: str) -> None:
    """A garbage parameter is refused in one line."""
    with pytest.raises(FleetError, match=r"^Invalid JSON: .*; valid: a fleet as JSON$"):
        fleet_from_json(text)


def test_json_of_another_shape_is_refused_by_key() -> None:
    """The JSON in SSM is held to the rules of the file."""
    text = parse_fleet(description()).to_json().replace('"sd21"', "21")
    with pytest.raises(FleetError, match=r"^fleet: given 21; valid: 2 to 32 lower-case letters"):
        fleet_from_json(text)


def test_equal_descriptions_give_equal_fleets() -> None:
    """Fleets are values; asking one for its pools does not change it."""
    one, other = parse_fleet(description()), parse_fleet(description())
    assert one.pools
    assert one == other
    assert isinstance(one, Fleet)
