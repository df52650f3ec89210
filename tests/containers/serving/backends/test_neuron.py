import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from containers.serving.backends import neuron, neuron_compile
from containers.serving.backends.diffusion import load_pipeline, render
from containers.serving.backends.protocol import Picture, Served, Shape, Work
from containers.serving.settings import InvalidSettingsError, Settings
from tests.containers.serving import families
from tests.containers.serving.backends import torch_neuronx_stand_in

SHAPE = Shape(64, 64)
WIDE = Shape(128, 64)

# torch deprecates TorchScript, which is what torch_neuronx makes of a model.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings(
        "ignore::FutureWarning"
    ),  # tracing looks at every attribute, deprecated ones too
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def _neuron_packages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """torch_neuronx and a compiler's version, as AWS's image has them."""
    site = tmp_path_factory.mktemp("site")
    torch_neuronx_stand_in.fake_compiler(site, "2.26.6360")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torch_neuronx", torch_neuronx_stand_in)
        patch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", "")
        patch.syspath_prepend(str(site))
        yield


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, tiny_directory: Path) -> Settings:
    """The tiny pipeline in two sizes for two cores, one picture at a time."""
    return Settings(
        backend="neuron",
        model=str(tiny_directory),
        shapes=(SHAPE, WIDE),
        neuron_target="trn1",
        neuron_cores=2,
        cache_directory=tmp_path_factory.mktemp("cache"),
    )


@pytest.fixture(scope="module")
def calls(settings: Settings) -> list[dict[str, Any]]:
    """What the compiler was asked to make those settings' artifacts, which are in the cache now."""
    torch_neuronx_stand_in.calls.clear()
    neuron_compile.compile_model(settings)
    return list(torch_neuronx_stand_in.calls)


def agree(backend: Any, directory: Path, work: Work, count: int) -> None:
    """The compiled pipeline makes the pictures that the eager one makes in the same precision."""
    pictures = [Picture(f"{number} cats", "fog", number, work) for number in range(count)]
    eager = render(load_pipeline(Settings(), directory, neuron.DTYPE), pictures)
    for compiled, plain in zip(backend.generate(pictures), eager, strict=True):
        assert compiled.size == (work.shape.width, work.shape.height)
        difference = np.abs(np.asarray(compiled, np.float64) - np.asarray(plain, np.float64))
        assert difference.mean() < 2


@pytest.mark.usefixtures("calls")
def test_compiled_parts_make_the_eager_pipelines_pictures(settings: Settings, tiny_directory: Path) -> None:
    """Compile, store, load and make pictures of both sizes."""
    backend = neuron.load(settings, tiny_directory)
    assert backend.served == Served((SHAPE, WIDE), guided=True)
    assert backend.batch_sizes == (1,)
    for shape in (SHAPE, WIDE):
        agree(backend, tiny_directory, Work(shape, 2, 7.5, has_negative_prompt=True), 1)


def test_both_text_encoders_of_sdxl_are_compiled(tmp_path: Path) -> None:
    """With its two additions to the UNet's inputs, in batches of two."""
    families.xl().save_pretrained(tmp_path / "model")
    settings = Settings(model=str(tmp_path / "model"), neuron_batch=2, cache_directory=tmp_path / "cache")
    torch_neuronx_stand_in.calls.clear()
    neuron_compile.compile_model(settings)
    assert [call["part"] for call in torch_neuronx_stand_in.calls] == [
        "TextEncoderPart",
        "TextEncoderPart",
        "UNetPart",
        "DecoderPart",
    ]
    backend = neuron.load(settings, tmp_path / "model")
    assert backend.batch_sizes == (2,)
    agree(backend, tmp_path / "model", Work(SHAPE, 2, 7.5), 2)
    agree(backend, tmp_path / "model", Work(SHAPE, 2, 7.5), 1)


def test_the_target_is_named_so_that_a_cpu_host_can_compile(calls: list[dict[str, Any]]) -> None:
    """Every part is compiled for the target, on the CPU backend, at the batch of one core."""
    for call in calls:
        assert call["cpu_backend"] is True
        assert call["compiler_args"][0] == "--target=trn1"
    unets = [call["shapes"] for call in calls if call["part"] == "UNetPart"]
    assert unets == [[(1, 4, 8, sides), (1,), (1, 77, 32)] for sides in (8, 16)]


