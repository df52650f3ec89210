"""The environment of the server, parsed once; every error names the variable and what is valid."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from containers.serving import tiny
from containers.serving.backends.protocol import Shape

BackendName = Literal["cpu", "cuda", "inductor", "neuron"]


class InvalidSettingsError(ValueError):
    """A variable is wrong; the message names it and what would be valid."""


def _shapes(text: Any) -> Any:
    return tuple(Shape.parse(part.strip()) for part in text.split(",")) if isinstance(text, str) else text


def _names(text: Any) -> Any:
    return tuple(part.strip() for part in text.split(",") if part.strip()) if isinstance(text, str) else text


class Settings(BaseModel):
    """What the server is told: each field is the environment variable of the same name in capitals."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    port: int = Field(default=8000, ge=0, le=65535)
    host: str = "127.0.0.1"
    """Where to listen; the images say 0.0.0.0, everywhere."""
    model: str = Field(default=tiny.NAME, min_length=1)
    """A hub id, a directory, or `tiny`."""
    model_revision: str = ""
    """The hub's commit, branch or tag; empty: its main branch."""
    model_aliases: Annotated[tuple[str, ...], BeforeValidator(_names)] = ()
    """What else a request may call the model, beside OpenAI's names."""
    unknown_models: Literal["refuse", "serve"] = "refuse"
    """What becomes of a request for another model."""
    unknown_sizes: Literal["refuse", "nearest"] = "refuse"
    """What becomes of a request for a size that isn't served; the answer tells the size it has."""
    image_bucket: str = ""
    """Where pictures are put whose request wants a URL, which S3 signs; empty: a data URL holds them."""
    image_prefix: str = "images"
    image_url_seconds: int = Field(default=3600, ge=1, le=604800)
    """How long such a URL is good for; S3 allows a week."""
    model_bucket: str = ""
    model_prefix: str = ""
    neuron_artifacts_prefix: str = "neuron"
    neuron_target: Literal["inf2", "trn1", "trn2"] = "inf2"
    """The chip that the artifacts were compiled for."""
    neuron_cores: int = Field(default=2, ge=1)
    """Cores that share one batch; inf2.xlarge and trn1.2xlarge have two."""
    neuron_batch: int = Field(default=1, ge=1, le=64)
    """Pictures in the one batch size that was compiled."""
    cache_directory: Path = Field(default_factory=lambda: Path.home() / ".cache" / "fulcrum")
    backend: BackendName = "cpu"
    low_memory: bool = False
    """Sliced attention and a tiled VAE: slower, and seams may differ from a unit that does without."""
    shapes: Annotated[tuple[Shape, ...], BeforeValidator(_shapes), Field(min_length=1)] = ()
    """Served sizes; the first one is the default. Empty: the size that the model was trained for."""
    steps: int = Field(default=20, ge=1)
    guidance_scale: float = Field(default=7.5, ge=0, le=30, allow_inf_nan=False)

    latency_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """The objective, and the deadline of a request that brings none. None: no deadline."""
    max_queue: int = Field(default=64, ge=1)
    """Pictures that may wait for the device."""
    max_batch: int = Field(default=4, ge=1, le=64)
    max_images: int = Field(default=8, ge=1)
    max_steps: int = Field(default=100, ge=1)
    max_prompt_characters: int = Field(default=2000, ge=1)
    batch_window_seconds: float = Field(default=0.004, ge=0, le=1, allow_inf_nan=False)
    drain_seconds: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    """How long new requests are still taken after SIGTERM."""
    grace_seconds: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    """How long requests in flight may take after SIGTERM."""

    metric_namespace: str = "Fulcrum"
    fleet: str = "local"
    unit: str = "local"
    pool: str = "local"
    service_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """What the unit's profile says that a picture takes; a server that is slower says so. None: never."""
    host_ip: str = ""
    """The node that this server runs on; empty: it never says so."""

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
        if settings.steps > settings.max_steps:
            raise InvalidSettingsError(
                f"environment: STEPS: {settings.steps}; valid: at most MAX_STEPS ({settings.max_steps})"
            )
        return settings


def _in_words(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    variable = str(first["loc"][0]).upper()
    return f"environment: {variable}: {first['input']!r}; {first['msg']}"
