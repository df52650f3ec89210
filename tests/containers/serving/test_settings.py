from pathlib import Path

import pytest

from containers.serving.backends.protocol import Shape
from containers.serving.settings import InvalidSettingsError, Settings


def test_an_empty_environment_serves_the_tiny_pipeline_on_the_cpu() -> None:
    """Every setting has a default that needs no download and no accelerator."""
    settings = Settings.from_environ({})
    assert (settings.model, settings.backend, settings.port) == ("tiny", "cpu", 8000)
    assert settings.latency_seconds is None


def test_it_listens_on_this_machine_alone_unless_told_otherwise() -> None:
    """The images say 0.0.0.0."""
    assert Settings.from_environ({}).host == "127.0.0.1"


def test_the_environment_is_read_by_the_names_that_the_stack_sets() -> None:
    """Each variable that the stack gives its pods reaches its field."""
    settings = Settings.from_environ(
        {
            "PORT": "9000",
            "MODEL": "stabilityai/stable-diffusion-2-1-base",
            "MODEL_BUCKET": "bucket",
            "MODEL_PREFIX": "models/",
            "BACKEND": "inductor",
            "UNIT": "g5-inductor",
            "POOL": "g5-inductor-spot",
            "LATENCY_SECONDS": "2.0",
            "METRIC_NAMESPACE": "Fulcrum",
            "FLEET": "sd21",
            "SHAPES": "512x512, 768x512",
            "STEPS": "25",
            "NEURON_ARTIFACTS_PREFIX": "artifacts",
            "CACHE_DIRECTORY": "/cache",
        }
    )
    assert settings == Settings(
        port=9000,
        model="stabilityai/stable-diffusion-2-1-base",
        model_bucket="bucket",
        model_prefix="models/",
        backend="inductor",
        unit="g5-inductor",
        pool="g5-inductor-spot",
        latency_seconds=2.0,
        metric_namespace="Fulcrum",
        fleet="sd21",
        shapes=(Shape(512, 512), Shape(768, 512)),
        steps=25,
        neuron_artifacts_prefix="artifacts",
        cache_directory=Path("/cache"),
    )


def test_an_empty_variable_counts_as_absent() -> None:
    """A manifest can't leave a variable out, only empty."""
    assert Settings.from_environ({"LATENCY_SECONDS": "", "SHAPES": " "}).latency_seconds is None


@pytest.mark.parametrize(
    ("variable", "value", "valid"),
    [
        ("PORT", "70000", "less than or equal to 65535"),
        ("PORT", "http", "valid integer"),
        ("BACKEND", "tpu", "'cpu', 'cuda', 'inductor' or 'neuron'"),
        ("LATENCY_SECONDS", "-1", "greater than 0"),
        ("LATENCY_SECONDS", "inf", "finite number"),
        ("SHAPES", "512", "WIDTHxHEIGHT in multiples of 8"),
        ("SHAPES", "512x500", "WIDTHxHEIGHT in multiples of 8"),
        ("SHAPES", "512x512,", "WIDTHxHEIGHT in multiples of 8"),
        ("STEPS", "0", "greater than or equal to 1"),
        ("STEPS", "101", "at most MAX_STEPS (100)"),
    ],
)
def test_a_wrong_variable_is_told_in_one_line(variable: str, value: str, valid: str) -> None:
    """The message names the variable, its value and what would be valid."""
    with pytest.raises(InvalidSettingsError) as told:
        Settings.from_environ({variable: value})
    message = str(told.value)
    assert message.startswith(f"environment: {variable}: ")
    assert value in message
    assert valid in message
    assert "\n" not in message
