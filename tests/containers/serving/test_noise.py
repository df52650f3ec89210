from types import SimpleNamespace

import pytest
import torch

from containers.serving.backends.protocol import Shape
from containers.serving.noise import generators, initial_noise


@pytest.fixture
def pipeline() -> SimpleNamespace:
    """What the noise reads of a Stable Diffusion."""
    return SimpleNamespace(unet=SimpleNamespace(config=SimpleNamespace(in_channels=4)), vae_scale_factor=8)


def test_noise_depends_on_the_seed_alone(pipeline: SimpleNamespace) -> None:
    """Bit for bit the same in any batch and at any place in it; other seeds, other noise."""
    shape = Shape(512, 768)
    batch = initial_noise(pipeline, shape, generators([1, 2, 3]))
    alone = initial_noise(pipeline, shape, generators([2]))
    assert batch.shape == (3, 4, 96, 64)
    assert torch.equal(batch[1:2], alone)
    assert not torch.equal(batch[0], batch[1])


def test_noise_is_standard_normal_in_float32_on_the_cpu(pipeline: SimpleNamespace) -> None:
    """What schedulers expect; half precision is rounded from it, not drawn anew."""
    noise = initial_noise(pipeline, Shape(512, 512), generators([7]))
    assert (noise.dtype, noise.device.type) == (torch.float32, "cpu")
    assert abs(float(noise.mean())) < 0.02
    assert abs(float(noise.std()) - 1) < 0.02


def test_noise_does_not_touch_torchs_own_generator(pipeline: SimpleNamespace) -> None:
    """Whatever else draws random numbers draws the same with and without it."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    initial_noise(pipeline, Shape(64, 64), generators([1]))
    assert torch.equal(torch.rand(3), expected)
