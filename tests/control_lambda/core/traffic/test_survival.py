"""Weight leaves what has nothing healthy, whatever else is not known."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_lambda.core.traffic.survival import without_the_dead

UNITS = ["a", "b", "c", "d"]
weights = st.dictionaries(st.sampled_from(UNITS), st.integers(0, 999), min_size=1)
health = st.dictionaries(st.sampled_from(UNITS), st.integers(0, 3))


def test_the_living_share_what_the_dead_had_in_proportion_to_what_they_had() -> None:
    """Two thirds of the freed 600 go to the unit that had twice as much."""
    row = {"a": 600, "b": 266, "c": 133, "d": 0}

    assert without_the_dead(row, {"a": 0, "b": 1, "c": 9, "d": 9}) == {"a": 0, "b": 666, "c": 333, "d": 0}


def test_where_none_of_the_living_had_any_they_share_by_healthy_targets() -> None:
    """Three targets and one."""
    row = {"a": 999, "b": 0, "c": 0}

    assert without_the_dead(row, {"a": 0, "b": 3, "c": 1}) == {"a": 0, "b": 749, "c": 250}


def test_a_unit_whose_health_is_unknown_keeps_its_share() -> None:
    """What is not known is no reason to take anything away, nor to give more."""
    row = {"a": 500, "b": 400, "c": 99}

    assert without_the_dead(row, {"a": 0, "c": 2}) == {"a": 0, "b": 400, "c": 599}


@pytest.mark.parametrize("row", [{"a": 0, "b": 0}, {"a": 5, "b": 0}])
def test_a_row_that_serves_nobody_is_mended(row: Mapping[str, int]) -> None:
    """All zeros are as dead as a unit without a healthy target."""
    assert without_the_dead(row, {"a": 0, "b": 1}) == {"a": 0, "b": 999}


@pytest.mark.parametrize("healthy", [{}, {"a": 0, "b": 0}, {"a": 0}, {"a": 1, "b": 0}, {"a": 2, "b": 4}])
def test_without_cause_nothing_changes(healthy: Mapping[str, int]) -> None:
    """Nothing known, nothing healthy anywhere, or nothing dead that has weight."""
    assert without_the_dead({"a": 999, "b": 0}, healthy) is None


@given(weights, health)
def test_weight_never_goes_to_the_dead_while_another_lives(
    row: dict[str, int], healthy: dict[str, int]
) -> None:
    """Integers for the same units, never all zeros, and the second time there is nothing to do."""
    moved = without_the_dead(row, healthy)
    if moved is None:
        living = [unit for unit in row if healthy.get(unit, 0) > 0]
        assert not living or not any(row[unit] for unit in row if healthy.get(unit) == 0)
        return
    assert list(moved) == list(row)
    assert sum(moved.values()) == 999
    assert all(weight in range(1000) for weight in moved.values())
    assert not any(moved[unit] for unit in row if healthy.get(unit) == 0)
    assert without_the_dead(moved, healthy) is None
