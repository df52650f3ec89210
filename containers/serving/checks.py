"""No answer leaves unseen: what a device made is counted and looked at, at warm-up and ever after."""

from collections.abc import Sequence

from PIL.Image import Image

from containers.serving.backends.protocol import (
    Backend,
    DeviceError,
    InvalidPictureError,
    OnStep,
    Picture,
    ignore_step,
)


def checked(backend: Backend, pictures: Sequence[Picture], on_step: OnStep = ignore_step) -> list[Image]:
    """What the backend makes of the pictures.

    Raises:
        InvalidPictureError: one of them is a single colour, as a device makes of numbers that are not finite.
        DeviceError: as the backend does, and when it made another number of pictures.
    """
    images = backend.generate(pictures, on_step)
    if len(images) != len(pictures):
        raise DeviceError(f"the device made {len(images)} pictures of {len(pictures)}")
    if any(_is_one_colour(image) for image in images):
        raise InvalidPictureError("the device made a picture of a single colour")
    return images


def _is_one_colour(image: Image) -> bool:
    return all(channel.getextrema()[0] == channel.getextrema()[1] for channel in image.split())
