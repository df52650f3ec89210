"""Pictures as files, with a note of how they were made where the format has a place for it."""

from io import BytesIO
from typing import Any, Final

from PIL.Image import Image
from PIL.PngImagePlugin import PngInfo

from containers.serving.backends.protocol import Picture

# Of a JPEG or WebP whose request names no `output_compression`: OpenAI's default.
DEFAULT_QUALITY: Final = 100


def encode(
    image: Image, picture: Picture, *, kind: str = "png", quality: int | None = None, model: str, pool: str
) -> bytes:
    """The image as PNG, JPEG or WebP (`kind`); the last two in `quality` percent.

    A PNG has text chunks model, seed, steps and pool; never the prompt.
    """
    options: dict[str, Any] = {"quality": DEFAULT_QUALITY if quality is None else quality}
    if kind == "png":
        options = {"pnginfo": _note(picture, model, pool), "compress_level": 3}
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _note(picture: Picture, model: str, pool: str) -> PngInfo:
    note = PngInfo()
    note.add_text("model", model)
    note.add_text("seed", str(picture.seed))
    note.add_text("steps", str(picture.work.steps))
    note.add_text("pool", pool)
    return note
