"""The tiny pipeline as backends load it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from containers.serving import store
from containers.serving.backends import cpu
from containers.serving.backends.diffusion import PipelineBackend
from containers.serving.settings import Settings


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Tests share the machine; and one thread sums in one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def cpu_settings(serving_cache: Path) -> Settings:
    """Settings of the tiny pipeline."""
    return Settings(cache_directory=serving_cache, steps=2, max_batch=4)


@pytest.fixture(scope="session")
def tiny_directory(cpu_settings: Settings) -> Path:
    """Where the tiny pipeline is saved."""
    return store.model_directory(cpu_settings)


@pytest.fixture(scope="session")
def cpu_backend(cpu_settings: Settings, tiny_directory: Path) -> PipelineBackend:
    """The tiny pipeline on the CPU."""
    return cpu.load(cpu_settings, tiny_directory)
