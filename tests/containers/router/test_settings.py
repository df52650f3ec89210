import json

import pytest

from containers.router.endpoints import Endpoint
from containers.router.settings import InvalidSettingsError, Settings
from control_lambda.fleet_file import load_fleet
from tests.containers.router.fake_pods import FLEET
from tests.infra.conftest import ROOT

GOOD = {"FLEET_JSON": json.dumps(FLEET), "NAMESPACE": "fulcrum"}


def test_the_fleet_is_read_as_the_stack_writes_it() -> None:
    """FLEET_JSON is the whole of fleet.yaml; the router takes names, profiles and the objective."""
    fleet = load_fleet(ROOT / "fleet.yaml")
    read = Settings.from_environ({**GOOD, "FLEET_JSON": fleet.to_json()}).fleet_json
    assert read.objective.latency_seconds == fleet.objective.latency_seconds
    assert [(unit.name, unit.profile.service_seconds) for unit in read.units] == [
        (unit.name, unit.profile.service_seconds) for unit in fleet.units
    ]


def test_a_fixed_list_of_pods_is_units_with_addresses() -> None:
    """With commas; a final slash does not matter."""
    given = {**GOOD, "ENDPOINTS": "fast=http://10.0.0.7:8000, slow=https://pod/"}
    assert Settings.from_environ(given).endpoints == (
        Endpoint("fast", "fast", "http://10.0.0.7:8000"),
        Endpoint("slow", "slow", "https://pod"),
    )


def test_the_default_size_is_that_of_the_first_shape() -> None:
    """In pictures of 512x512 and one step."""
    given = {**GOOD, "STEPS": "10", "SHAPES": "1024x512,512x512"}
    assert Settings.from_environ(given).default_size == 20


def test_it_listens_on_this_machine_alone_unless_told_otherwise() -> None:
    """The image says 0.0.0.0."""
    assert Settings.from_environ(GOOD).host == "127.0.0.1"


def test_an_empty_variable_counts_as_absent() -> None:
    """As Kubernetes hands over what nobody set."""
    assert Settings.from_environ({**GOOD, "STEPS": " ", "SHAPES": ""}).default_size == 20


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"FLEET_JSON": ""}, "FLEET_JSON: missing; valid: a fleet as JSON"),
        ({"FLEET_JSON": "{"}, "FLEET_JSON: Expecting property name.*; valid: a fleet as JSON"),
        ({"FLEET_JSON": '{"units": []}'}, "FLEET_JSON: objective: missing"),
        (
            {"FLEET_JSON": json.dumps({**FLEET, "objective": {"latency_seconds": 0}})},
            "FLEET_JSON: objective.latency_seconds: 0; .*greater than 0",
        ),
        ({"NAMESPACE": ""}, "ENDPOINTS: missing; valid: unit=url with commas, or NAMESPACE"),
        ({"ENDPOINTS": "fast"}, "ENDPOINTS: 'fast'; valid: unit=url"),
        ({"ENDPOINTS": "fast=ftp://x"}, "ENDPOINTS: 'fast=ftp://x'; valid: unit=url"),
        ({"ENDPOINTS": "other=http://x"}, "ENDPOINTS: other is no unit of FLEET_JSON; valid: fast, slow"),
        ({"SHAPES": "512"}, "SHAPES: '512' is no size; valid: width x height"),
        ({"PORT": "http"}, "PORT: 'http'; .*valid integer"),
        ({"ANSWER_SECONDS": "nan"}, "ANSWER_SECONDS: 'nan'"),
    ],
)
def test_a_wrong_variable_is_named_with_what_would_be_valid(changes: dict[str, str], message: str) -> None:
    """In one line."""
    with pytest.raises(InvalidSettingsError, match=f"^environment: {message}") as caught:
        Settings.from_environ({**GOOD, **changes})
    assert "\n" not in str(caught.value)
