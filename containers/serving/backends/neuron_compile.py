"""Compiles a model for Neuron, part by part, and stores the artifacts where `neuron` looks for them.

Runs on any host with AWS's Neuron packages, a CPU host too: the target is named, not detected. The
environment is the server's own (MODEL, SHAPES, GUIDANCE_SCALE, NEURON_TARGET, NEURON_CORES, NEURON_BATCH,
MODEL_BUCKET, …), so that what is compiled is what will be served:

    python -m containers.serving.backends.neuron_compile
"""

import logging
import os
import sys
import time
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from containers.serving import store
from containers.serving.backends import neuron
from containers.serving.backends.diffusion import load_pipeline, shapes_of
from containers.serving.backends.protocol import Shape
from containers.serving.settings import InvalidSettingsError, Settings

log = logging.getLogger(__name__)

PROGRAM: Final = "python -m containers.serving.backends.neuron_compile"
BAD_INPUT: Final = 2

# torch_neuronx exists only in AWS's images.
# ruff: noqa: PLC0415


class TextEncoderPart(nn.Module):
    """Token ids (batch, tokens) to the first output and the last hidden state but one."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode; no keyword arguments, so that it can be traced."""
        answer = self.encoder(input_ids, output_hidden_states=True)
        return answer[0], answer.hidden_states[-2]


class UNetPart(nn.Module):
    """Latents, timesteps, prompts, and SDXL's two additions, to the predicted noise."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(
        self, sample: torch.Tensor, timestep: torch.Tensor, prompts: torch.Tensor, *added: torch.Tensor
    ) -> torch.Tensor:
        """Predict; positional arguments only, so that it can be traced."""
        named = dict(zip(neuron.ADDED_TO_UNET, added, strict=True)) if added else None
        noise: torch.Tensor = self.unet(
            sample, timestep, prompts, added_cond_kwargs=named, return_dict=False
        )[0]
        return noise


class DecoderPart(nn.Module):
    """Latents (1, channels, height, width) to pixels, computed in float32."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.post_quant_conv = getattr(vae, "post_quant_conv", None)
        self.decoder = vae.decoder

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode; in float32, since bfloat16 bands smooth colours."""
        latents = latents.float()
        if self.post_quant_conv is not None:
            latents = self.post_quant_conv(latents)
        pixels: torch.Tensor = self.decoder(latents)
        return pixels


def compile_shape(pipeline: Any, settings: Settings, shape: Shape, directory: Path) -> Path:
    """Compile every part for one shape into `directory`; the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    per_core = neuron.unet_batch_per_core(settings, shape)
    for name in neuron.TEXT_ENCODERS:
        if getattr(pipeline, name, None) is not None:
            tokens = torch.zeros(
                (settings.neuron_batch, pipeline.tokenizer.model_max_length), dtype=torch.int64
            )
            part = TextEncoderPart(getattr(pipeline, name))
            _trace(part, (tokens,), directory / f"{name}.pt", settings)
    inputs = _unet_inputs(pipeline, shape, per_core)
    _trace(
        UNetPart(pipeline.unet),
        inputs,
        directory / f"{neuron.UNET}.pt",
        settings,
        "--model-type=unet-inference",
    )
    latents = torch.zeros((1, pipeline.vae.config.latent_channels, *neuron.latent_sides(pipeline, shape)))
    decoder = DecoderPart(pipeline.vae).float()
    _trace(decoder, (latents.to(neuron.DTYPE),), directory / f"{neuron.DECODER}.pt", settings)
    return directory


def _unet_inputs(pipeline: Any, shape: Shape, batch: int) -> tuple[torch.Tensor, ...]:
    config = pipeline.unet.config
    sides = neuron.latent_sides(pipeline, shape)
    sample = torch.zeros((batch, config.in_channels, *sides), dtype=neuron.DTYPE)
    timestep = torch.ones(batch)
    prompts = torch.zeros(
        (batch, pipeline.tokenizer.model_max_length, config.cross_attention_dim), dtype=neuron.DTYPE
    )
    if config.addition_embed_type != "text_time":
        return sample, timestep, prompts
    pooled = pipeline.text_encoder_2.config.projection_dim
    return (
        sample,
        timestep,
        prompts,
        torch.zeros((batch, pooled), dtype=neuron.DTYPE),
        torch.zeros((batch, 6), dtype=neuron.DTYPE),  # original size, crop and target size: two each
    )


def _trace(
    part: nn.Module, inputs: tuple[torch.Tensor, ...], file: Path, settings: Settings, *flags: str
) -> None:
    import torch_neuronx

    began = time.monotonic()
    flags = (f"--target={settings.neuron_target}", *flags)
    with torch.no_grad():
        traced = torch_neuronx.trace(part.eval(), inputs, compiler_args=list(flags), cpu_backend=True)
    torch.jit.save(traced, file)
    log.info("compiled %s in %.0f s", file.name, time.monotonic() - began)


def compile_model(settings: Settings) -> list[Path]:
    """Compile every wanted shape that is not stored yet; the directories of all of them."""
    # Read when torch_neuronx is imported; without it a host that has no device stops there.
    os.environ["NEURON_PLATFORM_TARGET_OVERRIDE"] = settings.neuron_target
    pipeline = load_pipeline(settings, store.model_directory(settings), neuron.DTYPE)
    neuron.check_has_unet(pipeline, settings.model)
    done = []
    for shape in shapes_of(settings, pipeline):
        key = neuron.artifact_key(settings, shape)
        try:
            done.append(store.artifact_directory(settings, key))
        except store.NotStoredError:
            log.info("compiling %s", key)
            with store.new_artifact(settings, key) as directory:
                compile_shape(pipeline, settings, shape, directory)
            done.append(store.artifact_directory(settings, key))
    return done


def main() -> int:
    """Compile what the environment asks for; the process's exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        for directory in compile_model(Settings.from_environ(os.environ)):
            print(directory)
    except (InvalidSettingsError, store.StoreError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return BAD_INPUT
    return 0


if __name__ == "__main__":
    sys.exit(main())
