"""The papers' formulas on the papers' figures, merit order, and the way to integers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_lambda.core.traffic import weights
from tests.control_lambda.core.examples import PAPER, paper_fleet

UNITS = paper_fleet().units
NAMES = [unit.name for unit in UNITS]
PRICES = {name: price for name, (_, price, *_) in PAPER.items()}
ALL = dict.fromkeys(NAMES, True)
# arXiv 2503.20074 prints these two costs of inference; the others are USD per hour over throughput.
PRINTED_COSTS = {
    "inf2-neuron": 0.00733,
    "trn1-neuron": 0.01023,
    "g5-inductor": 1.0060 / 90,
    "g6-inductor": 0.8048 / 61,
    "g5-eager": 1.0060 / 60,
}

rates = st.floats(min_value=0, max_value=1e5)
shares = st.dictionaries(st.sampled_from(NAMES), st.floats(min_value=1e-6, max_value=1), min_size=1)


def test_the_general_weights_are_those_of_the_papers_figures() -> None:
    """w_i = (T_i / (C_i L_i)) A_i / sum: worked out by hand for the five units."""
    found = weights.paper_optimal(UNITS, PRICES, ALL)

    assert found == pytest.approx(
        {
            "inf2-neuron": 0.3077,
            "trn1-neuron": 0.2824,
            "g5-inductor": 0.1959,
            "g6-inductor": 0.1175,
            "g5-eager": 0.0965,
        },
        abs=1e-4,
    )


def test_the_printed_cost_formula_gives_the_cheapest_unit_the_least() -> None:
    """The formula is inverted: on the paper's own costs inf2, the cheapest, gets 13.8 %."""
    found = weights.paper_cost(UNITS, PRINTED_COSTS, ALL)

    assert found["inf2-neuron"] == pytest.approx(0.138, abs=5e-4)
    assert min(found, key=lambda name: found[name]) == "inf2-neuron"


def test_the_printed_cost_formula_rewards_a_higher_price() -> None:
    """Were a unit's price to double, the printed formula would send it more traffic."""
    dearer = {**PRICES, "inf2-neuron": 2 * PRICES["inf2-neuron"]}

    before, after = (weights.paper_cost(UNITS, prices, ALL) for prices in (PRICES, dearer))

    assert after["inf2-neuron"] > before["inf2-neuron"]


def test_capacity_mode_shares_equally_among_the_available_units() -> None:
    """w_i = A_i / sum A_j."""
    assert weights.equal({"a": True, "b": False, "c": True}) == {"a": 0.5, "c": 0.5}


def test_every_formula_leaves_out_what_is_not_available() -> None:
    """A_i = 0 means no share, and the rest still makes a whole."""
    available = {**ALL, "inf2-neuron": False}
    for formula in (weights.paper_optimal, weights.paper_cost):
        found = formula(UNITS, PRICES, available)
        assert "inf2-neuron" not in found
        assert sum(found.values()) == pytest.approx(1)


def test_without_any_available_unit_there_are_no_shares() -> None:
    """Nothing is divided by zero."""
    nobody = dict.fromkeys(NAMES, False)

    assert weights.paper_optimal(UNITS, PRICES, nobody) == {}
    assert weights.equal(nobody) == {}


def test_merit_order_fills_the_cheapest_unit_first() -> None:
    """Each unit takes what it can carry until demand is carried."""
    found = weights.merit_order({"a": 100.0, "b": 100.0, "c": 100.0}, ["b", "a", "c"], 150.0)

    assert found["b"] == pytest.approx(100 / 150)
    assert found["a"] == pytest.approx(50 / 150)
    assert not found.get("c")


def test_spreading_follows_what_each_unit_carries() -> None:
    """Capacity mode: the same load per capacity everywhere."""
    assert weights.spread({"a": 300.0, "b": 100.0, "c": 0.0}, 200.0) == pytest.approx({"a": 0.75, "b": 0.25})


CAPACITY = {"a": 300.0, "b": 100.0, "c": 50.0}


