"""NVIDIA with torch.compile: channels-last, bfloat16, one compiled graph per shape and batch size.

Compiled graphs are kept in the cache directory: on a volume that outlives the process, a restart finds
them. torch keys them by its own version, the device and the graph.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch

from containers.serving.backends.diffusion import (
    StaticBackend,
    compiled_for,
    load_pipeline,
    powers_of_two,
    served_by,
)
from containers.serving.settings import Settings

Compiler = str | Callable[..., Any]

# Every shape and batch size is a graph of its own; beyond this number torch silently runs eager.
_GRAPHS: Final = 256
_AXES_OF_A_VIDEO_LAYER: Final = 5


def load(settings: Settings, directory: Path, compiler: Compiler = "inductor") -> StaticBackend:
    """Load the model onto the GPU, or the CPU where there is none, to be compiled as it is warmed up."""
    # Set, not offered as a default: torch puts its own into the variable as soon as it is asked for one.
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(settings.cache_directory / "inductor")
    torch._dynamo.config.recompile_limit = _GRAPHS  # noqa: SLF001 - torch's documented knob has no public name
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipeline = load_pipeline(settings, directory, torch.bfloat16).to(device)
    _compile(pipeline, compiler)
    served = served_by(settings, pipeline)
    served = replace(served, guided=compiled_for(settings, served.shapes).guided, kinds=frozenset({"text"}))
    return StaticBackend(pipeline, served, powers_of_two(settings.max_batch))


def _compile(pipeline: Any, compiler: Compiler) -> None:
    """Compile in place what takes the time: the denoiser and the VAE's decoder."""
    denoiser = getattr(pipeline, "unet", None) or pipeline.transformer
    for module in (denoiser, pipeline.vae.decoder):
        if _has_two_dimensions(module):
            module.to(memory_format=torch.channels_last)
        module.compile(backend=compiler, dynamic=False)


def _has_two_dimensions(module: torch.nn.Module) -> bool:
    """Whether no layer is made for videos (Qwen-Image's VAE): channels-last is an order of four axes."""
    return all(parameter.dim() != _AXES_OF_A_VIDEO_LAYER for parameter in module.parameters())
