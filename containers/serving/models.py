"""What the one served model may be called: its own name, names that are set, and OpenAI's."""

from collections.abc import Mapping
from typing import Final, Literal

from containers.serving.settings import Settings

ResponseFormat = Literal["b64_json", "url"]

# OpenAI's image models, and what each answers with where a request does not say: clients of the older ones
# read a URL. https://platform.openai.com/docs/api-reference/images/create (response_format)
OPENAI: Final[Mapping[str, ResponseFormat]] = {
    "dall-e-2": "url",
    "dall-e-3": "url",
    "gpt-image-1": "b64_json",
    "gpt-image-1-mini": "b64_json",
    "gpt-image-1.5": "b64_json",
    "chatgpt-image-latest": "b64_json",
}


def is_served(name: str | None, settings: Settings) -> bool:
    """Whether a request for this model is answered by the one served here."""
    return (
        name is None
        or name in {settings.model, *settings.model_aliases}
        or name in OPENAI
        or settings.unknown_models == "serve"
    )


def response_format(name: str | None) -> ResponseFormat:
    """What a client expects that asked for this model and no format."""
    return OPENAI.get(name or "", "b64_json")


def listed(settings: Settings, created: int) -> dict[str, object]:
    """The served model as OpenAI's API lists it."""
    return {"id": settings.model, "object": "model", "created": created, "owned_by": "fulcrum"}