def test_overload_of_servers_that_refuse_is_shared_by_what_each_unit_answers() -> None:
    """Each answers what it can; none is given up."""
    proportional = {name: rpm / 450.0 for name, rpm in CAPACITY.items()}

    assert weights.spread(CAPACITY, 600.0) == pytest.approx(proportional)
    assert weights.merit_order(CAPACITY, ["a", "b", "c"], 600.0) == pytest.approx(proportional)


def test_overload_of_servers_that_queue_gives_up_one_unit_to_keep_the_others() -> None:
    """Demand beyond everything goes to the smallest unit: in an overloaded queue every request is late."""
    found = weights.spread(CAPACITY, 600.0, queueing={"a", "b", "c"})

    assert {name for name, share in found.items() if share * 600.0 > CAPACITY[name] + 1e-6} == {"c"}


def test_a_unit_that_queues_is_kept_from_overload_by_those_that_refuse() -> None:
    """These lose no more than what is too much anyway."""
    found = weights.spread(CAPACITY, 600.0, queueing={"a"})

    assert found == pytest.approx({"a": 300 / 600, "b": 200 / 600, "c": 100 / 600})


def test_a_lone_unit_takes_everything_even_beyond_what_it_carries() -> None:
    """There is nobody else to give traffic to."""
    assert weights.spread({"a": 10.0, "b": 0.0}, 100.0) == {"a": 1.0}


@given(st.dictionaries(st.sampled_from(NAMES), rates, min_size=1), rates)
def test_shares_make_a_whole_and_go_only_where_there_is_capacity(
    capacity: dict[str, float], demand: float
) -> None:
    """Whatever demand and capacity are."""
    for found in (weights.spread(capacity, demand), weights.merit_order(capacity, sorted(capacity), demand)):
        assert all(share >= 0 for share in found.values())
        assert all(capacity[name] > 0 for name, share in found.items() if share > 0)
        if any(rpm > 0 for rpm in capacity.values()):
            assert sum(found.values()) == pytest.approx(1)


@given(shares)
def test_integer_weights_list_every_unit_and_sum_to_the_highest(given_shares: dict[str, float]) -> None:
    """0 to 999 each, 999 in sum, and no unit with a share is rounded away."""
    found = weights.to_weights(given_shares, NAMES)

    assert list(found) == NAMES
    assert sum(found.values()) == weights.WEIGHT_TOTAL
    assert all(weight in range(weights.WEIGHT_TOTAL + 1) for weight in found.values())
    assert {name for name, weight in found.items() if weight} == set(given_shares)


@given(shares)
def test_integer_weights_stay_within_a_few_thousandths_of_the_shares(given_shares: dict[str, float]) -> None:
    """Largest remainder is off by less than one; keeping tiny shares alive costs the largest at most four."""
    total = sum(given_shares.values())
    found = weights.to_weights(given_shares, NAMES)

    assert all(abs(found[name] - 999 * share / total) <= len(NAMES) for name, share in given_shares.items())


def test_largest_remainder_rounds_the_nearest_up_first() -> None:
    """999 in halves and quarters: the remainders .5, .75 and .75 leave one to the earlier of the largest."""
    assert weights.to_weights({"a": 0.5, "b": 0.25, "c": 0.25}, ["a", "b", "c"]) == {
        "a": 499,
        "b": 250,
        "c": 250,
    }


def test_without_shares_every_weight_is_zero() -> None:
    """The rule still lists every unit."""
    assert weights.to_weights({}, ["a", "b"]) == {"a": 0, "b": 0}


@given(shares)
def test_weights_and_shares_lead_back_to_each_other(given_shares: dict[str, float]) -> None:
    """Integer weights stand for shares that give the same weights again."""
    found = weights.to_weights(given_shares, NAMES)

    assert weights.to_weights(weights.to_shares(found), NAMES) == found


def test_a_unit_that_demand_fills_exactly_needs_nobody_else() -> None:
    """Nothing is left over for the next one."""
    found = weights.merit_order({"a": 100.0, "b": 50.0}, ["a", "b"], 100.0)

    assert found == {"a": 1.0, "b": 0.0}
