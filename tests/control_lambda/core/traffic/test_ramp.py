"""From the shares that stand to the shares that are wanted: slowly, unless survival asks for more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_lambda.core.traffic import ramp

PLENTY = {"a": 1000.0, "b": 1000.0, "c": 1000.0}


def test_a_share_rises_by_at_most_20_points_a_tick() -> None:
    """A recovered unit proves itself on little traffic."""
    shares, jumped = ramp.step({"a": 1.0, "b": 0.0}, {"b": 1.0}, PLENTY, 100.0)

    assert 0.19 < shares["b"] <= 0.20
    assert not jumped


def test_a_new_unit_starts_at_5_percent_at_most() -> None:
    """New is what the shares in force do not name."""
    shares, _ = ramp.step({"a": 1.0}, {"b": 1.0}, PLENTY, 100.0)

    assert 0.04 < shares["b"] <= 0.05


def test_small_moves_are_made_at_once() -> None:
    """Within the step the wish is fulfilled to the letter."""
    wanted = {"a": 0.4, "b": 0.6}

    assert ramp.step({"a": 0.5, "b": 0.5}, wanted, PLENTY, 100.0) == (wanted, False)


def test_a_dead_units_share_goes_to_the_others_at_once() -> None:
    """Nothing ramps down on a unit without ready nodes."""
    shares, _ = ramp.step({"a": 0.6, "b": 0.3, "c": 0.1}, {"b": 1.0}, {"b": 500.0, "c": 500.0}, 100.0)

    assert "a" not in shares
    assert sum(shares.values()) == pytest.approx(1)


def test_survival_precedes_the_ramp() -> None:
    """When the ready rest cannot carry demand, shares jump."""
    capacity = {"a": 50.0, "b": 1000.0}

    assert ramp.step({"a": 1.0, "b": 0.0}, {"a": 0.05, "b": 0.95}, capacity, 800.0) == (
        {"a": 0.05, "b": 0.95},
        True,
    )


def test_after_everything_died_what_comes_back_takes_everything() -> None:
    """There is nothing left to ramp from."""
    assert ramp.step({"a": 1.0}, {"b": 1.0}, {"b": 10.0}, 100.0) == ({"b": 1.0}, True)


def test_the_first_shares_of_all_do_not_ramp() -> None:
    """On the first tick nothing stands; that is no jump."""
    assert ramp.step({}, {"a": 0.5, "b": 0.5}, PLENTY, 100.0) == ({"a": 0.5, "b": 0.5}, False)


def test_without_a_wish_there_are_no_shares() -> None:
    """No unit may carry anything."""
    assert ramp.step({"a": 1.0}, {}, {}, 100.0) == ({}, False)


fractions = st.lists(st.floats(min_value=0.001, max_value=1), min_size=3, max_size=3)


@given(fractions, fractions, st.floats(min_value=0, max_value=3000))
def test_a_ramp_always_arrives(stood: list[float], wished: list[float], demand: float) -> None:
    """Steps end at the wish, each of them a whole."""
    in_force = {name: share / sum(stood) for name, share in zip("abc", stood, strict=True)}
    wanted = {name: share / sum(wished) for name, share in zip("abc", wished, strict=True)}
    for _ in range(6):
        in_force, _ = ramp.step(in_force, wanted, PLENTY, demand)
        assert sum(in_force.values()) == pytest.approx(1)

    assert in_force == pytest.approx(wanted)


def test_what_a_ramp_would_overload_is_taken_by_those_with_room_within_their_step() -> None:
    """Each by its room: a known unit up to 20 points, a new one up to 5; nothing jumps."""
    standing = {"a": 0.5, "b": 0.5, "c": 0.0, "d": 0.0}
    wanted = {"a": 0.3, "b": 0.4, "c": 0.3}
    capacity = {"a": 300.0, "b": 400.0, "c": 500.0, "d": 300.0, "e": 300.0}
    lacking, room_of_d, room_of_e = 0.101, 0.199, 0.049
    each = lacking / (room_of_d + room_of_e)

    shares, jumped = ramp.step(standing, wanted, capacity, 1000.0)

    assert not jumped
    assert shares == pytest.approx(
        {"a": 0.3, "b": 0.4, "c": 0.199, "d": each * room_of_d, "e": each * room_of_e}
    )


def test_where_the_room_of_the_others_does_not_suffice_the_shares_jump() -> None:
    """A new unit alone may take 4.9 points of the 10.1 that are too many."""
    standing = {"a": 0.5, "b": 0.5, "c": 0.0}
    wanted = {"a": 0.3, "b": 0.4, "c": 0.3}
    capacity = {"a": 300.0, "b": 400.0, "c": 500.0, "e": 300.0}

    assert ramp.step(standing, wanted, capacity, 1000.0) == (wanted, True)


def test_nobody_takes_more_than_it_carries() -> None:
    """What overloads one unit is not made to overload the next: room ends where capacity does."""
    standing = {"a": 0.5, "b": 0.5, "c": 0.0, "d": 0.0}
    wanted = {"a": 0.3, "b": 0.4, "c": 0.3}
    capacity = {"a": 300.0, "b": 400.0, "c": 500.0, "d": 60.0, "e": 45.0}

    shares, jumped = ramp.step(standing, wanted, capacity, 1000.0)

    assert not jumped
    assert all(share * 1000.0 <= capacity[name] + 1e-6 for name, share in shares.items())
    assert sum(shares.values()) == pytest.approx(1)
