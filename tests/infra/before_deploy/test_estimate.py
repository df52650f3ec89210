"""The estimate against hand calculations, and its counts against what is really put, watched and read."""

import datetime as dt
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from control_lambda.aws.metrics import MetricsReader
from control_lambda.aws.sensing import prices_due
from control_lambda.core.supply.refusal_kinds import LAUNCH_REFUSALS
from control_lambda.emf import metrics_of
from control_lambda.environment import Deployment, Environment
from control_lambda.fleet_file import load_fleet
from infra import catalog, pins
from infra.before_deploy import estimate as module
from infra.before_deploy.estimate import Estimate, Line, count_put, estimate
from infra.observability.alarms import count_watched
from infra.settings import Settings
from tests.infra.observability import alarmed
from tests.infra.replayed import run

ROOT: Final = Path(__file__).parents[3]
FLEET: Final = load_fleet(ROOT / "fleet.yaml")
HOURS: Final = 730
OBSERVED: Final = 230 * 43800 * 0.21e-6  # USD per node and month
TODAY: Final = dt.date(2026, 11, 27)

NewSettings = Callable[..., Settings]

# USD per hour of the default fleet's five pools and of a system node, in two of the three regions that have
# all of its types: AWS asks the same there. 500 requests a minute at 0.5 s each keep 4.2 nodes busy: five.
PRICES: Final[Mapping[str, Mapping[str, float]]] = {
    "us-east-1": {"inf2": 0.7582, "trn1": 1.34375, "g5": 1.006, "g6": 0.8048, "system": 0.1008},
    "us-west-2": {"inf2": 0.7582, "trn1": 1.34375, "g5": 1.006, "g6": 0.8048, "system": 0.1008},
}


def by_name(found: Estimate) -> dict[str, Line]:
    """The lines by their names."""
    return {line.name: line for line in (*found.pools, *found.fixed)}


def watched_in(alarms: Iterable[Mapping[str, Any]]) -> int:
    """The metrics of a template's alarms."""
    return sum(sum("MetricStat" in query for query in alarm.get("Metrics", ())) or 1 for alarm in alarms)


def amounts(line: Line) -> tuple[float, float, float]:
    """USD per month at the minimum, typically and at the maximum."""
    return line.minimum, line.typical, line.maximum


