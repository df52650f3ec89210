"""What all backends share: loading a diffusers pipeline, and making pictures with it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from diffusers import AutoPipelineForImage2Image, AutoPipelineForInpainting, AutoPipelineForText2Image
from diffusers.utils import logging as diffusers_logging
from PIL.Image import Image

from containers.serving.backends.families import check_is_served, family_of, takes_guidance
from containers.serving.backends.protocol import (
    ContentRefusedError,
    DeviceError,
    DeviceOutOfMemoryError,
    InvalidPictureError,
    Kind,
    OnStep,
    Picture,
    Served,
    Shape,
    Work,
    ignore_step,
)
from containers.serving.noise import generators, initial_noise
from containers.serving.settings import Settings

# How CPU (torch), CUDA libraries and the Neuron runtime say in a plain RuntimeError that memory is short.
_MEMORY_TEXTS: Final = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "cublas_status_alloc_failed",
    "nrt_resource",
    "failed to allocate",
)


# What makes pictures of each kind from the parts of a text-to-image pipeline.
PIPELINES: Final[Mapping[Kind, Any]] = {
    "image": AutoPipelineForImage2Image,
    "inpaint": AutoPipelineForInpainting,
}
TOKENIZERS: Final = ("tokenizer", "tokenizer_2", "tokenizer_3")
# Pictures, channels, height, width.
_DIMENSIONS_OF_LATENTS: Final = 4


class PipelineBackend:
    """`protocol.Backend` around a pipeline that stands ready on its device."""

    def __init__(self, pipeline: Any, served: Served, batch_sizes: Sequence[int]) -> None:
        self.served = served
        self.batch_sizes = tuple(batch_sizes)
        self._pipeline = pipeline
        self._pipelines: dict[Kind, Any] = {"text": pipeline}

    def cut(self, picture: Picture) -> tuple[str, ...]:
        """Which texts every tokenizer of the pipeline cuts."""
        texts = {"prompt": picture.prompt, "negative_prompt": picture.negative_prompt}
        return tuple(name for name, text in texts.items() if is_cut(self._pipeline, text))

    def generate(self, pictures: Sequence[Picture], on_step: OnStep = ignore_step) -> list[Image]:
        """Make the pictures; see the protocol."""
        kind = pictures[0].work.kind
        if kind not in self._pipelines:
            self._pipelines[kind] = PIPELINES[kind].from_pipe(self._pipeline)  # shares the weights
        return render(self._pipelines[kind], pictures, on_step)


class StaticBackend(PipelineBackend):
    """One that was compiled for a few batch sizes: a batch is filled up to the next of them."""

    def generate(self, pictures: Sequence[Picture], on_step: OnStep = ignore_step) -> list[Image]:
        """Make the pictures, and some more that nobody sees."""
        size = next(size for size in self.batch_sizes if size >= len(pictures))
        filled = [*pictures, *[pictures[-1]] * (size - len(pictures))]
        return super().generate(filled, on_step)[: len(pictures)]


def load_pipeline(settings: Settings, directory: Path, dtype: torch.dtype) -> Any:
    """The text-to-image pipeline saved in `directory`, its weights as `dtype`, on the CPU.

    Memory is saved where it costs no time (the VAE decodes a batch one by one), and with `low_memory`
    also where it does.
    """
    check_is_served(directory, settings.model)
    diffusers_logging.disable_progress_bar()
    pipeline: Any = AutoPipelineForText2Image.from_pretrained(
        directory, dtype=dtype, local_files_only=True, use_safetensors=True
    )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.vae.enable_slicing()
    if settings.low_memory:
        pipeline.enable_attention_slicing()
        pipeline.vae.enable_tiling()
    return pipeline


def shapes_of(settings: Settings, pipeline: Any) -> tuple[Shape, ...]:
    """The sizes to serve: as set, else the one that the model was trained for."""
    if settings.shapes:
        return settings.shapes
    sample = getattr(pipeline, "default_sample_size", None) or pipeline.unet.config.sample_size
    height, width = (sample, sample) if isinstance(sample, int) else sample
    return (Shape(width * pipeline.vae_scale_factor, height * pipeline.vae_scale_factor),)


def served_by(settings: Settings, pipeline: Any) -> Served:
    """What a backend makes that runs the pipeline as it is."""
    return Served(
        shapes_of(settings, pipeline),
        kinds=kinds_of(pipeline),
        takes_guidance=takes_guidance(pipeline),
        takes_negative_prompt=family_of(pipeline).takes_negative_prompt,
    )


def kinds_of(pipeline: Any) -> frozenset[Kind]:
    """What pictures can be made from: diffusers has a sibling of the pipeline for each kind, or none."""
    return frozenset(kind for kind, auto in PIPELINES.items() if _has_sibling(auto, pipeline)) | {"text"}


def _has_sibling(auto: Any, pipeline: Any) -> bool:
    try:
        auto.from_pipe(pipeline)
    except ValueError:
        return False
    return True


def is_cut(pipeline: Any, text: str) -> bool:
    """Whether each of the pipeline's tokenizers reads only the beginning of the text."""
    tokenizers = [found for name in TOKENIZERS if (found := getattr(pipeline, name, None)) is not None]
    return bool(tokenizers) and all(
        len(tokenizer(text, truncation=False, verbose=False).input_ids) > tokenizer.model_max_length
        for tokenizer in tokenizers
    )


