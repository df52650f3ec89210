"""Reads a fleet file: YAML in, a validated `Fleet` out. No handler imports this; Lambda reads JSON."""

from pathlib import Path
from typing import Any

import yaml

from control_lambda.core.fleet import Fleet, FleetError, parse_fleet


def load_fleet(path: str | Path) -> Fleet:
    """Read and validate the fleet file at `path`.

    Raises:
        FleetError: the file cannot be read, is no YAML or describes no valid fleet. One line that
            starts with the path and names each faulty key, or line and column, and what is valid.
    """
    path = Path(path)
    try:
        return parse_fleet(_parsed(_text(path)))
    except FleetError as error:
        raise FleetError(f"{path}: {error}") from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise FleetError(f"{error.strerror}; valid: a readable fleet file such as fleet.yaml") from None
    except UnicodeDecodeError as error:
        raise FleetError(f"byte {error.start} is not UTF-8; valid: YAML in UTF-8") from None


def _parsed(text: str) -> object:
    """The YAML document.

    Raises:
        FleetError: the text is no YAML, is empty or gives a key twice.
    """
    try:
        document = yaml.load(text, Loader=UniqueKeyLoader)  # noqa: S506 - the loader is a SafeLoader
    except yaml.MarkedYAMLError as error:
        raise FleetError(_explained(error)) from None
    except yaml.reader.ReaderError as error:
        raise FleetError(
            f"character {error.position} is not allowed in YAML ({error.reason}); valid: printable text"
        ) from None
    except ValueError as error:  # PyYAML takes 2025-13-01 for a date and lets datetime refuse it
        raise FleetError(f"{error}; valid: YAML scalars, in quotes where they look like dates") from None
    if document is None:
        raise FleetError("empty; valid: a fleet description such as fleet.yaml")
    return document


def _explained(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return f"{where}{error.problem}; valid: {error.note or 'well-formed YAML'}"


class UniqueKeyLoader(yaml.SafeLoader):
    """The safe loader, which by itself would silently keep the last of two equal keys."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Compose the mapping and refuse a key that stands twice in it."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (key.tag, key.value) in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key.value!r} stands twice",
                    problem_mark=key.start_mark,
                    note="every key once",
                )
            seen.add((key.tag, key.value))
        return node
