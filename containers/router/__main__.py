"""The command line of the router: environment in, an exit code out."""

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from typing import Final

from containers.router.server import serve
from containers.router.settings import InvalidSettingsError, Settings

PROGRAM: Final = "python -m containers.router"
FAILED: Final = 1
BAD_INPUT: Final = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Route until told to stop; the process's exit code."""
    given = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    environ = dict(os.environ)
    if given.port is not None:
        environ["PORT"] = given.port
    try:
        asyncio.run(serve(Settings.from_environ(environ)))
    except InvalidSettingsError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return BAD_INPUT
    except OSError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return FAILED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description="Route queries to pods; settings by environment."
    )
    parser.add_argument("--port", help="overrides PORT (default 8000)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
