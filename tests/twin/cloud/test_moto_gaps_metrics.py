"""CloudWatch as the embedded AWS answers it: statistics, lateness, absence, metric math."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from control_lambda.core.fleet import Fleet, parse_fleet
from twin.cloud.embedded import BEGINNING, Cloud, start
from twin.cloud.moto_gaps.metric_math import evaluate
from twin.cloud.moto_gaps.protocol import AwsError

LATE = 120  # seconds after the minute's end at which its datum can be read
PROFILE = {"service_seconds": 0.6, "throughput_rpm": 90, "latency_seconds": 0.7, "start_seconds": 300}
POOL = {"market": "on-demand", "nodes": {"max": 10}, "price_usd_per_hour": 1.006}
UNIT = {"name": "g5", "instance_type": "g5.xlarge", "accelerator": "nvidia", "framework": "inductor"}
FLEET: Fleet = parse_fleet(
    {
        "fleet": "small",
        "model": "tiny",
        "objective": {"latency_seconds": 2.0},
        "budget_usd_per_hour": 40,
        "units": [{**UNIT, "profile": PROFILE, "pools": [POOL]}],
    }
)


class Metrics:
    """A provisioned cloud and the queries of a test; times are seconds after its beginning."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        environment = cloud.provision(FLEET)
        arn = json.loads(environment["UNITS"])["g5"]["target_group_arn"]
        balancer = environment["LISTENER_ARN"].partition(":listener/")[2].rpartition("/")[0]
        self.dimensions = {"LoadBalancer": balancer, "TargetGroup": arn.rpartition(":")[2]}

    def query(self, name: str, statistic: str, metric: str, **dimensions: str) -> dict[str, Any]:
        """A query on the unit's load balancer metrics, or on Fulcrum's where dimensions are given."""
        shown = dimensions or self.dimensions
        named = [{"Name": key, "Value": value} for key, value in shown.items()]
        namespace = "AWS/ApplicationELB" if "LoadBalancer" in shown else "Fulcrum"
        wanted = {"Namespace": namespace, "MetricName": metric, "Dimensions": named}
        return {"Id": name, "MetricStat": {"Metric": wanted, "Period": 60, "Stat": statistic}}

    def results(self, *queries: dict[str, Any], end: int = 3600, **arguments: Any) -> list[Any]:
        """The results of one GetMetricData from the beginning on."""
        answer = self.cloud.client("cloudwatch").get_metric_data(
            MetricDataQueries=queries, StartTime=BEGINNING, EndTime=BEGINNING + end, **arguments
        )
        return list(answer["MetricDataResults"])

    def read(self, *queries: dict[str, Any], **arguments: Any) -> dict[str, dict[int, float]]:
        """Every result as minutes and values, by its id."""
        return {
            result["Id"]: {
                int(at.timestamp() - BEGINNING): value
                for at, value in zip(result["Timestamps"], result["Values"], strict=True)
            }
            for result in self.results(*queries, **arguments)
        }

    def put(self, minute: int, latencies: list[float], errors: int = 0) -> None:
        """Fill the minute that starts that many seconds after the beginning."""
        self.cloud.put_minute("g5", BEGINNING + minute, latencies, errors)

    def advance(self, seconds: int) -> None:
        """Set the clock to that many seconds after the beginning."""
        self.cloud.advance(BEGINNING + seconds)


@pytest.fixture
def metrics() -> Iterator[Metrics]:
    """A cloud whose first minute holds ten requests, of 0.1 to 1.0 seconds, and is long over."""
    with start() as cloud:
        metrics = Metrics(cloud)
        metrics.put(0, [tenths / 10 for tenths in range(10, 0, -1)], errors=2)
        metrics.advance(600)
        yield metrics


