"""The CPU, eager, in float32: slow, exact, and there on every machine."""

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
from containers.serving.settings import Settings


def load(settings: Settings, directory: Path) -> PipelineBackend:
    """Load the model for the CPU."""
    pipeline = load_pipeline(settings, directory, torch.float32)
    served = Served(shapes_of(settings, pipeline), kinds=kinds_of(pipeline))
    return PipelineBackend(pipeline, served, powers_of_two(settings.max_batch))