def powers_of_two(most: int) -> tuple[int, ...]:
    """1, 2, 4, … up to `most`: where batching gains, it gains by doubling."""
    return tuple(2**exponent for exponent in range(most.bit_length()))


def compiled_for(settings: Settings, shapes: tuple[Shape, ...]) -> Served:
    """What a backend makes whose graphs are fixed: with guidance, or without it, as requests usually are."""
    return Served(shapes, Work(shapes[0], settings.steps, settings.guidance_scale).is_guided)


def render(pipeline: Any, pictures: Sequence[Picture], on_step: OnStep = ignore_step) -> list[Image]:
    """Make the pictures in one call of the pipeline; they share their `work`.

    Raises:
        DeviceError: when the device fails; `DeviceOutOfMemoryError` when memory is short,
            `InvalidPictureError` when what it made is not finite.
        ContentRefusedError: when the pipeline's safety checker refuses one of them.
    """
    taken = signature(pipeline.__call__).parameters
    arguments = _arguments(pipeline, pictures) | {
        "callback_on_step_end": _step_callback(on_step),
        "callback": _older_callback(pipeline, on_step),
    }
    if "callback_on_step_end" in taken:
        del arguments["callback"]
    with device_errors():
        answer = pipeline(**{name: value for name, value in arguments.items() if name in taken})
    if any(getattr(answer, "nsfw_content_detected", None) or ()):
        raise ContentRefusedError("the safety checker refuses the picture")
    if not np.isfinite(answer.images).all():
        raise InvalidPictureError("the device made numbers that are not finite")
    return list(pipeline.image_processor.numpy_to_pil(answer.images))


def _step_callback(on_step: OnStep) -> Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]:
    """`on_step` as diffusers calls it, with its own count of steps from 0 and the latents."""

    def callback(pipeline: Any, step: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        on_step(step + 1, lambda: _preview(pipeline, tensors["latents"]))
        return tensors

    return callback


def _older_callback(pipeline: Any, on_step: OnStep) -> Callable[[int, Any, torch.Tensor], None]:
    """The same for pipelines that know the older way alone (PixArt)."""
    return lambda step, _timestep, latents: on_step(step + 1, lambda: _preview(pipeline, latents))


def _preview(pipeline: Any, latents: torch.Tensor) -> list[Image]:
    """The pictures as they are between two steps; none where the latents are not a VAE's plain ones."""
    if latents.ndim != _DIMENSIONS_OF_LATENTS:
        return []
    config = pipeline.vae.config
    plain = latents / config.scaling_factor + (getattr(config, "shift_factor", None) or 0.0)
    with torch.no_grad():
        decoded = pipeline.vae.decode(plain.to(pipeline.vae.dtype), return_dict=False)[0]
    return list(pipeline.image_processor.postprocess(decoded, output_type="pil"))


def _arguments(pipeline: Any, pictures: Sequence[Picture]) -> dict[str, Any]:
    work = pictures[0].work
    sources = generators([picture.seed for picture in pictures])
    arguments: dict[str, Any] = {
        "prompt": [picture.prompt for picture in pictures],
        "generator": sources,
        "width": work.shape.width,
        "height": work.shape.height,
        "num_inference_steps": work.steps,
        "guidance_scale": work.guidance_scale,
        "output_type": "np",
        "use_resolution_binning": False,  # PixArt and Sana would make another size and scale it
    }
    if work.kind == "text":
        noise = initial_noise(pipeline, work.shape, sources)
        arguments["latents"] = noise.to(pipeline.device, pipeline.dtype)
    else:
        arguments["image"] = [picture.source for picture in pictures]
        arguments["strength"] = work.strength
    if work.kind == "inpaint":
        arguments["mask_image"] = [picture.mask for picture in pictures]
    if work.has_negative_prompt:
        arguments["negative_prompt"] = [picture.negative_prompt for picture in pictures]
    if family_of(pipeline).guidance == "true_cfg_scale":
        arguments["true_cfg_scale"] = arguments.pop("guidance_scale")
        arguments.setdefault("negative_prompt", [" "] * len(pictures))  # without one it would not be guided
    return arguments


@contextmanager
def device_errors() -> Iterator[None]:
    """Turn what torch and the runtimes below it raise into the errors of the protocol."""
    try:
        yield
    except RuntimeError as error:
        text = f"{type(error).__name__}: {error}"
        if any(mark in text.lower() for mark in _MEMORY_TEXTS):
            if torch.cuda.is_initialized():
                torch.cuda.empty_cache()
            raise DeviceOutOfMemoryError(text) from error
        raise DeviceError(text) from error
