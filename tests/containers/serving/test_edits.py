"""Pictures made from pictures: OpenAI's edits and variations."""

import io
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from PIL import Image

from containers.serving.backends.protocol import DeviceError, Served
from containers.serving.settings import Settings
from tests.containers.serving.fake_backend import SMALL, FakeBackend
from tests.containers.serving.running import application, eventually

EDITS = "/v1/images/edits"
VARIATIONS = "/v1/images/variations"


def drawn(mode: str, size: tuple[int, int], colour: Any, kind: str = "png") -> bytes:
    """A plain picture as a file."""
    file = io.BytesIO()
    Image.new(mode, size, colour).save(file, kind)
    return file.getvalue()


RED = drawn("RGB", (200, 100), (255, 0, 0))


@pytest.fixture
def editing(settings: Settings) -> Iterator[tuple[httpx2.Client, FakeBackend]]:
    """A server whose model makes pictures of every kind."""
    backend = FakeBackend(served=Served((SMALL,), kinds=frozenset({"text", "image", "inpaint"})))
    with application(settings, backend) as (_, client):
        yield client, backend


def test_an_edit_starts_from_the_given_picture(editing: tuple[httpx2.Client, FakeBackend]) -> None:
    """In the served size; fields come as a form has them, and the strength as diffusers knows it."""
    client, backend = editing
    answer = client.post(
        EDITS, data={"prompt": "a cat", "n": "2", "strength": "0.5"}, files={"image": ("a.png", RED)}
    )
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["data"]) == 2
    picture = backend.batches[-1][0]
    assert (picture.prompt, picture.work.kind, picture.work.strength) == ("a cat", "image", 0.5)
    assert picture.source is not None
    assert (picture.source.size, picture.source.getpixel((5, 5))) == ((64, 64), (255, 0, 0))
    assert picture.work.denoising_steps == 1


def test_a_mask_says_where_the_picture_is_made_anew(editing: tuple[httpx2.Client, FakeBackend]) -> None:
    """Transparent is where, for OpenAI; white is where, for diffusers."""
    client, backend = editing
    hole = drawn("RGBA", (10, 10), (0, 0, 0, 0))
    files = {"image[]": ("a.png", RED), "mask": ("m.png", hole)}
    assert client.post(EDITS, data={"prompt": "a cat"}, files=files).status_code == 200
    picture = backend.batches[-1][0]
    assert picture.work.kind == "inpaint"
    assert picture.mask is not None
    assert picture.mask.getpixel((5, 5)) == 255


def test_a_variation_needs_no_prompt(editing: tuple[httpx2.Client, FakeBackend]) -> None:
    """An edit does."""
    client, backend = editing
    files = {"image": ("a.jpeg", drawn("RGB", (64, 64), (1, 2, 3), "jpeg"))}
    assert client.post(VARIATIONS, files=files).status_code == 200
    assert (backend.batches[-1][0].work.kind, backend.batches[-1][0].prompt) == ("image", "")
    refused = client.post(EDITS, files=files)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "prompt")


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, "image: 0 files; valid: one"),
        ({"image": ("a.png", b"no picture")}, "image: can't be read; valid: a PNG, JPEG or WebP"),
        ({"image": ("a.gif", drawn("RGB", (9, 9), 0, "gif"))}, "image: can't be read"),
        ({"image": ("a.png", drawn("1", (5000, 4000), 0))}, "image: 5000x4000; valid: at most"),
        ({"image": ("a.png", RED), "mask": ("m.png", RED)}, "mask: has no transparency"),
    ],
)
def test_what_is_no_picture_is_refused(
    editing: tuple[httpx2.Client, FakeBackend], files: dict[str, Any], told: str
) -> None:
    """400, naming the file and what would be valid; never read further than needed."""
    client, _ = editing
    answer = client.post(EDITS, data={"prompt": "x"}, files=files or {"other": ("o.png", RED)})
    assert answer.status_code == 400
    assert told in answer.json()["error"]["message"]


def test_a_model_that_can_not_says_so(client: httpx2.Client) -> None:
    """400 naming what it can."""
    answer = client.post(EDITS, data={"prompt": "x"}, files={"image": ("a.png", RED)})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "not_supported")
    assert "/v1/images/generations" in answer.json()["error"]["message"]


def test_a_body_that_is_no_form_is_refused(client: httpx2.Client) -> None:
    """As is a form with a field that is unknown."""
    assert client.post(EDITS, json={"prompt": "x"}).status_code in (400, 415)
    answer = client.post(EDITS, data={"prompt": "x", "sead": "1"}, files={"image": ("a.png", RED)})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "sead")


def test_edits_that_fail_are_probed_without_a_picture(editing: tuple[httpx2.Client, FakeBackend]) -> None:
    """Nobody's picture starts from none: the device is found to be well."""
    client, backend = editing
    backend.errors[5] = DeviceError("poison")
    for _ in range(3):
        client.post(EDITS, data={"prompt": "x", "seed": "5"}, files={"image": ("a.png", RED)})
    eventually(lambda: backend.batches[-1][0].work.kind == "text")
    eventually(lambda: client.get("/health/ready").status_code == 200)
