from collections.abc import Callable
from math import ceil
from pathlib import Path

import pytest

from control_lambda.core.fleet import FleetError
from twin.bench import scenarios
from twin.bench.scenarios import DATA_VARIABLE, NAMES, SETTINGS, most_nodes, scenario, spot_usd_per_hour
from twin.world.trace import TraceError

PRICES = """instance_type,accelerator,region,az_id,ondemand_usd_per_hour,spot_usd_per_hour
inf2.xlarge,Inferentia2,us-east-1,use1-az1,0.7582,0.1
inf2.xlarge,Inferentia2,us-east-1,use1-az2,0.7582,0.3
inf2.xlarge,Inferentia2,eu-west-1,euw1-az1,0.9,9.0
trn1.2xlarge,Trainium,us-east-1,use1-az1,1.34375,0.24
g5.xlarge,A10G,us-east-1,use1-az1,1.006,0.44
g6.xlarge,L4,us-east-1,use1-az1,0.8048,0.38
"""
WriteFile = Callable[[str, str], None]


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriteFile:
    """A small folder in the form of the recorded data; returns what writes one of its files."""

    def write(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")

    counts = "".join(f"{minute},{1 + minute % 10}\n" for minute in range(21_600))
    write("dev/sd_rpm.csv", "minute,requests\n" + counts)
    write("dev/twitter_rpm.csv", "minute,requests\n" + counts)
    for capacity in {setting.capacity for setting in SETTINGS.values()}:
        columns = sorted(
            {
                followed.column
                for setting in SETTINGS.values()
                if setting.capacity == capacity
                for followed in setting.units.values()
            }
        )
        rows = "".join(f"{minute}{',1' * len(columns)}\n" for minute in range(3))
        write(capacity, ",".join(["minute", *columns]) + "\n" + rows)
    write(scenarios.SPOT_PRICES, PRICES)
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    return write


@pytest.mark.usefixtures("recorded")
@pytest.mark.parametrize("name", NAMES)
def test_every_scenario_offers_all_five_units(name: str) -> None:
    """Each setting covers the fleet, and its demand has the setting's length."""
    found = scenario(name, 1)
    assert [unit.name for unit in found.fleet.units] == list(scenarios.SETTINGS[name].units)
    assert found.demand.minutes == (SETTINGS[name].options.minutes or 21_600)
    starts = {unit.profile.start_seconds for unit in found.fleet.units}
    assert starts == {SETTINGS[name].start_seconds}


@pytest.mark.usefixtures("recorded")
def test_only_spot_pools_follow_a_trace_where_units_have_twins() -> None:
    """On-demand twins are never short."""
    found = scenario("D2s", 1, minutes=30)
    limited = {pool.name for pool in found.fleet.pools if found.capacity.limit(pool.name, 0) is not None}
    assert limited == {pool.name for pool in found.fleet.pools if pool.market == "spot"}


@pytest.mark.usefixtures("recorded")
def test_a_shorter_scenario_is_the_beginning_of_the_whole_one() -> None:
    """Fewer minutes change neither the fleet's sizes nor the requests of those minutes."""
    whole, short = scenario("D3c", 3), scenario("D3c", 3, minutes=20)
    assert short.fleet == whole.fleet
    assert short.demand.counts.tolist() == [len(whole.demand.arrivals(minute)) for minute in range(20)]


@pytest.mark.usefixtures("recorded")
def test_full_demand_fits_into_the_cheapest_unit_alone() -> None:
    """`nodes.max` is ceil(1.25 · peak · s / 60 / 0.85) for inf2 and ceil(0.35 · …) for every other."""
    fleet = scenario("D2s", 1, minutes=30).fleet
    peak = 5.5 * 100  # every ten minutes in a row hold 1 to 10 requests, replicated 100 times
    expected = {
        unit.name: ceil(
            (1.25 if unit.name == "inf2-neuron" else 0.35) * peak * unit.profile.service_seconds / 60 / 0.85
        )
        for unit in fleet.units
    }
    assert {fleet.unit_of[pool.name].name: pool.nodes.max for pool in fleet.pools} == expected
    assert expected["inf2-neuron"] == 7


def test_the_arithmetic_of_the_largest_size_rounds_up() -> None:
    """1.25 · 816 · 0.5 / 60 / 0.85 is exactly 10; one more request a minute needs an eleventh node."""
    assert most_nodes("inf2-neuron", 0.5, 816.0) == 10
    assert most_nodes("inf2-neuron", 0.5, 817.0) == 11
    assert most_nodes("g5-eager", 0.5, 816.0) == 3


@pytest.mark.usefixtures("recorded")
def test_a_spot_price_is_the_mean_over_the_zones_of_one_region() -> None:
    """Other regions do not count; the fleet gets the mean."""
    path = scenarios.data_folder() / scenarios.SPOT_PRICES
    assert spot_usd_per_hour(path)["inf2.xlarge"] == pytest.approx(0.2)
    spot = scenario("D4", 1, minutes=30).fleet.pool_named["inf2-neuron-spot"]
    assert spot.price_usd_per_hour == pytest.approx(0.2)


def test_absent_data_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the variable and the folder, and what the folder should hold."""
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(TraceError) as refused:
        scenario("D2m", 1)
    told = str(refused.value)
    assert told.startswith(f"{DATA_VARIABLE}: {tmp_path / 'nowhere'} holds no recorded traces; valid:")
    assert "\n" not in told


@pytest.mark.usefixtures("recorded")
@pytest.mark.parametrize(
    ("name", "minutes", "told"),
    [
        ("D9", None, "scenario: 'D9'; valid: D2m, D2L, D2X, D2s, D3c, D4"),
        ("D2X", 1441, "minutes: 1441; valid: 1 to 1440"),
        ("D2m", 0, "minutes: 0; valid: 1 to 21600"),
    ],
)
def test_a_choice_that_does_not_exist_is_refused(name: str, minutes: int | None, told: str) -> None:
    """The message names what was asked for and what there is."""
    with pytest.raises(TraceError) as refused:
        scenario(name, 1, minutes=minutes)
    assert str(refused.value) == told


@pytest.mark.parametrize(
    ("prices", "told"),
    [
        ("instance_type,region\ninf2.xlarge,us-east-1\n", "valid: the columns instance_type"),
        (PRICES.replace("0.38", "cheap"), "valid: the columns instance_type"),
        ("instance_type,region,spot_usd_per_hour\n", "spot price of inf2.xlarge: unknown"),
    ],
)
def test_unusable_spot_prices_are_refused(recorded: WriteFile, prices: str, told: str) -> None:
    """A missing column, a word for a number or a missing type is told, not guessed."""
    recorded(scenarios.SPOT_PRICES, prices)
    with pytest.raises(TraceError, match=told):
        scenario("D2s", 1, minutes=30)


@pytest.mark.usefixtures("recorded")
def test_another_fleet_than_the_papers_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings speak of the paper's five units; a changed fleet.yaml is named."""
    monkeypatch.setattr(scenarios, "ROOT", tmp_path)
    with pytest.raises(FleetError, match="valid: a readable fleet file"):
        scenario("D2m", 1, minutes=30)
    two_units = Path(__file__).parents[3] / "fleets" / "two-units.yaml"
    (tmp_path / "fleet.yaml").write_text(two_units.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(TraceError, match=r"fleet\.yaml: units .*; valid: inf2-neuron, "):
        scenario("D2m", 1, minutes=30)
