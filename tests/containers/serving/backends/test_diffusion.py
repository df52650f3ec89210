from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from containers.serving.backends.diffusion import (
    PipelineBackend,
    StaticBackend,
    compiled_for,
    device_errors,
    load_pipeline,
    powers_of_two,
    render,
    served_by,
    shapes_of,
)
from containers.serving.backends.protocol import (
    AbandonedError,
    ContentRefusedError,
    DeviceError,
    DeviceOutOfMemoryError,
    InvalidPictureError,
    Picture,
    Preview,
    Served,
    Shape,
    Work,
)
from containers.serving.settings import InvalidSettingsError, Settings
from tests.containers.serving import families

SHAPE = Shape(64, 64)
WORK = Work(SHAPE, 2, 5.0)


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        (families.xl, "StableDiffusionXLPipeline"),
        (families.sd3, "StableDiffusion3Pipeline"),
        (families.flux, "FluxPipeline"),
        (families.pixart, "PixArtSigmaPipeline"),
        (families.sana, "SanaPipeline"),
        (families.z_image, "ZImagePipeline"),
        (families.qwen_image, "QwenImagePipeline"),
    ],
)
def test_every_family_is_served_through_the_same_call(
    family: Callable[[], Any], kind: str, tmp_path: Path
) -> None:
    """Loaded by diffusers' auto class; a batch agrees with its pictures made alone."""
    family().save_pretrained(tmp_path)
    pipeline = load_pipeline(Settings(), tmp_path, torch.float32)
    assert type(pipeline).__name__ == kind
    pictures = [Picture(f"{number} cats", "", number, WORK) for number in range(2)]
    together = [np.asarray(image, np.int16) for image in render(pipeline, pictures)]
    alone = [np.asarray(render(pipeline, [picture])[0], np.int16) for picture in pictures]
    assert together[0].shape == (64, 64, 3)
    assert np.abs(together[0] - together[1]).max() > 10
    for one, other in zip(together, alone, strict=True):
        assert np.abs(one - other).max() <= 1


def test_low_memory_makes_the_same_picture(tiny_directory: Path, cpu_backend: PipelineBackend) -> None:
    """Sliced attention and a tiled VAE: at a size of one tile the picture is the same."""
    pipeline = load_pipeline(Settings(low_memory=True), tiny_directory, torch.float32)
    assert pipeline.vae.use_tiling
    picture = Picture("a cat", "", 1, WORK)
    (sliced,), (plain,) = render(pipeline, [picture]), cpu_backend.generate([picture])
    assert np.abs(np.asarray(sliced, np.int16) - np.asarray(plain, np.int16)).max() <= 1


def test_half_precision_starts_from_the_same_noise(
    tiny_directory: Path, cpu_backend: PipelineBackend
) -> None:
    """bfloat16 shows the same picture as float32, coarser: the noise is drawn before it is rounded."""
    pipeline = load_pipeline(Settings(), tiny_directory, torch.bfloat16)
    picture = Picture("a cat", "", 1, WORK)
    other = Picture("a cat", "", 2, WORK)
    half, full, another = (
        np.asarray(image, np.float64)
        for image in (
            *render(pipeline, [picture]),
            *cpu_backend.generate([picture]),
            *render(pipeline, [other]),
        )
    )
    assert np.abs(half - full).mean() < np.abs(half - another).mean() / 10


def test_a_static_backend_fills_its_batches(tiny_directory: Path) -> None:
    """Only compiled batch sizes run; the fillers are not returned."""
    pipeline = load_pipeline(Settings(), tiny_directory, torch.float32)
    sizes: list[int] = []
    pipeline.unet.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].shape[0]))
    backend = StaticBackend(pipeline, Served((SHAPE,)), (2, 4))
    made = backend.generate([Picture("a cat", "", seed, WORK) for seed in (1, 2, 3)])
    assert len(made) == 3
    assert set(sizes) == {8}  # four pictures, each with and without its prompt
    sizes.clear()
    assert len(backend.generate([Picture("a cat", "", 1, WORK)])) == 1
    assert set(sizes) == {4}


def test_set_shapes_come_before_the_models_own(cpu_settings: Settings, tiny_directory: Path) -> None:
    """SHAPES, in its order; the first is the default."""
    pipeline = load_pipeline(Settings(), tiny_directory, torch.float32)
    chosen = cpu_settings.model_copy(update={"shapes": (Shape(128, 64), SHAPE)})
    assert shapes_of(chosen, pipeline) == (Shape(128, 64), SHAPE)
    assert shapes_of(Settings(), pipeline) == (SHAPE,)


def test_compiled_graphs_are_for_the_usual_guidance() -> None:
    """Above 1 the denoiser's batch is twice the pictures."""
    assert compiled_for(Settings(guidance_scale=7.5), (SHAPE,)) == Served((SHAPE,), guided=True)
    assert compiled_for(Settings(guidance_scale=0), (SHAPE,)) == Served((SHAPE,), guided=False)


def test_batches_double() -> None:
    """Up to the largest allowed, and not beyond."""
    assert [powers_of_two(most) for most in (1, 4, 7)] == [(1,), (1, 2, 4), (1, 2, 4)]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
        RuntimeError("nrt_load: status=4 (NRT_RESOURCE)"),
    ],
)
def test_every_way_to_say_that_memory_is_short_is_understood(error: RuntimeError) -> None:
    """Of torch's CPU allocator, CUDA's, and the Neuron runtime."""
    with pytest.raises(DeviceOutOfMemoryError), device_errors():
        raise error


