"""SEARCH, as far as the embedded cloud goes: a metric's series of one schema, by values of dimensions.

    SEARCH('{Namespace,Dimension,...} MetricName="name" Dimension="value" ...', 'Statistic', 60)

Source: "CloudWatch search expression syntax" in the CloudWatch User Guide. There a series is found that has
had a datum within two weeks, and at most 500 are.
"""

import re
from typing import Final, NamedTuple

from twin.cloud.moto_gaps.minutes import MINUTE, Series
from twin.cloud.moto_gaps.protocol import AwsError

MOST_FOUND: Final = 500
SEARCH: Final = re.compile(
    r"""SEARCH\('\{(?P<schema>[\w/]+(,\w+)*)\}(?P<terms>( \w+="[^"']*")+)',"""
    r""" '(?P<statistic>\w+)', (?P<period>\d+)\)"""
)
TERM: Final = re.compile(r'(\w+)="([^"]*)"')
NAME: Final = "MetricName"
LABEL: Final = re.compile(r"\$\{PROP\('Dim\.(\w+)'\)\}")


class Search(NamedTuple):
    """What is sought: series of `metric` with just these `dimensions`, some of which have these `values`."""

    namespace: str
    metric: str
    dimensions: frozenset[str]
    values: frozenset[tuple[str, str]]
    statistic: str

    def finds(self, series: Series) -> bool:
        """Whether the series is one of those sought."""
        return (
            (series.namespace, series.metric) == (self.namespace, self.metric)
            and {name for name, _ in series.dimensions} == self.dimensions
            and self.values <= series.dimensions
        )


def parse(expression: str) -> Search | None:
    """The search; None: the expression is none.

    Raises:
        AwsError: ValidationError for a search that is not supported.
    """
    if not expression.startswith("SEARCH("):
        return None
    found = SEARCH.fullmatch(expression)
    terms = dict(TERM.findall(found["terms"])) if found else {}
    if found is None or NAME not in terms or int(found["period"]) != MINUTE:
        raise AwsError("ValidationError", f"Error in expression '{expression}': not supported.")
    namespace, *dimensions = found["schema"].split(",")
    metric = terms.pop(NAME)
    return Search(namespace, metric, frozenset(dimensions), frozenset(terms.items()), found["statistic"])


def label(wanted: str, series: Series) -> str:
    """The label of one series that was found: values of its dimensions are put in place of their names."""
    values = dict(series.dimensions)
    return LABEL.sub(lambda match: values[match[1]], wanted) if wanted else series.metric