@pytest.mark.parametrize("region", PRICES)
def test_the_default_fleet_costs_what_a_hand_calculation_says(region: str, new_settings: NewSettings) -> None:
    """Every line: nodes times price times 730 hours, and the fixed parts by AWS's published prices."""
    lines = by_name(estimate(new_settings(region=region), 500, TODAY))
    usd = PRICES[region]
    most = {
        "inf2-neuron-on-demand": 40 * usd["inf2"],
        "trn1-neuron-on-demand": 12 * usd["trn1"],
        "g5-inductor-on-demand": 14 * usd["g5"],
        "g6-inductor-on-demand": 20 * usd["g6"],
        "g5-eager-on-demand": 20 * usd["g5"],
    }
    expected: dict[str, tuple[float, float, float]] = {
        name: (0, 0, hourly * HOURS) for name, hourly in most.items()
    }
    expected["inf2-neuron-on-demand"] = (0, 5 * usd["inf2"] * HOURS, 40 * usd["inf2"] * HOURS)
    expected |= {
        "held back by the budget of 40 USD/hour": (0, 0, 40 * HOURS - sum(most.values()) * HOURS),
        "EKS control plane": (73, 73, 73),
        "system nodes, 2 x m7i.large": (2 * (usd["system"] * HOURS + 50 * 0.08),) * 3,
        "NAT gateways, 1": (0.045 * HOURS,) * 3,
        "public addresses, 1": (0.005 * HOURS,) * 3,
        "load balancer": (0.0225 * HOURS,) * 3,
        # At 500 MiB/s on inf2, trn1 and g6 (72 nodes at most), at the 417 that g5 takes on the other 34.
        "volumes of the pools' nodes": (
            0,
            5 * (150 * 0.08 + 375 * 0.04),
            72 * (150 * 0.08 + 375 * 0.04) + 34 * (150 * 0.08 + 292 * 0.04),
        ),
        # 230 observations per node and minute; 15 GB of the control plane's logs and 1 GB per node.
        "Container Insights": (2 * OBSERVED, 7 * OBSERVED, 108 * OBSERVED),
        "logs of control plane, network and pods": (17 * 0.50, 22 * 0.50, 123 * 0.50),
        # Two images and the weights, 25 minutes each; two chips, two hours each.
        "builds, one run a month": (3 * 25 * 0.01 + 2 * 120 * 0.1002,) * 3,
        "the loop: Lambda and DynamoDB": (43800 * (0.0000002 + 0.5 * 0.0000166667 + 18 * 0.000000625),) * 3,
        "KMS key": (1, 1, 1),
    }
    for name, (minimum, typical, maximum) in expected.items():
        assert amounts(lines[name]) == pytest.approx((minimum, typical, maximum), abs=0.005), name
    # 500 images of 0.5 MB a minute are 15 GB an hour, one capacity unit each.
    assert lines["load balancer capacity"].typical == pytest.approx(15 * 0.008 * HOURS)
    # Metrics, those watched, a dashboard, the pager; read each minute: 3, 6 by unit, and by pool every kind
    # of refused launch and, in one of ten, the price; 8 KB of log each minute.
    put, watched = count_put(FLEET), count_watched(FLEET)
    read = 3 + 6 * 5 + 5 * (len(LAUNCH_REFUSALS) + 0.1)
    cloudwatch = put * 0.30 + watched * 0.10 + 3 + 0.50 + 43800 * (read * 0.00001 + 0.000008 * 0.50)
    assert amounts(lines["CloudWatch: metrics, alarms, dashboard, logs"]) == pytest.approx((cloudwatch,) * 3)
    assert len(lines) == len(expected) + 2


def test_after_standard_support_the_control_plane_costs_six_times_as_much(new_settings: NewSettings) -> None:
    """From the day after its end on: 0.60 USD an hour instead of 0.10, and nothing else changes."""
    settings = new_settings()
    ends = pins.standard_support_ends(settings.kubernetes_version)
    assert ends
    before, after = (estimate(settings, 500, day) for day in (ends, ends + dt.timedelta(days=1)))
    assert by_name(before)["EKS control plane"].minimum == pytest.approx(0.10 * HOURS)
    assert by_name(after)["EKS control plane, extended"].minimum == pytest.approx(0.60 * HOURS)
    assert after.total.minimum - before.total.minimum == pytest.approx(0.50 * HOURS)
    assert any(f"on {ends}: the control plane costs 438 then" in told for told in before.assumptions)


def test_another_regions_prices_are_its_own(new_settings: NewSettings) -> None:
    """In Ireland inf2.xlarge costs 0.94775 and g5.xlarge 1.123 USD per hour; 500 rpm take 4 + 2 nodes."""
    fleet = str(ROOT / "fleets/two-units.yaml")
    lines = by_name(estimate(new_settings(region="eu-west-1", fleet_file=fleet), 500))
    inf2, g5 = lines["inf2-neuron-on-demand"], lines["g5-inductor-on-demand"]
    assert (inf2.nodes, g5.nodes) == ((1, 4, 4), (1, 2, 4))
    assert amounts(inf2) == pytest.approx(tuple(nodes * 0.94775 * HOURS for nodes in (1, 4, 4)))
    assert amounts(g5) == pytest.approx(tuple(nodes * 1.123 * HOURS for nodes in (1, 2, 4)))


@pytest.mark.parametrize("region", PRICES)
def test_the_total_is_the_sum_of_the_lines(region: str, new_settings: NewSettings) -> None:
    """At every one of the three points."""
    found = estimate(new_settings(region=region), 500)
    lines = [amounts(line) for line in (*found.pools, *found.fixed)]
    assert amounts(found.total) == pytest.approx(tuple(map(sum, zip(*lines, strict=True))))


