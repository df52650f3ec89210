"""Golden prompts, and the pictures that servers make of them."""

import base64
import binascii
import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2
import yaml
from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from containers.serving.command_line import InputError
from containers.serving.load import GENERATIONS_PATH

PROMPTS: Final = Path(__file__).with_name("golden.yaml")
ATTEMPTS: Final = 5
# Behind a load balancer, how often to ask for a unit: one with a share of 2 % stays silent in 0.2 % of cases.
TRIES: Final = 300
RETRY_SECONDS: Final = 10.0


class Golden(BaseModel):
    """One prompt with its seed, and a short text that names both."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    prompt: str = Field(min_length=1)
    seed: int = Field(ge=0)


class NoPictureError(RuntimeError):
    """A server made no picture; the message says why."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit's name and the address of one of its servers, or of its Service.

    `shared`: the address is that of a load balancer, behind which other units answer, too.
    """

    name: str
    url: str
    shared: bool = False


def read_golden(path: Path) -> list[Golden]:
    """Read the prompts from a YAML list of {prompt, seed}.

    Raises:
        InputError: the file is missing or is no such list; the message names the file and the key.
    """
    try:
        read = yaml.safe_load(path.read_text(encoding="utf-8"))
        prompts = TypeAdapter(list[Golden]).validate_python(read)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "prompts"
        raise InputError(f"{path}: {key}: {first['msg']}; valid: a list of {{prompt, seed}}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        told = " ".join(str(error).split())
        raise InputError(f"{path}: {told}; valid: a YAML list of {{prompt, seed}}") from None
    if not prompts:
        raise InputError(f"{path}: no prompt; valid: a list of one {{prompt, seed}} or more")
    return prompts


def picture(
    client: httpx2.Client,
    unit: Unit,
    golden: Golden,
    options: Mapping[str, Any],
    wait: Callable[[float], None] = time.sleep,
) -> Image.Image:
    """The unit's picture, in RGB. A busy server (503) is asked again after its Retry-After.

    At a shared address requests are sent until this unit answers one.

    Raises:
        NoPictureError: the server can't be reached, refuses, or answers with something else; or the unit
            answers none of many requests.
    """
    body = {**options, "prompt": golden.prompt, "seed": golden.seed, "response_format": "b64_json"}
    for _ in range(TRIES if unit.shared else 1):
        response = _asked(client, unit, body, wait)
        if not unit.shared or response.status_code != httpx2.codes.OK or _answered(unit, response):
            return _decoded(unit, response)
    raise NoPictureError(f"{unit.name}: others answered {TRIES} times; valid: a unit that gets requests")


def _asked(
    client: httpx2.Client, unit: Unit, body: Mapping[str, Any], wait: Callable[[float], None]
) -> httpx2.Response:
    """The first answer that is not 503."""
    for _ in range(ATTEMPTS):
        try:
            response = client.post(unit.url + GENERATIONS_PATH, json=body)
        except httpx2.TransportError as error:
            raise NoPictureError(f"{unit.name}: {type(error).__name__}: {error}") from error
        if response.status_code != httpx2.codes.SERVICE_UNAVAILABLE:
            return response
        wait(_retry_after(response))
    raise NoPictureError(f"{unit.name}: still busy after {ATTEMPTS} attempts")


def _answered(unit: Unit, response: httpx2.Response) -> bool:
    """Whether the answer came from one of the unit's pools."""
    try:
        pool = response.json()["pool"]
    except (ValueError, LookupError, TypeError):
        return False
    return pool in (unit.name, f"{unit.name}-on-demand", f"{unit.name}-spot")


def pictures(
    client: httpx2.Client, unit: Unit, prompts: Sequence[Golden], options: Mapping[str, Any]
) -> list[Image.Image]:
    """The unit's picture of every prompt.

    Raises:
        NoPictureError: one of them could not be had.
    """
    return [picture(client, unit, golden, options) for golden in prompts]


def _retry_after(response: httpx2.Response) -> float:
    """Seconds to wait: as the server says, where it says a number."""
    told = response.headers.get("Retry-After", "")
    return float(told) if told.isdecimal() else RETRY_SECONDS


def _decoded(unit: Unit, response: httpx2.Response) -> Image.Image:
    if response.status_code != httpx2.codes.OK:
        raise NoPictureError(f"{unit.name}: status {response.status_code}: {response.text[:200]}")
    try:
        file = base64.b64decode(response.json()["data"][0]["b64_json"], validate=True)
        return Image.open(io.BytesIO(file)).convert("RGB")
    except (ValueError, LookupError, TypeError, binascii.Error, UnidentifiedImageError) as error:
        raise NoPictureError(f"{unit.name}: the answer holds no picture: {error!r}") from error
