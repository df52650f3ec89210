"""The report's figure, as the JSON that plotly.js draws: six panels over one time axis."""

from collections.abc import Sequence

from control_lambda.core.record import DecisionRecord
from twin.report.charts import traces
from twin.report.charts.axis import Axis, Json, unit_colours
from twin.report.charts.layout import COST, DEMAND, EVENTS, LATENCY, NODES, SHARES, layout

__all__ = ["Axis", "figure", "unit_colours"]


def figure(axis: Axis, records: Sequence[DecisionRecord], phases: Sequence[Json] = ()) -> Json:
    """The traces and the layout of the whole figure; `records` without those of skipped ticks.

    `phases` as the summary has them.
    """
    data = [
        *traces.demand(axis, DEMAND),
        *traces.nodes(axis, NODES),
        *traces.shares(axis, SHARES),
        *traces.latency(axis, LATENCY),
        *traces.cost(axis, COST),
        *traces.events(axis, EVENTS, records),
    ]
    return {"data": data, "layout": layout(axis, records, phases)}
