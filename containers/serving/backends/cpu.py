"""The CPU, eager, in float32: slow, exact, and there on every machine."""

from pathlib import Path

import torch

from containers.serving.backends.diffusion import PipelineBackend, load_pipeline, powers_of_two, served_by
from containers.serving.settings import Settings


def load(settings: Settings, directory: Path) -> PipelineBackend:
    """Load the model for the CPU."""
    pipeline = load_pipeline(settings, directory, torch.float32)
    return PipelineBackend(pipeline, served_by(settings, pipeline), powers_of_two(settings.max_batch))