def test_every_statistic_of_a_minute(metrics: Metrics) -> None:
    """Sum, count, average, extremes, and percentiles by nearest rank."""
    expected = {"Sum": 5.5, "SampleCount": 10, "Average": 0.55, "Minimum": 0.1, "Maximum": 1.0}
    expected |= {"p0": 0.1, "p50": 0.5, "p95": 1.0, "p99.9": 1.0, "p100": 1.0}
    queries = [
        metrics.query(f"q{number}", statistic, "TargetResponseTime")
        for number, statistic in enumerate(expected)
    ]
    found = [values[0] for values in metrics.read(*queries).values()]
    assert dict(zip(expected, found, strict=True)) == pytest.approx(expected)


def test_requests_and_errors_are_counted(metrics: Metrics) -> None:
    """RequestCount has all requests of the minute, 5xx included."""
    requests = metrics.query("requests", "Sum", "RequestCount")
    errors = metrics.query("errors", "Sum", "HTTPCode_Target_5XX_Count")
    assert metrics.read(requests, errors) == {"requests": {0: 10}, "errors": {0: 2}}


def test_requests_without_an_answer_are_counted_and_have_no_latency(metrics: Metrics) -> None:
    """RequestCount and 5xx have them, TargetResponseTime has not."""
    metrics.cloud.put_minute("g5", BEGINNING, [0.5, 0.7], errors=3, unanswered=3)
    requests = metrics.query("requests", "Sum", "RequestCount")
    errors = metrics.query("errors", "Sum", "HTTPCode_Target_5XX_Count")
    samples = metrics.query("samples", "SampleCount", "TargetResponseTime")
    assert metrics.read(requests, errors, samples) == {
        "requests": {0: 5},
        "errors": {0: 3},
        "samples": {0: 2},
    }


def test_a_silent_load_balancer_reports_nothing_until_it_speaks_again(metrics: Metrics) -> None:
    """The minutes of an outage stay absent, hosts included."""
    metrics.cloud.set_ready("g5-on-demand", 2)
    metrics.cloud.silence(until=BEGINNING + 720)
    for second in (600, 660, 720):
        metrics.put(second, [0.5])
    metrics.advance(780 + LATE)
    requests = metrics.query("requests", "Sum", "RequestCount")
    hosts = metrics.query("hosts", "Maximum", "HealthyHostCount")
    found = metrics.read(requests, hosts)
    assert [second for second in found["requests"] if second >= 600] == [720]
    assert [second for second in found["hosts"] if second >= 600] == [720]


def test_a_minute_is_visible_two_minutes_after_its_end(metrics: Metrics) -> None:
    """CloudWatch has the load balancer's datum late: not a second earlier."""
    metrics.put(600, [0.5])
    query = metrics.query("a", "Sum", "RequestCount")
    metrics.advance(660 + LATE - 1)
    assert metrics.read(query)["a"] == {0: 10}
    metrics.advance(660 + LATE)
    assert metrics.read(query)["a"] == {0: 10, 600: 1}


def test_a_minute_without_requests_is_absent(metrics: Metrics) -> None:
    """Neither zero nor a latency is reported for it; nor are errors that did not happen."""
    metrics.put(60, [])
    metrics.put(120, [0.4])
    metrics.put(120, [])
    queries = [
        metrics.query("requests", "Sum", "RequestCount"),
        metrics.query("latency", "p95", "TargetResponseTime"),
        metrics.query("errors", "Sum", "HTTPCode_Target_5XX_Count"),
    ]
    assert {name: list(values) for name, values in metrics.read(*queries).items()} == {
        "requests": [0],
        "latency": [0],
        "errors": [0],
    }


def test_healthy_hosts_are_reported_every_minute_with_a_registered_target(metrics: Metrics) -> None:
    """They follow the nodes by themselves, and are absent while no target is registered."""
    query = metrics.query("hosts", "Minimum", "HealthyHostCount")
    metrics.cloud.set_ready("g5-on-demand", 2)
    metrics.cloud.nodes.set_desired("g5-on-demand", 3, metrics.cloud.time)
    metrics.advance(1020 + LATE)
    read = metrics.read(query)["hosts"]
    assert read == {at: 2 if at < 840 else 3 for at in range(600, 1020, 60)}


