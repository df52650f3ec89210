"""What slow nodes say is a comfort: demand is read whether or not AWS searches for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.exceptions import ClientError

from containers.serving import slowness as server
from control_lambda.aws.metrics import MetricsReader
from control_lambda.core import names
from control_lambda.core.fleet import Fleet
from control_lambda.core.metrics import Metric
from control_lambda.environment import Environment
from control_lambda.errors import IncompleteAnswerError
from tests.control_lambda.conftest import NOON
from twin.cloud.embedded import Cloud
from twin.world import slowness as twin


@dataclass
class CloudWatch:
    """Answers with nothing; the search as `search` says, and with the code `refusal` where that is given."""

    search: str = "Complete"
    refusal: str = ""
    calls: list[bool] = field(default_factory=list)

    def get_metric_data(self, **request: Any) -> dict[str, Any]:
        """Note whether the call searches."""
        queries = request["MetricDataQueries"]
        searches = any("Expression" in query for query in queries)
        self.calls.append(searches)
        if self.refusal and (searches or self.refusal == "Throttling"):
            raise ClientError({"Error": {"Code": self.refusal}}, "GetMetricData")
        return {"MetricDataResults": [self._result(query) for query in queries]}

    def _result(self, query: Mapping[str, Any]) -> dict[str, Any]:
        status = self.search if "Expression" in query else "Complete"
        return {
            "Id": query["Id"],
            "Label": query["Id"],
            "StatusCode": status,
            "Timestamps": [],
            "Values": [],
        }


@pytest.fixture
def environment(variables: tuple[Cloud, dict[str, str]]) -> Environment:
    """That of a provisioned fleet."""
    return Environment.from_environ(variables[1])


def test_a_search_that_is_refused_does_not_take_demand_along(environment: Environment, fleet: Fleet) -> None:
    """One bad expression refuses its whole batch: the rest is asked for again, and a line says so."""
    client = CloudWatch(refusal="ValidationError")
    counts = MetricsReader(client, environment).traffic(fleet, NOON)
    assert client.calls == [True, False]
    assert counts.invalid == ("metrics: slow nodes are not searched for: ValidationError",)


def test_a_search_that_is_not_answered_does_not_take_demand_along(
    environment: Environment, fleet: Fleet
) -> None:
    """Every other query was answered."""
    counts = MetricsReader(CloudWatch(search="InternalError"), environment).traffic(fleet, NOON)
    assert counts.minutes.keys() == {unit.name for unit in fleet.units}


def test_a_batch_that_is_throttled_is_not_asked_for_twice(environment: Environment, fleet: Fleet) -> None:
    """The next tick asks again; more calls would make it worse."""
    client = CloudWatch(refusal="Throttling")
    with pytest.raises(ClientError):
        MetricsReader(client, environment).traffic(fleet, NOON)
    assert client.calls == [True]


def test_a_batch_without_an_answer_of_its_own_is_incomplete(environment: Environment, fleet: Fleet) -> None:
    """Only the search may be missing."""

    class Silent(CloudWatch):
        def _result(self, query: Mapping[str, Any]) -> dict[str, Any]:
            return {**super()._result(query), "StatusCode": "InternalError"}

    with pytest.raises(IncompleteAnswerError):
        MetricsReader(Silent(), environment).traffic(fleet, NOON)


def test_servers_loop_and_twin_speak_of_slow_nodes_alike() -> None:
    """Packages that may not share code share this metric, and what is slow enough to put it."""
    assert Metric.NODE_SERVICE_SECONDS.metric_name == server.NODE_SERVICE_SECONDS
    assert Metric.NODE_SERVICE_SECONDS.dimensions == (names.FLEET, names.UNIT, names.NODE)
    assert server.SLOW == twin.REPORTED_FACTOR
