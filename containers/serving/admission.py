"""Whether a request can be answered in time, from measured service times and what already waits."""

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from containers.serving.backends.protocol import Shape, Work
from containers.serving.deadline import fits
from containers.serving.errors import overloaded

# Weight of the newest measurement: five of them outweigh what was known before.
_NEWEST: Final = 0.25
# What was measured longer ago than this may not refuse a request while the device is idle: else one slow
# minute would be believed for ever, because nothing is measured while everything is refused.
_STALE_SECONDS: Final = 60.0

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class _Class:
    """What decides how long a batch takes."""

    shape: Shape
    steps: int
    guided: bool
    batch_size: int

    @property
    def size(self) -> float:
        """The amount of computation, in denoised pixels."""
        return self.shape.pixels * self.steps * (2 if self.guided else 1) * self.batch_size


@dataclass(frozen=True, slots=True)
class _Measured:
    seconds: float
    at: float


class ServiceTimes:
    """How long batches take on this device, learned from every one of them. Any thread may call."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._known: Mapping[_Class, _Measured] = {}
        self._lock = threading.Lock()

    def record(self, work: Work, batch_size: int, seconds: float) -> None:
        """Learn from one batch: an exponentially weighted mean per class of work."""
        key = _class_of(work, batch_size)
        with self._lock:
            old = self._known.get(key)
            mean = seconds if old is None else old.seconds + _NEWEST * (seconds - old.seconds)
            # Replaced, never changed: readers need no lock.
            self._known = {**self._known, key: _Measured(mean, self._clock())}

    def estimate(self, work: Work, batch_size: int) -> float:
        """Seconds that a batch will take; 0 while nothing is known.

        What was never measured is scaled from the nearest that was, in proportion to the computation.
        """
        key, known = _class_of(work, batch_size), self._known
        if key in known:
            return known[key].seconds
        if not known:
            return 0.0
        nearest = min(known, key=lambda other: abs(math.log(key.size / other.size)))
        return known[nearest].seconds * key.size / nearest.size

    def is_stale(self, work: Work, batch_size: int) -> bool:
        """Whether the class was never measured, or too long ago to refuse on it."""
        measured = self._known.get(_class_of(work, batch_size))
        return measured is None or self._clock() - measured.at > _STALE_SECONDS


def _class_of(work: Work, batch_size: int) -> _Class:
    return _Class(work.shape, work.steps, work.is_guided, batch_size)


@dataclass(frozen=True)
class Backlog:
    """What the device has before it: the batch that it works on, and what waits."""

    waiting: Sequence[Work]
    current: tuple[Work, int] | None = None
    """The work and size of the batch on the device."""
    elapsed_seconds: float = 0.0
    """For how long that batch has been on it."""


class Admission:
    """Refuses at once what can't be answered in time."""

    def __init__(self, times: ServiceTimes, limit: Callable[[Work], int], max_queue: int) -> None:
        self._times = times
        self._limit = limit
        self._max_queue = max_queue

    def admit(self, work: Work, pictures: int, backlog: Backlog, timeout_seconds: float) -> None:
        """Return if the pictures are expected within `timeout_seconds`.

        Raises:
            ApiError: 503 with Retry-After, when the queue is full or the deadline can't be met.
        """
        room = self._max_queue - len(backlog.waiting)
        before = self.seconds_until_done(backlog)
        if pictures > room:
            raise overloaded(f"the queue is full: {len(backlog.waiting)} pictures wait", before)
        joined = Backlog([*backlog.waiting, *[work] * pictures], backlog.current, backlog.elapsed_seconds)
        expected = self.seconds_until_done(joined)
        in_time = fits(before, expected - before, timeout_seconds)
        if in_time or self._may_be_better_than_known(work, pictures, backlog):
            return
        raise overloaded(
            f"the answer would take about {expected:.1f} s, and may take {timeout_seconds:g} s",
            min(before, expected - timeout_seconds),
            code="deadline_exceeded",
        )

    def seconds_until_done(self, backlog: Backlog) -> float:
        """When the device will have made everything before it, if nothing else comes."""
        seconds = 0.0
        if backlog.current is not None:
            seconds = max(0.0, self._times.estimate(*backlog.current) - backlog.elapsed_seconds)
        for work, count in Counter(backlog.waiting).items():
            limit = self._limit(work)
            full, rest = divmod(count, limit)
            seconds += full * self._times.estimate(work, limit)
            seconds += self._times.estimate(work, rest) if rest else 0.0
        return seconds

    def _may_be_better_than_known(self, work: Work, pictures: int, backlog: Backlog) -> bool:
        is_idle = backlog.current is None and not backlog.waiting
        return is_idle and self._times.is_stale(work, min(pictures, self._limit(work)))
