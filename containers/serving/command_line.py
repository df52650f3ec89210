"""What the measuring commands share: bad input told in one line with exit code 2, numbers, the folder."""

import argparse
from math import isfinite
from pathlib import Path
from typing import Any, Final, NoReturn

FAILED: Final = 1
BAD_INPUT: Final = 2


class InputError(ValueError):
    """Bad input; the message names it and what would be valid."""


class Parser(argparse.ArgumentParser):
    """Tells bad input in one line."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2."""
        self.exit(BAD_INPUT, f"{self.prog}: {message}; see {self.prog} --help\n")


def positive(text: str) -> float:
    """A number above 0, for argparse's `type`."""
    number = float(text)
    if not isfinite(number) or number <= 0:
        raise argparse.ArgumentTypeError(f"{text}; valid: a number above 0")
    return number


def not_negative(text: str) -> float:
    """A number of 0 or more, for argparse's `type`."""
    number = float(text)
    if not isfinite(number) or number < 0:
        raise argparse.ArgumentTypeError(f"{text}; valid: a number of 0 or more")
    return number


def count(text: str) -> int:
    """A whole number of 1 or more, for argparse's `type`."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}; valid: a whole number of 1 or more")
    return number


def address(text: str) -> str:
    """The address of a server, without a trailing slash, for argparse's `type`."""
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"{text}; valid: an address such as http://127.0.0.1:8000")
    return text.rstrip("/")


def folder(text: str) -> Path:
    """A folder that exists or can be made, for argparse's `type`: checked before anything is measured."""
    path = Path(text)
    existing = next(above for above in (path, *path.absolute().parents) if above.exists())
    if not existing.is_dir():
        raise argparse.ArgumentTypeError(f"{existing} is a file; valid: a folder, or the name of a new one")
    return path
