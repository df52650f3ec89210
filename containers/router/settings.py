"""The environment of the router, parsed once; every error names the variable and what is valid."""

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from containers.router.endpoints import Endpoint

# The size of a query counts pixels in these: a picture of 512x512 in one step is 1.
PIXELS_OF_SIZE_ONE: Final = 512 * 512

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class InvalidSettingsError(ValueError):
    """A variable is wrong; the message names it and what would be valid."""


class Profile(BaseModel):
    """What a node of the unit takes for one request of the default size, in seconds."""

    model_config = ConfigDict(frozen=True)

    service_seconds: Positive


class Unit(BaseModel):
    """The part of a unit's description that the router needs."""

    model_config = ConfigDict(frozen=True)

    name: str
    profile: Profile


class Objective(BaseModel):
    """The latency promise."""

    model_config = ConfigDict(frozen=True)

    latency_seconds: Positive


class Fleet(BaseModel):
    """The part of fleet.yaml that the router needs; FLEET_JSON holds the whole."""

    model_config = ConfigDict(frozen=True)

    objective: Objective
    units: Annotated[tuple[Unit, ...], Field(min_length=1)]


def pixels(shape: str) -> int:
    """The pixels of a size such as 512x512.

    Raises:
        ValueError: it is none.
    """
    found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", shape.strip())
    if found is None:
        raise ValueError(f"{shape!r} is no size; valid: width x height in pixels, such as 512x512")
    return int(found[1]) * int(found[2])


def _shapes(raw: Any) -> Any:
    if not isinstance(raw, str):
        return raw
    return {shape.strip(): pixels(shape) for shape in raw.split(",")}


def _fleet(raw: Any) -> Any:
    if not isinstance(raw, str):
        return raw
    try:
        return json.loads(raw)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error}; valid: a fleet as JSON") from None


def _endpoints(raw: Any) -> Any:
    return tuple(_endpoint(part) for part in raw.split(",")) if isinstance(raw, str) else raw


def _endpoint(text: str) -> Endpoint:
    unit, _, url = text.strip().partition("=")
    if not unit or not re.fullmatch(r"https?://[^/\s]+/?", url):
        raise ValueError(f"{text.strip()!r}; valid: unit=url, such as g5=http://10.0.0.7:8000, with commas")
    return Endpoint(unit=unit, pool=unit, url=url.rstrip("/"))


class Settings(BaseModel):
    """What the router is told: each field is the environment variable of the same name in capitals."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    fleet_json: Annotated[Fleet, BeforeValidator(_fleet)]
    endpoints: Annotated[tuple[Endpoint, ...], BeforeValidator(_endpoints)] = ()
    """A fixed list of pods, `unit=url,…`; without it the Kubernetes API tells them."""
    namespace: str = ""
    """The Kubernetes namespace of the pods."""
    pod_ip: str = ""
    """The router's own address, by which it knows itself among its peers."""

    port: int = Field(default=8000, ge=0, le=65535)
    host: str = "127.0.0.1"
    """Where to listen; the image says 0.0.0.0, everywhere."""
    steps: int = Field(default=20, ge=1)
    """The servers' default steps, for a request that names none."""
    shapes: Annotated[Mapping[str, int], BeforeValidator(_shapes)] = {"512x512": PIXELS_OF_SIZE_ONE}
    """The servers' sizes, with commas, as the pixels of each; the first is for a request that names none."""
    max_images: int = Field(default=8, ge=1)
    max_steps: int = Field(default=100, ge=1)
    max_waiting: int = Field(default=1000, ge=1)
    """Queries that may wait for a pod."""
    hold_seconds: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """How long a query may be held while there is no pod at all; 0: it is refused at once."""
    max_held: int = Field(default=1000, ge=1)
    """Queries that may be held so."""
    answer_seconds: Positive = 110.0
    """How long a pod may take to begin its answer; below the load balancer's idle timeout."""
    drain_seconds: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    """How long new requests are still taken after SIGTERM."""
    grace_seconds: Positive = 60.0
    """How long requests in flight may take after SIGTERM."""

    fleet: str = "local"
    metric_namespace: str = "Fulcrum"
    aws_region: str = ""
    """Where metrics are put; empty: nowhere."""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the variables; an empty one counts as absent.

        Raises:
            InvalidSettingsError: naming the variable and what would be valid.
        """
        given = {
            name: environ[name.upper()] for name in cls.model_fields if environ.get(name.upper(), "").strip()
        }
        try:
            settings = cls.model_validate(given)
        except ValidationError as error:
            raise InvalidSettingsError(_in_words(error)) from None
        _check_endpoints(settings)
        return settings

    @property
    def default_pixels(self) -> int:
        """The pixels of a picture whose request names no size."""
        return next(iter(self.shapes.values()))

    @property
    def default_size(self) -> float:
        """The size of a query that names neither pictures, steps nor pixels."""
        return self.steps * self.default_pixels / PIXELS_OF_SIZE_ONE


def _check_endpoints(settings: Settings) -> None:
    if not settings.endpoints and not settings.namespace:
        raise InvalidSettingsError(
            "environment: ENDPOINTS: missing; valid: unit=url with commas, or NAMESPACE inside Kubernetes"
        )
    units = [unit.name for unit in settings.fleet_json.units]
    for endpoint in settings.endpoints:
        if endpoint.unit not in units:
            raise InvalidSettingsError(
                f"environment: ENDPOINTS: {endpoint.unit} is no unit of FLEET_JSON; valid: {', '.join(units)}"
            )


def _in_words(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    variable, *key = (str(step) for step in first["loc"])
    place = ": ".join([variable.upper(), *([".".join(key)] if key else [])])
    if first["type"] == "missing":
        valid = "a fleet as JSON, as fleet.yaml describes it" if not key else "see fleet.yaml"
        return f"environment: {place}: missing; valid: {valid}"
    if first["type"] == "value_error":
        return f"environment: {place}: {first['msg'].removeprefix('Value error, ')}"
    return f"environment: {place}: {first['input']!r}; {first['msg']}"
