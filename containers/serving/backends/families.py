"""Which of diffusers' pipelines are served, and what each makes of guidance and of a negative prompt.

Only what tests run is in the table: a pipeline that takes other arguments would drop what it doesn't know.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from containers.serving.settings import InvalidSettingsError

# The saved pipeline's list of parts, which names its class.
INDEX: Final = "model_index.json"


@dataclass(frozen=True, slots=True)
class Family:
    """How a pipeline takes what a request says."""

    guidance: Literal["two passes", "an input", "true_cfg_scale"] = "two passes"
    """By a second pass (under another name also, and only with a negative prompt), or as an input."""
    takes_negative_prompt: bool = True


FAMILIES: Final[Mapping[str, Family]] = {
    "StableDiffusionPipeline": Family(),
    "StableDiffusionXLPipeline": Family(),
    "StableDiffusion3Pipeline": Family(),
    "FluxPipeline": Family("an input", takes_negative_prompt=False),
    "PixArtAlphaPipeline": Family(),
    "PixArtSigmaPipeline": Family(),
    "SanaPipeline": Family(),
    "ZImagePipeline": Family(),
    "QwenImagePipeline": Family("true_cfg_scale"),
}


def check_is_served(directory: Path, model: str) -> None:
    """Raise InvalidSettingsError, before anything is loaded, for a pipeline that isn't in the table."""
    name = json.loads((directory / INDEX).read_text("utf-8")).get("_class_name")
    if name not in FAMILIES:
        raise InvalidSettingsError(
            f"environment: MODEL: {model} is a {name}; valid: {', '.join(sorted(FAMILIES))}"
        )


def family_of(pipeline: Any) -> Family:
    """The family of a loaded pipeline; a sibling that starts from pictures is taken for the usual one."""
    return FAMILIES.get(type(pipeline).__name__, Family())


def takes_guidance(pipeline: Any) -> bool:
    """Whether the guidance of a request has an effect: distilled models were trained to do without."""
    if family_of(pipeline).guidance != "an input":
        return True
    return bool(pipeline.transformer.config.guidance_embeds)
