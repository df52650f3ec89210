"""The boto3 ports against the embedded AWS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from control_lambda.core.model import Evidence, EvidenceKind, Minute, Suspension
from control_lambda.errors import NotDeployedError
from control_lambda.ports import Settings
from tests.control_lambda.conftest import NOON

if TYPE_CHECKING:
    from tests.control_lambda.conftest import Shell

FAST, FAST_SPOT, SLOW = "fast-on-demand", "fast-spot", "slow-on-demand"
WEIGHTS = {"fast": 700, "slow": 0}


def test_a_ready_node_is_in_service_and_healthy(shell: Shell) -> None:
    """Ready joins the Auto Scaling group with the target group by address; the rest is starting."""
    shell.cloud.set_ready(FAST, 2)
    shell.cloud.set_ready(FAST_SPOT, 1)
    shell.actuators.set_weights(WEIGHTS)
    shell.sensors.sense(shell.fleet, NOON, ())
    shell.actuators.set_desired(FAST, 3)
    shell.cloud.advance(NOON + 60)
    pools = shell.sensors.sense(shell.fleet, NOON + 60, ()).pools
    assert (len(pools[FAST].ready), pools[FAST].desired) == (2, 3)
    assert list(pools[FAST].starting.values()) == [NOON]
    assert len(pools[FAST_SPOT].ready) == 1
    assert not pools[FAST].ready & pools[FAST_SPOT].ready
    assert pools[SLOW].ready == frozenset()


def test_the_minutes_hold_what_the_load_balancer_counted(shell: Shell) -> None:
    """Counts, errors, the objective's percentile and its sample count, hosts: None where absent."""
    minute = int(NOON) - 300
    shell.cloud.put_minute("fast", minute, [0.5] * 19 + [3.0], errors=2, healthy_hosts=4)
    shell.cloud.put_minute("fast", minute + 60, [], healthy_hosts=4)
    shell.cloud.put_untargeted(minute, fixed_responses=3, own_503s=5)
    snapshot = shell.sensors.sense(shell.fleet, NOON, ())
    fast = {minute.at: minute for minute in snapshot.minutes["fast"]}
    assert (fast[minute].requests, fast[minute].errors, fast[minute].samples) == (20, 2, 20)
    assert fast[minute].latency_seconds == pytest.approx(0.5, abs=0.2)
    assert fast[minute + 60] == Minute(minute + 60, healthy_hosts=4)
    assert snapshot.untargeted == {minute: 5}
    assert snapshot.minutes["slow"] == ()
    assert snapshot.failures == ()


@pytest.mark.parametrize(("fixed", "own"), [(3, 0), (0, 3), (3, 3)])
def test_an_answer_of_the_load_balancer_counts_once_however_it_is_reported(
    shell: Shell, fixed: int, own: int
) -> None:
    """As a fixed response, as a 503 of its own, or as both: three requests came."""
    minute = int(NOON) - 300
    shell.cloud.put_untargeted(minute, fixed_responses=fixed, own_503s=own)
    assert shell.sensors.sense(shell.fleet, NOON, ()).untargeted == {minute: 3}


def test_minutes_older_than_the_window_are_not_read(shell: Shell) -> None:
    """The window is a quarter of an hour and the two minutes by which metrics are late."""
    shell.cloud.put_minute("fast", NOON - 18 * 60, [0.5])
    shell.cloud.put_minute("fast", NOON - 17 * 60, [0.5])
    minutes = shell.sensors.sense(shell.fleet, NOON, ()).minutes["fast"]
    assert [minute.at for minute in minutes] == [int(NOON) - 17 * 60]


def put_price(shell: Shell, pool: str, price: float, at: float) -> None:
    """Put a price as signals does."""
    shell.clients.cloudwatch.put_metric_data(
        Namespace=shell.environment.metric_namespace,
        MetricData=[
            {
                "MetricName": "PriceUsdPerHour",
                "Dimensions": [
                    {"Name": "Fleet", "Value": shell.environment.cluster_name},
                    {"Name": "Pool", "Value": pool},
                ],
                "Timestamp": at,
                "Value": price,
            }
        ],
    )


def test_the_latest_price_of_the_last_day_is_the_live_one(shell: Shell) -> None:
    """A price that is older than a day is no longer known."""
    put_price(shell, FAST, 1.0, NOON - 7200)
    put_price(shell, FAST, 1.1, NOON - 3600)
    put_price(shell, SLOW, 0.8, NOON - 25 * 3600)
    pools = shell.sensors.sense(shell.fleet, NOON, ()).pools
    assert (pools[FAST].price, pools[SLOW].price) == (1.1, None)


