"""What the server asks of a backend, and how a backend says that it failed."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, Self

from PIL.Image import Image


@dataclass(frozen=True, slots=True, order=True)
class Shape:
    """The size of a picture in pixels."""

    width: int
    height: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `512x768` (width x height).

        Raises:
            ValueError: when it is no such text, or a side is not a positive multiple of 8.
        """
        found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
        sides = [int(side) for side in found.groups()] if found else [0]
        if any(side == 0 or side % 8 for side in sides):
            raise ValueError(f"{text!r} is no size; valid: WIDTHxHEIGHT in multiples of 8, such as 512x512")
        return cls(*sides)

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height


# From text alone, from another picture, or anew where a mask says so.
Kind = Literal["text", "image", "inpaint"]


@dataclass(frozen=True, slots=True)
class Work:
    """What pictures must share to be made in one batch, and what sets how long one takes."""

    shape: Shape
    steps: int
    guidance_scale: float
    has_negative_prompt: bool = False
    """Part of it because SDXL takes no negative prompt for something else than an empty one."""
    kind: Kind = "text"
    strength: float = 1.0
    """How much of a given picture is made anew, 0 to 1; that share of the steps is run."""

    @property
    def is_guided(self) -> bool:
        """Whether diffusers computes each step twice, with and without the prompt."""
        return self.guidance_scale > 1

    @property
    def denoising_steps(self) -> int:
        """How many steps are run."""
        return max(1, int(self.steps * self.strength))


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture to make; equal values give equal pictures, on every accelerator and in any batch."""

    prompt: str
    negative_prompt: str
    seed: int
    work: Work
    source: Image | None = field(default=None, compare=False)
    """What it is made from, in the work's shape; unless that is made from text."""
    mask: Image | None = field(default=None, compare=False)
    """Of an inpainting: white where it is made anew."""


class DeviceError(RuntimeError):
    """The device failed; the pictures of this batch are lost, a later batch may work."""


class DeviceOutOfMemoryError(DeviceError):
    """The device has not enough memory for this batch; for a smaller one it may."""


class InvalidPictureError(DeviceError):
    """The device made no picture of what it was given: numbers that are not finite, or a single colour."""


class ContentRefusedError(Exception):
    """The model's safety checker does not let a picture out."""


class AbandonedError(Exception):
    """Nobody waits for the batch any more: it ended between two steps."""


Preview = Callable[[], Sequence[Image]]
# Called after each denoising step with how many are done, and what decodes the pictures as they are then
# (empty where the backend can't). What it raises ends the batch.
OnStep = Callable[[int, Preview], None]


def ignore_step(_done: int, _preview: Preview) -> None:
    """The `OnStep` of who waits for the pictures alone."""


@dataclass(frozen=True, slots=True)
class Served:
    """What a backend makes."""

    shapes: tuple[Shape, ...]
    """The sizes, the default first."""
    guided: bool | None = None
    """Compiled for work with guidance (True) or without (False); None: both will do."""
    kinds: frozenset[Kind] = frozenset({"text"})
    """What it can make pictures from."""
    takes_guidance: bool = True
    """Whether `guidance_scale` has an effect."""
    takes_negative_prompt: bool = True


class Backend(Protocol):
    """A loaded model on one device. All its methods are called from one thread."""

    @property
    def served(self) -> Served:
        """What it makes."""

    @property
    def batch_sizes(self) -> Sequence[int]:
        """The batch sizes that differ in how they run, ascending; every number up to the last is taken."""

    def cut(self, picture: Picture) -> tuple[str, ...]:
        """Which of its texts (`prompt`, `negative_prompt`) are longer than what the model reads of them."""

    def generate(self, pictures: Sequence[Picture], on_step: OnStep = ignore_step) -> list[Image]:
        """Make the pictures, which share their `work`, in order; at most the largest batch size.

        Raises:
            DeviceError: when the device fails; `DeviceOutOfMemoryError` when memory is short.
            ContentRefusedError: when the safety checker refuses one of them.
        """