def test_any_other_runtime_error_is_the_devices() -> None:
    """And is no shortage of memory."""
    with pytest.raises(DeviceError, match="illegal memory access") as told, device_errors():
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    assert not isinstance(told.value, DeviceOutOfMemoryError)


def test_what_is_not_finite_is_no_picture(tiny_directory: Path) -> None:
    """Turned into bytes it would be black, and answered."""
    pipeline = load_pipeline(Settings(), tiny_directory, torch.float32)
    pipeline.vae.decoder.conv_out.bias.data.fill_(torch.nan)
    with pytest.raises(InvalidPictureError, match="not finite"):
        render(pipeline, [Picture("a cat", "", 1, WORK)])


def test_the_safety_checkers_verdict_is_told(tiny_directory: Path) -> None:
    """Diffusers puts a black picture in place of what it refuses."""
    pipeline = load_pipeline(Settings(), tiny_directory, torch.float32)
    pipeline.run_safety_checker = lambda image, *_: (image * 0, [True])
    with pytest.raises(ContentRefusedError):
        render(pipeline, [Picture("a cat", "", 1, WORK)])


def test_a_batch_can_be_ended_and_seen_between_steps(tiny_directory: Path) -> None:
    """What `on_step` raises ends it; the preview after the last step is the picture."""
    pipeline = load_pipeline(Settings(), tiny_directory, torch.float32)
    seen: list[Image.Image] = []

    def look(done: int, preview: Preview) -> None:
        seen.extend(preview())
        if done == WORK.steps and len(seen) > WORK.steps:
            raise AbandonedError

    picture = Picture("a cat", "", 1, WORK)
    (made,) = render(pipeline, [picture], look)
    assert np.abs(np.asarray(seen[-1], np.int16) - np.asarray(made, np.int16)).max() <= 1
    with pytest.raises(AbandonedError):
        render(pipeline, [picture], look)


def test_a_picture_is_made_from_another_and_within_a_mask(cpu_backend: PipelineBackend) -> None:
    """The pipeline's siblings share its weights; what the mask leaves out stays, more or less."""
    assert cpu_backend.served.kinds == {"text", "image", "inpaint"}
    source = Image.new("RGB", (64, 64), (200, 30, 30))
    for kind, mask in (("image", None), ("inpaint", Image.new("L", (64, 64), 255))):
        work = Work(SHAPE, 4, 5.0, kind=kind, strength=0.5)  # type: ignore[arg-type]  # a kind of the tuple
        picture = Picture("a cat", "", 1, work, source, mask)
        (first,) = cpu_backend.generate([picture])
        (again, other) = cpu_backend.generate([picture, replace(picture, seed=2)])
        assert np.abs(np.asarray(first, np.int16) - np.asarray(again, np.int16)).max() <= 1
        assert np.abs(np.asarray(first, np.int16) - np.asarray(other, np.int16)).max() > 1


def test_a_text_is_cut_where_the_tokenizer_ends(cpu_backend: PipelineBackend) -> None:
    """CLIP reads 77 tokens, its two marks among them; here every letter is one."""
    fits, longer = Picture("x" * 75, "", 1, WORK), Picture("x" * 76, "y" * 76, 1, WORK)
    assert (cpu_backend.cut(fits), cpu_backend.cut(longer)) == ((), ("prompt", "negative_prompt"))


def test_a_pipeline_that_is_not_in_the_table_is_refused_by_name(tmp_path: Path) -> None:
    """Before anything is loaded; the message names it and what would be served."""
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableVideoDiffusionPipeline"}')
    with pytest.raises(
        InvalidSettingsError, match=r"is a StableVideoDiffusionPipeline; valid: FluxPipeline, "
    ):
        load_pipeline(Settings(), tmp_path, torch.float32)


@pytest.mark.parametrize(
    ("family", "guided", "negative"),
    [(families.xl, True, True), (families.flux, True, False), (families.qwen_image, True, True)],
)
def test_guidance_and_a_negative_prompt_change_the_picture_or_are_refused(
    family: Callable[[], Any], tmp_path: Path, *, guided: bool, negative: bool
) -> None:
    """What the table promises of a family is so: nothing that a request says is dropped silently."""
    family().save_pretrained(tmp_path)
    pipeline = load_pipeline(Settings(), tmp_path, torch.float32)
    served = served_by(Settings(), pipeline)
    assert (served.takes_guidance, served.takes_negative_prompt) == (guided, negative)
    stronger = replace(WORK, guidance_scale=20.0)
    against = replace(WORK, has_negative_prompt=True)
    plain, other = (render(pipeline, [Picture("a cat", "", 1, work)])[0] for work in (WORK, stronger))
    assert np.abs(np.asarray(plain, np.int16) - np.asarray(other, np.int16)).max() > 0
    if negative:
        (other,) = render(pipeline, [Picture("a cat", "rain, fog and much more", 1, against)])
        assert np.abs(np.asarray(plain, np.int16) - np.asarray(other, np.int16)).max() > 0
