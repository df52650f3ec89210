"""The table of accelerators is whole, and no framework gets past the settings where it does not run."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from containers.serving.settings import BackendName
from control_lambda.core.fleet import Accelerator
from infra import catalog
from infra.accelerators import ACCELERATORS
from infra.settings import Settings, SettingsError
from tests.infra.conftest import ROOT


def test_every_accelerator_that_a_unit_may_name_has_its_row() -> None:
    """And no row is of an accelerator that no unit can name."""
    assert ACCELERATORS.keys() ^ set(get_args(Accelerator)) == set()


def test_every_accelerator_has_a_backend_and_every_backend_an_accelerator() -> None:
    """No unit without a server, no backend that no unit reaches."""
    reached = {backend for facts in ACCELERATORS.values() for backend in facts.backends.values()}
    assert reached == set(get_args(BackendName))


@pytest.mark.parametrize("accelerator", ACCELERATORS)
def test_an_accelerator_has_instance_types_and_a_dockerfile(accelerator: Accelerator) -> None:
    """What the table names is there."""
    assert (ROOT / ACCELERATORS[accelerator].dockerfile).is_file()
    assert accelerator in {catalog.instance_type(name).accelerator for name in catalog.instance_types()}


def test_devices_are_offered_by_a_plugin_and_cores_are_not() -> None:
    """A pod asks for devices by the plugin's resource; without one it would share them."""
    for name in catalog.instance_types():
        known = catalog.instance_type(name)
        assert (known.devices > 0) == (ACCELERATORS[known.accelerator].device_plugin is not None), name


@pytest.mark.parametrize(
    ("framework", "refused", "fault"),
    [
        ("neuronx", "eager", "units[0].framework: given 'eager'; valid: neuronx, which neuron runs"),
        (
            "inductor",
            "neuronx",
            "units[2].framework: given 'neuronx'; valid: inductor or eager, which nvidia runs",
        ),
    ],
)
def test_a_framework_that_does_not_run_on_its_accelerator_is_refused(
    tmp_path: Path, new_settings: Callable[..., Settings], framework: str, refused: str, fault: str
) -> None:
    """One line that names the file, the unit and what would do, before anything is synthesized."""
    fleet = tmp_path / "fleet.yaml"
    text = (ROOT / "fleet.yaml").read_text(encoding="utf-8")
    fleet.write_text(text.replace(f"framework: {framework}", f"framework: {refused}", 1), encoding="utf-8")
    with pytest.raises(SettingsError) as error:
        new_settings(fleet_file=str(fleet))
    assert str(error.value) == f"{fleet}: {fault}"


def test_sizes_and_steps_of_the_servers_are_settings(new_settings: Callable[..., Settings]) -> None:
    """As lists and numbers on the command line, too."""
    settings = new_settings(shapes="512x512, 768x512", steps="30")
    assert (settings.shapes, settings.steps) == (("512x512", "768x512"), 30)


@pytest.mark.parametrize(
    ("key", "value", "valid"),
    [
        ("shapes", "512", "sizes in pixels, width x height, such as 512x512,768x512, or nothing"),
        ("steps", "0", "a whole number from 1 to 100"),
    ],
)
def test_a_bad_size_or_number_of_steps_is_refused(
    new_settings: Callable[..., Settings], key: str, value: str, valid: str
) -> None:
    """One line that names the key and what is valid."""
    with pytest.raises(SettingsError, match=f"^cdk.json: context: {key}: given .*; valid: {valid}"):
        new_settings(**{key: value})
