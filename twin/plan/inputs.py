"""What `plan` is given: a catalogue of instance types or a fleet, and what the queries look like."""

from bisect import bisect_left
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from control_lambda.core.fleet import Fleet, Unit
from control_lambda.core.fleet_words import key_of, shown
from control_lambda.core.mix.model import InstanceType, MixError, Problem, Sizes
from twin.errors import InputError
from twin.report.results import read_text
from twin.world.plant import SPREAD

Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]

VALID: Final[Mapping[str, str]] = {
    "latency_seconds": "a number above 0",
    "percentile": "a number above 0 and below 100",
    "base": "the name of a type that serves every size in time",
    "types": "a list of types, each with name, price_usd_per_hour and seconds",
    "name": "the type's name, such as g5.xlarge",
    "price_usd_per_hour": "a number above 0",
    "most": "a whole number of 0 or more",
    "spread": "the coefficient of variation of the service time, 0 or more",
    "seconds": "{fixed: 0.01, per_size: 0.0002}, or a list of two or more [size, seconds], sizes ascending",
}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Linear(_Part):
    """Service time = fixed + per_size x size, in seconds."""

    fixed: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
    per_size: Positive


class CatalogueType(_Part):
    """One instance type as its owner describes it."""

    name: Annotated[str, Field(min_length=1)]
    price_usd_per_hour: Positive
    seconds: Linear | tuple[tuple[Positive, Positive], ...]
    spread: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)] = 0.0
    most: Annotated[int, Field(strict=True, ge=0)] = 450


class Catalogue(_Part):
    """Instance types and the promise that they have to keep."""

    latency_seconds: Positive
    percentile: Annotated[float, Field(strict=True, gt=0, lt=100)] = 99.0
    base: str = ""
    types: Annotated[tuple[CatalogueType, ...], Field(min_length=1)]


def read_catalogue(path: Path) -> Catalogue:
    """Read a catalogue of instance types from YAML.

    Raises:
        InputError: naming the file, the key and what would be valid.
    """
    text = read_text(path, "a catalogue of instance types as YAML")
    try:
        return Catalogue.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}; valid: well-formed YAML") from None
    except ValidationError as error:
        raise InputError(f"{path}: {_fault(error)}") from None


def catalogue_problem(path: Path, catalogue: Catalogue, sizes: Sizes) -> Problem:
    """The problem: the catalogue's types serving queries of these sizes.

    Raises:
        InputError: the catalogue cannot serve the sizes; naming the file, the key and what would be valid.
    """
    try:
        return Problem(
            sizes=sizes,
            types=tuple(_instance_type(kind, sizes) for kind in catalogue.types),
            latency_seconds=catalogue.latency_seconds,
            percentile=catalogue.percentile,
            base=catalogue.base,
        )
    except MixError as error:
        raise InputError(f"{path}: {error}") from None


def fleet_problem(
    path: Path, fleet: Fleet, sizes: Sizes, profile_size: float, latency_seconds: float | None
) -> Problem:
    """The problem: the fleet's units serving queries of these sizes.

    A unit's service_seconds is taken as the time for a query of `profile_size`, and service time as
    proportional to size (images x steps: every step is one pass of the same network). A unit costs what
    its cheapest pool does and may have as many nodes as all its pools. `latency_seconds` replaces the
    objective's.

    Raises:
        InputError: the fleet cannot serve the sizes; naming the file, the key and what would be valid.
    """
    objective = fleet.objective
    try:
        return Problem(
            sizes=sizes,
            types=tuple(_unit_type(unit, sizes, profile_size) for unit in fleet.units),
            latency_seconds=objective.latency_seconds if latency_seconds is None else latency_seconds,
            percentile=objective.percentile,
        )
    except MixError as error:
        raise InputError(f"{path}: {error}") from None


def _unit_type(unit: Unit, sizes: Sizes, profile_size: float) -> InstanceType:
    return InstanceType(
        name=unit.name,
        price_usd_per_hour=min(pool.price_usd_per_hour for pool in unit.pools),
        seconds=tuple(unit.profile.service_seconds * size / profile_size for size in sizes.values),
        spread=SPREAD,
        most=sum(pool.nodes.max for pool in unit.pools),
    )


def _instance_type(kind: CatalogueType, sizes: Sizes) -> InstanceType:
    return InstanceType(
        name=kind.name,
        price_usd_per_hour=kind.price_usd_per_hour,
        seconds=tuple(_seconds(kind, size) for size in sizes.values),
        spread=kind.spread,
        most=kind.most,
    )


def _seconds(kind: CatalogueType, size: float) -> float:
    """The service time of a size: on the line, or between the two points around it."""
    if isinstance(kind.seconds, Linear):
        return kind.seconds.fixed + kind.seconds.per_size * size
    points = kind.seconds
    if len(points) < 2 or any(low[0] >= high[0] for low, high in pairwise(points)):  # noqa: PLR2004 - a line
        raise MixError(f"{kind.name}: seconds: valid: {VALID['seconds']}")
    position = min(max(bisect_left([point[0] for point in points], size), 1), len(points) - 1)
    (low, below), (high, above) = points[position - 1], points[position]
    return below + (above - below) * (size - low) / (high - low)


def _fault(error: ValidationError) -> str:
    """The first fault: where it is and what would be valid there."""
    fault = error.errors()[0]
    steps = [step for step in fault["loc"] if not (isinstance(step, str) and step[:1].isupper())]
    where = key_of(tuple(steps))
    key = next((step for step in reversed(steps) if isinstance(step, str) and step in VALID), "")
    if fault["type"] == "extra_forbidden":
        return f"{where}: unknown key; valid: {', '.join(_keys(steps))}"
    if not where:
        return "no catalogue; valid: a mapping with latency_seconds and types"
    given = "missing" if fault["type"] == "missing" else f"given {shown(fault['input'])}"
    return f"{where}: {given}; valid: {VALID.get(key, fault['msg'])}"


def _keys(steps: list[Any]) -> list[str]:
    parts: Mapping[str, type[BaseModel]] = {"types": CatalogueType, "seconds": Linear}
    part: type[BaseModel] = Catalogue
    for step in steps[:-1]:
        part = parts.get(str(step), part)
    return list(part.model_fields)
