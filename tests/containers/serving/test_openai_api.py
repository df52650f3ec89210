"""OpenAI's images API as its clients use it."""

import base64
import io
import json
from typing import Any

import boto3
import httpx2
import pytest
from moto import mock_aws
from PIL import Image

from containers.serving.backends.protocol import DeviceOutOfMemoryError, Served
from containers.serving.settings import Settings
from tests.containers.serving.asking import PATH, ask
from tests.containers.serving.fake_backend import SMALL, WORDS, FakeBackend
from tests.containers.serving.running import application


def opened(url: str) -> Image.Image:
    """The picture of a data URL."""
    kind, _, data = url.partition(";base64,")
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    assert kind == f"data:image/{(picture.format or '').lower()}"
    return picture


# What each client sends for one picture where its user sets nothing but the prompt, and what it reads.
CLIENTS: dict[str, tuple[dict[str, Any], str]] = {
    # langchain_community/utilities/dalle_image_generator.py
    "LangChain": ({"model": "dall-e-2", "n": 1, "size": "64x64", "quality": "standard"}, "url"),
    # api/app/clients/tools/structured/DALLE3.js
    "LibreChat": (
        {"model": "dall-e-3", "n": 1, "size": "64x64", "quality": "hd", "style": "natural"},
        "url",
    ),
    # backend/open_webui/routers/images.py
    "Open WebUI": (
        {"model": "test-model", "n": 1, "size": "64x64", "response_format": "b64_json"},
        "b64_json",
    ),
    # packages/openai/src/image/openai-image-model.ts
    "Vercel AI SDK": ({"model": "dall-e-3", "n": 1, "response_format": "b64_json"}, "b64_json"),
    "Vercel AI SDK, gpt-image": ({"model": "gpt-image-1", "n": 1, "quality": "high"}, "b64_json"),
    # src/Gateway/OpenAi of laravel/ai
    "Laravel": ({"model": "gpt-image-1", "size": "64x64", "quality": "low", "moderation": "low"}, "b64_json"),
    "nulls": (
        dict.fromkeys(("model", "n", "size", "quality", "style", "user", "stream", "seed")),
        "b64_json",
    ),
}


@pytest.mark.parametrize("name", CLIENTS)
def test_the_bodies_of_well_known_clients_work_unchanged(client: httpx2.Client, name: str) -> None:
    """Each finds its picture where it looks for it."""
    body, field = CLIENTS[name]
    answer = ask(client, **body)
    assert answer.status_code == 200, answer.text
    assert set(answer.json()["data"][0]) == {field, "seed"}


def test_a_url_is_a_data_url_unless_a_bucket_is_set(client: httpx2.Client) -> None:
    """Nothing needs to be stored for it."""
    answer = ask(client, response_format="url").json()
    assert opened(answer["data"][0]["url"]).format == "PNG"


def test_a_url_of_s3_is_signed_and_expires(
    settings: Settings, backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The picture lies in the bucket, under a name that nobody can guess."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    stored = settings.model_copy(update={"image_bucket": "pictures", "image_url_seconds": 60})
    with mock_aws(), application(stored, backend) as (_, client):
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket="pictures")
        url = httpx2.URL(ask(client, response_format="url", output_format="webp").json()["data"][0]["url"])
        [key] = [each["Key"] for each in s3.list_objects_v2(Bucket="pictures")["Contents"]]
        assert url.path.endswith(key)
        assert key.startswith("images/")
        assert {"Expires", "Signature"} <= set(url.params) or "X-Amz-Signature" in url.params
        assert s3.head_object(Bucket="pictures", Key=key)["ContentType"] == "image/webp"


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_a_picture_comes_in_the_format_that_is_asked_for(client: httpx2.Client, kind: str) -> None:
    """As Base64 and as a data URL alike; the answer names it."""
    answer = ask(client, output_format=kind, response_format="url", output_compression=40)
    assert (opened(answer.json()["data"][0]["url"]).format or "").lower() == kind
    assert answer.json()["output_format"] == kind
    assert answer.headers.get("x-fulcrum-ignored") == ("output_compression" if kind == "png" else None)


def test_what_means_nothing_here_is_accepted_and_told(client: httpx2.Client) -> None:
    """But for what asks for nothing: automatic, standard, opaque."""
    asked = ask(client, quality="hd", style="vivid", background="transparent", moderation="low", user="me")
    assert asked.headers["x-fulcrum-ignored"] == "quality, style, background, moderation"
    plain = ask(client, quality="standard", background="opaque", moderation="auto")
    assert "x-fulcrum-ignored" not in plain.headers


def test_a_model_without_guidance_or_negative_prompts_drops_neither_silently(settings: Settings) -> None:
    """400 where the model never takes them; a header where this request is not guided."""
    distilled = FakeBackend(served=Served((SMALL,), takes_guidance=False, takes_negative_prompt=False))
    with application(settings, distilled) as (_, client):
        assert ask(client).status_code == 200
        for asked in ({"guidance_scale": 3}, {"negative_prompt": "rain"}):
            assert ask(client, **asked).json()["error"]["param"] == next(iter(asked))
    with application(settings, FakeBackend()) as (_, client):
        told = ask(client, negative_prompt="rain", guidance_scale=1).headers["x-fulcrum-ignored"]
        assert told == "negative_prompt"


