"""`python -m tests.containers.serving.fake_server PORT`: the real server around a device of known pace.

It starts in a second, where the real model needs its libraries, and stops as the real one does.
"""

import sys
import threading
import time
from collections.abc import Sequence
from typing import Final

from PIL.Image import Image

from containers.serving.app import create_app
from containers.serving.backends.protocol import OnStep, Picture, ignore_step
from containers.serving.engine import Engine
from containers.serving.server import make_server, serve
from containers.serving.settings import Settings
from tests.containers.serving.fake_backend import FakeBackend

BATCH_SECONDS = 0.1


HANG: Final = "hang"


class PacedBackend(FakeBackend):
    """Every batch takes its time; the prompt `hang` takes for ever, as a kernel that is stuck."""

    def generate(self, pictures: Sequence[Picture], on_step: OnStep = ignore_step) -> list[Image]:
        """Make the pictures, slowly."""
        if any(picture.prompt == HANG for picture in pictures):
            threading.Event().wait()
        time.sleep(BATCH_SECONDS)
        return super().generate(pictures, on_step)


def main() -> None:
    """Serve until told to stop."""
    settings = Settings(port=int(sys.argv[1]), steps=1, drain_seconds=3)
    engine = Engine(settings, PacedBackend)
    serve(make_server(settings, create_app(engine), engine))


if __name__ == "__main__":
    main()
