"""The metrics of one deployed fleet, as alarms and the dashboard ask for them.

Names and dimensions are those of `control_lambda.core.metrics`; the dimension Fleet holds the cluster's name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch

from control_lambda.core import names
from control_lambda.core.fleet import Objective
from control_lambda.core.metrics import Metric, Owner
from control_lambda.core.model import EvidenceKind

MINUTE: Final = Duration.minutes(1)
FIVE_MINUTES: Final = Duration.minutes(5)


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetMetrics:
    """The metrics of the fleet in `cluster_name` behind `load_balancer`, named as in its ARN: app/name/id."""

    cluster_name: str
    load_balancer: str

    def of_fleet(
        self, metric: Metric, statistic: str, period: Duration = MINUTE, label: str | None = None
    ) -> cloudwatch.Metric:
        """A metric of the whole fleet."""
        return self._own(metric, {}, statistic, period, label)

    def of_unit(
        self, metric: Metric, unit: str, statistic: str, period: Duration = MINUTE
    ) -> cloudwatch.Metric:
        """A metric of one unit, labelled with its name."""
        return self._own(metric, {names.UNIT: unit}, statistic, period, unit)

    def of_pool(
        self, metric: Metric, pool: str, statistic: str, period: Duration = MINUTE
    ) -> cloudwatch.Metric:
        """A metric of one pool, labelled with its name."""
        return self._own(metric, {names.POOL: pool}, statistic, period, pool)

    def refusals(self, pool: str, kind: EvidenceKind, period: Duration) -> cloudwatch.Metric:
        """How many launches of the pool were refused so in each period, labelled with the pool's name."""
        return self._own(
            Metric.CAPACITY_ERRORS, {names.POOL: pool, names.KIND: kind.value}, "Sum", period, pool
        )

    def of_load_balancer(
        self, metric: Metric, statistic: str, period: Duration = MINUTE, label: str | None = None
    ) -> cloudwatch.Metric:
        """A metric of the load balancer over all of its target groups."""
        if metric.owner is not Owner.LOAD_BALANCER:
            raise _not_put_so(metric)
        return cloudwatch.Metric(
            namespace=names.LOAD_BALANCER_NAMESPACE,
            metric_name=metric.metric_name,
            dimensions_map={names.LOAD_BALANCER: self.load_balancer},
            statistic=statistic,
            period=period,
            label=label,
        )

    def tick_age(self, period: Duration = MINUTE) -> cloudwatch.MathExpression:
        """The seconds since the last period in which a tick decided, by the period; 0 if one did in it.

            age = EPOCH - max(last, first)

        last is the EPOCH of the last period that holds a tick, first that of the graph: without any tick in
        sight the age counts from there, and is greater in truth. EPOCH has a value in every period, whether a
        tick put something or not: the age rises for as long as none does. Functions as in "Using math
        expressions with CloudWatch metrics" of the CloudWatch User Guide.
        """
        last = "FILL(IF(ticks, EPOCH(ticks)), REPEAT)"
        first = "TIME_SERIES(MIN(EPOCH(ticks)))"
        return cloudwatch.MathExpression(
            expression=f"EPOCH(ticks) - MAX([{last}, {first}])",
            using_metrics={"ticks": self.of_fleet(Metric.TICK_FAILURES, "SampleCount", period)},
            label="since the last tick",
            period=period,
        )

    def missed(self, objective: Objective, period: Duration = FIVE_MINUTES) -> cloudwatch.MathExpression:
        """The share (percent) of all requests that were not answered within the objective's seconds.

            missed = 100 (R + U + E - S·PR/100) / (R + U)

        R RequestCount, U the greater of HTTP_Fixed_Response_Count and HTTPCode_ELB_503_Count (requests that
        found no target, which R omits; a fixed 503 may count as both), E HTTPCode_Target_5XX_Count (a fast
        error is no answer), S the samples of TargetResponseTime and PR the percentage of them within the
        objective. What got no answer at all is in R but not in S. It errs on the safe side: an error that
        came late counts twice. SUM and MAX take whatever series has data, so that absent counts are no gap.
        """
        within = cloudwatch.Stats.percentile_rank(objective.latency_seconds)
        in_time = cloudwatch.MathExpression(
            expression="-1 * answered * within / 100",
            using_metrics={
                "answered": self.of_load_balancer(Metric.TARGET_RESPONSE_TIME, "SampleCount", period),
                "within": self.of_load_balancer(Metric.TARGET_RESPONSE_TIME, within, period),
            },
            period=period,
        )
        untargeted = cloudwatch.MathExpression(
            expression="MAX([fixed, own])",
            using_metrics={
                "fixed": self.of_load_balancer(Metric.FIXED_RESPONSE_COUNT, "Sum", period),
                "own": self.of_load_balancer(Metric.ELB_503_COUNT, "Sum", period),
            },
            period=period,
        )
        came = "requests, untargeted"
        return cloudwatch.MathExpression(
            expression=f"100 * SUM([{came}, errors, minus_in_time]) / SUM([{came}])",
            using_metrics={
                "requests": self.of_load_balancer(Metric.REQUEST_COUNT, "Sum", period),
                "untargeted": untargeted,
                "errors": self.of_load_balancer(Metric.TARGET_5XX_COUNT, "Sum", period),
                "minus_in_time": in_time,
            },
            label="missed (%)",
            period=period,
        )

    def _own(
        self, metric: Metric, of: Mapping[str, str], statistic: str, period: Duration, label: str | None
    ) -> cloudwatch.Metric:
        dimensions = {names.FLEET: self.cluster_name, **of}
        if tuple(dimensions) != metric.dimensions:
            raise _not_put_so(metric)
        return cloudwatch.Metric(
            namespace=names.NAMESPACE,
            metric_name=metric.metric_name,
            dimensions_map=dimensions,
            statistic=statistic,
            period=period,
            label=label,
        )


def _not_put_so(metric: Metric) -> ValueError:
    """What nobody puts would be an empty graph and a silent alarm."""
    return ValueError(f"{metric.metric_name} is put by {', '.join(metric.dimensions)}")