def test_a_price_put_in_this_minute_is_known(shell: Shell) -> None:
    """Prices are no counts: the minute need not be over."""
    put_price(shell, FAST, 1.1, NOON + 5)
    assert shell.sensors.sense(shell.fleet, NOON + 30, ()).pools[FAST].price == 1.1


def test_prices_are_read_in_one_minute_of_ten(shell: Shell) -> None:
    """They are put every hour and each read costs; in between the state's last good ones hold."""
    put_price(shell, FAST, 1.1, NOON)
    seen = [shell.sensors.sense(shell.fleet, NOON + 30 * step, ()) for step in range(21)]
    read = [30 * step for step, snapshot in enumerate(seen) if snapshot.pools[FAST].price]
    assert read == [0, 30, 600]
    assert all(snapshot.failures == () for snapshot in seen)


def test_a_price_that_is_none_is_refused_and_the_last_good_one_stays(shell: Shell) -> None:
    """It is told while it is new, not for ever."""
    put_price(shell, FAST, 1.0, NOON - 3600)
    put_price(shell, FAST, 0.0, NOON)
    first = shell.sensors.sense(shell.fleet, NOON, ())
    later = shell.sensors.sense(shell.fleet, NOON + 1200, ())
    assert (first.pools[FAST].price, later.pools[FAST].price) == (1.0, 1.0)
    assert first.failures == (f"prices: {FAST}: 0 refused; valid: finite, above 0",)
    assert later.failures == ()


def test_refused_launches_are_found_by_polling(shell: Shell) -> None:
    """Scaling activities of pools that hold fewer nodes than they want become evidence, zone by zone."""
    shell.cloud.set_capacity(FAST, 0)
    shell.sensors.sense(shell.fleet, NOON, ())
    shell.actuators.set_desired(FAST, 2)
    shell.cloud.advance(NOON + 60)
    evidence = shell.sensors.sense(shell.fleet, NOON + 60, ()).evidence
    assert {(item.pool, item.kind, item.zone) for item in evidence} == {
        (FAST, EvidenceKind.SHORTAGE, zone) for zone in ("us-east-1a", "us-east-1b", "us-east-1c")
    }
    assert all(NOON <= item.at <= NOON + 60 for item in evidence)


def test_only_pools_that_miss_nodes_are_asked_for_their_scaling_activities(shell: Shell) -> None:
    """A quiet tick spends no call on them."""
    shell.sensors.sense(shell.fleet, NOON, ())
    assert shell.cloud.calls["DescribeScalingActivities"] == 0
    shell.cloud.set_capacity(FAST, 0)
    shell.actuators.set_desired(FAST, 2)
    shell.sensors.sense(shell.fleet, NOON + 60, ())
    assert shell.cloud.calls["DescribeScalingActivities"] == 1


def test_node_group_health_speaks_when_scaling_activities_cannot(shell: Shell) -> None:
    """An issue carries no time: it counts once in a quarter of an hour."""
    shell.cloud.set_capacity(FAST, 0)
    shell.sensors.sense(shell.fleet, NOON, ())
    shell.actuators.set_desired(FAST, 2)
    shell.cloud.throttle("DescribeScalingActivities", -1)
    shell.cloud.advance(NOON + 60)
    snapshot = shell.sensors.sense(shell.fleet, NOON + 60, ())
    assert snapshot.evidence == (Evidence(FAST, EvidenceKind.SHORTAGE, NOON),)
    assert snapshot.failures == (f"scaling-activities {FAST}: Throttling",)


def test_counted_capacity_errors_are_evidence(shell: Shell) -> None:
    """The metric that signals puts is read as a backstop."""
    shell.clients.cloudwatch.put_metric_data(
        Namespace="Fulcrum",
        MetricData=[
            {
                "MetricName": "CapacityErrors",
                "Dimensions": [
                    {"Name": "Fleet", "Value": shell.environment.cluster_name},
                    {"Name": "Pool", "Value": FAST_SPOT},
                    {"Name": "Kind", "Value": "shortage"},
                ],
                "Timestamp": NOON - 90,
                "Value": 1,
            }
        ],
    )
    given = Evidence(SLOW, EvidenceKind.QUOTA, NOON - 5)
    evidence = shell.sensors.sense(shell.fleet, NOON, (given,)).evidence
    assert evidence == (given, Evidence(FAST_SPOT, EvidenceKind.SHORTAGE, NOON - 120))


