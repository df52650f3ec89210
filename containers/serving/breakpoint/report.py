"""What a break point leaves: the profile for the fleet file, the figures, and one page with a plot."""

import dataclasses
import json
from collections.abc import Mapping
from html import escape
from math import isfinite
from pathlib import Path
from string import Template
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from plotly.offline import get_plotlyjs

from containers.serving.breakpoint.search import BreakPoint, Method, Point

PROFILE: Final = "profile.yaml"
FIGURES: Final = "breakpoint.json"
PAGE: Final = "breakpoint.html"
TEMPLATE: Final = Path(__file__).with_name("report.html")
BLUE: Final = "#0072b2"
ORANGE: Final = "#d55e00"
GREY: Final = "#808080"
# Seconds to make so many pictures at once.
Batch = Mapping[int, float]
NO_BATCHES: Final[Batch] = MappingProxyType({})


def write(
    reached: BreakPoint,
    method: Method,
    start_seconds: float,
    measured: str,
    folder: Path,
    batch: Batch = NO_BATCHES,
) -> None:
    """Write the three files; `measured` says in words what was measured."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PROFILE).write_text(profile(reached, start_seconds, measured, batch), encoding="utf-8")
    (folder / FIGURES).write_text(_as_json(reached, method, start_seconds, measured, batch), encoding="utf-8")
    (folder / PAGE).write_text(page(reached, method, measured), encoding="utf-8")


def headline(reached: BreakPoint, method: Method) -> str:
    """The result in one sentence."""
    spread = f" ± {_digits(reached.spread_rpm, 2)}" if isfinite(reached.spread_rpm) else ""
    return (
        f"{_digits(reached.rate_rpm, 3)}{spread} requests per minute with {method.percentile:g} % "
        f"within {method.objective_seconds:g} s; {_digits(reached.service_seconds, 3)} s on the idle server"
    )


def profile(reached: BreakPoint, start_seconds: float, measured: str, batch: Batch = NO_BATCHES) -> str:
    """The `profile` block of a unit in the fleet file."""
    values = {
        "service_seconds": reached.service_seconds,
        "throughput_rpm": reached.throughput_rpm,
        "latency_seconds": reached.latency_seconds,
        "start_seconds": start_seconds,
    }
    block = ", ".join(f"{name}: {_digits(value, 3)}" for name, value in values.items())
    if batch:
        sizes = ", ".join(f"{size}: {_digits(seconds, 3)}" for size, seconds in batch.items())
        block += f", batch: {{{sizes}}}"
    return f"# Measured: {measured}\nprofile: {{{block}}}\n"


def _digits(value: float, significant: int) -> str:
    """So many significant digits without an exponent: no measurement here is surer than three."""
    return np.format_float_positional(value, precision=significant, fractional=False, trim="-")


def _as_json(reached: BreakPoint, method: Method, start_seconds: float, measured: str, batch: Batch) -> str:
    told = {
        "measured": measured,
        "start_seconds": start_seconds,
        "batch_seconds": dict(batch),
        "method": dataclasses.asdict(method),
        **dataclasses.asdict(reached),
    }
    return json.dumps(_without_infinity(told), indent=2, allow_nan=False) + "\n"


def _without_infinity(value: Any) -> Any:
    """JSON knows no infinity and no nan: null stands for a percentile that was never answered."""
    if isinstance(value, dict):
        return {key: _without_infinity(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_infinity(one) for one in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def page(reached: BreakPoint, method: Method, measured: str) -> str:
    """One self-contained page: throughput and latency against the offered load."""
    figure = json.dumps(_without_infinity(_figure(reached, method)))
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        headline=escape(headline(reached, method)),
        measured=escape(measured),
        rows="".join(_row(point) for point in reached.points),
        figure=figure.replace("</", "<\\/"),
        plotly=get_plotlyjs(),
    )


def _row(point: Point) -> str:
    shown = [
        f"{60 * point.rate:.1f}",
        f"{60 * _mean(point, 'throughput'):.1f}",
        f"{_mean(point, 'mean'):.3f}",
        f"{_mean(point, 'p95'):.3f}",
        f"{100 * _mean(point, 'within_objective'):.1f} %",
        f"{sum(repeat.requests for repeat in point.repeats):,}",
        f"{sum(repeat.failed for repeat in point.repeats):,}",
    ]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in shown) + "</tr>"


def _mean(point: Point, name: str) -> float:
    return float(np.mean([getattr(repeat, name) for repeat in point.repeats]))


def _figure(reached: BreakPoint, method: Method) -> dict[str, Any]:
    rates = [60 * point.rate for point in reached.points]
    throughput = [60 * _mean(point, "throughput") for point in reached.points]
    latency = {name: [_mean(point, name) for point in reached.points] for name in ("mean", "p95")}
    # A refused request is infinitely late: the axis ends soon after the objective.
    ceiling = 2 * method.objective_seconds
    return {
        "data": [
            _line(rates, rates, "as offered", GREY, dash="dot"),
            _line(rates, throughput, "answered", BLUE),
            *_repeats(reached, "throughput", 60.0, BLUE, "y"),
            _line(rates, latency["mean"], "mean", BLUE, axis="y2"),
            _line(rates, latency["p95"], "p95", ORANGE, axis="y2"),
            *_repeats(reached, "p95", 1.0, ORANGE, "y2"),
        ],
        "layout": {
            "xaxis": {"title": {"text": "offered, requests per minute"}, "anchor": "y2"},
            "yaxis": {
                "title": {"text": "answered, requests per minute"},
                "domain": [0.55, 1],
                "rangemode": "tozero",
            },
            "yaxis2": {"title": {"text": "latency, seconds"}, "domain": [0, 0.45], "range": [0, ceiling]},
            "shapes": [
                _rule(x=reached.rate_rpm, yref="paper"),
                _rule(y=method.objective_seconds, yref="y2"),
            ],
        },
    }


def _line(
    x: list[float], y: list[float], name: str, colour: str, *, axis: str = "y", dash: str = "solid"
) -> dict[str, Any]:
    return {
        "x": x,
        "y": y,
        "name": name,
        "yaxis": axis,
        "mode": "lines",
        "line": {"color": colour, "dash": dash},
    }


def _repeats(reached: BreakPoint, name: str, factor: float, colour: str, axis: str) -> list[dict[str, Any]]:
    """A dot for every repeat, so that the spread is seen."""
    pairs = [
        (60 * point.rate, factor * getattr(repeat, name))
        for point in reached.points
        for repeat in point.repeats
    ]
    return [
        {
            "x": [x for x, _ in pairs],
            "y": [y for _, y in pairs],
            "yaxis": axis,
            "mode": "markers",
            "marker": {"color": colour, "size": 6},
            "showlegend": False,
            "name": f"{name}, each repeat",
        }
    ]


def _rule(*, yref: str, x: float | None = None, y: float | None = None) -> dict[str, Any]:
    """A dashed rule: the break point (vertical) or the objective (horizontal)."""
    ends = {"x0": x, "x1": x, "y0": 0, "y1": 1} if x is not None else {"x0": 0, "x1": 1, "y0": y, "y1": y}
    xref = "x" if x is not None else "paper"
    return {"type": "line", "xref": xref, "yref": yref, "line": {"color": GREY, "dash": "dash"}, **ends}
