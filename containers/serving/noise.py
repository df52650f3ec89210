"""The noise a picture starts from: drawn on the CPU from the picture's own seed.

So it is the same on every accelerator, in every precision (up to its rounding) and in every batch. The
devices' own generators differ from each other, and one generator for a batch would make each picture
depend on its neighbours.
"""

from collections.abc import Sequence
from typing import Any

import torch

from containers.serving.backends.protocol import Shape


def generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """A CPU generator for each picture; stochastic schedulers draw from them at every step."""
    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


def initial_noise(pipeline: Any, shape: Shape, sources: Sequence[torch.Generator]) -> torch.Tensor:
    """Standard normal noise as the pipeline takes it for `latents`, float32 on the CPU.

    Shape (pictures, channels, height / factor, width / factor) with the VAE's factor; pipelines that
    pack 2 × 2 patches into tokens (FLUX) get (pictures, tokens, 4 × channels).
    """
    packs = hasattr(pipeline, "_pack_latents")
    channels, height, width = _latent_shape(pipeline, shape, packs=packs)
    noise = torch.cat([torch.randn((1, channels, height, width), generator=source) for source in sources])
    if packs:
        noise = pipeline._pack_latents(noise, len(sources), channels, height, width)  # noqa: SLF001 - no other way
    return noise


def _latent_shape(pipeline: Any, shape: Shape, *, packs: bool) -> tuple[int, int, int]:
    denoiser = getattr(pipeline, "unet", None) or pipeline.transformer
    factor = pipeline.vae_scale_factor
    if packs:  # patches of two by two: even sides, and four channels of noise in each of the token's
        double = 2 * factor
        return denoiser.config.in_channels // 4, 2 * (shape.height // double), 2 * (shape.width // double)
    return denoiser.config.in_channels, shape.height // factor, shape.width // factor
