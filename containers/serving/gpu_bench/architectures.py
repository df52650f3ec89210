"""Full-size architectures with random weights: what time and memory depend on, without a download.

The configurations are the published ones: stabilityai/stable-diffusion-2-1-base and
stabilityai/stable-diffusion-xl-base-1.0 on the Hugging Face hub (unet, vae, text_encoder, scheduler). A test
compares their parameter counts with the published models'.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final

import diffusers
import torch
import transformers

from containers.serving import tiny

SEED: Final = 0

_CLIP_LARGE: Final = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_act": "quick_gelu",
    "projection_dim": 768,
}
_CLIP_BIG_G: Final = {
    "vocab_size": 49408,
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "hidden_act": "gelu",
    "projection_dim": 1280,
}
_CLIP_H: Final = {
    "vocab_size": 49408,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "hidden_act": "gelu",
    "projection_dim": 512,
}
_VAE: Final = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
_BETAS: Final = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}


@dataclass(frozen=True, slots=True)
class Architecture:
    """A pipeline's class and the configuration of its parts; text encoders by their part's name.

    `size` is the side of its pictures in pixels.
    """

    pipeline: str
    size: int
    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    text_encoders: Mapping[str, tuple[str, Mapping[str, Any]]]
    scheduler: tuple[str, Mapping[str, Any]]


STABLE_DIFFUSION_2_1: Final = Architecture(
    pipeline="StableDiffusionPipeline",
    size=512,
    unet={
        "sample_size": 64,
        "cross_attention_dim": 1024,
        "attention_head_dim": (5, 10, 20, 20),
        "block_out_channels": (320, 640, 1280, 1280),
        "use_linear_projection": True,
    },
    vae={**_VAE, "sample_size": 512, "scaling_factor": 0.18215},
    text_encoders={"text_encoder": ("CLIPTextModel", _CLIP_H)},
    scheduler=("PNDMScheduler", {**_BETAS, "skip_prk_steps": True, "set_alpha_to_one": False}),
)
STABLE_DIFFUSION_XL: Final = Architecture(
    pipeline="StableDiffusionXLPipeline",
    size=1024,
    unet={
        "sample_size": 128,
        "cross_attention_dim": 2048,
        "attention_head_dim": (5, 10, 20),
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
        "use_linear_projection": True,
    },
    vae={**_VAE, "sample_size": 1024, "scaling_factor": 0.13025, "force_upcast": True},
    text_encoders={
        "text_encoder": ("CLIPTextModel", _CLIP_LARGE),
        "text_encoder_2": ("CLIPTextModelWithProjection", _CLIP_BIG_G),
    },
    scheduler=("EulerDiscreteScheduler", {**_BETAS, "timestep_spacing": "leading"}),
)
ARCHITECTURES: Final[Mapping[str, Architecture]] = {
    "sd-2.1": STABLE_DIFFUSION_2_1,
    "sdxl": STABLE_DIFFUSION_XL,
}


def parts(architecture: Architecture) -> dict[str, Any]:
    """The parts that have weights, without any: on torch's meta device."""
    with torch.device("meta"):
        made = {
            "unet": diffusers.UNet2DConditionModel(**architecture.unet),
            "vae": diffusers.AutoencoderKL(**architecture.vae),
        }
        for name, (kind, config) in architecture.text_encoders.items():
            made[name] = getattr(transformers, kind)(transformers.CLIPTextConfig(**config))
    return made


def save(architecture: Architecture, directory: Path, dtype: torch.dtype = torch.bfloat16) -> None:
    """Save the pipeline with random weights, the same ones every time, as diffusers saves one."""
    weighted = {name: _with_weights(part, dtype) for name, part in parts(architecture).items()}
    tokenizer = tiny.build().tokenizer
    tokenizers = {name.replace("text_encoder", "tokenizer"): tokenizer for name in architecture.text_encoders}
    kind, config = architecture.scheduler
    absent = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipeline = getattr(diffusers, architecture.pipeline)(
        **weighted,
        **tokenizers,
        scheduler=getattr(diffusers, kind)(**config),
        **(absent if architecture.pipeline == "StableDiffusionPipeline" else {}),
    )
    pipeline.save_pretrained(directory)


def _with_weights(part: Any, dtype: torch.dtype) -> Any:
    """Give a part weights that keep a signal's size: 1/√(inputs) for matrices, 1 for scales, 0 for biases."""
    filled = part.to(dtype).to_empty(device="cpu")
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for name, weights in filled.named_parameters():
            if weights.ndim > 1:
                weights.normal_(0, prod(weights.shape[1:]) ** -0.5, generator=generator)
            else:
                weights.fill_(1.0 if name.endswith("weight") else 0.0)
    return filled
