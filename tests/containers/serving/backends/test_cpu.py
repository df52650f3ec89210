from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage.metrics import structural_similarity

from containers.serving.backends.diffusion import PipelineBackend
from containers.serving.backends.protocol import Picture, Shape, Work

WORK = Work(Shape(64, 64), 4, 7.5)
# Of 255. The sums of a batch are not always rounded as those of one picture: the last bit may differ.
ONE_LEVEL = 1

Pixels = NDArray[np.int16]


def pixels(images: Sequence[Image.Image]) -> list[Pixels]:
    """The levels of each picture, wide enough to subtract."""
    return [np.asarray(image).astype(np.int16) for image in images]


def difference(one: Pixels, other: Pixels) -> int:
    """The largest difference of two levels."""
    return int(np.abs(one - other).max())


def pictures(count: int, work: Work = WORK) -> list[Picture]:
    """Different prompts, different seeds."""
    return [Picture(f"{number} lighthouses", "", 1000 + number, work) for number in range(count)]


def test_it_serves_the_size_that_the_model_was_trained_for(cpu_backend: PipelineBackend) -> None:
    """Without SHAPES the model's own size is the one."""
    assert cpu_backend.served.shapes == (Shape(64, 64),)
    assert cpu_backend.batch_sizes == (1, 2, 4)


def test_the_same_request_gives_the_same_pixels(cpu_backend: PipelineBackend) -> None:
    """Bit for bit, for one batch size on one device."""
    (wanted,) = pictures(1)
    first, second = (pixels(cpu_backend.generate([wanted]))[0] for _ in range(2))
    assert difference(first, second) == 0


@pytest.mark.parametrize("change", [{"seed": 1}, {"prompt": "a forest"}, {"work": replace(WORK, steps=2)}])
def test_seed_prompt_and_steps_each_change_the_picture(
    cpu_backend: PipelineBackend, change: dict[str, object]
) -> None:
    """So that agreement in the other tests means something."""
    (wanted,) = pictures(1)
    other = replace(wanted, **change)  # type: ignore[arg-type]
    one, two = pixels([cpu_backend.generate([picture])[0] for picture in (wanted, other)])
    assert difference(one, two) > 10


def test_a_batch_never_changes_a_picture(cpu_backend: PipelineBackend) -> None:
    """Alone or with others, first or last: within one level of 255, and alike beyond what eyes can tell."""
    wanted = pictures(4)
    alone = pixels([cpu_backend.generate([picture])[0] for picture in wanted])
    for together in (wanted, wanted[::-1], wanted[1:3]):
        for picture, made in zip(together, pixels(cpu_backend.generate(together)), strict=True):
            expected = alone[wanted.index(picture)]
            assert difference(made, expected) <= ONE_LEVEL
            likeness = structural_similarity(made, expected, channel_axis=2, data_range=255)
            assert likeness > 0.9999


def test_a_negative_prompt_changes_only_its_own_picture(cpu_backend: PipelineBackend) -> None:
    """Each picture of a batch keeps its own."""
    work = replace(WORK, has_negative_prompt=True)
    plain, other = pictures(2, work)
    against = replace(other, negative_prompt="rain and fog")
    first, second = pixels(cpu_backend.generate([plain, other]))
    same, changed = pixels(cpu_backend.generate([plain, against]))
    assert difference(first, same) <= ONE_LEVEL
    assert difference(second, changed) > ONE_LEVEL
