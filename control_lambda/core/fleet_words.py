"""How messages about a fleet description name a place in it, what stands there and what may."""

from collections.abc import Mapping, Sequence
from typing import Final

MAX_SHOWN: Final = 40  # characters of a bad value that a message quotes

Location = tuple[int | str, ...]


def key_of(location: Location) -> str:
    """The location as the file's reader would write it: units[0].pools[1].nodes.min."""
    return "".join(_step(step) for step in location).removeprefix(".")


def _step(step: int | str) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if step.isprintable() else f".{step!r}"


def choice(names: Sequence[str]) -> str:
    """The names that are valid, at least two, as a message lists them: neuron, nvidia or cpu."""
    return f"{', '.join(names[:-1])} or {names[-1]}"


def shown(value: object) -> str:
    """The bad value as a message quotes it: short, in one line, in the file's notation."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case list() | tuple():
            return f"a list of {len(value)}" if value else "an empty list"
        case Mapping():
            return "a mapping"
        case str() if len(value) > MAX_SHOWN:
            return f"{value[:MAX_SHOWN]!r}..."
        case _:
            return repr(value)