def test_spot_pools_hold_the_reserve_that_the_fleet_asks_for(new_settings: NewSettings) -> None:
    """Half of the spot nodes may go at once, so twice as many run."""
    settings = new_settings(fleet_file=str(ROOT / "fleets/spot-twins.yaml"))
    found = by_name(estimate(settings, 500))
    assert found["inf2-neuron-spot"].nodes == (0, 9, 40)
    without = settings.model_copy(update={"fleet": settings.fleet.model_copy(update={"reserve": {}})})
    assert by_name(estimate(without, 500))["inf2-neuron-spot"].nodes == (0, 5, 40)


def test_more_demand_than_the_fleet_carries_is_said(new_settings: NewSettings) -> None:
    """The typical month is then that of the budget, not of the demand."""
    found = estimate(new_settings(), 100_000)
    assert sum(line.typical for line in found.pools) <= 40 * HOURS
    assert any("lack" in assumption for assumption in found.assumptions)
    assert not any("lack" in assumption for assumption in estimate(new_settings(), 500).assumptions)


def test_prices_that_stand_in_for_unknown_ones_are_said(new_settings: NewSettings) -> None:
    """No figure pretends to be the region's when it is not."""
    settings = new_settings(region="eu-west-1", fleet_file=str(ROOT / "fleets/cpu-laptop.yaml"))
    told = " ".join(estimate(settings).assumptions)
    assert "no price recorded in eu-west-1, " in told
    assert "no price of m7i.large recorded in eu-west-1, that of us-east-1 stands in" in told
    assert "no prices of services recorded in eu-west-1" in told
    assert "recorded in us-east-1" not in " ".join(estimate(new_settings()).assumptions)


def test_an_existing_network_is_not_paid_for_twice(new_settings: NewSettings) -> None:
    """Its NAT gateways are there already."""
    subnets = "use1-az4=subnet-0123abcd,use1-az5=subnet-4567cdef"
    found = by_name(estimate(new_settings(vpc_id="vpc-0123abcd", private_subnets=subnets)))
    assert found["NAT gateways, 0"].typical == 0


def test_a_public_load_balancer_has_an_address_in_every_zone(new_settings: NewSettings) -> None:
    """Public addresses are charged by the hour."""
    zones = "use1-az4,use1-az5"
    found = by_name(estimate(new_settings(public="true", zones=zones)))
    assert found["public addresses, 3"].typical == pytest.approx(3 * 0.005 * HOURS)


def test_every_metric_that_is_put_all_month_is_counted() -> None:
    """What emf writes of one record, and a price per pool from signals."""
    record = run(FLEET, [100] * 20).records[-1]
    put = sum(len(values) for _, values in metrics_of(record, "cluster")) + len(FLEET.pools)
    assert count_put(FLEET) == put


def test_a_routers_own_metrics_are_counted_too() -> None:
    """Three of each unit, and what it refused."""
    routed = FLEET.model_copy(update={"routing": "router"})
    assert count_put(routed) == count_put(FLEET) + 3 * len(FLEET.units) + 1


def test_every_metric_that_an_alarm_watches_is_counted() -> None:
    """AWS charges for each metric of each alarm."""
    assert count_watched(alarmed.FLEET) == watched_in(alarmed.resources("AWS::CloudWatch::Alarm"))


class CountingCloudWatch:
    """Answers nothing and counts the metrics that are asked for."""

    def __init__(self) -> None:
        self.queries = 0

    def get_metric_data(self, **asked: Any) -> dict[str, Any]:
        """One answer without data."""
        self.queries += len(asked["MetricDataQueries"])
        return {"MetricDataResults": []}


