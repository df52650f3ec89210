"""The bare pipeline, called between two batches of the server: on its own thread, with its own pictures.

Two processes of the same program differ by up to 5 % in how fast they make pictures, because their memory
lies elsewhere and glibc gives more or less of it back, to be faulted in again; and a shared machine's speed
changes by 10 % from one second to the next. Both are more than what a server costs: so both sides of the
comparison are one process and one thread, and take turns batch by batch.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Self

from PIL.Image import Image

from containers.serving.backends.protocol import Backend, OnStep, Picture, ignore_step

# Until the event loop is idle: ten times what it takes to send a batch of answers and to read what follows.
SETTLE_SECONDS: Final = 0.1


class Turn(NamedTuple):
    """Seconds of one batch on both sides."""

    direct: float
    """A call of the backend, from prompts to images, while the rest of the server is idle."""
    served: float
    """From the end of the batch before to its own end, while that batch's pictures are encoded and sent."""
    waited: float
    """Of `served`: while the thread did not run, for want of the interpreter's lock, a core, or a batch."""


class _Moment(NamedTuple):
    """Seconds on the wall's clock, and those that this thread has run."""

    wall: float
    busy: float

    @classmethod
    def now(cls) -> Self:
        return cls(time.perf_counter(), time.thread_time())


@dataclass(slots=True)
class Turns:
    """Whether turns are to be taken, and those that were."""

    are_wanted: bool = False
    taken: list[Turn] = field(default_factory=list)


class TurnTakingBackend:
    """`protocol.Backend` around another: two calls for nobody, then two for the server, and so on.

    The second call of each side counts. The first ones differ: directly, it finds caches gone cold in the
    pause; served, there is no batch before whose pictures are being sent, as there is at saturation.
    """

    def __init__(self, backend: Backend, batch: int, turns: Turns) -> None:
        self.served = backend.served
        self.batch_sizes = backend.batch_sizes
        self._backend = backend
        self._batch = batch
        self._turns = turns
        self._direct: float | None = None
        self._ended = _Moment.now()

    def cut(self, picture: Picture) -> tuple[str, ...]:
        """As the backend around which this one is."""
        return self._backend.cut(picture)

    def generate(self, pictures: Sequence[Picture], on_step: OnStep = ignore_step) -> list[Image]:
        """Make the pictures, and begin or complete a turn."""
        is_full = self._turns.are_wanted and len(pictures) == self._batch
        begun, self._direct = self._direct, None
        if is_full and begun is None:
            self._direct = self._seconds_alone(pictures)
        images = self._backend.generate(pictures, on_step)
        before, self._ended = self._ended, _Moment.now()
        if is_full and begun is not None:
            served = self._ended.wall - before.wall
            self._turns.taken.append(Turn(begun, served, served - (self._ended.busy - before.busy)))
        return images

    def _seconds_alone(self, pictures: Sequence[Picture]) -> float:
        time.sleep(SETTLE_SECONDS)
        self._backend.generate(pictures)
        began = time.perf_counter()
        self._backend.generate(pictures)
        return time.perf_counter() - began
