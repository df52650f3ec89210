"""One page that answers, top to bottom: are users fine, what does the loop do, what does it cost, what is
short, is the loop healthy.
"""

from collections.abc import Sequence
from typing import Final

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from control_lambda.core import names
from control_lambda.core.metrics import Metric
from infra.metrics import FIVE_MINUTES, MINUTE, FleetMetrics
from infra.observability.alarms import TICKS_MISSED
from infra.settings import Settings

PAGE_WIDTH: Final = 24
QUARTER: Final = PAGE_WIDTH // 4
HEIGHT: Final = 6
DECISIONS_SHOWN: Final = 20
FROM_ZERO: Final = cloudwatch.YAxisProps(min=0, show_units=False)
ZERO_OR_ONE: Final = cloudwatch.YAxisProps(min=0, max=1, show_units=False)
UP_TO_100: Final = cloudwatch.YAxisProps(max=100, show_units=False)
ANY_SIGN: Final = cloudwatch.YAxisProps(show_units=False)

# Powertools' logger puts the decision record under `record`; reasons are told in the order of the steps.
SHOWN: Final = (
    "@timestamp",
    "record.mode as mode",
    "record.demand_rpm as demand_rpm",
    "record.cost_usd_per_hour as usd_per_hour",
    "record.reasons.0.text as why",
    "record.reasons.1.text as also",
    "record.failures.0 as failed",
)
DECISIONS: Final = (
    f"fields {', '.join(SHOWN)}",
    'filter message = "tick" and (ispresent(record.reasons.0.code) or ispresent(record.failures.0))',
    "sort @timestamp desc",
    f"limit {DECISIONS_SHOWN}",
)


