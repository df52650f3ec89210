from typing import Any

import pytest

from control_lambda.core.mix.model import InstanceType, MixError, Problem, Sizes, check_budget, mixes_within
from tests.control_lambda.core.mix.examples import SIZES, base_and_cheap, linear


def test_counts_become_shares_in_the_order_of_sizes() -> None:
    """Sizes that stand twice are added up; counts of zero are left out."""
    assert Sizes.counted([(20, 1), (10, 2), (20, 1), (30, 0)]) == Sizes((10, 20), (0.5, 0.5))


@pytest.mark.parametrize(
    ("values", "shares"),
    [
        ((), ()),
        ((1.0,), (0.5, 0.5)),
        ((2.0, 1.0), (0.5, 0.5)),
        ((0.0, 1.0), (0.5, 0.5)),
        ((1.0, 2.0), (0.5, 0.4)),
    ],
)
def test_sizes_that_are_no_distribution_are_refused(
    values: tuple[float, ...], shares: tuple[float, ...]
) -> None:
    """Sizes ascend from above 0, each with a share, and the shares sum to 1."""
    with pytest.raises(MixError, match="sizes: valid:"):
        Sizes(values, shares)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"price_usd_per_hour": 0.0}, "x: price_usd_per_hour: valid: a number above 0"),
        ({"seconds": (0.1, 0.0, 0.2)}, "x: seconds: valid: service times above 0"),
        ({"spread": -0.1}, "x: spread: valid: 0 or more"),
        ({"most": -1}, "x: most: valid: 0 or more"),
    ],
)
def test_a_type_out_of_range_is_refused(change: dict[str, Any], message: str) -> None:
    """The message names the type, the key and what would be valid."""
    given: dict[str, Any] = {"name": "x", "price_usd_per_hour": 1.0, "seconds": (0.1, 0.2, 0.3), **change}
    with pytest.raises(MixError, match=message):
        InstanceType(**given)


def test_sizes_beyond_every_type_are_refused_with_the_latency_that_would_do() -> None:
    """Without a base no mix keeps the promise for the largest size."""
    with pytest.raises(MixError, match=r"size 40 within 0.4 s; valid: a base, .* at least 0.45"):
        base_and_cheap(latency_seconds=0.4)


def test_a_base_that_is_too_slow_is_refused() -> None:
    """The named base has to serve every size in time."""
    types = (linear("base", 1.0, 0.05, 0.01), linear("cheap", 0.3, 0.05, 0.03))
    with pytest.raises(MixError, match=r"base: cheap takes 1.25 s for size 40; valid: .* within 1 s"):
        Problem(SIZES, types, 1.0, base="cheap")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"types": ()}, "types: none given"),
        ({"types": (linear("a", 1, 0.1, 0.01), linear("a", 2, 0.1, 0.01))}, "types: a stands twice"),
        ({"types": (InstanceType("a", 1.0, (0.1,)),)}, "a: seconds: valid: 3, one for each size"),
        ({"base": "none"}, "base: none: no such type; valid: base, cheap"),
        ({"latency_seconds": 0.0}, "latency_seconds: 0; valid: a number above 0"),
        ({"percentile": 100.0}, "percentile: 100; valid: above 0 and below 100"),
    ],
)
def test_a_problem_that_makes_no_sense_is_refused(change: dict[str, Any], message: str) -> None:
    """The message names the key and what would be valid."""
    plain = base_and_cheap()
    given = {"sizes": plain.sizes, "types": plain.types, "latency_seconds": 1.0, **change}
    with pytest.raises(MixError, match=message):
        Problem(**given)


def test_a_budget_below_one_base_instance_is_refused() -> None:
    """The message says what the cheapest base costs."""
    with pytest.raises(MixError, match=r"budget: 0.9 USD per hour .* valid: at least 1"):
        check_budget(base_and_cheap(), 0.9)


def test_the_mixes_of_a_budget_have_a_base_and_cost_no_more() -> None:
    """All counts that the money pays for, each once, with at least one base."""
    assert sorted(mixes_within(base_and_cheap(), 2.0)) == [(1, 0), (1, 1), (1, 2), (1, 3), (2, 0)]


def test_limits_on_counts_bound_the_mixes() -> None:
    """No mix has more of a type than there may be."""
    problem = Problem(SIZES, (linear("base", 1.0, 0.05, 0.01, most=1), linear("cheap", 0.3, 0.05, 0.03)), 1.0)
    assert max(mix[0] for mix in mixes_within(problem, 5.0)) == 1
