"""What a request for pictures may say: OpenAI's images API, and what diffusion needs beyond it."""

import math
import random
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from PIL.Image import Image
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from containers.serving import models
from containers.serving.backends.protocol import Kind, Picture, Served, Shape, Work
from containers.serving.errors import ApiError
from containers.serving.settings import Settings

LARGEST_SEED: Final = 2**32 - 1
# How much of a picture is made anew where a request doesn't say: diffusers' own default.
DEFAULT_STRENGTH: Final = 0.8
# What OpenAI's parameters may say without asking for anything that a diffusion model can't do.
_MEANS_NOTHING: Final = (None, "auto", "standard", "opaque")


def _encodable(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"no Unicode text: a lone surrogate at character {error.start}") from None
    return text


# Every text of a request: what no tokenizer can read is refused before it joins the texts of others.
Text = Annotated[str, AfterValidator(_encodable)]


@dataclass(frozen=True, slots=True)
class Given:
    """The picture that a request brings, in the size that is served, and its mask."""

    kind: Kind = "text"
    source: Image | None = None
    mask: Image | None = None


class PictureRequest(BaseModel):
    """What every request for pictures may say. What is absent or null takes the server's default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: Text = Field(min_length=1)
    model: Text | None = None
    n: int | None = Field(default=None, ge=1)
    size: Text | None = None
    response_format: models.ResponseFormat | None = None
    output_format: Literal["png", "jpeg", "webp"] | None = None
    output_compression: int | None = Field(default=None, ge=0, le=100)
    """The quality of a JPEG or WebP, in percent."""
    quality: Literal["auto", "standard", "hd", "low", "medium", "high"] | None = None
    background: Literal["auto", "opaque", "transparent"] | None = None
    moderation: Literal["auto", "low"] | None = None
    user: Annotated[Text, Field(max_length=512)] | None = None
    stream: bool | None = None
    partial_images: int | None = Field(default=None, ge=0, le=3)
    """How many unfinished pictures a stream shows before the finished one."""
    seed: int | None = Field(default=None, ge=0, le=LARGEST_SEED)
    """Of the first picture; the next ones count up from it. Absent: random."""
    steps: int | None = Field(default=None, ge=1)
    num_inference_steps: int | None = Field(default=None, ge=1)
    """What diffusers calls `steps`."""
    guidance_scale: float | None = Field(default=None, ge=0, le=30, allow_inf_nan=False)
    negative_prompt: Text | None = None

    @property
    def answer_format(self) -> models.ResponseFormat:
        """How the answer holds the pictures."""
        return self.response_format or models.response_format(self.model)

    @property
    def ignored(self) -> tuple[str, ...]:
        """The parameters that ask for something which has no meaning here."""
        asked = {name: getattr(self, name, None) for name in ("quality", "style", "background", "moderation")}
        ignored = [name for name, value in asked.items() if value not in _MEANS_NOTHING]
        if self.output_compression is not None and self.output_format in (None, "png"):
            ignored.append("output_compression")
        return tuple(ignored)

    def shape(self, settings: Settings, served: Served) -> Shape:
        """The served size that is asked for.

        Raises:
            ApiError: 400, it isn't served.
        """
        named = {str(shape): shape for shape in served.shapes} | {"auto": served.shapes[0]}
        size = self.size or "auto"
        if size in named:
            return named[size]
        wanted = _shape(size)
        if wanted is None or settings.unknown_sizes == "refuse":
            raise ApiError(
                400,
                f"size: {size!r} is not served; valid: {', '.join(named)}",
                param="size",
                code="invalid_size",
            )
        return min(served.shapes, key=lambda shape: _difference(shape, wanted))

    def pictures(self, settings: Settings, served: Served, given: Given | None = None) -> list[Picture]:
        """The single pictures asked for.

        Raises:
            ApiError: 400 naming the limit that is passed, 404 for a model that isn't served.
        """
        self._check_limits(settings)
        self._check_is_taken(served)
        given = given or Given()
        work = self._work(settings, served, given.kind)
        first = random.randrange(LARGEST_SEED + 1) if self.seed is None else self.seed  # noqa: S311 - no secret
        seeds = [(first + number) % (LARGEST_SEED + 1) for number in range(self.n or 1)]
        return [
            Picture(self.prompt, self.negative_prompt or "", seed, work, given.source, given.mask)
            for seed in seeds
        ]

    def _work(self, settings: Settings, served: Served, kind: Kind) -> Work:
        steps = self.steps or self.num_inference_steps or settings.steps
        work = Work(
            self.shape(settings, served),
            steps,
            settings.guidance_scale if self.guidance_scale is None else self.guidance_scale,
            has_negative_prompt=self.negative_prompt is not None,
            kind=kind,
            strength=1.0 if kind == "text" else self._strength(steps),
        )
        if served.guided not in (None, work.is_guided):
            raise ApiError(
                400,
                f"guidance_scale: {work.guidance_scale:g}; valid here, where the model was compiled: "
                f"{'above' if served.guided else 'at most'} 1",
                param="guidance_scale",
                code="limit_exceeded",
            )
        return work

    def _check_is_taken(self, served: Served) -> None:
        """Refuse what the model would drop silently."""
        taken = {
            "guidance_scale": served.takes_guidance or self.guidance_scale is None,
            "negative_prompt": served.takes_negative_prompt or self.negative_prompt is None,
        }
        for name, is_taken in taken.items():
            if not is_taken:
                raise ApiError(
                    400, f"{name}: the model served here takes none", param=name, code="not_supported"
                )

    def _strength(self, steps: int) -> float:
        """At least so much that one step is run."""
        return max(getattr(self, "strength", None) or DEFAULT_STRENGTH, 1 / steps)

    def _check_limits(self, settings: Settings) -> None:
        if not models.is_served(self.model, settings):
            raise ApiError(
                404,
                f"model {self.model!r} is not served; valid: {settings.model!r}",
                param="model",
                code="model_not_found",
            )
        if None not in (self.steps, self.num_inference_steps) and self.steps != self.num_inference_steps:
            raise ApiError(
                400,
                f"num_inference_steps: {self.num_inference_steps}, steps: {self.steps}; valid: one of them",
                param="num_inference_steps",
                code="invalid_request",
            )
        _at_most("n", self.n or 1, settings.max_images)
        _at_most("steps", self.steps or self.num_inference_steps or 1, settings.max_steps)
        _at_most("prompt", len(self.prompt), settings.max_prompt_characters, " characters")
        _at_most(
            "negative_prompt", len(self.negative_prompt or ""), settings.max_prompt_characters, " characters"
        )


class ImageRequest(PictureRequest):
    """The body of POST /v1/images/generations."""

    style: Literal["vivid", "natural"] | None = None


class EditRequest(PictureRequest):
    """The fields of POST /v1/images/edits and /v1/images/variations beside the files."""

    prompt: Text = ""  # of a variation
    input_fidelity: Literal["low", "high"] | None = None
    strength: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    """How much of the picture is made anew."""

    @property
    def ignored(self) -> tuple[str, ...]:
        """Those of every request, and the fidelity: `strength` is a diffusion model's."""
        return (*super().ignored, *(["input_fidelity"] if self.input_fidelity else []))


class ImageData(BaseModel):
    """One picture of an answer."""

    b64_json: str | None = None
    url: str | None = None
    seed: int


class ImageResponse(BaseModel):
    """The answer, as OpenAI's, plus the model and the pool that answered."""

    created: int
    data: list[ImageData]
    model: str
    pool: str
    size: str
    output_format: str


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


def _shape(size: str) -> Shape | None:
    try:
        return Shape.parse(size)
    except ValueError:
        return None


def _difference(shape: Shape, wanted: Shape) -> tuple[float, float]:
    """How far a shape is from another: by its proportions first, then by its size."""
    proportions = (shape.width * wanted.height) / (shape.height * wanted.width)
    return abs(math.log(proportions)), abs(math.log(shape.pixels / wanted.pixels))


def _at_most(param: str, value: int, limit: int, unit: str = "") -> None:
    if value > limit:
        raise ApiError(
            400, f"{param}: {value}{unit}; valid: at most {limit}", param=param, code="limit_exceeded"
        )
