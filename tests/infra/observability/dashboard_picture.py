"""The dashboard as CloudWatch would draw it, of a replayed evening with a shortage: docs/dashboard.png.

`python -m tests.infra.observability.dashboard_picture out/dashboard.html`, then a picture of the page by
`chromium --headless=new --no-sandbox --window-size=1760,2260 --screenshot=FILE out/dashboard.html`
"""

import csv
import html
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from plotly import graph_objects, io

from control_lambda.core import names
from control_lambda.core.metrics import Metric
from control_lambda.core.model import EvidenceKind
from control_lambda.core.record import DecisionRecord
from control_lambda.fleet_file import load_fleet
from tests.infra.observability.alarm_evaluator import ALARM, Alarm, Metrics
from tests.infra.observability.alarmed import STACK, synthesize
from tests.infra.observability.graph_math import evaluate
from tests.infra.replayed import CLUSTER, TICK, Replayed, run
from twin.cloud.moto_gaps.metric_math import Values
from twin.cloud.moto_gaps.minutes import MINUTE
from twin.world.world import EPOCH

ROOT: Final = Path(__file__).parents[3]
TRACES: Final = ROOT / "twin/traces"
SHORT: Final = {"inf2": "inf2-neuron-on-demand", "g5": "g5-inductor-on-demand"}
# Of the shipped day: two hours before the first refused inf2 node, and the hour after it.
SHOWN: Final = range(EPOCH + 990 * MINUTE, EPOCH + 1170 * MINUTE, MINUTE)
HOURS_SHOWN: Final = [datetime.fromtimestamp(at, UTC) for at in (SHOWN.start, SHOWN.stop)]
LIMIT: Final = {"dash": "dash", "color": "#888888"}
DECISIONS_SHOWN: Final = 8
COLUMN_PIXELS, ROW_PIXELS = 72, 46

Widget = Mapping[str, Any]
Lines = dict[str, Values]


def shipped_day() -> Replayed:
    """The day that the project ships, under the loop."""
    fleet = load_fleet(ROOT / "fleet.yaml")
    rows = _rows("capacity.csv")
    most = {column: max(float(row[column]) for row in rows) for column in SHORT}
    limits = {
        pool: [round(float(row[column]) / most[column] * fleet.pool_named[pool].nodes.max) for row in rows]
        for column, pool in SHORT.items()
    }
    return run(fleet, [int(row["requests"]) for row in _rows("demand.csv")], limits)


