import threading
import time

import pytest

from containers.serving.backends.protocol import Picture, Work
from containers.serving.batching import Job, JobQueue
from containers.serving.errors import ApiError
from tests.containers.serving.fake_backend import SMALL, WIDE

WORK = Work(SMALL, 20, 7.5)
OTHER = Work(WIDE, 20, 7.5)
LONG_WINDOW = 3600.0


def job(seed: int, work: Work = WORK, queued_at: float = 0.0) -> Job:
    """A job that came at `queued_at`; long ago, so that no window is left for it."""
    return Job(Picture("", "", seed, work), deadline=float("inf"), queued_at=queued_at)


def seeds(batch: list[Job]) -> list[int]:
    """The seeds of a batch."""
    return [one.picture.seed for one in batch]


def test_a_batch_is_the_oldest_job_and_those_that_share_its_work() -> None:
    """First come, first served; jobs of the same work overtake others only to fill a batch."""
    queue = JobQueue(0.0)
    queue.put([job(1), job(2, OTHER), job(3), job(4), job(5, OTHER)])
    taken = [seeds(queue.take(lambda _: 2)) for _ in range(3)]
    assert taken == [[1, 3], [2, 5], [4]]


def test_a_cancelled_job_leaves_the_queue() -> None:
    """It is neither taken nor counted."""
    queue = JobQueue(0.0)
    first, second = job(1), job(2)
    queue.put([first, second])
    first.future.cancel()
    assert queue.waiting() == [WORK]
    assert seeds(queue.take(lambda _: 2)) == [2]


def test_a_full_batch_does_not_wait_for_the_window() -> None:
    """The window is for batches that could still grow."""
    queue = JobQueue(LONG_WINDOW)
    queue.put([job(1, queued_at=time.monotonic()), job(2)])
    assert seeds(queue.take(lambda _: 2)) == [1, 2]


def test_a_batch_grows_while_the_window_of_its_oldest_job_is_open() -> None:
    """A job that comes within the window joins."""
    queue = JobQueue(LONG_WINDOW)
    queue.put([job(1, queued_at=time.monotonic())])
    taken: list[Job] = []
    taker = threading.Thread(target=lambda: taken.extend(queue.take(lambda _: 2)))
    taker.start()
    queue.put([job(2)])
    taker.join(60)
    assert seeds(taken) == [1, 2]


def test_a_job_whose_window_is_over_is_taken_alone() -> None:
    """What waited for the device has waited enough."""
    queue = JobQueue(LONG_WINDOW)
    queue.put([job(1, queued_at=time.monotonic() - LONG_WINDOW)])
    assert seeds(queue.take(lambda _: 2)) == [1]


def test_taking_from_an_empty_queue_ends_with_the_timeout() -> None:
    """Empty, not blocked: the device has other things to do."""
    assert JobQueue(0.0).take(lambda _: 1, timeout=0.001) == []


def test_a_closed_queue_gives_what_is_left_and_takes_nothing_more() -> None:
    """Closing loses no job; a late one is refused with 503."""
    queue = JobQueue(LONG_WINDOW)
    queue.put([job(1, queued_at=time.monotonic())])
    queue.close()
    with pytest.raises(ApiError, match="stopping"):
        queue.put([job(2)])
    assert not queue.has_ended()
    assert seeds(queue.take(lambda _: 2)) == [1]
    assert queue.has_ended()
    assert queue.take(lambda _: 2) == []


def test_a_cancelled_job_is_not_taken_though_nobody_looked_at_the_queue() -> None:
    """Taking alone leaves it out: of the oldest, and of those that share the batch."""
    queue = JobQueue(0.0)
    jobs = [job(seed) for seed in (1, 2, 3, 4)]
    queue.put(jobs)
    jobs[0].future.cancel()
    jobs[2].future.cancel()
    assert seeds(queue.take(lambda _: 4)) == [2, 4]


def test_where_all_that_waits_was_cancelled_nothing_is_taken() -> None:
    """The device goes on waiting, and a queue that is closed then has ended."""
    queue = JobQueue(0.0)
    only = job(1)
    queue.put([only])
    only.future.cancel()
    assert queue.take(lambda _: 1, timeout=0.001) == []
    queue.close()
    assert queue.take(lambda _: 1) == []
    assert queue.has_ended()


def test_a_job_that_is_cancelled_within_its_window_is_not_taken() -> None:
    """The taker holds it already when it goes; the next one that comes is the oldest then."""
    queue = JobQueue(LONG_WINDOW)
    first = job(1, queued_at=time.monotonic())
    queue.put([first])
    taken: list[Job] = []
    taker = threading.Thread(target=lambda: taken.extend(queue.take(lambda _: 2)), daemon=True)
    taker.start()
    first.future.cancel()
    queue.put([job(2), job(3)])
    taker.join(60)
    assert seeds(taken) == [2, 3]