def test_every_metric_that_a_tick_reads_is_counted() -> None:
    """AWS charges for each of them: counts are read every minute, prices in one of ten."""
    listener = "arn:aws:elasticloadbalancing:us-east-1:111122223333:listener/app/fulcrum/0123/4567"
    group = "arn:aws:elasticloadbalancing:us-east-1:111122223333:targetgroup/unit/89ab"
    environment = Environment(
        fleet_parameter="/fleet",
        pause_parameter="/pause",
        cluster_name="cluster",
        listener_arn=listener,
        units={unit.name: Deployment(group, {}) for unit in FLEET.units},
        state_table="table",
    )
    cloudwatch = CountingCloudWatch()
    reader = MetricsReader(cloudwatch, environment)
    ticks = [1_767_225_600.0 + 60 * minute for minute in range(10)]
    for at in ticks:
        reader.traffic(FLEET, at)
        if prices_due(at):
            reader.prices(FLEET, at)
    counted = module.FLEET_READS + len(FLEET.units) * module.UNIT_READS
    assert cloudwatch.queries / len(ticks) == pytest.approx(counted + len(FLEET.pools) * module.POOL_READS)


def test_the_loop_itself_costs_less_than_thirty_dollars_a_month(new_settings: NewSettings) -> None:
    """Lambda and DynamoDB for 43,800 ticks, 63.5 metrics read by each, and 8 KB of log; the guide says so."""
    ticks = 43800 * (0.0000002 + 0.5 * 0.0000166667 + 18 * 0.000000625 + 63.5 * 0.00001 + 0.000008 * 0.50)
    assert ticks < 30
    told = f"the loop itself costs {ticks:.2f}"
    assert any(line.startswith(told) for line in estimate(new_settings()).assumptions)
    assert f"the loop itself costs {whole(ticks)}" in (ROOT / "docs/operating.md").read_text(encoding="utf-8")


def whole(usd: float) -> int:
    """As the documents round: to the nearest USD."""
    return int(usd + 0.5)


def test_the_readme_quotes_the_estimate(new_settings: NewSettings) -> None:
    """What it says of the default fleet, idle and under the default demand, is what the command prints."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    quoted = re.findall(r"([\d,]+) USD a month idle, ([\d,]+) at ([\d,]+) requests a minute", text)
    total = estimate(new_settings()).total
    assert quoted == [(f"{whole(total.minimum):,}", f"{whole(total.typical):,}", f"{module.DEFAULT_RPM:g}")]


def test_the_operating_guide_quotes_the_estimate(new_settings: NewSettings) -> None:
    """Of an idle fleet each part in whole USD, the sum, and the month that the prices are of."""
    guide = (ROOT / "docs/operating.md").read_text(encoding="utf-8")
    section = guide.partition("## What it costs when idle")[2].partition("\n## ")[0]
    found = {line.name: line.minimum for line in estimate(new_settings()).fixed}
    assert estimate(new_settings()).total.minimum == pytest.approx(sum(found.values()))
    assert dict(re.findall(r"^\| \**(.+?)\** \| \**(\d+)\** \|$", section, re.MULTILINE)) == {
        part: str(whole(usd))
        for part, usd in {
            "EKS control plane": found["EKS control plane"],
            "two system nodes with their volumes": found["system nodes, 2 x m7i.large"],
            "a NAT gateway and its address": found["NAT gateways, 1"] + found["public addresses, 1"],
            "load balancer": found["load balancer"],
            "CloudWatch: metrics, alarms, dashboard, the loop's logs": found[
                "CloudWatch: metrics, alarms, dashboard, logs"
            ],
            "Container Insights": found["Container Insights"],
            "logs of control plane, network and pods": found["logs of control plane, network and pods"],
            "a run of the builds": found["builds, one run a month"],
            "Lambda, DynamoDB, KMS": found["the loop: Lambda and DynamoDB"] + found["KMS key"],
            "together": sum(found.values()),
        }.items()
    }
    assert f"(prices of {dt.date.fromisoformat(catalog.PRICES_DATE):%B %Y} and older)" in section
