"""Tiny random pipelines of the other families, so that tests cover each family's shapes of call."""

from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from containers.serving import tiny

WIDTH = 32


def xl() -> Any:
    """A Stable Diffusion XL: two text encoders, pooled prompt and sizes beside the prompt."""
    torch.manual_seed(0)
    unet: Any = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + WIDTH,
        cross_attention_dim=2 * WIDTH,
    )
    return StableDiffusionXLPipeline(
        vae=autoencoder(4),
        text_encoder=clip(CLIPTextModel),
        text_encoder_2=clip(CLIPTextModelWithProjection),
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(),
        unet=unet.eval(),
        scheduler=DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1),
    )


def sd3() -> Any:
    """A Stable Diffusion 3: a transformer over patches, and three text encoders."""
    torch.manual_seed(0)
    transformer: Any = SD3Transformer2DModel(
        sample_size=8,
        patch_size=1,
        in_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=32,
        joint_attention_dim=2 * WIDTH,
        pooled_projection_dim=2 * WIDTH,
        pos_embed_max_size=8,
        out_channels=4,
    )
    return StableDiffusion3Pipeline(
        transformer=transformer.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=autoencoder(4, shift_factor=0.06),
        text_encoder=clip(CLIPTextModelWithProjection),
        tokenizer=tokenizer(),
        text_encoder_2=clip(CLIPTextModelWithProjection),
        tokenizer_2=tokenizer(),
        text_encoder_3=t5(2 * WIDTH),
        tokenizer_3=T5Tokenizer(extra_ids=0),
    )


def flux() -> Any:
    """A FLUX: latents packed two by two into tokens, guidance as an input instead of a second pass."""
    torch.manual_seed(0)
    transformer: Any = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=True,
    )
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=autoencoder(4, shift_factor=0.06),
        text_encoder=clip(CLIPTextModel),
        tokenizer=tokenizer(),
        text_encoder_2=t5(WIDTH),
        tokenizer_2=T5Tokenizer(extra_ids=0),
        transformer=transformer.eval(),
    )


def autoencoder(channels: int, **more: Any) -> Any:
    """A VAE with a factor of 8."""
    vae: Any = AutoencoderKL(
        block_out_channels=(32,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=8,
        latent_channels=channels,
        sample_size=64,
        **more,
    )
    return vae.eval()


def clip(kind: Any) -> Any:
    """A CLIP text encoder for the tiny tokenizer."""
    vocabulary = tokenizer().get_vocab()
    return kind(
        CLIPTextConfig(
            vocab_size=len(vocabulary),
            hidden_size=WIDTH,
            intermediate_size=64,
            projection_dim=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            bos_token_id=vocabulary["<|startoftext|>"],
            eos_token_id=vocabulary["<|endoftext|>"],
            pad_token_id=vocabulary["<|endoftext|>"],
        )
    ).eval()


def t5(width: int) -> Any:
    """A T5 encoder of that width."""
    config = T5Config(vocab_size=100, d_model=width, d_kv=8, d_ff=width, num_layers=1, num_heads=4)
    return T5EncoderModel(config).eval()


def tokenizer() -> CLIPTokenizer:
    """The tokenizer of the project's own tiny pipeline."""
    made: CLIPTokenizer = tiny.build().tokenizer
    return made