def test_healthy_hosts_can_be_given(metrics: Metrics) -> None:
    """A test or a replay may know better."""
    metrics.cloud.put_minute("g5", BEGINNING, [0.5], healthy_hosts=7)
    assert metrics.read(metrics.query("hosts", "Average", "HealthyHostCount"))["hosts"] == {0: 7}


def test_untargeted_requests_are_counted_for_the_load_balancer(metrics: Metrics) -> None:
    """Fixed responses and the load balancer's own 503s have no target group."""
    metrics.cloud.put_untargeted(BEGINNING + 61, 4, own_503s=3)
    balancer = metrics.dimensions["LoadBalancer"]
    fixed = metrics.query("fixed", "Sum", "HTTP_Fixed_Response_Count", LoadBalancer=balancer)
    own = metrics.query("own", "Sum", "HTTPCode_ELB_503_Count", LoadBalancer=balancer)
    assert metrics.read(fixed, own) == {"fixed": {60: 4}, "own": {60: 3}}


def test_the_window_starts_with_its_minute_and_ends_before_its_end(metrics: Metrics) -> None:
    """A minute belongs to the window in which it starts; results come latest first unless asked."""
    for minute in (60, 120, 180):
        metrics.put(minute, [0.5])
    query = metrics.query("a", "Sum", "RequestCount")
    assert list(metrics.read(query, end=180)["a"]) == [120, 60, 0]
    assert list(metrics.read(query, end=181, ScanBy="TimestampAscending")["a"]) == [0, 60, 120, 180]


def test_custom_metrics_are_read_back_at_once(metrics: Metrics) -> None:
    """What PutMetricData brings adds up in its minute, under exactly its dimensions."""
    dimensions = {"Fleet": "small", "Pool": "g5-on-demand", "Kind": "shortage"}
    datum = {
        "MetricName": "CapacityErrors",
        "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions.items()],
        "Value": 1,
    }
    for at in (600, 605, 540):
        stamped = {**datum, "Timestamp": BEGINNING + at}
        metrics.cloud.client("cloudwatch").put_metric_data(Namespace="Fulcrum", MetricData=[stamped])
    metrics.cloud.client("cloudwatch").put_metric_data(Namespace="Fulcrum", MetricData=[datum])
    exact = metrics.query("a", "Sum", "CapacityErrors", **dimensions)
    other = metrics.query("b", "Sum", "CapacityErrors", **{**dimensions, "Kind": "quota"})
    assert metrics.read(exact, other) == {"a": {540: 1, 600: 3}, "b": {}}


def test_values_with_counts_are_so_many_samples(metrics: Metrics) -> None:
    """PutMetricData with Values and Counts is short for repeated data."""
    datum = {"MetricName": "PriceUsdPerHour", "Values": [1.0, 2.0], "Counts": [3, 1]}
    datum["Dimensions"] = [{"Name": "Fleet", "Value": "small"}]
    metrics.cloud.client("cloudwatch").put_metric_data(Namespace="Fulcrum", MetricData=[datum])
    read = metrics.read(metrics.query("a", "Average", "PriceUsdPerHour", Fleet="small"))
    assert read == {"a": {600: 1.25}}


def test_metric_math_is_computed_from_queries_that_may_stay_hidden(metrics: Metrics) -> None:
    """An expression refers to other queries by id; ReturnData false hides those."""
    metrics.put(60, [0.5, 0.5])
    metrics.cloud.put_untargeted(BEGINNING, 20)
    balancer = metrics.dimensions["LoadBalancer"]
    hidden = {
        **metrics.query("b", "Sum", "HTTP_Fixed_Response_Count", LoadBalancer=balancer),
        "ReturnData": False,
    }
    total = {"Id": "total", "Expression": "SUM([a, FILL(b, 0)]) / 60"}
    read = metrics.read(metrics.query("a", "Sum", "RequestCount"), hidden, total, end=120)
    assert read == {"a": {0: 10, 60: 2}, "total": {0: 0.5, 60: pytest.approx(2 / 60)}}


