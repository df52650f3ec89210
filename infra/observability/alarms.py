"""What somebody is told of, and when: every alarm with the heading of docs/operating.md that says what to do.

A flag that every tick puts (`Paused`, `Mode`, ...) keeps its alarm's state while no tick runs: silence proves
neither, and `tick-missing` tells of it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sns as sns
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from control_lambda.core.fleet import Fleet
from control_lambda.core.metrics import Metric
from control_lambda.core.model import EvidenceKind
from control_lambda.core.reasons import Code
from infra.metrics import FIVE_MINUTES, MINUTE, FleetMetrics
from infra.settings import Settings

RUNBOOK: Final = "docs/operating.md"
QUARTER_HOUR: Final = Duration.minutes(15)
HOUR: Final = Duration.hours(1)
UNKNOWN_REFUSALS: Final = 3  # in an hour: one may be a fault of AWS that is over
TICKS_MISSED: Final = 3  # minutes: a late schedule or one crash is no silence yet
# How a run of the builds may end without success: in an expression, and as Step Functions names its metric.
FAILED_BUILDS: Final[Mapping[str, str]] = {
    "failed": "ExecutionsFailed",
    "timedout": "ExecutionsTimedOut",
    "aborted": "ExecutionsAborted",
}

AT_LEAST: Final = cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD
ABOVE: Final = cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD
BELOW: Final = cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD
BREACHING: Final = cloudwatch.TreatMissingData.BREACHING
QUIET: Final = cloudwatch.TreatMissingData.NOT_BREACHING
UNCHANGED: Final = cloudwatch.TreatMissingData.IGNORE


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """One alarm: `metric` against `threshold` in `datapoints` of the last `periods` of its period.

    `key` ends the alarm's name, `runbook` is a heading of docs/operating.md, `pages`: it wakes somebody.
    """

    key: str
    says: str
    runbook: str
    metric: cloudwatch.IMetric
    comparison: cloudwatch.ComparisonOperator
    threshold: float
    periods: int
    missing: cloudwatch.TreatMissingData
    datapoints: int | None = None
    pages: bool = False


def watches(
    metrics: FleetMetrics,
    fleet: Fleet,
    tick_errors: cloudwatch.IMetric,
    failed_builds: Mapping[str, cloudwatch.IMetric],
) -> Iterator[Watch]:
    """Every alarm of the fleet.

    `tick_errors` counts the tick's invocations that failed, by the minute; `failed_builds` the runs of the
    builds that did not succeed, in each way that they may end so, by five minutes.
    """
    yield from _of_users(metrics, fleet)
    yield from _of_the_loop(metrics, tick_errors)
    yield from _of_builds(metrics, failed_builds)
    yield from _of_hands(metrics)
    yield from _of_money(metrics, fleet)
    yield from _of_capacity(metrics, fleet)


def count_watched(fleet: Fleet) -> int:
    """How many metrics the fleet's alarms watch: those of every alarm, as AWS charges for them."""
    metrics = FleetMetrics(cluster_name=fleet.fleet, load_balancer=fleet.fleet)
    tick_errors = cloudwatch.Metric(namespace="AWS/Lambda", metric_name="Errors")
    failed_builds = {
        key: cloudwatch.Metric(namespace="AWS/States", metric_name=name)
        for key, name in FAILED_BUILDS.items()
    }
    found = watches(metrics, fleet, tick_errors, failed_builds)
    return sum(_parts_of(watch.metric) for watch in found)


def _parts_of(metric: cloudwatch.IMetric) -> int:
    """How many metrics it is made of: 1, or those of an expression."""
    if isinstance(metric, cloudwatch.MathExpression):
        return sum(_parts_of(part) for part in metric.using_metrics.values())
    return 1


