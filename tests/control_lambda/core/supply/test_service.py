"""What a unit's requests take is learned from what its nodes answered, not believed."""

import math

import pytest

from control_lambda.core.model import Minute, ServiceMemory
from control_lambda.core.supply import service
from tests.control_lambda.core.examples import NOON, fleet, unit

FLEET = fleet(unit("aa", service=0.5))
UNIT = FLEET.units[0]


def minutes(count: int, rpm: float, mean: float, hosts: int = 4, errors: float = 0.0) -> tuple[Minute, ...]:
    """Minutes from noon on in which `rpm` were answered in `mean` seconds on the average."""
    return tuple(
        Minute(NOON + 60 * minute, rpm + errors, errors, 2 * mean, rpm, hosts, mean_seconds=mean)
        for minute in range(count)
    )


def learned(shown: tuple[Minute, ...], before: ServiceMemory | None = None) -> float:
    """The seconds that the unit is planned with after these minutes."""
    memory = service.learn({} if before is None else {"aa": before}, {"aa": shown}, FLEET, 0)
    return service.planned_seconds(UNIT, memory)


def test_a_unit_that_nobody_has_seen_is_planned_as_its_profile_says() -> None:
    """The prior."""
    assert learned(()) == 0.5


@pytest.mark.parametrize("factor", [0.7, 0.8, 1.2, 1.5, 2.0])
def test_a_profile_that_is_wrong_is_learned_from_light_traffic(factor: float) -> None:
    """Requests that hardly wait take as long as they take."""
    assert learned(minutes(10, 60.0, 0.5 * factor)) == pytest.approx(0.5 * factor, abs=0.03)


@pytest.mark.parametrize("factor", [1.2, 1.5, 2.0])
def test_a_profile_that_is_wrong_is_learned_from_busy_nodes_that_refuse(factor: float) -> None:
    """All nodes are busy all the time, answers are just in time, the rest is refused."""
    carried = 4 * 60 / (0.5 * factor)
    assert learned(minutes(10, carried, 1.8, errors=200.0)) == pytest.approx(0.5 * factor, abs=0.03)


def test_a_queue_is_not_held_against_the_unit() -> None:
    """Servers that never refuse answer late, but as many as their profile says."""
    assert learned(minutes(10, 480.0, 30.0)) == 0.5


def test_one_minute_says_nothing() -> None:
    """A minute that inherits a queue or loses a node half way is outvoted."""
    strange = (*minutes(5, 60.0, 0.5), *minutes(3, 60.0, 3.0), *minutes(2, 60.0, 0.5))
    assert learned(strange) == 0.5


def test_a_unit_that_got_well_again_is_believed() -> None:
    """Learned both ways."""
    slow = ServiceMemory((1.5,) * service.RECENT_MINUTES, 1.5)
    assert learned(minutes(10, 60.0, 0.5), slow) == 0.5


def test_small_differences_are_ignored() -> None:
    """Within a step of what is planned with, plans stay as they are."""
    assert learned(minutes(20, 60.0, 0.52)) == 0.5


def test_too_few_responses_say_nothing() -> None:
    """Their mean is chance."""
    assert learned(minutes(20, service.ENOUGH_SAMPLES - 1.0, 5.0)) == 0.5


def test_only_new_minutes_are_learned_from() -> None:
    """A minute is one minute, however often it is read."""
    shown = minutes(3, 60.0, 1.0)
    memory = service.learn({}, {"aa": shown}, FLEET, NOON + 60)
    assert len(memory["aa"].recent) == 1


@pytest.mark.parametrize(("hosts", "load"), [(1, 0.5), (4, 0.7), (16, 0.9)])
def test_the_wait_is_taken_out_of_the_response(hosts: int, load: float) -> None:
    """The inverse of Sakasegawa's formula for service times that hardly vary."""
    answered = 60 * hosts * load / 0.5
    wait = 0.5 * load ** (math.sqrt(2 * (hosts + 1)) - 1) / (2 * hosts * (1 - load))
    assert service.without_wait(0.5 + wait, answered, hosts) == pytest.approx(0.5, rel=1e-3)
