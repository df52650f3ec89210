from pathlib import Path

import pytest
import yaml

from control_lambda.core.fleet import Fleet
from control_lambda.fleet_file import load_fleet
from twin.errors import InputError
from twin.world.kinds import KINDS
from twin.world.trouble import NO_TROUBLE, Phase, Trouble, example

ROOT = Path(__file__).parents[3]
FLEET: Fleet = load_fleet(ROOT / "fleet.yaml")
TWINS: Fleet = load_fleet(ROOT / "fleets" / "spot-twins.yaml")
POOL = "inf2-neuron-on-demand"
MINUTES = 240


def read(tmp_path: Path, text: str, fleet: Fleet = FLEET) -> Trouble:
    """Read a trouble file with that text."""
    file = tmp_path / "trouble.yaml"
    file.write_text(text, encoding="utf-8")
    return Trouble.read(file, fleet, MINUTES)


def fault(tmp_path: Path, text: str) -> str:
    """Why a trouble file with that text cannot be used, without its path."""
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    told = str(caught.value)
    assert told.startswith(f"{tmp_path / 'trouble.yaml'}: ")
    assert "\n" not in told
    return told.removeprefix(f"{tmp_path / 'trouble.yaml'}: ")


def parsed(*entries: dict[str, object]) -> Trouble:
    """The trouble of these entries on the default fleet."""
    return Trouble.parse({"trouble": list(entries)}, FLEET, MINUTES)


STANDBY = ("refill-refused", "standby-refused")


@pytest.mark.parametrize("what", [what for what in KINDS if what not in STANDBY])
def test_every_kinds_example_can_be_read(tmp_path: Path, what: str) -> None:
    """What `python -m twin trouble` shows works when it is copied."""
    fleet = TWINS if what == "interrupted" else FLEET
    (entry,) = read(tmp_path, f"trouble:\n  {example(what)}\n", fleet).entries
    assert (entry.what, entry.at) == (what, 180)
    assert {name: entry[name] for name in KINDS[what].example}.keys() == KINDS[what].example.keys()