@pytest.mark.usefixtures("calls")
def test_what_is_compiled_is_not_compiled_again(settings: Settings) -> None:
    """The same key, the same artifacts."""
    torch_neuronx_stand_in.calls.clear()
    first, second = neuron_compile.compile_model(settings)
    assert torch_neuronx_stand_in.calls == []
    assert first != second
    assert {file.name for file in first.iterdir()} == {"text_encoder.pt", "unet.pt", "vae_decoder.pt"}


def test_the_key_holds_everything_that_artifacts_depend_on() -> None:
    """Compiler, target, model, shape, guidance, batch and cores."""
    settings = Settings(model="stabilityai/sd-2-1", neuron_target="trn1", neuron_batch=4, neuron_cores=2)
    assert neuron.artifact_key(settings, Shape(512, 768)) == (
        "neuronx-cc-2.26.6360/trn1/stabilityai--sd-2-1/512x768-guided-batch4-cores2"
    )


@pytest.mark.usefixtures("calls")
def test_a_shape_without_an_artifact_is_not_served(settings: Settings, tiny_directory: Path) -> None:
    """The others are, and the API's refusal lists them."""
    wanted = settings.model_copy(update={"shapes": (Shape(512, 512), WIDE)})
    assert neuron.load(wanted, tiny_directory).served.shapes == (WIDE,)


def test_without_any_artifact_the_server_does_not_start(tmp_path: Path, tiny_directory: Path) -> None:
    """One line names the sizes and the key that is missing."""
    nothing = Settings(shapes=(SHAPE, WIDE), cache_directory=tmp_path)
    with pytest.raises(
        InvalidSettingsError, match="SHAPES: 64x64, 128x64; valid: compiled ones, so not neuron"
    ):
        neuron.load(nothing, tiny_directory)


@pytest.mark.usefixtures("calls")
@pytest.mark.parametrize("change", [{"neuron_cores": 1}, {"neuron_target": "inf2"}, {"neuron_batch": 2}])
def test_artifacts_for_something_else_are_not_used(
    settings: Settings, tiny_directory: Path, change: dict[str, Any]
) -> None:
    """Compiled for other cores, another chip or another batch they would not fit."""
    with pytest.raises(InvalidSettingsError, match="compiled ones"):
        neuron.load(settings.model_copy(update=change), tiny_directory)


@pytest.mark.usefixtures("calls")
def test_artifacts_of_another_compiler_are_not_used(
    settings: Settings, tiny_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer compiler's image finds nothing rather than something that may not load."""
    torch_neuronx_stand_in.fake_compiler(tmp_path, "2.27.0")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InvalidSettingsError, match=r"2\.27\.0"):
        neuron.load(settings, tiny_directory)


def test_a_machine_without_neurons_packages_is_told(
    settings: Settings, tiny_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BACKEND=neuron on a laptop: one line, not a traceback."""
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if "site0" not in entry])
    with pytest.raises(InvalidSettingsError, match="neuronx-cc is not installed here"):
        neuron.load(settings, tiny_directory)


def test_a_transformer_is_refused(tmp_path: Path) -> None:
    """FLUX and Stable Diffusion 3 would need their weights split over cores."""
    families.flux().save_pretrained(tmp_path / "model")
    settings = Settings(model=str(tmp_path / "model"), cache_directory=tmp_path / "cache")
    with pytest.raises(InvalidSettingsError, match="has no UNet"):
        neuron_compile.compile_model(settings)


def test_a_batch_that_cores_can_not_share_is_refused() -> None:
    """Guided, one picture is two samples: two cores share them, three can't."""
    assert neuron.unet_batch_per_core(Settings(neuron_batch=3, neuron_cores=2), SHAPE) == 3
    with pytest.raises(InvalidSettingsError, match="NEURON_CORES: 3 can't share 2 samples"):
        neuron.unet_batch_per_core(Settings(neuron_batch=1, neuron_cores=3), SHAPE)


def test_the_time_keeps_its_precision() -> None:
    """bfloat16 knows no 981: the UNet gets its time in float32, once for each sample."""
    seen: list[torch.Tensor] = []

    def part(sample: torch.Tensor, timestep: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        seen.append(timestep)
        return sample

    forward = neuron.unet_answer({(8, 8): part})
    forward(torch.zeros(2, 4, 8, 8, dtype=neuron.DTYPE), torch.tensor(981), torch.zeros(2, 77, 32))
    assert seen[0].tolist() == [981.0, 981.0]
