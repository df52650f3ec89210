"""The metric OutputAgreement: the share of golden pictures on which a unit agrees with the reference."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from containers.serving.consistency.compare import UnitResult

NAME: Final = "OutputAgreement"


def put(cloudwatch: Any, results: Iterable[UnitResult], environment: Mapping[str, str]) -> None:
    """Put one value for every unit that gave pictures, with the dimensions Fleet and Unit.

    Namespace and fleet come from METRIC_NAMESPACE and FLEET, as in the server. A unit without pictures
    has no agreement: a missing value is not a low one.
    """
    data = [
        {
            "MetricName": NAME,
            "Dimensions": [
                {"Name": "Fleet", "Value": environment["FLEET"]},
                {"Name": "Unit", "Value": result.unit},
            ],
            "Value": result.agreement,
            "Unit": "None",
        }
        for result in results
        if result.agreement is not None
    ]
    if data:
        cloudwatch.put_metric_data(Namespace=environment["METRIC_NAMESPACE"], MetricData=data)
