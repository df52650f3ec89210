"""How alike two pictures of the same prompt and seed are."""

from collections.abc import Sequence
from dataclasses import dataclass

import imagehash
import numpy as np
from PIL import Image
from skimage.metrics import structural_similarity


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What still counts as the same picture.

    SSIM (1: identical) tells changed structure, the distance of the perceptual hashes (0 to 64 bits)
    a changed motif.
    """

    least_ssim: float
    most_hash_distance: int


@dataclass(frozen=True, slots=True)
class Likeness:
    """How alike a picture is to the reference; pictures of another size are not alike at all."""

    ssim: float
    hash_distance: int
    agrees: bool


@dataclass(frozen=True, slots=True)
class UnitResult:
    """A unit's pictures and how alike they are to the reference's, or why there are none."""

    unit: str
    pictures: Sequence[Image.Image]
    likenesses: Sequence[Likeness]
    failure: str | None = None

    @property
    def agreement(self) -> float | None:
        """The share of its pictures that agree with the reference's; None when it gave none."""
        if self.failure is not None:
            return None
        return sum(one.agrees for one in self.likenesses) / len(self.likenesses)


def likeness(reference: Image.Image, other: Image.Image, tolerance: Tolerance) -> Likeness:
    """Compare two RGB pictures: SSIM over the colour channels, and the DCT perceptual hash."""
    distance = int(imagehash.phash(reference) - imagehash.phash(other))
    if reference.size != other.size:
        return Likeness(0.0, distance, agrees=False)
    ssim = float(
        structural_similarity(np.asarray(reference), np.asarray(other), channel_axis=-1, data_range=255)
    )
    agrees = ssim >= tolerance.least_ssim and distance <= tolerance.most_hash_distance
    return Likeness(ssim, distance, agrees)


def compared(
    unit: str, reference: Sequence[Image.Image], pictures: Sequence[Image.Image], tolerance: Tolerance
) -> UnitResult:
    """The unit's pictures against the reference's, in the same order."""
    likenesses = [likeness(one, other, tolerance) for one, other in zip(reference, pictures, strict=True)]
    return UnitResult(unit, pictures, likenesses)
