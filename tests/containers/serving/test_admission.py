import math
from collections.abc import Sequence

import pytest

from containers.serving.admission import Admission, Backlog, ServiceTimes
from containers.serving.backends.protocol import Shape, Work
from containers.serving.errors import ApiError

WORK = Work(Shape(512, 512), 20, 7.5)
OTHER = Work(Shape(512, 512), 40, 7.5)


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """The time now."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock at 0."""
    return Clock()


@pytest.fixture
def times(clock: Clock) -> ServiceTimes:
    """One picture takes 1 s, two at once 1.5 s."""
    known = ServiceTimes(clock)
    known.record(WORK, 1, 1.0)
    known.record(WORK, 2, 1.5)
    return known


@pytest.fixture
def admission(times: ServiceTimes) -> Admission:
    """Batches of two, four pictures may wait."""
    return Admission(times, lambda _: 2, max_queue=4)


def test_the_estimate_is_the_median_of_the_last_five(times: ServiceTimes) -> None:
    """Two slow ones of five change nothing, the third is believed."""
    for _ in range(4):
        times.record(WORK, 1, 1.0)
    believed = []
    for _ in range(3):
        times.record(WORK, 1, 2.0)
        believed.append(times.estimate(WORK, 1))
    assert believed == [1.0, 1.0, 2.0]


def test_what_was_never_measured_is_scaled_by_its_computation(times: ServiceTimes) -> None:
    """Twice the steps, twice the time of the nearest class; unguided work is half of guided."""
    assert times.estimate(Work(WORK.shape, 10, 7.5), 1) == pytest.approx(0.5)
    assert times.estimate(Work(WORK.shape, 20, 1.0), 1) == pytest.approx(0.5)
    assert times.estimate(Work(Shape(512, 1024), 40, 7.5), 2) == pytest.approx(6.0)


def test_nothing_known_is_no_reason_to_refuse() -> None:
    """Before the first measurement every estimate is 0."""
    assert ServiceTimes().estimate(WORK, 1) == 0.0


def test_the_backlog_is_what_runs_and_what_waits(admission: Admission) -> None:
    """The rest of the current batch, then full batches, then the rest; by kind of work."""
    backlog = Backlog([WORK, OTHER, WORK, WORK], (WORK, 2), elapsed_seconds=0.5)
    # 1.0 left of the current; WORK in a batch of two and one alone; OTHER alone, at twice the steps.
    assert admission.seconds_until_done(backlog) == pytest.approx(1.0 + 1.5 + 1.0 + 1.5)


def test_a_batch_that_overran_its_estimate_counts_as_done(admission: Admission) -> None:
    """Nothing negative is subtracted from what waits."""
    assert admission.seconds_until_done(Backlog([WORK], (WORK, 1), elapsed_seconds=9)) == pytest.approx(1.0)


def test_a_request_that_can_be_answered_in_time_is_admitted(admission: Admission) -> None:
    """Alone on a free device 1 s is enough; without a deadline anything is."""
    admission.admit(WORK, 1, Backlog([]), 1.0)
    admission.admit(WORK, 4, Backlog([], (WORK, 1)), math.inf)


def test_a_request_that_can_join_a_batch_is_admitted(admission: Admission) -> None:
    """One waits; two together take 1.5 s, one after the other they would take 2 s."""
    admission.admit(WORK, 1, Backlog([WORK]), 1.6)


def test_a_request_that_can_not_be_answered_in_time_is_refused(admission: Admission) -> None:
    """503, with Retry-After rounded up to whole seconds."""
    with pytest.raises(ApiError) as refused:
        admission.admit(WORK, 1, Backlog([WORK, WORK], (WORK, 2)), 1.0)
    assert (refused.value.status_code, refused.value.code) == (503, "deadline_exceeded")
    assert refused.value.headers == {"Retry-After": "3"}


def test_a_full_queue_refuses_even_without_a_deadline(admission: Admission) -> None:
    """The bound of the queue is one of memory and patience, not of time."""
    with pytest.raises(ApiError) as refused:
        admission.admit(WORK, 2, Backlog([WORK] * 3), math.inf)
    assert (refused.value.status_code, refused.value.code) == (503, "overloaded")
    assert refused.value.headers == {"Retry-After": "3"}


@pytest.mark.parametrize("seconds", [7.0, 20.0])
def test_one_slow_batch_among_quick_ones_refuses_nobody(clock: Clock, seconds: float) -> None:
    """After twenty of 0.5 s a slow one moves nothing: a device at work still admits what fits."""
    times = measured(clock, [0.5] * 20 + [seconds])
    assert times.estimate(WORK, 1) == 0.5
    Admission(times, lambda _: 1, max_queue=4).admit(WORK, 1, Backlog([], (WORK, 1)), 2.0)


def test_a_device_that_has_become_slow_refuses_while_it_is_busy_and_is_tried_when_idle(clock: Clock) -> None:
    """Five slow batches are believed; an idle device is never refused to, and three quick ones clear it."""
    times = measured(clock, [0.5] * 20 + [7.0] * 5)
    admission = Admission(times, lambda _: 1, max_queue=4)
    with pytest.raises(ApiError):
        admission.admit(WORK, 1, Backlog([], (WORK, 1)), 2.0)
    for _ in range(3):
        admission.admit(WORK, 1, Backlog([]), 2.0)
        times.record(WORK, 1, 0.5)
    admission.admit(WORK, 1, Backlog([], (WORK, 1)), 2.0)


def test_a_slow_first_measurement_is_forgotten_with_the_next(clock: Clock) -> None:
    """A minute for what compiles or loads lazily, and half a second ever after."""
    times = measured(clock, [60.0])
    admission = Admission(times, lambda _: 1, max_queue=4)
    admission.admit(WORK, 1, Backlog([]), 2.0)
    times.record(WORK, 1, 0.5)
    admission.admit(WORK, 1, Backlog([], (WORK, 1)), 2.0)


def test_what_nothing_has_confirmed_for_a_minute_is_replaced(clock: Clock) -> None:
    """Five old measurements do not outvote a new one."""
    times = measured(clock, [7.0] * 5)
    clock.now = 61.0
    times.record(WORK, 1, 0.5)
    assert times.estimate(WORK, 1) == 0.5


def measured(clock: Clock, seconds: Sequence[float]) -> ServiceTimes:
    """Service times after these measurements of one picture."""
    times = ServiceTimes(clock)
    for each in seconds:
        times.record(WORK, 1, each)
    return times
