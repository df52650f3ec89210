"""Inferentia and Trainium: a UNet pipeline whose parts were compiled ahead, for fixed shapes and batches.

The pipeline's loop, tokenizer and scheduler stay on the host's CPU; text encoders, UNet and the VAE's
decoder run as `torch_neuronx.trace` made them (`neuron_compile`). The UNet's batch is split over the
NeuronCores. Pipelines around a transformer (SD 3, FLUX) are refused: they need weights sharded over cores.
"""

import logging
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import torch
from transformers.modeling_outputs import BaseModelOutput

from containers.serving import store
from containers.serving.backends.diffusion import (
    StaticBackend,
    compiled_for,
    device_errors,
    load_pipeline,
    shapes_of,
)
from containers.serving.backends.protocol import Shape
from containers.serving.settings import InvalidSettingsError, Settings

log = logging.getLogger(__name__)

DTYPE: Final = torch.bfloat16
TEXT_ENCODERS: Final = ("text_encoder", "text_encoder_2")
UNET: Final = "unet"
DECODER: Final = "vae_decoder"

# torch_neuronx exists only in AWS's images: imported by who loads or compiles.
# ruff: noqa: PLC0415


def load(settings: Settings, directory: Path) -> StaticBackend:
    """Load the model with the artifacts of every shape that has them.

    Raises:
        InvalidSettingsError: no wanted shape has artifacts, or the pipeline has no UNet.
    """
    pipeline = load_pipeline(settings, directory, DTYPE)
    check_has_unet(pipeline, settings.model)
    wanted = shapes_of(settings, pipeline)
    artifacts = _artifacts(settings, wanted)
    with device_errors():
        _replace_parts(pipeline, settings, artifacts)
    return StaticBackend(pipeline, compiled_for(settings, tuple(artifacts)), (settings.neuron_batch,))


def check_has_unet(pipeline: Any, model: str) -> None:
    """Raise InvalidSettingsError for a pipeline that is not built around a UNet."""
    if getattr(pipeline, "unet", None) is None:
        raise InvalidSettingsError(
            f"environment: MODEL: {model} has no UNet; valid here: Stable Diffusion 1, 2, XL"
        )


def artifact_key(settings: Settings, shape: Shape) -> str:
    """The folder of a shape's artifacts: everything that they depend on, so that none is used for another.

    Raises:
        InvalidSettingsError: there is no Neuron compiler here, whose version is part of it.
    """
    model = settings.model.strip("/").replace("/", "--")
    guided = "guided" if compiled_for(settings, (shape,)).guided else "unguided"
    return (
        f"neuronx-cc-{_compiler_version()}/{settings.neuron_target}/{model}/"
        f"{shape}-{guided}-batch{settings.neuron_batch}-cores{settings.neuron_cores}"
    )


def _compiler_version() -> str:
    try:
        return version("neuronx-cc")
    except PackageNotFoundError:
        raise InvalidSettingsError(
            "environment: BACKEND: neuron, but neuronx-cc is not installed here; valid: in AWS's image"
        ) from None


def unet_batch_per_core(settings: Settings, shape: Shape) -> int:
    """How many samples of the UNet each core computes: guidance doubles the pictures.

    Raises:
        InvalidSettingsError: they can't be split evenly.
    """
    samples = settings.neuron_batch * (2 if compiled_for(settings, (shape,)).guided else 1)
    per_core, rest = divmod(samples, settings.neuron_cores)
    if rest:
        raise InvalidSettingsError(
            f"environment: NEURON_CORES: {settings.neuron_cores} can't share {samples} samples evenly; "
            f"valid: a divisor of {samples}"
        )
    return per_core


def _artifacts(settings: Settings, wanted: tuple[Shape, ...]) -> Mapping[Shape, Path]:
    found = {}
    for shape in wanted:
        key = artifact_key(settings, shape)
        try:
            found[shape] = store.artifact_directory(settings, key)
        except store.NotStoredError as error:
            log.warning("size %s is not served: %s", shape, error)
    if not found:
        key = artifact_key(settings, wanted[0])
        raise InvalidSettingsError(
            f"environment: SHAPES: {', '.join(map(str, wanted))}; valid: compiled ones, so not {key}"
        )
    return found


def _replace_parts(pipeline: Any, settings: Settings, artifacts: Mapping[Shape, Path]) -> None:
    """Let the compiled parts answer in place of the modules, whose weights stay unused in host memory."""
    import torch_neuronx

    any_directory = next(iter(artifacts.values()))
    for name in TEXT_ENCODERS:
        if getattr(pipeline, name, None) is not None:
            part = torch.jit.load(any_directory / f"{name}.pt")
            getattr(pipeline, name).forward = text_encoder_answer(part)
    cores = list(range(settings.neuron_cores))
    unets = {
        latent_sides(pipeline, shape): torch_neuronx.DataParallel(
            torch.jit.load(path / f"{UNET}.pt"), cores, set_dynamic_batching=False
        )
        for shape, path in artifacts.items()
    }
    decoders = {
        latent_sides(pipeline, shape): torch.jit.load(path / f"{DECODER}.pt")
        for shape, path in artifacts.items()
    }
    pipeline.unet.forward = unet_answer(unets)
    pipeline.vae.decode = decoder_answer(decoders)


def latent_sides(pipeline: Any, shape: Shape) -> tuple[int, int]:
    """Height and width of the latents of a shape."""
    factor = pipeline.vae_scale_factor
    return shape.height // factor, shape.width // factor


def text_encoder_answer(part: Callable[..., Any]) -> Callable[..., BaseModelOutput]:
    """A forward of a text encoder: token ids to what pipelines read, `[0]` and `hidden_states[-2]`."""

    def forward(input_ids: torch.Tensor, **_: Any) -> BaseModelOutput:
        first, penultimate = part(input_ids)
        return BaseModelOutput(last_hidden_state=first, hidden_states=(penultimate, first))

    return forward


def unet_answer(parts: Mapping[tuple[int, int], Callable[..., Any]]) -> Callable[..., tuple[torch.Tensor]]:
    """A forward of the UNet: the part for the latents' size, its inputs split over the cores by sample."""

    def forward(
        sample: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        added_cond_kwargs: Mapping[str, torch.Tensor] | None = None,
        **_: Any,
    ) -> tuple[torch.Tensor]:
        part = parts[sample.shape[-2], sample.shape[-1]]
        # float32: bfloat16 would round the time itself, 981 to 980.
        each = timestep.float().expand(sample.shape[0])
        added = () if added_cond_kwargs is None else (added_cond_kwargs[name] for name in ADDED_TO_UNET)
        return (part(sample, each, encoder_hidden_states, *added),)

    return forward


# What SDXL gives its UNet beside the prompt, in the order of the compiled part's inputs.
ADDED_TO_UNET: Final = ("text_embeds", "time_ids")


def decoder_answer(parts: Mapping[tuple[int, int], Callable[..., Any]]) -> Callable[..., tuple[torch.Tensor]]:
    """A `vae.decode`: latents to pixels in -1…1, one picture at a time, as the decoder was compiled."""

    def decode(latents: torch.Tensor, **_: Any) -> tuple[torch.Tensor]:
        part = parts[latents.shape[-2], latents.shape[-1]]
        return (torch.cat([part(latent) for latent in latents.split(1)]),)

    return decode