def test_metric_math_that_is_not_supported_is_a_validation_error(metrics: Metrics) -> None:
    """Nothing is silently empty."""
    client = metrics.cloud.client("cloudwatch")
    with pytest.raises(client.exceptions.ClientError, match="SEARCH") as refused:
        metrics.read({"Id": "e", "Expression": "SEARCH('x', 'Sum', 60)"})
    assert refused.value.response["Error"]["Code"] == "ValidationError"


@pytest.mark.parametrize(
    ("expression", "values"),
    [
        ("a + b * 2", {0: 50}),
        ("(a - b) / 10", {0: -1}),
        ("-a ^ 2", {0: -100, 60: -4}),
        ("a / 4", {0: 2.5, 60: 0.5}),
        ("a / (b - 20)", {}),
        ("FILL(b, 0) + a", {0: 30, 60: 2}),
        ("FILL(b, REPEAT)", {0: 20, 60: 20, 120: 20}),
        ("SUM([a, b])", {0: 30, 60: 2}),
        ("SUM(METRICS())", {0: 30, 60: 2}),
        ("AVG([a, b])", {0: 15, 60: 2}),
        ("MIN([a, b])", {0: 10, 60: 2}),
        ("MAX([a, b])", {0: 20, 60: 2}),
        ("a < 10", {0: 0, 60: 1}),
        ("a * (b >= 20)", {0: 10}),
    ],
)
def test_metric_math(expression: str, values: dict[int, float]) -> None:
    """Two series meet where both have data; aggregates take what is there; FILL fills the window."""
    known = {"a": {0: 10.0, 60: 2.0}, "b": {0: 20.0}}
    assert evaluate(expression, known, range(0, 180, 60)) == values


@pytest.mark.parametrize("expression", ["a +", "a + c", "SUM(a)", "[a]", "7", "RATE(a)", "FILL(a, LINEAR)"])
def test_metric_math_names_the_expression_that_it_cannot_compute(expression: str) -> None:
    """Whatever is beyond it is refused, never guessed."""
    with pytest.raises(AwsError, match=re.escape(expression)):
        evaluate(expression, {"a": {0: 10.0}}, range(0, 180, 60))


def test_a_query_that_cannot_be_answered_is_a_validation_error(metrics: Metrics) -> None:
    """Another period or an unknown statistic is refused, not ignored."""
    client = metrics.cloud.client("cloudwatch")
    for change in ({"Period": 300}, {"Stat": "p101"}, {"Stat": "tm99"}, {"Stat": "Total"}):
        query = metrics.query("a", "Sum", "RequestCount")
        query["MetricStat"].update(change)
        with pytest.raises(client.exceptions.ClientError) as refused:
            metrics.read(query)
        assert refused.value.response["Error"]["Code"] == "ValidationError"


def test_more_than_500_queries_are_refused(metrics: Metrics) -> None:
    """GetMetricData takes 500 queries a call, with ids of their own."""
    client = metrics.cloud.client("cloudwatch")
    queries = [metrics.query(f"a{number}", "Sum", "RequestCount") for number in range(501)]
    metrics.read(*queries[:500], end=60)
    with pytest.raises(client.exceptions.ClientError, match="500"):
        metrics.read(*queries, end=60)
    with pytest.raises(client.exceptions.ClientError, match="unique"):
        metrics.read(queries[0], queries[0])


def test_an_error_beyond_the_requests_is_refused(metrics: Metrics) -> None:
    """Errors are among the requests of the minute."""
    with pytest.raises(ValueError, match="valid: 0 to 1"):
        metrics.put(60, [0.5], errors=2)


def test_an_unknown_unit_is_refused_with_the_known_ones(metrics: Metrics) -> None:
    """A misspelt unit is an error that lists the valid names."""
    with pytest.raises(ValueError, match="valid: g5"):
        metrics.cloud.put_minute("g6", BEGINNING, [0.5])
