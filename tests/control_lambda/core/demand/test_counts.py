"""What came, from counts that are late, partial or missing: absence is no evidence."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_lambda.core.demand import counts
from control_lambda.core.model import CountMemory, Minute, Snapshot
from tests.control_lambda.core.examples import NOON

EVEN = {"aa": 0.5, "bb": 0.5}
NEWEST = NOON - 180  # the start of the newest minute whose counts are usually there at noon


def counted(
    shares: Mapping[str, float] | None = None,
    untargeted: Mapping[int, float] | None = None,
    **units: Minute | tuple[Minute, ...],
) -> dict[int, float]:
    """What is known at noon of the minutes shown."""
    shown = {name: given if isinstance(given, tuple) else (given,) for name, given in units.items()}
    return counts.counted_minutes(Snapshot(NOON, minutes=shown, untargeted=untargeted or {}), shares or {})


def read(values: Mapping[int, float], *, share: float, minutes: int) -> CountMemory:
    """The memory where counts first show `share` of themselves for five minutes."""
    memory = CountMemory()
    for tick in range(minutes):
        at = NOON + 60.0 * tick
        shown = {
            start: count * (1.0 if at - start - 180 >= 300 else share)
            for start, count in values.items()
            if start <= at - 180
        }
        memory = counts.settle(memory, shown, at)
    return memory


# --- One minute ---------------------------------------------------------------------------------------


def test_demand_is_everything_that_came_counted_once() -> None:
    """Requests of all units, and those that found no target."""
    found = counted(EVEN, {NEWEST: 5.0}, aa=Minute(NEWEST, 10.0), bb=Minute(NEWEST, 20.0))
    assert found == {NEWEST: 35.0}


def test_a_minute_without_counts_or_hosts_is_unknown() -> None:
    """Missing is neither zero nor healthy."""
    assert counted(EVEN, aa=Minute(NEWEST)) == {}


def test_absent_counts_beside_hosts_are_no_zero_at_once() -> None:
    """They may be late."""
    assert counted(EVEN, aa=Minute(NEWEST, healthy_hosts=2.0)) == {}


def test_counts_that_stay_absent_beside_hosts_were_zero() -> None:
    """Time decides: CloudWatch leaves out minutes without requests."""
    old = NEWEST - 60 * counts.ABSENT_MINUTES
    assert counted(EVEN, aa=Minute(old, healthy_hosts=2.0)) == {old: 0.0}


def test_responses_that_were_timed_stand_in_for_requests_that_are_not_counted_yet() -> None:
    """Another metric of the same minute is there: so many were answered, so many failed."""
    late = Minute(NEWEST, None, 7.0, 0.6, 200.0, 3.0)
    assert counted(EVEN, aa=late) == {NEWEST: 207.0}


def test_a_unit_that_counted_nothing_is_taken_to_have_had_its_share() -> None:
    """Half of the traffic goes there, so what the others counted is half of what came."""
    found = counted(EVEN, aa=Minute(NEWEST, 100.0), bb=Minute(NEWEST, healthy_hosts=2.0))
    assert found == {NEWEST: 200.0}


def test_a_unit_with_a_small_share_may_well_have_counted_nothing() -> None:
    """Three requests expected, none came: that happens."""
    shares = {"aa": 0.97, "bb": 0.03}
    assert counted(shares, aa=Minute(NEWEST, 97.0), bb=Minute(NEWEST, healthy_hosts=2.0)) == {NEWEST: 97.0}


def test_a_unit_without_hosts_or_share_is_not_missed() -> None:
    """Nothing is sent where nothing is."""
    assert counted(EVEN, aa=Minute(NEWEST, 100.0), bb=Minute(NEWEST)) == {NEWEST: 100.0}
    assert counted({}, aa=Minute(NEWEST, 100.0), bb=Minute(NEWEST, healthy_hosts=2.0)) == {NEWEST: 100.0}


def test_a_blackout_of_every_unit_is_seen_in_what_found_no_target() -> None:
    """With no healthy host at all demand shows in the load balancer's own answers."""
    assert counted(EVEN, {NEWEST: 400.0}, aa=Minute(NEWEST)) == {NEWEST: 400.0}


def test_minutes_that_counts_cannot_cover_yet_are_left_out() -> None:
    """The last two minutes are incomplete."""
    assert counted(EVEN, aa=Minute(NEWEST + 60, 10.0)) == {}


# --- Minutes that are read again ----------------------------------------------------------------------


def test_a_count_that_does_not_change_is_taken_as_it_is() -> None:
    """No correction where none was ever needed."""
    values = {NEWEST + 60 * minute: 100.0 for minute in range(30)}
    assert {count for _, count in read(values, share=1.0, minutes=30).estimates} == {100.0}


def test_a_later_read_replaces_the_first() -> None:
    """The estimate of a minute follows what is shown now."""
    first = counts.settle(CountMemory(), {NEWEST: 50.0}, NOON)
    second = counts.settle(first, {NEWEST: 80.0}, NOON + 60.0)
    assert (first.estimates, second.estimates) == (((NEWEST, 50.0),), ((NEWEST, 80.0),))


def test_counts_that_first_show_half_of_themselves_are_corrected_within_ten_minutes() -> None:
    """What earlier minutes grew by is expected of the newest."""
    values = {NEWEST + 60 * minute: 100.0 for minute in range(40)}
    estimates = [count for _, count in read(values, share=0.5, minutes=12).estimates]
    assert min(estimates) >= 95.0
    assert max(estimates) <= 105.0


def test_only_minutes_that_will_not_be_read_again_are_settled() -> None:
    """Six minutes after they could first be read."""
    old = NEWEST - 60 * counts.SETTLED_MINUTES
    assert counts.settled({old: 1.0, old + 60: 2.0}, NOON) == {old: 1.0}


@given(
    st.dictionaries(st.integers(0, 15).map(lambda back: NEWEST - 60 * back), st.floats(0, 1e6), max_size=16)
)
def test_an_estimate_is_never_below_what_is_shown(shown: Mapping[int, float]) -> None:
    """Sums of a past minute only grow."""
    memory = CountMemory(growth=(3.0, 2.0, 1.5, 1.0, 1.0, 1.0))
    estimates = counts.settle(memory, shown, NOON).estimates
    assert all(count >= shown[start] for start, count in estimates)


@pytest.mark.parametrize("final", [0.0, 1e9])
def test_growth_is_bounded(final: float) -> None:
    """One absurd count does not multiply demand for long."""
    memory = counts.settle(CountMemory(), {NEWEST: 1.0}, NOON)
    learned = counts.settle(memory, {NEWEST: final}, NOON + 60.0 * counts.SETTLED_MINUTES)
    assert all(1.0 <= factor <= counts.MOST_GROWTH for factor in learned.growth)
