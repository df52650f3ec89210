"""NVIDIA, eager, in bfloat16: float32's range in half the memory, so that no VAE overflows."""

from pathlib import Path

import torch

from containers.serving.backends.diffusion import (
    PipelineBackend,
    kinds_of,
    load_pipeline,
    powers_of_two,
    shapes_of,
)
from containers.serving.backends.protocol import Served
from containers.serving.settings import InvalidSettingsError, Settings


def load(settings: Settings, directory: Path) -> PipelineBackend:
    """Load the model onto the first CUDA device.

    Raises:
        InvalidSettingsError: there is none.
    """
    if not torch.cuda.is_available():
        raise InvalidSettingsError("environment: BACKEND: cuda, but no CUDA device is here; valid: cpu")
    pipeline = load_pipeline(settings, directory, torch.bfloat16).to("cuda")
    served = Served(shapes_of(settings, pipeline), kinds=kinds_of(pipeline))
    return PipelineBackend(pipeline, served, powers_of_two(settings.max_batch))
