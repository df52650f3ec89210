"""The table of policies: every name that a fleet may give has its row, its words and its shares."""

from typing import get_args

import pytest

from control_lambda.core.fleet import DEFAULT_POLICY, Policy
from control_lambda.core.traffic import weights
from control_lambda.core.traffic.policies import POLICIES
from tests.control_lambda.core.examples import paper_fleet

UNITS = paper_fleet().units
PRICES = {unit.name: unit.pools[0].price_usd_per_hour for unit in UNITS}
ALL = dict.fromkeys(PRICES, True)


def test_every_policy_that_a_fleet_may_name_has_its_row() -> None:
    """A name without a row would stop the loop; a row without a name could not be chosen."""
    assert POLICIES.keys() ^ set(get_args(Policy)) == set()


def test_a_policy_without_a_row_is_none_of_the_others() -> None:
    """Nothing stands in for it."""
    with pytest.raises(KeyError, match="cheapest-first"):
        POLICIES["cheapest-first"]  # type: ignore[index]  # that is the test


def test_the_planner_chooses_freely_under_the_default_alone() -> None:
    """A plan at least cost would starve the units that a formula sends traffic to."""
    assert {policy for policy, rules in POLICIES.items() if rules.formula is None} == {DEFAULT_POLICY}


@pytest.mark.parametrize("policy", [name for name, rules in POLICIES.items() if rules.formula])
def test_a_formula_shares_all_traffic_among_the_available_units(policy: Policy) -> None:
    """Whole, and nothing for the unit that isn't there."""
    formula = POLICIES[policy].formula
    assert formula is not None
    found = formula(UNITS, PRICES, {**ALL, "inf2-neuron": False})
    assert found.keys() == ALL.keys() - {"inf2-neuron"}
    assert sum(found.values()) == pytest.approx(1)


def test_the_papers_rows_hold_the_papers_formulas() -> None:
    """The cost of inference, C of its cost mode, is the price over the throughput."""
    costs = {unit.name: PRICES[unit.name] / unit.profile.throughput_rpm for unit in UNITS}
    wanted: dict[Policy, weights.Shares] = {
        "paper-optimal": weights.paper_optimal(UNITS, PRICES, ALL),
        "paper-cost": weights.paper_cost(UNITS, costs, ALL),
        "paper-capacity": weights.equal(ALL),
    }
    for policy, shares in wanted.items():
        formula = POLICIES[policy].formula
        assert formula is not None
        assert formula(UNITS, PRICES, ALL) == pytest.approx(shares)
