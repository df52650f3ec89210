"""How much work a request asks for, read from its body."""

import json
from typing import Any

from containers.router.settings import PIXELS_OF_SIZE_ONE, Settings


def query_size(body: bytes, settings: Settings) -> float:
    """Pictures x steps x pixels, a picture of 512x512 in one step being 1.

    What is absent takes the server's default. A body or a value that the server is going to refuse is a
    query of the default size: the refusal, which names the limit, is the server's to make.
    """
    fields = _fields(body)
    images = _count(fields.get("n"), settings.max_images, 1)
    steps = _count(fields.get("steps"), settings.max_steps, settings.steps)
    return images * steps * _pixels(fields.get("size"), settings) / PIXELS_OF_SIZE_ONE


def _fields(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):  # no JSON, no UTF-8, or nested too deeply
        return {}
    return fields if isinstance(fields, dict) else {}


def _count(value: Any, limit: int, default: int) -> int:
    return value if type(value) is int and 1 <= value <= limit else default


def _pixels(value: Any, settings: Settings) -> int:
    if not isinstance(value, str):
        return settings.default_pixels
    return settings.shapes.get(value, settings.default_pixels)
