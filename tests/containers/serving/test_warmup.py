import math
from collections.abc import Mapping, Sequence

import pytest
from PIL.Image import Image

from containers.serving.admission import ServiceTimes
from containers.serving.backends.protocol import OnStep, Picture, Work, ignore_step
from containers.serving.warmup import warm_up
from tests.containers.serving.fake_backend import SMALL, FakeBackend

WORK = Work(SMALL, 20, 7.5)


class TimedBackend(FakeBackend):
    """A batch of a size takes its seconds, on a clock of its own; the first pass of a size takes an hour."""

    def __init__(self, seconds: Mapping[int, float]) -> None:
        super().__init__(batch_sizes=tuple(seconds))
        self.now = 0.0
        self._seconds = seconds

    def generate(self, pictures: Sequence[Picture], on_step: OnStep = ignore_step) -> list[Image]:
        """Make the pictures, and let the time pass."""
        is_first = len(pictures) not in {len(batch) for batch in self.batches}
        self.now += 3600.0 if is_first else self._seconds[len(pictures)]
        return super().generate(pictures, on_step)


@pytest.mark.parametrize(
    ("seconds", "objective", "best"),
    [
        ({1: 1.0, 2: 1.2, 4: 1.6}, math.inf, 4),
        ({1: 1.0, 2: 1.2, 4: 2.4}, math.inf, 2),
        ({1: 1.0, 2: 1.95, 4: 2.0}, math.inf, 1),
        ({1: 1.0, 2: 1.2, 4: 1.6}, 2.4, 2),
        ({1: 1.0, 2: 1.2}, 1.0, 1),
        ({4: 9.0}, 1.0, 4),
    ],
)
def test_batches_grow_while_they_pay(seconds: Mapping[int, float], objective: float, best: int) -> None:
    """At least 5 % less for each picture, and at most half of the objective; what is fixed is taken."""
    backend = TimedBackend(seconds)
    assert warm_up(backend, WORK, ServiceTimes(), objective, lambda: backend.now) == best


def test_what_was_measured_is_known_and_the_first_pass_is_not_in_it() -> None:
    """Compiling and allocating happen once; admission must not believe that they happen every time."""
    backend, times = TimedBackend({1: 0.5, 2: 0.8}), ServiceTimes()
    warm_up(backend, WORK, times, math.inf, lambda: backend.now)
    assert times.estimate(WORK, 1) == pytest.approx(0.5)
    assert times.estimate(WORK, 2) == pytest.approx(0.8)
    first = backend.batches[0][0].work
    assert (first.steps, first.shape) == (2, SMALL)


def test_what_does_not_pay_is_not_tried_further() -> None:
    """Larger batches would only make the start longer."""
    backend = TimedBackend({1: 1.0, 2: 2.0, 4: 4.0})
    warm_up(backend, WORK, ServiceTimes(), math.inf, lambda: backend.now)
    assert max(len(batch) for batch in backend.batches) == 2
