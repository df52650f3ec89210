"""Pictures that requests bring: read with care, brought into the size that is served."""

import asyncio
from io import BytesIO
from typing import Final

from PIL import Image, ImageChops, ImageOps
from PIL.Image import Image as Picture
from PIL.Image import Resampling
from starlette.datastructures import UploadFile

from containers.serving.backends.protocol import Kind, Served, Shape
from containers.serving.errors import ApiError
from containers.serving.schema import Given

# Of a picture that is read at all: a small file may unpack into gigabytes.
MOST_PIXELS: Final = 4096 * 4096
_FORMATS: Final = ("PNG", "JPEG", "WEBP")


async def given(image: UploadFile, mask: UploadFile | None, shape: Shape, served: Served) -> Given:
    """The picture of a request in the served shape, and the mask: white where it is to be made anew.

    Raises:
        ApiError: 400, naming the file and what is wrong with it, or what the model can't do.
    """
    kind: Kind = "image" if mask is None else "inpaint"
    if kind not in served.kinds:
        told = "pictures from pictures" if kind == "image" else "pictures with a mask"
        raise ApiError(
            400, f"the model served here makes no {told}; valid: /v1/images/generations", code="not_supported"
        )
    source = await asyncio.to_thread(_opened, await image.read(), "image")
    if mask is None:
        return Given(kind, _fitted(source.convert("RGB"), shape))
    drawn = await asyncio.to_thread(_opened, await mask.read(), "mask")
    return Given(kind, _fitted(source.convert("RGB"), shape), _fitted(_holes(drawn), shape))


def _opened(content: bytes, param: str) -> Picture:
    try:
        picture = Image.open(BytesIO(content), formats=_FORMATS)
        if picture.width * picture.height > MOST_PIXELS:
            raise _invalid(param, f"{picture.width}x{picture.height}; valid: at most {MOST_PIXELS} pixels")
        picture.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _invalid(param, "can't be read; valid: a PNG, JPEG or WebP") from error
    return picture


def _holes(mask: Picture) -> Picture:
    """White where the mask is transparent, as OpenAI's API has it."""
    if "A" not in mask.getbands():
        raise _invalid("mask", "has no transparency; valid: transparent where the picture is to change")
    return ImageChops.invert(mask.getchannel("A"))


def _fitted(picture: Picture, shape: Shape) -> Picture:
    """Scaled and cropped about its centre."""
    return ImageOps.fit(picture, (shape.width, shape.height), Resampling.LANCZOS)


def _invalid(param: str, told: str) -> ApiError:
    return ApiError(400, f"{param}: {told}", param=param, code="invalid_image")
