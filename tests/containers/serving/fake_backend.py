"""A device that tests can hold, starve and break; its pictures are one colour, read from the seed."""

import threading
from collections.abc import Sequence

from PIL import Image

from containers.serving.backends.protocol import Picture, Served, Shape

SMALL = Shape(64, 64)
WIDE = Shape(128, 64)


class FakeBackend:
    """`protocol.Backend` without a model. Warm-up is part of what it records."""

    def __init__(self, batch_sizes: Sequence[int] = (1,), served: Served | None = None) -> None:
        self.served = served or Served((SMALL, WIDE))
        self.batch_sizes = tuple(batch_sizes)
        self.batches: list[list[Picture]] = []
        self.errors: dict[int, Exception] = {}
        """Seed to the error that a batch with it fails with."""
        self.largest = 64
        """A batch above this is out of memory."""
        self.out_of_memory: Exception | None = None
        self._free = threading.Event()
        self._free.set()
        self.began = threading.Event()
        """Set as a batch begins."""

    def generate(self, pictures: Sequence[Picture]) -> list[Image.Image]:
        """One plain picture for each, once the device is free."""
        self.batches.append(list(pictures))
        self.began.set()
        assert self._free.wait(30), "a test held the device and forgot it"
        if len(pictures) > self.largest and self.out_of_memory:
            raise self.out_of_memory
        for picture in pictures:
            if picture.seed in self.errors:
                raise self.errors[picture.seed]
        size = (pictures[0].work.shape.width, pictures[0].work.shape.height)
        return [Image.new("RGB", size, (picture.seed % 256, 0, 0)) for picture in pictures]

    def hold(self) -> None:
        """Let every batch wait from now on."""
        self.began.clear()
        self._free.clear()

    def release(self) -> None:
        """Let them go on."""
        self._free.set()

    @property
    def seeds(self) -> list[list[int]]:
        """The seeds of each batch that was begun."""
        return [[picture.seed for picture in batch] for batch in self.batches]
