"""The command line of the server: environment in, an exit code out."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from containers.serving.settings import InvalidSettingsError, Settings

if TYPE_CHECKING:
    from containers.serving.backends.protocol import Backend

# torch takes seconds to import, FastAPI half a second: --help and a wrong setting shall not wait for them.
# ruff: noqa: PLC0415

PROGRAM: Final = "python -m containers.serving"
FAILED: Final = 1
BAD_INPUT: Final = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop; the process's exit code."""
    given = _parser().parse_args(arguments)
    try:
        settings = _settings(given)
    except InvalidSettingsError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return BAD_INPUT
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    return _serve(settings)


def _settings(given: argparse.Namespace) -> Settings:
    environ = dict(os.environ)
    if given.port is not None:
        environ["PORT"] = str(given.port)
    return Settings.from_environ(environ)


def _serve(settings: Settings) -> int:
    from containers.serving.app import create_app
    from containers.serving.engine import Engine
    from containers.serving.server import make_server, serve

    def load() -> "Backend":
        from containers.serving.backends.loading import load_backend

        return load_backend(settings)

    engine = Engine(settings, load)
    serve(make_server(settings, create_app(engine), engine))
    error = engine.worker.error
    if error is None:
        return 0
    print(f"{PROGRAM}: {error}", file=sys.stderr)
    return BAD_INPUT if isinstance(error, InvalidSettingsError) else FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description="Serve a diffusion model; settings by environment."
    )
    parser.add_argument("--port", help="overrides PORT (default 8000)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