def _rows(name: str) -> list[dict[str, str]]:
    with (TRACES / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def widgets_of(template: Mapping[str, Any]) -> list[Widget]:
    """The dashboard's widgets; what CloudFormation fills in is left empty."""
    (page,) = (
        resource["Properties"]["DashboardBody"]
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::CloudWatch::Dashboard"
    )
    parts = page["Fn::Join"][1]
    tick = next(key for key, item in template["Resources"].items() if item["Type"] == "AWS::Lambda::Function")
    text = "".join(part if isinstance(part, str) else TICK * (part == {"Ref": tick}) for part in parts)
    widgets: list[Widget] = json.loads(text)["widgets"]
    return widgets


def lines_of(widget: Widget, metrics: Metrics, pools: Sequence[str], minutes: range = SHOWN) -> Lines:
    """What a graph shows: label to values by the start of their period."""
    known: dict[str, Values] = {}
    shown: Lines = {}
    entries = [_entry(entry) for entry in widget["properties"]["metrics"]]
    for entry in sorted(entries, key=lambda entry: _depth(entry, entries)):
        period = entry.get("period", widget["properties"].get("period", 300))
        starts = range(minutes.start, minutes.stop, period)
        if "SEARCH" in entry.get("expression", ""):
            shown |= dict(_capacity_errors(metrics, pools, period, starts))
            continue
        values = _values(entry, metrics, known, period, starts)
        known[entry.get("id", "")] = values
        if entry.get("visible", True):
            shown[entry.get("label") or entry["metric"]["MetricName"]] = values
    return shown


def _entry(raw: Sequence[Any]) -> dict[str, Any]:
    """One line of a graph, as the query that it stands for."""
    options: dict[str, Any] = dict(raw[-1]) if isinstance(raw[-1], dict) else {}
    texts = [item for item in raw if isinstance(item, str)]
    if texts:
        dimensions = [
            {"Name": name, "Value": value} for name, value in zip(texts[2::2], texts[3::2], strict=True)
        ]
        options["metric"] = {"Namespace": texts[0], "MetricName": texts[1], "Dimensions": dimensions}
    return options


def _depth(entry: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> int:
    """How many expressions stand between the entry and metrics."""
    used = set(re.findall(r"\b[a-z]\w*", entry.get("expression", "")))
    below = [
        _depth(other, entries) + 1 for other in entries if other.get("id") in used and other is not entry
    ]
    return max(below, default=0)


def _values(
    entry: Mapping[str, Any], metrics: Metrics, known: Mapping[str, Values], period: int, starts: range
) -> Values:
    if "expression" in entry:
        return evaluate(entry["expression"], known, starts)
    wanted = {"Metric": entry["metric"], "Period": period, "Stat": entry.get("stat", "Average")}
    found = {start: metrics.statistic(wanted, start) for start in starts}
    return {start: value for start, value in found.items() if value is not None}


def _capacity_errors(
    metrics: Metrics, pools: Sequence[str], period: int, starts: range
) -> Iterator[tuple[str, Values]]:
    """What the graph's SEARCH finds."""
    for pool in pools:
        for kind in EvidenceKind:
            dimensions = [
                {"Name": name, "Value": value}
                for name, value in ((names.FLEET, CLUSTER), (names.POOL, pool), (names.KIND, kind.value))
            ]
            metric = {
                "Namespace": names.NAMESPACE,
                "MetricName": Metric.CAPACITY_ERRORS.metric_name,
                "Dimensions": dimensions,
            }
            values = _values({"metric": metric, "stat": "Sum"}, metrics, {}, period, starts)
            if values:
                yield f"{pool} {kind.value}", values


def page(template: Mapping[str, Any], replayed: Replayed) -> str:
    """The whole dashboard as one HTML page."""
    metrics = replayed.metrics()
    cells = [_cell(widget, _content(widget, template, replayed, metrics)) for widget in widgets_of(template)]
    tall = max((widget["y"] + widget["height"]) * ROW_PIXELS for widget in widgets_of(template))
    style = (
        f"html{{height:{tall + 24}px}}"
        "body{font:13px sans-serif;margin:12px;background:#f4f4f4;position:relative}"
        "div.w{position:absolute;background:#fff;border:1px solid #ccc;overflow:hidden;box-sizing:border-box}"
        "h2{font-size:16px;margin:10px}h3{font-size:13px;margin:6px 10px}table{border-spacing:10px 1px}"
        "td{vertical-align:top;white-space:nowrap}"
    )
    script = io.to_html(graph_objects.Figure(), full_html=False, include_plotlyjs=True)
    return f"<meta charset=utf-8><style>{style}</style><div hidden>{script}</div>{''.join(cells)}"


def _cell(widget: Widget, content: str) -> str:
    place = {
        "left": widget["x"] * COLUMN_PIXELS + 12,
        "top": widget["y"] * ROW_PIXELS + 12,
        "width": widget["width"] * COLUMN_PIXELS - 6,
        "height": widget["height"] * ROW_PIXELS - 6,
    }
    css = ";".join(f"{key}:{value}px" for key, value in place.items())
    return f"<div class=w style='{css}'>{content}</div>"


def _content(widget: Widget, template: Mapping[str, Any], replayed: Replayed, metrics: Metrics) -> str:
    match widget["type"]:
        case "text":
            return f"<h2>{html.escape(widget['properties']['markdown'].lstrip('# '))}</h2>"
        case "alarm":
            return _alarms(template, metrics)
        case "log":
            return _decisions(replayed)
        case _:
            pools = [pool.name for pool in replayed.fleet.pools]
            return _graph(widget, lines_of(widget, metrics, pools))


def _graph(widget: Widget, lines: Lines) -> str:
    properties = widget["properties"]
    figure = graph_objects.Figure()
    for label, values in lines.items():
        times = [datetime.fromtimestamp(start, UTC) for start in values]
        stack = "one" if properties["stacked"] else None
        figure.add_scatter(x=times, y=list(values.values()), name=label, mode="lines", stackgroup=stack)
    for line in properties.get("annotations", {}).get("horizontal", ()):
        limit = [line["value"]] * len(HOURS_SHOWN)
        figure.add_scatter(x=HOURS_SHOWN, y=limit, name=line["label"], mode="lines", line=LIMIT)
    if not any(lines.values()):
        figure.add_annotation(text="none", showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper")
    axis = properties.get("yAxis", {}).get("left", {})
    figure.update_layout(
        title={"text": properties["title"], "font": {"size": 13}, "x": 0.02},
        width=widget["width"] * COLUMN_PIXELS - 8,
        height=widget["height"] * ROW_PIXELS - 8,
        margin={"l": 42, "r": 8, "t": 34, "b": 24},
        legend={"orientation": "h", "y": -0.12, "font": {"size": 10}},
        showlegend=True,
        template="simple_white",
        xaxis={"range": HOURS_SHOWN, "type": "date", "tickformat": "%H:%M"},
        yaxis={"range": [axis.get("min"), axis["max"] * 1.05 if "max" in axis else None]},
    )
    return str(io.to_html(figure, full_html=False, include_plotlyjs=False, config={"displayModeBar": False}))


def _alarms(template: Mapping[str, Any], metrics: Metrics) -> str:
    """The alarms that ring at the end of what is shown, then how many do not."""
    tick = next(key for key, item in template["Resources"].items() if item["Type"] == "AWS::Lambda::Function")
    alarms = [
        resource["Properties"]["AlarmName"]
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::CloudWatch::Alarm"
    ]
    ring = [
        name
        for name in alarms
        if list(Alarm(template, name, {tick: TICK}).states(metrics, SHOWN))[-1] == ALARM
    ]
    lines = "".join(f"<h3 style='color:#c00'>&#9632; {name.removeprefix(STACK + '-')}</h3>" for name in ring)
    return f"<h3>Alarms</h3>{lines}<h3 style='color:#080'>&#9632; {len(alarms) - len(ring)} others OK</h3>"


def _decisions(replayed: Replayed) -> str:
    told = [
        record
        for record in replayed.records
        if SHOWN.start <= record.at < SHOWN.stop and (record.reasons or record.failures)
    ]
    rows = "".join(_decision(record) for record in reversed(told[-DECISIONS_SHOWN:]))
    return f"<h3>Decisions, latest first</h3><table>{rows}</table>"


def _decision(record: DecisionRecord) -> str:
    texts = [reason.text for reason in record.reasons[:2]]
    cells = (
        f"{datetime.fromtimestamp(record.at, UTC):%H:%M:%S}",
        record.mode,
        f"{record.demand_rpm:.0f}",
        f"{record.cost_usd_per_hour:.2f}",
        *texts,
    )
    return "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells) + "</tr>"


if __name__ == "__main__":
    day = shipped_day()
    Path(sys.argv[1]).write_text(page(synthesize(day.fleet), day), encoding="utf-8")
