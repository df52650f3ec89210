import pytest

from containers.serving.health import Health


@pytest.fixture
def now() -> list[float]:
    """The time, in a list so that tests can set it."""
    return [0.0]


@pytest.fixture
def health(now: list[float]) -> Health:
    """A server that is ready."""
    ready = Health(lambda: now[0])
    ready.warmed()
    return ready


def test_a_server_is_ready_only_once_loaded_and_warmed() -> None:
    """Live from the start; ready after both."""
    health = Health()
    assert (health.not_ready, health.not_live) == ("the model is loading", "")
    health.warming()
    assert health.not_ready == "the model is warming up"
    health.warmed()
    assert health.not_ready == ""


def test_a_draining_server_is_not_ready_but_live(health: Health) -> None:
    """It gets no traffic, and is not killed for it."""
    health.draining()
    assert (health.not_ready, health.not_live, health.not_able) == ("the server is stopping", "", "")


def test_three_failures_in_a_row_take_the_traffic_away(health: Health) -> None:
    """Two may be the requests' own; one success starts the count anew."""
    for _ in range(2):
        health.device_failed()
    assert health.not_ready == ""
    health.device_worked()
    for _ in range(3):
        health.device_failed()
    assert health.not_ready == "the device failed 3 times in a row"
    assert health.not_live == ""


def test_a_device_that_recovers_gets_its_traffic_back(health: Health) -> None:
    """One success is proof."""
    for _ in range(3):
        health.device_failed()
    health.device_worked()
    assert health.not_ready == ""


def test_a_device_that_fails_for_two_minutes_ends_the_process(health: Health, now: list[float]) -> None:
    """The time counts from the first failure of the row."""
    for _ in range(3):
        health.device_failed()
    now[0] = 121.0
    assert health.not_live == "the device has failed for 121 s"


def test_a_dead_device_thread_is_neither_ready_nor_live(health: Health) -> None:
    """Nothing can bring it back in this process."""
    health.died("the device thread ended: bug")
    assert health.not_ready == health.not_live == "the device thread ended: bug"


def test_a_batch_that_is_overdue_takes_the_traffic_away_and_later_the_process(
    health: Health, now: list[float]
) -> None:
    """It counts from when the batch should have been done; one that ends after all is forgiven."""
    health.device_began(allowed_seconds=5.0)
    now[0] = 5.0
    assert health.not_ready == ""
    now[0] = 7.0
    assert health.not_ready == "the batch on the device is overdue by 2.0 s"
    assert health.not_live == ""
    now[0] = 66.0
    assert health.not_live == "the batch on the device is overdue by 61 s"
    health.device_ended()
    assert health.not_ready == health.not_live == ""