class Dashboard(Construct):
    """The fleet's dashboard, named like the stack; `tick` and `signals` are the loop's two functions."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        settings: Settings,
        metrics: FleetMetrics,
        alarms: Sequence[cloudwatch.IAlarm],
        tick: lambda_.Function,
        signals: lambda_.IFunction,
    ) -> None:
        super().__init__(scope, id)
        self._fleet = settings.fleet
        self._metrics = metrics
        self.dashboard = cloudwatch.Dashboard(
            self, "Page", dashboard_name=settings.stack_name, default_interval=Duration.hours(3)
        )
        self._section(
            "Are users fine?",
            self._latency(),
            self._attainment(),
            self._errors(),
            cloudwatch.AlarmStatusWidget(alarms=list(alarms), title="Alarms", width=QUARTER, height=HEIGHT),
        )
        self._section("What is the loop doing?", *self._steering())
        self.dashboard.add_widgets(self._decisions(tick))
        self._section("What does it cost?", self._cost(), self._savings(), self._prices())
        self._section("What is short?", self._refusals(), self._availability(), self._limits())
        self._section(
            "Is the loop healthy?",
            self._tick_age(),
            self._ticks(),
            self._lambdas(tick, signals),
            self._signal_age(),
        )

    def _section(self, question: str, *widgets: cloudwatch.ConcreteWidget) -> None:
        heading = cloudwatch.TextWidget(markdown=f"## {question}", width=PAGE_WIDTH, height=1)
        self.dashboard.add_widgets(heading)
        self.dashboard.add_widgets(*widgets)

    def _latency(self) -> cloudwatch.GraphWidget:
        objective = self._fleet.objective
        percentile = f"p{objective.percentile:g}"
        return _graph(
            f"Latency (s), {percentile} and median",
            [
                self._metrics.of_load_balancer(Metric.TARGET_RESPONSE_TIME, percentile, label=percentile),
                self._metrics.of_load_balancer(Metric.TARGET_RESPONSE_TIME, "p50", label="p50"),
            ],
            limit=_line(objective.latency_seconds, "objective"),
            width=QUARTER,
        )

    def _attainment(self) -> cloudwatch.GraphWidget:
        objective = self._fleet.objective
        attained = cloudwatch.MathExpression(
            expression="100 - missed",
            using_metrics={"missed": self._metrics.missed(objective)},
            label="attained",
            period=FIVE_MINUTES,
        )
        return _graph(
            f"Requests answered within {objective.latency_seconds:g} s (%)",
            [attained],
            limit=_line(100 * objective.attainment, "promised"),
            axis=UP_TO_100,
            width=QUARTER,
            period=FIVE_MINUTES,
        )

    def _errors(self) -> cloudwatch.GraphWidget:
        shown = {
            Metric.TARGET_5XX_COUNT: "a node's 5xx",
            Metric.ELB_5XX_COUNT: "the load balancer's 5xx",
            Metric.FIXED_RESPONSE_COUNT: "no unit had weight",
        }
        return _graph(
            "Failed requests per minute",
            [self._metrics.of_load_balancer(name, "Sum", label=label) for name, label in shown.items()],
            width=QUARTER,
        )

    def _steering(self) -> list[cloudwatch.GraphWidget]:
        of_fleet = self._metrics.of_fleet
        units = [unit.name for unit in self._fleet.units]
        mode = of_fleet(Metric.MODE, "Maximum", label="mode")
        return [
            _graph(
                "Demand and forecast (requests per minute)",
                [
                    of_fleet(Metric.DEMAND_RPM, "Maximum", label="demand"),
                    of_fleet(Metric.FORECAST_RPM, "Maximum", label="prepared for"),
                ],
                width=QUARTER,
            ),
            _graph("Mode (0 cost, 1 capacity)", [mode], width=QUARTER, axis=ZERO_OR_ONE),
            _graph(
                "Weights",
                [self._metrics.of_unit(Metric.WEIGHT, unit, "Maximum") for unit in units],
                width=QUARTER,
                stacked=True,
            ),
            _graph(
                "Nodes wanted by pool",
                [
                    self._metrics.of_pool(Metric.DESIRED_NODES, pool.name, "Maximum")
                    for pool in self._fleet.pools
                ],
                width=QUARTER,
                stacked=True,
            ),
            _graph(
                "Nodes ready by unit",
                [self._metrics.of_unit(Metric.READY_NODES, unit, "Minimum") for unit in units],
                width=PAGE_WIDTH,
                stacked=True,
            ),
        ]

    @staticmethod
    def _decisions(tick: lambda_.Function) -> cloudwatch.LogQueryWidget:
        return cloudwatch.LogQueryWidget(
            title="Decisions, latest first",
            log_group_names=[tick.log_group.log_group_name],
            query_lines=list(DECISIONS),
            view=cloudwatch.LogQueryVisualizationType.TABLE,
            width=PAGE_WIDTH,
            height=HEIGHT,
        )

    def _cost(self) -> cloudwatch.GraphWidget:
        return _graph(
            "Accelerators (USD per hour)",
            [self._metrics.of_fleet(Metric.COST_USD_PER_HOUR, "Average", label="cost")],
            limit=_line(self._fleet.budget_usd_per_hour, "budget"),
        )

    def _savings(self) -> cloudwatch.GraphWidget:
        saved = self._metrics.of_fleet(Metric.SAVINGS_USD_PER_HOUR, "Average", label="saved")
        return _graph("Saved against the cheapest NVIDIA unit alone (USD per hour)", [saved], axis=ANY_SIGN)

    def _prices(self) -> cloudwatch.GraphWidget:
        hour = Duration.hours(1)
        return _graph(
            "Price of a node (USD per hour)",
            [
                self._metrics.of_pool(Metric.PRICE_USD_PER_HOUR, pool.name, "Average", hour)
                for pool in self._fleet.pools
            ],
            period=hour,
        )

    def _refusals(self) -> cloudwatch.GraphWidget:
        dimensions = ",".join((names.NAMESPACE, *Metric.CAPACITY_ERRORS.dimensions))
        search = (
            f'SEARCH(\'{{{dimensions}}} MetricName="{Metric.CAPACITY_ERRORS.metric_name}" '
            f"{names.FLEET}=\"{self._metrics.cluster_name}\"', 'Sum', {FIVE_MINUTES.to_seconds():.0f})"
        )
        found = cloudwatch.MathExpression(expression=search, using_metrics={}, label="", period=FIVE_MINUTES)
        return _graph("Launches refused, by pool and kind", [found], stacked=True, period=FIVE_MINUTES)

    def _availability(self) -> cloudwatch.GraphWidget:
        return _graph(
            "Pools that may launch (1) or were refused (0)",
            [self._metrics.of_pool(Metric.AVAILABLE, pool.name, "Minimum") for pool in self._fleet.pools],
            axis=ZERO_OR_ONE,
        )

    def _limits(self) -> cloudwatch.GraphWidget:
        shown = {
            Metric.SHORTFALL: "demand above what may be launched",
            Metric.BUDGET_REACHED: "budget reached",
            Metric.QUOTA_REACHED: "quota reached",
        }
        return _graph("Limits reached", self._flags(shown), axis=ZERO_OR_ONE)

    def _tick_age(self) -> cloudwatch.GraphWidget:
        return _graph(
            "Age of the last tick (s)",
            [self._metrics.tick_age()],
            limit=_line(TICKS_MISSED * MINUTE.to_seconds(), "tick-missing"),
            width=QUARTER,
        )

    def _ticks(self) -> cloudwatch.GraphWidget:
        shown = {
            Metric.TICK_FAILURES: "failures in a tick",
            Metric.LEASE_HELD: "lease held by another",
            Metric.PAUSED: "paused",
            Metric.FOREIGN_WEIGHTS: "foreign weights",
        }
        return _graph("What ticks met with", self._flags(shown), width=QUARTER)

    def _signal_age(self) -> cloudwatch.GraphWidget:
        age = self._metrics.of_fleet(Metric.SIGNAL_AGE_SECONDS, "Maximum", label="newest count")
        return _graph("Age of the newest request count (s)", [age], width=QUARTER)

    def _flags(self, shown: dict[Metric, str]) -> list[cloudwatch.IMetric]:
        return [self._metrics.of_fleet(name, "Maximum", label=label) for name, label in shown.items()]

    @staticmethod
    def _lambdas(tick: lambda_.IFunction, signals: lambda_.IFunction) -> cloudwatch.GraphWidget:
        errors = [
            function.metric_errors(label=label, period=MINUTE)
            for label, function in (("tick", tick), ("signals", signals))
        ]
        return _graph("Failed invocations per minute", errors, width=QUARTER)


def _graph(
    title: str,
    left: Sequence[cloudwatch.IMetric],
    *,
    limit: cloudwatch.HorizontalAnnotation | None = None,
    axis: cloudwatch.YAxisProps = FROM_ZERO,
    width: int = PAGE_WIDTH // 3,
    stacked: bool = False,
    period: Duration = MINUTE,
) -> cloudwatch.GraphWidget:
    return cloudwatch.GraphWidget(
        title=title,
        left=list(left),
        left_annotations=[limit] if limit else [],
        left_y_axis=axis,
        stacked=stacked,
        period=period,
        width=width,
        height=HEIGHT,
    )


def _line(value: float, label: str) -> cloudwatch.HorizontalAnnotation:
    return cloudwatch.HorizontalAnnotation(value=value, label=label)
