"""Pictures as files: PNG with a note of how they were made."""

from io import BytesIO

from PIL.Image import Image
from PIL.PngImagePlugin import PngInfo

from containers.serving.backends.protocol import Picture


def encode(image: Image, picture: Picture, *, model: str, pool: str) -> bytes:
    """The image as PNG with text chunks model, seed, steps and pool; never the prompt."""
    note = PngInfo()
    note.add_text("model", model)
    note.add_text("seed", str(picture.seed))
    note.add_text("steps", str(picture.work.steps))
    note.add_text("pool", pool)
    file = BytesIO()
    image.save(file, "png", pnginfo=note, compress_level=3)
    return file.getvalue()
