"""A device that tests can hold, starve and break; the colour of its pictures is read from the seed."""

import threading
from collections.abc import Sequence

from PIL import Image

from containers.serving.backends.protocol import OnStep, Picture, Served, Shape, ignore_step

SMALL = Shape(64, 64)
WIDE = Shape(128, 64)
WORDS = 75


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
        self.blank: set[int] = set()
        """Seeds whose pictures come out in a single colour."""
        self.made_steps: list[int] = []
        """How many steps of each batch were made."""
        self._free = threading.Event()
        self._free.set()
        self.began = threading.Event()
        """Set as a batch begins."""

    def cut(self, picture: Picture) -> tuple[str, ...]:
        """It reads 75 words."""
        return ("prompt",) if len(picture.prompt.split()) > WORDS else ()

    def generate(self, pictures: Sequence[Picture], on_step: OnStep = ignore_step) -> list[Image.Image]:
        """One nearly plain picture for each, once the device is free."""
        self.batches.append(list(pictures))
        self.began.set()
        assert self._free.wait(30), "a test held the device and forgot it"
        if len(pictures) > self.largest and self.out_of_memory:
            raise self.out_of_memory
        for picture in pictures:
            if picture.seed in self.errors:
                raise self.errors[picture.seed]
        images = [self._drawn(picture) for picture in pictures]
        self.made_steps.append(0)
        for step in range(1, pictures[0].work.steps + 1):
            self.made_steps[-1] = step
            on_step(step, lambda: images)
        return images

    def _drawn(self, picture: Picture) -> Image.Image:
        image = Image.new(
            "RGB", (picture.work.shape.width, picture.work.shape.height), (picture.seed % 256, 0, 0)
        )
        if picture.seed not in self.blank:
            image.putpixel((0, 0), (255, 255, 255))
        return image

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
