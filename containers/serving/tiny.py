"""A tiny Stable Diffusion with random weights, built here in a second: the whole path, no download.

It has the parts, the tensor shapes and the call of the real model (CLIP text encoder, UNet with
cross-attention, VAE with a factor of 8), so that whatever serves it serves the real one. Its pictures
show nothing, but the same seed always shows the same nothing.
"""

from pathlib import Path
from typing import Any, Final

NAME: Final = "tiny"
FOLDER: Final = "tiny-1"  # of its copy in the cache; counts up when what is built here changes
SIZE: Final = 64  # pixels; the side of its pictures
_WEIGHTS_SEED: Final = 0
_TOKENS: Final = 77  # CLIP's context, as every Stable Diffusion 1 and 2 has it
_WIDTH: Final = 32

# torch, diffusers and transformers take seconds to import: only who builds the pipeline pays for them.
# ruff: noqa: PLC0415


def build() -> Any:
    """A `diffusers.StableDiffusionPipeline` in float32; the same weights in every process."""
    import torch
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_WEIGHTS_SEED)
        pipeline: Any = StableDiffusionPipeline(
            vae=_autoencoder(),
            text_encoder=_text_encoder(),
            tokenizer=_tokenizer(),
            unet=_unet(),
            scheduler=DDIMScheduler(
                beta_start=0.00085,
                beta_end=0.012,
                beta_schedule="scaled_linear",
                clip_sample=False,
                set_alpha_to_one=False,
                steps_offset=1,
            ),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    for part in (pipeline.vae, pipeline.text_encoder, pipeline.unet):
        part.eval()
    return pipeline


def save(directory: Path) -> Path:
    """Build the pipeline and save it as diffusers does; the directory."""
    build().save_pretrained(directory)
    return directory


def _unet() -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=SIZE // 8,
        block_out_channels=(_WIDTH, 2 * _WIDTH),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=8,
        cross_attention_dim=_WIDTH,
    )


def _autoencoder() -> Any:
    from diffusers import AutoencoderKL

    blocks = 4  # each but the last halves the picture: a factor of 8
    return AutoencoderKL(
        block_out_channels=(_WIDTH,) * blocks,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=4,
        sample_size=SIZE,
    )


def _text_encoder() -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=len(_vocabulary()),
        hidden_size=_WIDTH,
        intermediate_size=2 * _WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=_TOKENS,
        bos_token_id=_vocabulary()["<|startoftext|>"],
        eos_token_id=_vocabulary()["<|endoftext|>"],
        pad_token_id=_vocabulary()["<|endoftext|>"],
    )
    return CLIPTextModel(config)


def _tokenizer() -> Any:
    from transformers import CLIPTokenizer

    return CLIPTokenizer(vocab=_vocabulary(), merges=[], model_max_length=_TOKENS)


def _vocabulary() -> dict[str, int]:
    """Every byte, inside and at the end of a word, and CLIP's two marks: any text can be said."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return {token: number for number, token in enumerate(tokens)}