@pytest.mark.parametrize("what", STANDBY)
def test_standby_trouble_needs_standby_nodes(tmp_path: Path, what: str) -> None:
    """A fleet without any is told so, instead of being struck by nothing."""
    told = fault(tmp_path, f"trouble:\n  {example(what)}\n")
    assert told.endswith("valid: a pool with standby nodes, of which this fleet has none")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "the file: empty; valid: a YAML file with the list trouble"),
        ("troubles: []", "the file: keys troubles; valid: "),
        ("trouble: [", "line 1, column 11: "),
        ("trouble: {}", "trouble: {}; valid: a list of entries"),
        ("trouble: [7]", "trouble[1]: 7; valid: a mapping with at and what"),
        ("trouble: [{at: 1}]", "trouble[1]: what: missing; valid: node-dead, "),
        ("trouble: [{at: 1, what: flood}]", "trouble[1]: what: 'flood'; valid: node-dead, "),
        ("trouble: [{at: 1, at: 2, what: table-down}]", "line 1, column 19: the key 'at' stands twice"),
        (
            "trouble: [{what: table-down}]",
            "trouble[1] (table-down): at: missing; valid: a minute",
        ),
        ("trouble: [{at: -1, what: table-down}]", "trouble[1] (table-down): at: -1; valid: a minute"),
        ("trouble: [{at: 240, what: table-down}]", "at: 240; valid: a minute of the replay, 0 to 239"),
        ("trouble: [{at: 1.5, what: table-down}]", "at: 1.5; valid: a minute"),
        ("trouble: [{at: true, what: table-down}]", "at: True; valid: a minute"),
        (
            "trouble: [{at: 1, minutes: 0, what: table-down}]",
            "minutes: 0; valid: a whole number of 1",
        ),
        ("trouble: [{at: 1, minutes: null, what: table-down}]", "minutes: None; valid: a whole number"),
        ("trouble: [{at: 1, what: table-down, pool: x}]", "pool: no such field; valid: at, minutes, what"),
        ("trouble: [{at: 1, what: group-deleted, pool: x}]", f"pool: 'x'; valid: {POOL}, "),
        ("trouble: [{at: 1, what: group-deleted}]", f"pool: missing; valid: {POOL}, "),
        (
            f"trouble: [{{at: 1, what: node-dead, pool: {POOL}}}]",
            "nodes and share: missing; valid: exactly one of them",
        ),
        (
            f"trouble: [{{at: 1, what: node-dead, pool: {POOL}, nodes: 1, share: 1}}]",
            "nodes and share: given together; valid: exactly one",
        ),
        (
            f"trouble: [{{at: 1, what: node-dead, pool: {POOL}, share: 1.1}}]",
            "share: 1.1; valid: a number",
        ),
        (
            f"trouble: [{{at: 1, what: node-hangs, pool: {POOL}, nodes: -2}}]",
            "nodes: -2; valid: a whole",
        ),
        ("trouble: [{at: 1, what: unit-slow, unit: x, factor: 2}]", "unit: 'x'; valid: inf2-neuron, "),
        (
            "trouble: [{at: 1, what: unit-slow, unit: inf2-neuron, factor: .nan}]",
            "factor: nan; valid: a number above 0",
        ),
        (
            f"trouble: [{{at: 1, what: interrupted, pool: {POOL}, share: 1}}]",
            "valid: a spot pool, of which this fleet has none",
        ),
        (
            f"trouble: [{{at: 1, what: zone-refuses, pool: {POOL}, zones: [us-east-1d], kind: shortage}}]",
            "zones: ['us-east-1d']; valid: us-east-1a, us-east-1b, us-east-1c",
        ),
        (
            "trouble: [{at: 1, what: api-fails, action: Describe, code: X, share: 1}]",
            "action: 'Describe'; valid: CreateRule, ",
        ),
        (
            "trouble: [{at: 1, what: foreign-weights, weights: {inf2-neuron: 1000}}]",
            "valid: a mapping of inf2-neuron, ",
        ),
        (
            "trouble: [{at: 1, what: quota, family: Inf2, vcpus: 8}]",
            "family: 'Inf2'; valid: Inf, G and VT, Trn",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_told_in_one_line(tmp_path: Path, text: str, told: str) -> None:
    """The line names the entry, the key and what would be valid."""
    assert told in fault(tmp_path, text)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """As every input is."""
    with pytest.raises(InputError, match="No such file"):
        Trouble.read(tmp_path / "none.yaml", FLEET, MINUTES)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"at": 10, "what": "table-down"}, {"at": 200, "what": "table-down"}),
        (
            {"at": 10, "minutes": 20, "what": "group-max", "pool": POOL, "nodes": 5},
            {"at": 29, "what": "group-max", "pool": POOL, "nodes": 6},
        ),
        (
            {"at": 10, "what": "counts-missing", "of": "all"},
            {"at": 20, "what": "counts-missing", "of": "requests", "unit": "g5-eager"},
        ),
        (
            {"at": 10, "what": "price", "pool": "g5-inductor-on-demand", "usd_per_hour": 0},
            {"at": 20, "what": "price", "pool": "g5-eager-on-demand", "usd_per_hour": 1},
        ),
        (
            {"at": 10, "what": "checks-fail", "units": ["g5-eager", "inf2-neuron"]},
            {"at": 20, "what": "checks-fail", "units": ["inf2-neuron"]},
        ),
    ],
)
def test_two_entries_that_contradict_each_other_are_refused(
    one: dict[str, object], other: dict[str, object]
) -> None:
    """Of one kind and subject at one time, only one can be true."""
    with pytest.raises(InputError, match=r"trouble\[2\] .* falls into trouble\[1\]"):
        parsed(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            {"at": 10, "minutes": 20, "what": "group-max", "pool": POOL, "nodes": 5},
            {"at": 30, "what": "group-max", "pool": POOL, "nodes": 6},
        ),
        (
            {"at": 10, "what": "group-max", "pool": POOL, "nodes": 5},
            {"at": 10, "what": "group-max", "pool": "g5-eager-on-demand", "nodes": 5},
        ),
        (
            {"at": 10, "what": "node-dead", "pool": POOL, "nodes": 1},
            {"at": 10, "what": "node-dead", "pool": POOL, "nodes": 1},
        ),
        (
            {"at": 10, "what": "foreign-weights", "weights": {"g5-eager": 1}},
            {"at": 11, "what": "foreign-weights", "weights": {"g5-eager": 2}},
        ),
        ({"at": 10, "what": "note", "text": "a"}, {"at": 10, "what": "note", "text": "b"}),
    ],
)
def test_entries_that_agree_may_overlap(one: dict[str, object], other: dict[str, object]) -> None:
    """One after the other, of different subjects, of nodes, once, or of nothing."""
    assert len(parsed(one, other).entries) == 2


def test_phases_are_cut_at_every_beginning_and_end() -> None:
    """They are contiguous, carry the names of what is under way, and a boundary cuts a repeated name, too."""
    trouble = parsed(
        {"at": 30, "minutes": 30, "what": "table-down"},
        {"at": 40, "minutes": 10, "what": "ticks-missing"},
        {"at": 100, "minutes": 20, "what": "note", "text": "a"},
        {"at": 120, "minutes": 20, "what": "note", "text": "b"},
        {"at": 200, "minutes": 500, "what": "clock", "seconds": 5},
    )
    assert trouble.phases(MINUTES) == [
        Phase("before", 0, 30),
        Phase("table-down@30", 30, 40),
        Phase("table-down@30+ticks-missing@40", 40, 50),
        Phase("table-down@30", 50, 60),
        Phase("between", 60, 100),
        Phase("note@100", 100, 120),
        Phase("note@120", 120, 140),
        Phase("between", 140, 200),
        Phase("clock@200", 200, 240),
    ]
    assert parsed({"at": 0, "minutes": 9, "what": "table-down"}).phases(20)[-1] == Phase("after", 9, 20)
    assert NO_TROUBLE.phases(20) == [Phase("before", 0, 20)]


def test_the_page_tells_every_kind_and_its_examples_hold() -> None:
    """docs/trouble.md has each kind's sentence and example as the twin tells them."""
    page = (ROOT / "docs" / "trouble.md").read_text(encoding="utf-8")
    for what, kind in KINDS.items():
        assert f"`{what}`" in page
        assert kind.sentence in page
        assert example(what) in page
    for block in page.split("```yaml")[1:]:
        Trouble.parse(yaml.safe_load(block.split("```")[0]), FLEET, 1440)
