"""The CPU, eager, in float32: slow, exact, and there on every machine."""

from pathlib import Path

import torch

from containers.serving.backends.diffusion import PipelineBackend, load_pipeline, powers_of_two, shapes_of
from containers.serving.backends.protocol import Served
from containers.serving.settings import Settings


def load(settings: Settings, directory: Path) -> PipelineBackend:
    """Load the model for the CPU."""
    pipeline = load_pipeline(settings, directory, torch.float32)
    return PipelineBackend(pipeline, Served(shapes_of(settings, pipeline)), powers_of_two(settings.max_batch))