def test_diffusers_word_for_the_steps_is_understood(client: httpx2.Client, backend: FakeBackend) -> None:
    """Either word, or both where they agree."""
    assert ask(client, num_inference_steps=7, steps=7).status_code == 200
    assert ask(client, num_inference_steps=9).status_code == 200
    assert backend.batches[-1][0].work.steps == 9
    refused = ask(client, num_inference_steps=9, steps=8)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "num_inference_steps")
    assert ask(client, num_inference_steps=101).status_code == 400


def test_a_prompt_that_the_model_cuts_is_told(client: httpx2.Client) -> None:
    """A header names the text of which only the beginning was read."""
    assert ask(client, prompt="word " * (WORDS + 1)).headers["x-fulcrum-truncated"] == "prompt"
    assert "x-fulcrum-truncated" not in ask(client, prompt="word " * WORDS).headers


@pytest.mark.parametrize("field", ["prompt", "negative_prompt", "user", "model", "size"])
def test_text_that_no_tokenizer_can_read_is_refused_whichever_field_it_is_in(
    client: httpx2.Client, backend: FakeBackend, field: str
) -> None:
    """JSON can say half of a surrogate pair; it never reaches the device, where it would fail a batch."""
    made = len(backend.batches)
    body = json.dumps({"prompt": "a cat", field: "\ud800"})
    answer = client.post(PATH, content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)
    assert len(backend.batches) == made


def test_the_model_answers_to_its_aliases(settings: Settings, backend: FakeBackend) -> None:
    """OpenAI's names, and those that are set; others by choice."""
    named = settings.model_copy(update={"model_aliases": ("our/model",)})
    with application(named, backend) as (_, client):
        for name in ("test-model", "our/model", "gpt-image-1"):
            assert ask(client, model=name).json()["model"] == "test-model"
            assert client.get(f"/v1/models/{name}").json()["id"] == "test-model"
        assert ask(client, model="other").status_code == 404
        assert client.get("/v1/models/other").status_code == 404
    anything = settings.model_copy(update={"unknown_models": "serve"})
    with application(anything, FakeBackend()) as (_, client):
        assert ask(client, model="other").status_code == 200


@pytest.mark.parametrize(("asked", "made"), [("1792x1024", "128x64"), ("1024x1024", "64x64")])
def test_a_size_that_is_not_served_may_be_answered_with_the_nearest(
    settings: Settings, backend: FakeBackend, asked: str, made: str
) -> None:
    """By its proportions first; the answer tells the size that it has. What is no size stays refused."""
    nearest = settings.model_copy(update={"unknown_sizes": "nearest"})
    with application(nearest, backend) as (_, client):
        assert ask(client, size=asked).json()["size"] == made
        assert ask(client, size="large").status_code == 400


def test_what_will_not_get_better_says_so(client: httpx2.Client, backend: FakeBackend) -> None:
    """OpenAI's clients repeat a 5xx unless they are told not to."""
    backend.errors[5] = DeviceOutOfMemoryError("too large")
    final = [ask(client, n=99), ask(client, prompt=""), ask(client, seed=5), client.get("/v2")]
    assert [answer.headers.get("x-should-retry") for answer in final] == ["false"] * 4
    backend.errors[6] = ValueError("a bug")
    assert "x-should-retry" not in ask(client, seed=6).headers


def test_a_stream_shows_the_picture_as_it_comes_into_being(client: httpx2.Client) -> None:
    """Unfinished ones first, numbered, then the finished one, as OpenAI's events."""
    with client.stream(
        "POST", PATH, json={"prompt": "x", "stream": True, "partial_images": 2, "steps": 9, "seed": 3}
    ) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        told = events("".join(answer.iter_text()))
    assert [event["type"] for event in told] == [
        "image_generation.partial_image",
        "image_generation.partial_image",
        "image_generation.completed",
    ]
    assert [event.get("partial_image_index") for event in told] == [0, 1, None]
    assert {event["size"] for event in told} == {"64x64"}
    assert all(base64.b64decode(event["b64_json"]).startswith(b"\x89PNG") for event in told)


def test_what_goes_wrong_in_a_stream_is_an_event(client: httpx2.Client, backend: FakeBackend) -> None:
    """Before it began it is an answer like any other."""
    backend.errors[5] = ValueError("a bug")
    [told] = events(ask(client, stream=True, seed=5).text)
    assert (told["type"], told["error"]["code"]) == ("error", "device_error")
    assert ask(client, stream=True, n=2).status_code == 400
    assert ask(client, stream=True, size="1x1").status_code == 400


def test_a_stream_ends_with_its_deadline(client: httpx2.Client, backend: FakeBackend) -> None:
    """The device is freed as for any request."""
    backend.hold()
    late = client.post(
        PATH, json={"prompt": "x", "stream": True, "steps": 50}, headers={"X-Request-Timeout": "0.1"}
    )
    backend.release()
    assert events(late.text)[0]["error"]["code"] == "deadline_exceeded"
    assert ask(client, steps=3).status_code == 200
    assert backend.made_steps[-2:] == [1, 3]


def events(text: str) -> list[dict[str, Any]]:
    """The data of server-sent events, each named as its type."""
    told = []
    for block in text.strip().split("\n\n"):
        name, data = block.split("\n")
        told.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {told[-1]['type']}"
    return told
