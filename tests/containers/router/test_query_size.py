import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containers.router.query_size import query_size
from tests.containers.router.fake_pods import settings

SETTINGS = settings(STEPS="20", SHAPES="512x512, 1024x512")


@pytest.mark.parametrize(
    ("body", "size"),
    [
        ('{"prompt": "a"}', 20),
        ('{"n": 3}', 60),
        ('{"steps": 50}', 50),
        ('{"n": 2, "steps": 10, "size": "1024x512"}', 40),
        ('{"size": "auto"}', 20),
    ],
)
def test_the_size_is_pictures_times_steps_times_pixels(body: str, size: float) -> None:
    """Relative to a picture of 512x512 in one step; what is absent is the server's default.

    SHAPES may have spaces after its commas, as the servers' may.
    """
    assert query_size(body.encode(), SETTINGS) == size


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"prompt=a", b"\xff", b"[1]", b"3", b"[" * 100_000),
        *(b'{"n": "2"}', b'{"n": true}', b'{"n": 0}', b'{"n": 9}'),
        *(b'{"steps": 101}', b'{"steps": 2.5}', b'{"size": "9999x9999"}', b'{"size": 4}'),
    ],
)
def test_what_the_server_will_refuse_has_the_default_size(body: bytes) -> None:
    """The refusal names the limit and is the server's to make; it costs nobody's deadline."""
    assert query_size(body, SETTINGS) == 20


@given(
    st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists, max_leaves=5)
)
def test_no_value_breaks_it(value: Any) -> None:
    """Whatever JSON a client sends has a size above 0."""
    for key in ("n", "steps", "size"):
        assert query_size(json.dumps({key: value}).encode(), SETTINGS) > 0
