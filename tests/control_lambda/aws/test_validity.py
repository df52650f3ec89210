"""What can be no count and no price stops where it comes in, and is told once."""

from math import inf, nan

import pytest

from control_lambda.aws.metrics import valid_counts, valid_prices

NOON = 1_769_860_800


@pytest.mark.parametrize("bad", [0.0, -1.0, nan, inf])
def test_the_last_good_price_stays_when_a_bad_one_follows(bad: float) -> None:
    """It is told by the read after it came, which may be ten minutes later, and no longer."""
    points = {"a": {NOON - 3600: 0.5, NOON: bad}, "b": {NOON: 0.7}}
    new = valid_prices(points, NOON + 30)
    assert new.known == {"a": 0.5, "b": 0.7}
    assert new.invalid == (f"prices: a: {bad:g} refused; valid: finite, above 0",)
    assert valid_prices(points, NOON + 660).invalid == ()


def test_a_good_price_after_a_bad_one_is_taken_without_a_word() -> None:
    """Nothing is wrong any more."""
    found = valid_prices({"a": {NOON - 60: 0.0, NOON: 0.6}}, NOON)
    assert (found.known, found.invalid) == ({"a": 0.6}, ())


def test_a_pool_that_only_ever_had_bad_prices_has_none() -> None:
    """The one that is remembered, or the file's, goes on."""
    assert valid_prices({"a": {NOON: 0.0}}, NOON).known == {}


@pytest.mark.parametrize("bad", [-1.0, nan, inf])
def test_what_can_be_no_count_has_not_come(bad: float) -> None:
    """The other counts of its minute and the other minutes stay; one line tells of it while it is new."""
    points = {"requests": {NOON - 120: 5.0, NOON - 60: bad}, "errors": {NOON - 60: 0.0}}
    valid, told = valid_counts(points, NOON)
    assert valid == {"requests": {NOON - 120: 5.0}, "errors": {NOON - 60: 0.0}}
    assert told == (f"metrics: 1 refused, such as {bad:g} of requests; valid: finite, 0 or more",)
    assert valid_counts(points, NOON + 300) == (valid, ())