def test_a_busy_node_group_is_seen_updating_and_can_still_be_resized(shell: Shell) -> None:
    """Sizes go through the Auto Scaling group, which an UPDATING node group does not lock."""
    shell.cloud.busy(FAST, NOON + 3600)
    pools = shell.sensors.sense(shell.fleet, NOON, ()).pools
    assert (pools[FAST].updating, pools[SLOW].updating) == (True, False)
    assert (pools[FAST].status, pools[SLOW].status) == ("UPDATING", "ACTIVE")
    shell.actuators.set_desired(FAST, 2)
    assert shell.sensors.sense(shell.fleet, NOON, ()).pools[FAST].desired == 2


def test_suspended_launches_are_seen_and_resumed(shell: Shell) -> None:
    """Whoever called SuspendProcesses; AWS itself does so after a day of refusals, in other words."""
    group = shell.clients.autoscaling.describe_auto_scaling_groups()["AutoScalingGroups"][0]
    pool = next(tag["Value"] for tag in group["Tags"] if tag["Key"] == "eks:nodegroup-name")
    shell.clients.autoscaling.suspend_processes(
        AutoScalingGroupName=group["AutoScalingGroupName"], ScalingProcesses=["Launch"]
    )
    assert shell.sensors.sense(shell.fleet, NOON, ()).pools[pool].launch_suspended is Suspension.PERSON
    shell.actuators.resume_launches(pool)
    assert not shell.sensors.sense(shell.fleet, NOON, ()).pools[pool].launch_suspended


def test_without_groups_no_size_is_known_but_who_serves_is(shell: Shell) -> None:
    """Target health is enough to move weights."""
    shell.cloud.set_ready(FAST, 2)
    shell.actuators.set_weights(WEIGHTS)
    shell.cloud.throttle("DescribeAutoScalingGroups", -1)
    snapshot = shell.sensors.sense(shell.fleet, NOON, ())
    assert snapshot.pools == {}
    assert snapshot.failures == ("groups: Throttling",)
    assert (snapshot.healthy, snapshot.targets) == ({"fast": 2, "slow": 0}, {"fast": 2, "slow": 0})
    assert set(snapshot.minutes) == {"fast", "slow"}


def test_without_instances_sizes_are_known_but_not_which_node_serves(shell: Shell) -> None:
    """Nothing joins a group's members with the addresses of targets; the targets still speak for a unit."""
    shell.cloud.set_ready(FAST, 2)
    shell.actuators.set_weights(WEIGHTS)
    shell.cloud.throttle("DescribeInstances", -1)
    snapshot = shell.sensors.sense(shell.fleet, NOON, ())
    assert snapshot.failures == ("instances: RequestLimitExceeded",)
    assert {pool: (known.desired, known.in_service) for pool, known in snapshot.pools.items()} == {
        FAST: (2, 2),
        FAST_SPOT: (0, 0),
        SLOW: (0, 0),
    }
    assert not any(signals.health_known or signals.ready for signals in snapshot.pools.values())
    assert snapshot.healthy == {"fast": 2, "slow": 0}


def test_a_unit_whose_targets_cannot_be_read_takes_only_its_own_pools_along(shell: Shell) -> None:
    """Their sizes are known, who serves is not; the other units are steered on."""
    shell.cloud.throttle("DescribeTargetHealth", 2)
    snapshot = shell.sensors.sense(shell.fleet, NOON, ())
    missing = {failure.split(":")[0].split(" ")[1] for failure in snapshot.failures}
    assert {unit.name for unit in shell.fleet.units} - snapshot.healthy.keys() == missing
    assert {
        shell.fleet.unit_of[pool].name for pool, known in snapshot.pools.items() if not known.health_known
    } == missing


def test_a_node_group_that_cannot_be_read_has_no_status_and_is_steered_on(shell: Shell) -> None:
    """Nobody says that it is being updated."""
    shell.cloud.throttle("DescribeNodegroup", -1)
    pools = shell.sensors.sense(shell.fleet, NOON, ()).pools
    assert {(signals.status, signals.sizable) for signals in pools.values()} == {("", True)}


def test_a_fleet_larger_than_the_deployment_is_steered_as_far_as_it_goes(shell: Shell) -> None:
    """A unit that is not deployed yet is named, and its weight of zero is no obstacle."""
    shell.cloud.set_ready(FAST, 1)
    added = shell.fleet.units[1].model_copy(update={"name": "later"})
    grown = shell.fleet.model_copy(update={"units": (*shell.fleet.units, added)})
    snapshot = shell.sensors.sense(grown, NOON, ())
    assert FAST in snapshot.pools
    assert shell.actuators.set_weights({"fast": 1, "slow": 0, "later": 0}) == {
        "fast": 1,
        "slow": 0,
        "later": 0,
    }
    with pytest.raises(NotDeployedError, match="no target group for later"):
        shell.actuators.set_weights({"fast": 1, "slow": 0, "later": 1})


