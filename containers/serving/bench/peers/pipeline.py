"""The same pipeline and the same answer for every peer: only the serving around it differs."""

import base64
import os
from collections.abc import Mapping, Sequence
from typing import Any

from containers.serving import files
from containers.serving.backends.loading import load_backend
from containers.serving.backends.protocol import Picture, Work
from containers.serving.settings import Settings


class Pipeline:
    """A loaded backend, warm, as the environment describes it."""

    def __init__(self) -> None:
        self._settings = Settings.from_environ(os.environ)
        self._backend = load_backend(self._settings)
        for size in self._backend.batch_sizes:
            self.answers([{"prompt": "warm-up", "seed": 0}] * size)

    def answers(self, bodies: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Make the pictures of several requests in one batch, and encode them as our server does."""
        settings = self._settings
        work = Work(
            self._backend.served.shapes[0], settings.steps, settings.guidance_scale, has_negative_prompt=False
        )
        pictures = [Picture(body["prompt"], "", body["seed"], work) for body in bodies]
        images = self._backend.generate(pictures)
        files = [
            files.encode(image, picture, model=settings.model, pool=settings.pool)
            for image, picture in zip(images, pictures, strict=True)
        ]
        return [{"data": [{"b64_json": base64.b64encode(file).decode("ascii")}]} for file in files]