class Alarms(Construct):
    """The alarms, and a composite one of those that page; all tell the topic when they begin and end.

    `pager` is the composite: whoever is woken subscribes to its name alone, everybody else to the topic.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        settings: Settings,
        metrics: FleetMetrics,
        tick: lambda_.IFunction,
        builds: sfn.IStateMachine,
        topic: sns.ITopic,
    ) -> None:
        super().__init__(scope, id)
        self._action = actions.SnsAction(topic)
        _let_cloudwatch_publish(topic)
        self._prefix = settings.stack_name
        watched = list(
            watches(metrics, settings.fleet, tick.metric_errors(period=MINUTE), _failed_builds(builds))
        )
        self.of_key = {watch.key: self._alarm(watch) for watch in watched}
        self.pager = self._pager([self.of_key[watch.key] for watch in watched if watch.pages])

    def _alarm(self, watch: Watch) -> cloudwatch.Alarm:
        alarm = cloudwatch.Alarm(
            self,
            watch.key,
            alarm_name=f"{self._prefix}-{watch.key}",
            alarm_description=f"{watch.says} What to do: {RUNBOOK}#{watch.runbook}",
            metric=watch.metric,
            comparison_operator=watch.comparison,
            threshold=watch.threshold,
            evaluation_periods=watch.periods,
            datapoints_to_alarm=watch.datapoints,
            treat_missing_data=watch.missing,
        )
        self._tell(alarm)
        return alarm

    def _pager(self, paging: list[cloudwatch.Alarm]) -> cloudwatch.CompositeAlarm:
        pager = cloudwatch.CompositeAlarm(
            self,
            "pager",
            composite_alarm_name=f"{self._prefix}-pager",
            alarm_description=f"Users are not served, or nobody steers. What to do: {RUNBOOK}#pager",
            alarm_rule=cloudwatch.AlarmRule.any_of(
                *(cloudwatch.AlarmRule.from_alarm(alarm, cloudwatch.AlarmState.ALARM) for alarm in paging)
            ),
        )
        self._tell(pager)
        return pager

    def _tell(self, alarm: cloudwatch.AlarmBase) -> None:
        alarm.add_alarm_action(self._action)
        alarm.add_ok_action(self._action)


def _of_users(metrics: FleetMetrics, fleet: Fleet) -> Iterator[Watch]:
    objective = fleet.objective
    late = 100 - objective.percentile
    yield Watch(
        key="objective-missed",
        says=f"More than {late:g} % of requests were not answered within {objective.latency_seconds:g} s.",
        runbook="objective-missed",
        metric=metrics.missed(objective),
        comparison=ABOVE,
        threshold=late,
        periods=3,
        missing=QUIET,
        pages=True,
    )
    ready = {
        f"ready{index}": metrics.of_unit(Metric.READY_NODES, unit.name, "Maximum")
        for index, unit in enumerate(fleet.units)
    }
    unserved = cloudwatch.MathExpression(
        expression=f"demand * (SUM([{', '.join(ready)}]) < 1)",
        using_metrics={"demand": metrics.of_fleet(Metric.DEMAND_RPM, "Maximum"), **ready},
        label="requests per minute without any ready node",
        period=MINUTE,
    )
    yield Watch(
        key="no-ready-unit",
        says="Requests come and no unit has a ready node.",
        runbook=Code.NO_READY_UNIT,
        metric=unserved,
        comparison=AT_LEAST,
        threshold=1,
        periods=3,
        missing=UNCHANGED,
        pages=True,
    )


def _of_the_loop(metrics: FleetMetrics, tick_errors: cloudwatch.IMetric) -> Iterator[Watch]:
    yield Watch(
        key="tick-missing",
        says="No tick has decided anything for three minutes.",
        runbook="no-ticks",
        metric=metrics.of_fleet(Metric.TICK_FAILURES, "SampleCount", label="decisions"),
        comparison=BELOW,
        threshold=1,
        periods=TICKS_MISSED,
        missing=BREACHING,
        pages=True,
    )
    failures = cloudwatch.MathExpression(
        expression="MAX([errors, failures])",
        using_metrics={
            "errors": tick_errors,
            "failures": metrics.of_fleet(Metric.TICK_FAILURES, "Maximum"),
        },
        label="failures",
        period=MINUTE,
    )
    yield Watch(
        key="tick-failing",
        says="Ticks crashed or reported failures in five of ten minutes.",
        runbook="tick-failing",
        metric=failures,
        comparison=AT_LEAST,
        threshold=1,
        periods=10,
        datapoints=5,
        missing=QUIET,
        pages=True,
    )
    yield Watch(
        key="survival",
        says="For five minutes ticks have known too little to decide and have only moved weights.",
        runbook="survival",
        metric=metrics.of_fleet(Metric.SURVIVAL, "Minimum"),
        comparison=AT_LEAST,
        threshold=1,
        periods=5,
        missing=QUIET,
        pages=True,
    )
    yield Watch(
        key="beliefs-stale",
        says="For five minutes it could not be read which nodes of some unit serve.",
        runbook=Code.HEALTH_INFERRED,
        metric=metrics.of_fleet(Metric.BELIEFS_STALE, "Minimum"),
        comparison=AT_LEAST,
        threshold=1,
        periods=5,
        missing=QUIET,
    )
    yield Watch(
        key="all-unhealthy",
        says="All nodes that served are unhealthy at once, for three minutes.",
        runbook=Code.ALL_UNHEALTHY,
        metric=metrics.of_fleet(Metric.ALL_UNHEALTHY, "Minimum"),
        comparison=AT_LEAST,
        threshold=1,
        periods=3,
        missing=UNCHANGED,
        pages=True,
    )
    yield Watch(
        key="breaker",
        says="Whole units ceased to serve at once, for three minutes: the checks or the image are to blame.",
        runbook=Code.BREAKER,
        metric=metrics.of_fleet(Metric.BREAKER, "Minimum"),
        comparison=AT_LEAST,
        threshold=1,
        periods=3,
        missing=UNCHANGED,
        pages=True,
    )
    yield Watch(
        key="lease-stuck",
        says="For three minutes every tick found the lease held by another.",
        runbook="lease-stuck",
        metric=metrics.of_fleet(Metric.LEASE_HELD, "Minimum"),
        comparison=AT_LEAST,
        threshold=1,
        periods=3,
        missing=QUIET,
        pages=True,
    )


def _of_builds(metrics: FleetMetrics, failed_builds: Mapping[str, cloudwatch.IMetric]) -> Iterator[Watch]:
    ended_badly = cloudwatch.MathExpression(
        expression=f"SUM([{', '.join(failed_builds)}])",
        using_metrics=dict(failed_builds),
        label="runs that did not succeed",
        period=FIVE_MINUTES,
    )
    yield Watch(
        key="builds-failed",
        says="A run of the builds failed, was stopped or took longer than a day.",
        runbook="builds-failed",
        metric=ended_badly,
        comparison=AT_LEAST,
        threshold=1,
        periods=1,
        missing=QUIET,
    )
    yield Watch(
        key="unit-not-built",
        says="A unit has waited for its image or compiled model for an hour.",
        runbook="unit-not-built",
        metric=metrics.of_fleet(Metric.UNITS_NOT_BUILT, "Minimum", FIVE_MINUTES),
        comparison=AT_LEAST,
        threshold=1,
        periods=12,
        missing=UNCHANGED,
    )


def _of_hands(metrics: FleetMetrics) -> Iterator[Watch]:
    yield Watch(
        key="loop-paused",
        says="The loop has been paused for an hour.",
        runbook=Code.PAUSED,
        metric=metrics.of_fleet(Metric.PAUSED, "Minimum", FIVE_MINUTES),
        comparison=AT_LEAST,
        threshold=1,
        periods=12,
        missing=UNCHANGED,
    )
    yield Watch(
        key="foreign-weights",
        says="Somebody else changed the load balancer's weights.",
        runbook=Code.FOREIGN_WEIGHTS,
        metric=metrics.of_fleet(Metric.FOREIGN_WEIGHTS, "Maximum", FIVE_MINUTES),
        comparison=AT_LEAST,
        threshold=1,
        periods=1,
        missing=QUIET,
    )


def _of_money(metrics: FleetMetrics, fleet: Fleet) -> Iterator[Watch]:
    yield Watch(
        key="budget-reached",
        says=f"The budget of {fleet.budget_usd_per_hour:g} USD per hour has held back nodes for 15 minutes.",
        runbook=Code.BUDGET,
        metric=metrics.of_fleet(Metric.BUDGET_REACHED, "Minimum", FIVE_MINUTES),
        comparison=AT_LEAST,
        threshold=1,
        periods=3,
        missing=UNCHANGED,
    )
    prices = {
        f"price{index}": metrics.of_pool(Metric.PRICE_USD_PER_HOUR, pool.name, "SampleCount", HOUR)
        for index, pool in enumerate(fleet.pools)
    }
    known = cloudwatch.MathExpression(
        expression=f"SUM([{', '.join(prices)}])",
        using_metrics=dict(prices),
        label="pools with a price",
        period=HOUR,
    )
    yield Watch(
        key="prices-stale",
        says="The price of a pool has not been read for three hours.",
        runbook="prices-stale",
        metric=known,
        comparison=BELOW,
        threshold=len(prices),
        periods=3,
        missing=BREACHING,
    )


def _of_capacity(metrics: FleetMetrics, fleet: Fleet) -> Iterator[Watch]:
    yield Watch(
        key="quota-reached",
        says="A quota of the account refuses launches.",
        runbook="quota-reached",
        metric=metrics.of_fleet(Metric.QUOTA_REACHED, "Maximum", FIVE_MINUTES),
        comparison=AT_LEAST,
        threshold=1,
        periods=1,
        missing=UNCHANGED,
    )
    # The loop stays in capacity mode for long after a shortage has ended; only a lasting one is news.
    short = cloudwatch.MathExpression(
        expression="mode * short",
        using_metrics={
            "mode": metrics.of_fleet(Metric.MODE, "Minimum", QUARTER_HOUR),
            "short": metrics.of_fleet(Metric.POOLS_SHORT, "Minimum", QUARTER_HOUR),
        },
        label="pools short in capacity mode",
        period=QUARTER_HOUR,
    )
    yield Watch(
        key="capacity-mode",
        says="Capacity mode has lasted for six hours and a pool is short all the time.",
        runbook=Code.CAPACITY_MODE,
        metric=short,
        comparison=AT_LEAST,
        threshold=1,
        periods=24,
        missing=UNCHANGED,
    )
    for pool in fleet.pools:
        yield from _of_pool(metrics, pool.name)


def _of_pool(metrics: FleetMetrics, pool: str) -> Iterator[Watch]:
    yield Watch(
        key=f"pool-short-{pool}",
        says=f"{pool}: launches have been refused for 30 minutes.",
        runbook="pool-short",
        metric=metrics.of_pool(Metric.AVAILABLE, pool, "Maximum", FIVE_MINUTES),
        comparison=BELOW,
        threshold=1,
        periods=6,
        missing=UNCHANGED,
    )
    yield Watch(
        key=f"refusals-unknown-{pool}",
        says=f"{pool}: {UNKNOWN_REFUSALS} launches in an hour were refused for an unknown reason.",
        runbook="refusals-unknown",
        metric=metrics.refusals(pool, EvidenceKind.UNKNOWN, HOUR),
        comparison=AT_LEAST,
        threshold=UNKNOWN_REFUSALS,
        periods=1,
        missing=QUIET,
    )
    yield Watch(
        key=f"node-group-stuck-{pool}",
        says=f"{pool}: its node group could not be changed for an hour.",
        runbook=Code.HELD,
        metric=metrics.of_pool(Metric.NODE_GROUP_HELD, pool, "Minimum", FIVE_MINUTES),
        comparison=AT_LEAST,
        threshold=1,
        periods=12,
        missing=UNCHANGED,
    )


def _failed_builds(builds: sfn.IStateMachine) -> dict[str, cloudwatch.IMetric]:
    return {
        key: builds.metric(name, statistic="Sum", period=FIVE_MINUTES) for key, name in FAILED_BUILDS.items()
    }


def _let_cloudwatch_publish(topic: sns.ITopic) -> None:
    """A topic with a policy of its own no longer lets the account's alarms publish by default."""
    topic.add_to_resource_policy(
        iam.PolicyStatement(
            sid="AlarmsPublish",
            principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
            actions=["sns:Publish"],
            resources=[topic.topic_arn],
            conditions={"StringEquals": {"aws:SourceAccount": topic.stack.account}},
        )
    )