def test_the_rule_is_created_once_and_then_modified(shell: Shell) -> None:
    """Priority 1, every request, every unit listed, zeros included, no stickiness."""
    assert shell.sensors.sense(shell.fleet, NOON, ()).weights == {}
    assert shell.actuators.set_weights(WEIGHTS) == WEIGHTS
    assert shell.actuators.set_weights({"fast": 1, "slow": 999}) == {"fast": 1, "slow": 999}
    assert shell.sensors.sense(shell.fleet, NOON, ()).weights == {"fast": 1, "slow": 999}
    rules = shell.clients.elbv2.describe_rules(ListenerArn=shell.environment.listener_arn)["Rules"]
    rule = next(rule for rule in rules if rule["Priority"] == "1")
    assert rule["Conditions"][0]["Field"] == "path-pattern"
    assert rule["Conditions"][0]["PathPatternConfig"]["Values"] == ["/*"]
    assert len(rule["Actions"][0]["ForwardConfig"]["TargetGroups"]) == 2
    assert rule["Actions"][0]["ForwardConfig"]["TargetGroupStickinessConfig"]["Enabled"] is False
    assert (shell.cloud.calls["CreateRule"], shell.cloud.calls["ModifyRule"]) == (1, 1)


def test_a_rule_that_sends_requests_elsewhere_counts_as_none(shell: Shell) -> None:
    """The next decision then writes it anew."""
    shell.actuators.set_weights(WEIGHTS)
    smaller = shell.fleet.model_copy(update={"units": shell.fleet.units[1:]})
    assert shell.sensors.sense(smaller, NOON, ()).weights == {}


def test_weights_that_cannot_be_read_are_unknown(shell: Shell) -> None:
    """None is not the same as no rule."""
    shell.cloud.throttle("DescribeRules", -1)
    snapshot = shell.sensors.sense(shell.fleet, NOON, ())
    assert snapshot.weights is None
    assert snapshot.failures == ("weights: Throttling",)


def test_a_pool_that_was_never_found_cannot_be_resized(shell: Shell) -> None:
    """Its Auto Scaling group has no name yet."""
    with pytest.raises(NotDeployedError, match="no Auto Scaling group"):
        shell.actuators.set_desired(FAST, 1)


def test_a_single_throttled_call_is_retried(shell: Shell) -> None:
    """One refusal costs nothing but time."""
    shell.cloud.throttle("DescribeRules", 1)
    assert shell.sensors.sense(shell.fleet, NOON, ()).failures == ()


def test_the_pause_parameter_means_what_it_says(shell: Shell) -> None:
    """Absent: act. `observe`, anything else, or unreadable: do not."""
    assert not shell.sensors.settings().observe
    shell.put_pause_parameter("observe")
    assert shell.sensors.settings() == Settings(shell.fleet.to_json(), observe=True)
    shell.put_pause_parameter("perhaps")
    settings = shell.sensors.settings()
    assert settings.observe
    assert settings.problems[0].endswith("'perhaps'; valid: observe")


def test_what_a_slow_node_says_is_known_by_its_id(shell: Shell) -> None:
    """Joined by its address, from the latest minute that CloudWatch shows; what is old is over."""
    shell.cloud.set_ready(FAST, 3)
    pools = shell.sensors.sense(shell.fleet, NOON, ()).pools
    slow, healed, _ = sorted(pools[FAST].ready)
    shell.cloud.put_node_seconds(NOON - 600, {healed: 1.5})
    shell.cloud.put_node_seconds(NOON - 240, {slow: 1.5})
    shell.cloud.put_node_seconds(NOON - 180, {slow: 1.8})
    assert shell.sensors.sense(shell.fleet, NOON, ()).node_seconds == {slow: 1.8}


def test_however_many_nodes_are_slow_a_tick_makes_as_many_calls(shell: Shell) -> None:
    """One expression finds them all."""
    shell.cloud.set_ready(FAST, 5)
    ready = shell.sensors.sense(shell.fleet, NOON, ()).pools[FAST].ready
    calls = []
    for slow in ((), ready):
        shell.cloud.put_node_seconds(NOON - 180, dict.fromkeys(slow, 2.0))
        shell.cloud.calls.clear()
        assert shell.sensors.sense(shell.fleet, NOON, ()).node_seconds == dict.fromkeys(slow, 2.0)
        calls.append(dict(shell.cloud.calls))
    assert calls[0] == calls[1]
