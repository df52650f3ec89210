"""How far profiles are trusted: lateness lowers trust, but only where the load was fair."""

from dataclasses import replace

import pytest

from control_lambda.core.model import Minute
from control_lambda.core.supply import trust
from tests.control_lambda.core.examples import NOON, fleet, minutes, unit

FLEET = fleet(unit("aa"))
TABLES = {"aa": (0.0, 100.0, 220.0)}


def learned(shown: tuple[Minute, ...], level: float = 1.0, since: int = 0) -> float:
    """Trust in the unit after these minutes."""
    return trust.learn({"aa": level}, {"aa": shown}, TABLES, FLEET, since)["aa"]


def test_lateness_at_a_fair_load_lowers_trust() -> None:
    """The unit should have carried that load in time: its profile flatters it."""
    assert learned(minutes(NOON, 50.0, latency=3.0)) < 1.0


def test_lateness_under_overload_says_nothing_about_the_profile() -> None:
    """The queue was too long, not the service too slow."""
    assert learned(minutes(NOON, 150.0, latency=3.0)) == 1.0


def test_the_queue_that_an_overloaded_minute_leaves_is_not_held_against_the_unit() -> None:
    """The minute after an overload is late for the same reason."""
    before, after = minutes(NOON, 50.0, latency=3.0)[-2:]

    assert learned((replace(before, requests=500.0), after), since=before.at) == 1.0


def test_without_hosts_nothing_is_learned_from_lateness_but_that_it_was_slow() -> None:
    """No table entry, no load, no division by zero."""
    assert learned(minutes(NOON, 50.0, latency=3.0, hosts=0)) <= 1.0


def test_errors_between_1_and_5_percent_make_latency_meaningless() -> None:
    """Errors are often fast: above 1 % 5xx the percentile neither lowers nor raises trust."""
    for latency in (0.1, 3.0):
        assert learned(minutes(NOON, 50.0, latency=latency, errors=1.0), level=0.7) == 0.7


def test_errors_beyond_the_percentile_are_missed_objectives() -> None:
    """Target 5xx count as missed: more than 5 % of them fail the 95th percentile, however fast."""
    assert learned(minutes(NOON, 50.0, latency=0.1, errors=10.0)) < 1.0


def test_trust_recovers_far_more_slowly_than_it_is_lost() -> None:
    """One late minute outweighs one good one several times."""
    late, good = minutes(NOON, 50.0, latency=3.0)[-1:], minutes(NOON, 50.0, latency=0.6)[-1:]
    lost = 1.0 - learned(late)
    regained = learned(good, level=1.0 - lost) - (1.0 - lost)

    assert 0 < regained < lost / 3


def test_a_unit_without_traffic_gets_another_chance() -> None:
    """Idle minutes raise trust too, slower than good ones."""
    idle, good = learned(minutes(NOON, 0.0), level=0.5), learned(minutes(NOON, 50.0), level=0.5)

    assert 0.5 < idle < good


def test_trust_stays_between_its_least_and_one() -> None:
    """However long a unit is late or in time."""
    level = 1.0
    for _ in range(20):
        level = learned(minutes(NOON, 50.0, latency=9.0), level)
    assert 0 < level < 0.5
    for _ in range(200):
        level = learned(minutes(NOON, 50.0), level)
    assert level == 1.0


def test_a_minute_is_learned_from_once() -> None:
    """Minutes up to `since` were learned by an earlier tick."""
    shown = minutes(NOON, 50.0, latency=3.0)

    assert learned(shown, level=0.8, since=shown[-1].at) == 0.8


def test_a_unit_that_shows_no_minutes_keeps_its_trust() -> None:
    """Missing data is neither good nor bad."""
    assert learned((), level=0.8) == pytest.approx(0.8)
