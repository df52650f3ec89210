"""The fleet file: YAML in, a fleet or one clear line out."""

import re
from pathlib import Path
from typing import get_args

import pytest

from control_lambda.core.fleet import DEFAULT_POLICY, FleetError, Policy
from control_lambda.fleet_file import load_fleet

ROOT = Path(__file__).parents[2]
SHIPPED = ["fleet.yaml", "fleets/cpu-laptop.yaml", "fleets/spot-twins.yaml", "fleets/two-units.yaml"]
MINIMAL = """\
fleet: sd21
model: stabilityai/sd-turbo
objective: {latency_seconds: 2.0}
budget_usd_per_hour: 40
units:
  - name: inf2-neuron
    instance_type: inf2.xlarge
    accelerator: neuron
    framework: neuronx
    profile: {service_seconds: 0.5, throughput_rpm: 105, latency_seconds: 0.67, start_seconds: 600}
    pools:
      - {market: on-demand, nodes: {max: 4}, price_usd_per_hour: 0.7582}
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fleet file in the working folder, named as messages should name it."""
    monkeypatch.chdir(tmp_path)
    path = Path("fleet.yaml")
    path.write_text(MINIMAL, encoding="utf-8")
    return path


def test_every_shipped_file_is_in_the_list() -> None:
    """No example goes untested."""
    examples = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "fleets").iterdir())
    assert ["fleet.yaml", *examples] == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_file_loads_and_says_what_it_is_for(name: str) -> None:
    """Examples are valid and start with a comment."""
    assert load_fleet(ROOT / name).units
    assert (ROOT / name).read_text(encoding="utf-8").startswith("# ")


def test_the_default_file_describes_the_papers_five_units() -> None:
    """Prices (USD per hour) and break-point throughput (rpm) are those of arXiv 2503.20074."""
    fleet = load_fleet(ROOT / "fleet.yaml")
    assert {
        unit.name: (unit.pools[0].price_usd_per_hour, unit.profile.throughput_rpm) for unit in fleet.units
    } == {
        "inf2-neuron": (0.7582, 105),
        "trn1-neuron": (1.3438, 130),
        "g5-inductor": (1.0060, 90),
        "g6-inductor": (0.8048, 61),
        "g5-eager": (1.0060, 60),
    }


def test_spot_twins_offer_every_unit_in_both_markets() -> None:
    """Each unit has a spot pool and an on-demand twin, and spot is the cheaper one."""
    for unit in load_fleet(ROOT / "fleets/spot-twins.yaml").units:
        price = {pool.market: pool.price_usd_per_hour for pool in unit.pools}
        assert price.keys() == {"spot", "on-demand"}
        assert price["spot"] < price["on-demand"]


def test_the_header_documents_every_optional_key() -> None:
    """Whoever edits fleet.yaml finds each optional key in its comments."""
    comments = [
        line for line in (ROOT / "fleet.yaml").read_text("utf-8").splitlines() if line.startswith("#")
    ]
    for key in ("policy", "reserve", "threshold", "routing", "classes", "percentile", "attainment", "min"):
        assert any(f"{key}: " in line for line in comments), key


def test_every_policy_stands_in_the_comments_beside_the_default() -> None:
    """Whoever edits fleet.yaml sees what else may stand there: in the header, and beside the key."""
    others = " | ".join(policy for policy in get_args(Policy) if policy != DEFAULT_POLICY)
    told = re.findall(
        rf"^(?:#   )?policy: {DEFAULT_POLICY} +# or (.*)$",
        (ROOT / "fleet.yaml").read_text("utf-8"),
        re.MULTILINE,
    )
    assert told == [others, others]


def test_a_path_may_be_a_string(file: Path) -> None:
    """The command line hands over strings."""
    assert load_fleet(str(file)) == load_fleet(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty; valid: a fleet description such as fleet.yaml"),
        ("# only a comment\n", "empty; valid: a fleet description such as fleet.yaml"),
        ("- 1\n- 2\n", "given a list of 2; valid: a mapping with the keys fleet, model, "),
        ("a: [1, 2", "line 1, column 9: expected ',' or ']', "),
        ("fleet: sd21\nmodel: a: b\n", "line 2, column 9: mapping values are not allowed here; valid: "),
        ("\tfleet: sd21\n", "line 1, column 1: found character '\\t' that cannot start any token; valid: "),
        ("fleet: !!python/name:os.system\n", "line 1, column 8: could not determine a constructor for "),
        ("a: 1\n---\nb: 2\n", "line 2, column 1: but found another document; valid: "),
        ("fleet: a1\nmodel: m\nfleet: b2\n", "line 3, column 1: the key 'fleet' stands twice; valid: every "),
        ("units:\n  - {name: a, name: a}\n", "line 2, column 15: the key 'name' stands twice; valid: every "),
        ("model: \a\n", "character 7 is not allowed in YAML "),
        ("model: 2025-13-01\n", "month must be in 1..12; valid: "),
    ],
)
def test_what_is_no_fleet_is_refused_with_file_and_place(file: Path, text: str, message: str) -> None:
    """Syntax errors name line and column, the rest what would be valid; always one line."""
    file.write_text(text, encoding="utf-8")
    with pytest.raises(FleetError) as refused:
        load_fleet(file)
    assert str(refused.value).startswith(f"fleet.yaml: {message}")
    assert "; valid: " in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_bad_value_is_refused_with_file_and_key(file: Path) -> None:
    """The message starts with the file and goes on as `parse_fleet` puts it."""
    file.write_text(MINIMAL.replace("{max: 4}", "{min: -1, max: 4}"), encoding="utf-8")
    with pytest.raises(FleetError) as refused:
        load_fleet(file)
    assert str(refused.value) == (
        "fleet.yaml: units[0].pools[0].nodes.min: given -1; valid: a whole number from 0 to 450"
    )


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """The message names the path that was asked for."""
    missing = tmp_path / "none.yaml"
    with pytest.raises(FleetError) as refused:
        load_fleet(missing)
    assert (
        str(refused.value)
        == f"{missing}: No such file or directory; valid: a readable fleet file such as fleet.yaml"
    )


def test_a_folder_is_refused(tmp_path: Path) -> None:
    """A folder is no file."""
    with pytest.raises(FleetError, match="Is a directory; valid: a readable fleet file"):
        load_fleet(tmp_path)


def test_what_is_not_utf_8_is_refused(file: Path) -> None:
    """YAML is UTF-8; the message says which byte is not."""
    file.write_bytes(b"fleet: \xff")
    with pytest.raises(FleetError, match=r"^fleet\.yaml: byte 7 is not UTF-8; valid: YAML in UTF-8$"):
        load_fleet(file)


def test_yaml_anchors_and_merge_keys_work(file: Path) -> None:
    """A merged key that is overridden is no duplicate."""
    text = MINIMAL.replace("profile: {", "profile: &slow {").replace("{max: 4}", "&few {max: 4}")
    second = (
        "  - name: trn1-neuron\n    instance_type: trn1.2xlarge\n    accelerator: neuron\n"
        "    framework: neuronx\n    profile: {<<: *slow, service_seconds: 0.4}\n"
        "    pools:\n      - {market: spot, nodes: *few, price_usd_per_hour: 0.2}\n"
    )
    file.write_text(text + second, encoding="utf-8")
    slow, quick = (unit.profile for unit in load_fleet(file).units)
    assert (quick.service_seconds, quick.start_seconds) == (0.4, slow.start_seconds)
