"""What a request for pictures may say: OpenAI's images API, and what diffusion needs beyond it."""

import math
import random
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from containers.serving.backends.protocol import Picture, Served, Shape, Work
from containers.serving.errors import ApiError
from containers.serving.settings import Settings

LARGEST_SEED = 2**32 - 1


class ImageRequest(BaseModel):
    """The body of POST /v1/images/generations. What is absent takes the server's default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str = Field(min_length=1)
    model: str | None = None
    n: int = Field(default=1, ge=1)
    size: str = "auto"
    response_format: Literal["b64_json"] = "b64_json"
    output_format: Literal["png"] = "png"
    quality: Literal["auto", "standard"] = "auto"
    user: str | None = Field(default=None, max_length=512)
    seed: int | None = Field(default=None, ge=0, le=LARGEST_SEED)
    """Of the first picture; the next ones count up from it. Absent: random."""
    steps: int | None = Field(default=None, ge=1)
    guidance_scale: float | None = Field(default=None, ge=0, le=30, allow_inf_nan=False)
    negative_prompt: str | None = None

    def pictures(self, settings: Settings, served: Served) -> list[Picture]:
        """The single pictures asked for.

        Raises:
            ApiError: 400 naming the limit that is passed, 404 for a model that isn't served.
        """
        self._check_limits(settings)
        work = Work(
            self._shape(served.shapes),
            self.steps or settings.steps,
            settings.guidance_scale if self.guidance_scale is None else self.guidance_scale,
            has_negative_prompt=self.negative_prompt is not None,
        )
        if served.guided not in (None, work.is_guided):
            raise ApiError(
                400,
                f"guidance_scale: {work.guidance_scale:g}; valid here, where the model was compiled: "
                f"{'above' if served.guided else 'at most'} 1",
                param="guidance_scale",
                code="limit_exceeded",
            )
        first = random.randrange(LARGEST_SEED + 1) if self.seed is None else self.seed  # noqa: S311 - no secret
        return [
            Picture(self.prompt, self.negative_prompt or "", (first + number) % (LARGEST_SEED + 1), work)
            for number in range(self.n)
        ]

    def _check_limits(self, settings: Settings) -> None:
        if self.model not in (None, settings.model):
            raise ApiError(
                404,
                f"model {self.model!r} is not served; valid: {settings.model!r}",
                param="model",
                code="model_not_found",
            )
        _at_most("n", self.n, settings.max_images)
        _at_most("steps", self.steps or 1, settings.max_steps)
        _at_most("prompt", len(self.prompt), settings.max_prompt_characters, " characters")
        _at_most(
            "negative_prompt", len(self.negative_prompt or ""), settings.max_prompt_characters, " characters"
        )

    def _shape(self, shapes: tuple[Shape, ...]) -> Shape:
        named = {str(shape): shape for shape in shapes} | {"auto": shapes[0]}
        if self.size not in named:
            raise ApiError(
                400,
                f"size: {self.size!r} is not served; valid: {', '.join(named)}",
                param="size",
                code="invalid_size",
            )
        return named[self.size]


class ImageData(BaseModel):
    """One picture of an answer."""

    b64_json: str
    seed: int


class ImageResponse(BaseModel):
    """The answer, as OpenAI's, plus the model and the pool that answered."""

    created: int
    data: list[ImageData]
    model: str
    pool: str


def timeout_seconds(header: str | None, objective_seconds: float | None) -> float:
    """How long the request may take: X-Request-Timeout, else the objective, else for ever.

    Raises:
        ApiError: 400, when the header is not a positive number.
    """
    if header is None:
        return objective_seconds or math.inf
    try:
        seconds = float(header)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ApiError(
            400,
            f"X-Request-Timeout: {header!r}; valid: a positive number of seconds",
            param="X-Request-Timeout",
            code="invalid_timeout",
        )
    return seconds


def _at_most(param: str, value: int, limit: int, unit: str = "") -> None:
    if value > limit:
        raise ApiError(
            400, f"{param}: {value}{unit}; valid: at most {limit}", param=param, code="limit_exceeded"
        )
