"""Whether a request can be answered in time, from measured service times and what already waits."""

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Final

from containers.serving.backends.protocol import Kind, Shape, Work
from containers.serving.deadline import fits
from containers.serving.errors import overloaded

# The estimate is the median of so many: it takes three slow batches of five, never one, to be believed.
_REMEMBERED: Final = 5
# What was measured longer ago than this says nothing of today: the next measurement replaces it.
_STALE_SECONDS: Final = 60.0

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class _Class:
    """What decides how long a batch takes."""

    shape: Shape
    steps: int
    guided: bool
    kind: Kind
    batch_size: int

    @property
    def size(self) -> float:
        """The amount of computation, in denoised pixels."""
        return self.shape.pixels * self.steps * (2 if self.guided else 1) * self.batch_size


@dataclass(frozen=True, slots=True)
class _Measured:
    """The last measurements of a class in seconds, the newest last, and when that one was made."""

    seconds: tuple[float, ...]
    at: float

    @property
    def estimate(self) -> float:
        """Their median; of an even number the smaller of the middle two, since wrong ones are too slow."""
        return median_low(self.seconds)


class ServiceTimes:
    """How long batches take on this device, learned from every one of them. Any thread may call."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._known: Mapping[_Class, _Measured] = {}
        self._lock = threading.Lock()

    def record(self, work: Work, batch_size: int, seconds: float) -> None:
        """Learn from one batch."""
        key, now = _class_of(work, batch_size), self._clock()
        with self._lock:
            old = self._known.get(key)
            kept = () if old is None or now - old.at > _STALE_SECONDS else old.seconds[1 - _REMEMBERED :]
            # Replaced, never changed: readers need no lock.
            self._known = {**self._known, key: _Measured((*kept, seconds), now)}

    def snapshot(self) -> "ServiceTimes":
        """What is known now, and stays as it is."""
        copied = ServiceTimes(self._clock)
        copied._known = self._known
        return copied

    def estimate(self, work: Work, batch_size: int) -> float:
        """Seconds that a batch will take; 0 while nothing is known.

        What was never measured is scaled from the nearest that was, in proportion to the computation.
        """
        key, known = _class_of(work, batch_size), self._known
        if key in known:
            return known[key].estimate
        if not known:
            return 0.0
        nearest = min(known, key=lambda other: abs(math.log(key.size / other.size)))
        return known[nearest].estimate * key.size / nearest.size


def _class_of(work: Work, batch_size: int) -> _Class:
    return _Class(work.shape, work.denoising_steps, work.is_guided, work.kind, batch_size)


@dataclass(frozen=True)
class Backlog:
    """What the device has before it: the batch that it works on, and what waits."""

    waiting: Sequence[Work]
    current: tuple[Work, int] | None = None
    """The work and size of the batch on the device."""
    elapsed_seconds: float = 0.0
    """For how long that batch has been on it."""

    @property
    def is_empty(self) -> bool:
        """Whether the device has nothing to do."""
        return self.current is None and not self.waiting


class Admission:
    """Refuses at once what can't be answered in time."""

    def __init__(self, times: ServiceTimes, limit: Callable[[Work], int], max_queue: int) -> None:
        self._times = times
        self._limit = limit
        self._max_queue = max_queue

    def admit(self, work: Work, pictures: int, backlog: Backlog, timeout_seconds: float) -> None:
        """Return if the pictures are expected within `timeout_seconds`.

        An idle device takes whatever comes: what is believed of it may be wrong, and is never put right
        while it refuses. A refusal at once would also draw a load balancer's traffic to it.

        Raises:
            ApiError: 503 with Retry-After, when the queue is full or the deadline can't be met.
        """
        room = self._max_queue - len(backlog.waiting)
        before = self.seconds_until_done(backlog)
        if pictures > room:
            raise overloaded(f"the queue is full: {len(backlog.waiting)} pictures wait", before)
        joined = Backlog([*backlog.waiting, *[work] * pictures], backlog.current, backlog.elapsed_seconds)
        expected = self.seconds_until_done(joined)
        if backlog.is_empty or fits(before, expected - before, timeout_seconds):
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
