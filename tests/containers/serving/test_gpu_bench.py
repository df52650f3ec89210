from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from containers.serving.backends.loading import load_backend
from containers.serving.backends.protocol import Backend
from containers.serving.consistency.compare import Tolerance
from containers.serving.gpu_bench import __main__ as command
from containers.serving.gpu_bench import architectures, measure
from containers.serving.gpu_bench.architectures import STABLE_DIFFUSION_2_1, STABLE_DIFFUSION_XL, Architecture
from containers.serving.settings import Settings

# diffusers 0.42 hands torch tensors to numpy 2 in its Euler scheduler.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

# The published models' parameter counts: UNets 866 million and 2.6 billion (Podell et al. 2023,
# arXiv 2307.01952, table 1), the parts' exact sums from their configurations on the Hugging Face hub.
PUBLISHED = {
    "sd-2.1": {"unet": 865_910_724, "vae": 83_653_863, "text_encoder": 340_387_840},
    "sdxl": {
        "unet": 2_567_463_684,
        "vae": 83_653_863,
        "text_encoder": 123_060_480,
        "text_encoder_2": 694_659_840,
    },
}

TINY_CLIP = {
    "vocab_size": 514,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "projection_dim": 32,
}


def shrunk(architecture: Architecture, **unet: object) -> Architecture:
    """The same parts, as small as their shapes allow."""
    vae = {**architecture.vae, "block_out_channels": (32,) * 4, "layers_per_block": 1, "norm_num_groups": 8}
    encoders = {name: (kind, TINY_CLIP) for name, (kind, _) in architecture.text_encoders.items()}
    small = {**architecture.unet, "sample_size": 8, "layers_per_block": 1, "norm_num_groups": 8, **unet}
    return replace(architecture, size=64, unet=small, vae={**vae, "sample_size": 64}, text_encoders=encoders)


TINY_2_1 = shrunk(
    STABLE_DIFFUSION_2_1,
    block_out_channels=(32, 64, 64, 64),
    attention_head_dim=(2, 4, 4, 4),
    cross_attention_dim=32,
)
TINY_XL = shrunk(
    STABLE_DIFFUSION_XL,
    block_out_channels=(32, 64, 64),
    attention_head_dim=(2, 4, 4),
    transformer_layers_per_block=(1, 1, 1),
    cross_attention_dim=64,
    addition_time_embed_dim=8,
    projection_class_embeddings_input_dim=8 * 6 + 32,
)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_architectures_are_those_of_the_published_models(name: str) -> None:
    """Every part has exactly as many parameters as the published one; none is allocated here."""
    made = architectures.parts(architectures.ARCHITECTURES[name])
    counts = {part: sum(weights.numel() for weights in made[part].parameters()) for part in made}
    assert counts == PUBLISHED[name]
    assert all(weights.is_meta for part in made.values() for weights in part.parameters())


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Both pipelines at a tiny size, saved with random weights."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("sd-2.1", "sdxl")}
    architectures.save(TINY_2_1, folders["sd-2.1"])
    architectures.save(TINY_XL, folders["sdxl"])
    return folders


def cpu_backend(directory: Path) -> Backend:
    """The server's own CPU backend with this model."""
    torch.set_num_threads(1)
    return load_backend(Settings.from_environ({"MODEL": str(directory), "MAX_BATCH": "2"}))


@pytest.mark.parametrize("name", ["sd-2.1", "sdxl"])
def test_the_server_loads_what_was_saved_and_makes_finite_pictures(
    name: str, saved: Mapping[str, Path]
) -> None:
    """The saved pipeline is one that the backends take, and its pictures are no constant."""
    backend = cpu_backend(saved[name])
    [image] = backend.generate(measure.pictures(backend, batch=1, steps=2))
    assert image.size == (64, 64)
    assert len(np.unique(np.asarray(image))) > 100


def test_random_weights_are_the_same_every_time(saved: Mapping[str, Path], tmp_path: Path) -> None:
    """Figures of two runs are of the same model."""
    architectures.save(TINY_2_1, tmp_path)
    file = "unet/diffusion_pytorch_model.safetensors"
    assert (tmp_path / file).read_bytes() == (saved["sd-2.1"] / file).read_bytes()


def test_speed_tells_the_first_call_apart_and_counts_every_picture(saved: Mapping[str, Path]) -> None:
    """The device is waited for around every batch; the peak is that since the measurement began."""
    backend = cpu_backend(saved["sd-2.1"])
    calls: list[str] = []
    device = measure.Device(
        finish=lambda: calls.append("finish"),
        forget_peak=lambda: calls.append("forget"),
        peak_bytes=lambda: 3 * 2**30,
    )
    shown = measure.speed(backend, device, batch=2, steps=1, repeats=3)
    assert calls == ["forget", *["finish"] * 8]
    assert (shown.batch, shown.peak_gibibytes) == (2, 3.0)
    assert shown.p50_seconds <= shown.p95_seconds
    assert 2 / shown.p95_seconds <= shown.images_per_second * 1.5


def test_a_backend_agrees_with_itself_and_not_with_another_model(saved: Mapping[str, Path]) -> None:
    """Agreement compares pictures of the same seeds."""
    backend = cpu_backend(saved["sd-2.1"])
    reference = [backend.generate([picture])[0] for picture in measure.pictures(backend, 2, steps=2)]
    tolerance = Tolerance(least_ssim=0.99, most_hash_distance=0)
    assert all(one.agrees for one in measure.agreement(reference, backend, 2, tolerance))
    other = cpu_backend(saved["sdxl"])
    assert not any(one.agrees for one in measure.agreement(reference, other, 2, tolerance))


def test_without_a_gpu_it_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, nothing built, nothing written."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    out = tmp_path / "out"
    assert command.main(["--out", str(out)]) == 1
    assert (
        capsys.readouterr().err
        == f"{command.PROGRAM}: no NVIDIA GPU is here, so there is nothing to measure\n"
    )
    assert not out.exists()


def test_the_table_holds_every_batch_size() -> None:
    """A row for each, and the worst agreement in the title."""
    row = measure.Speed(1, 2.0, 0.5, 0.6, 30.0, 4.0)
    result = {
        "speeds": [asdict(row), {**asdict(row), "batch": 8}],
        "agreement": [{"ssim": 0.99}, {"ssim": 0.91}],
    }
    made = command.table("sd-2.1", "cuda", result)
    assert made.row_count == 2
    assert "lowest SSIM against the CPU 0.910" in str(made.title)
