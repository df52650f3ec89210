"""NVIDIA, eager, in bfloat16: float32's range in half the memory, so that no VAE overflows."""

from pathlib import Path

import torch

from containers.serving.backends.diffusion import PipelineBackend, load_pipeline, powers_of_two, served_by
from containers.serving.settings import InvalidSettingsError, Settings


def load(settings: Settings, directory: Path) -> PipelineBackend:
    """Load the model onto the first CUDA device.

    Raises:
        InvalidSettingsError: there is none.
    """
    if not torch.cuda.is_available():
        raise InvalidSettingsError("environment: BACKEND: cuda, but no CUDA device is here; valid: cpu")
    pipeline = load_pipeline(settings, directory, torch.bfloat16).to("cuda")
    return PipelineBackend(pipeline, served_by(settings, pipeline), powers_of_two(settings.max_batch))
