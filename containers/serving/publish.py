"""Puts a model into the bucket that the fleet loads from: `python -m containers.serving.publish`.

MODEL (a hub id or a directory), MODEL_REVISION, MODEL_BUCKET and MODEL_PREFIX are the server's own variables.
MODEL_DIRECTORY, where it is set, holds the files that are uploaded as MODEL.
"""

import logging
import os
import sys
from pathlib import Path
from typing import Final

from containers.serving import store
from containers.serving.settings import InvalidSettingsError, Settings

PROGRAM: Final = "python -m containers.serving.publish"
BAD_INPUT: Final = 2


def main() -> int:
    """Fetch the model and upload it with its checksums; the process's exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        given = os.environ.get("MODEL_DIRECTORY")
        store.publish_model(Settings.from_environ(os.environ), Path(given) if given else None)
    except (InvalidSettingsError, store.StoreError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return BAD_INPUT
    return 0


if __name__ == "__main__":
    sys.exit(main())
