import re

import httpx2

from containers.serving.page import CONTENT_SECURITY_POLICY


def test_the_page_offers_a_form_and_needs_nothing_from_elsewhere(client: httpx2.Client) -> None:
    """No script, no link, no address; the policy lets in only its own style, picture and form."""
    answer = client.get("/")
    assert answer.status_code == 200
    assert answer.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    assert "default-src 'none'" in CONTENT_SECURITY_POLICY
    assert 'name="prompt"' in answer.text
    assert 'name="seed"' in answer.text
    assert not re.search(r"<script|<link|https?://|\bon\w+=", answer.text)


def test_the_form_answers_with_the_picture_and_its_pool(client: httpx2.Client) -> None:
    """A plain browser form is enough."""
    answer = client.post("/", data={"prompt": "a cat", "seed": "12"})
    assert answer.status_code == 200
    assert 'src="data:image/png;base64,iVBOR' in answer.text
    assert "seed 12, made by pool <b>test-pool</b>" in answer.text
    assert ">a cat</textarea>" in answer.text


def test_what_the_form_sends_is_escaped(client: httpx2.Client) -> None:
    """A prompt stays text; a `$` is no placeholder."""
    text = client.post("/", data={"prompt": "</textarea><b>$model", "seed": '"><i>'}).text
    assert "</textarea><b>" not in text
    assert "&lt;/textarea&gt;&lt;b&gt;$model" in text
    assert '"><i>' not in text


def test_a_wrong_form_tells_what_is_valid(client: httpx2.Client) -> None:
    """The page comes back with the reason and what was typed."""
    answer = client.post("/", data={"prompt": "x" * 2001})
    assert answer.status_code == 400
    assert "prompt: 2001 characters; valid: at most 2000" in answer.text
    assert client.post("/", data={"seed": "1"}).status_code == 400
