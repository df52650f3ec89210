"""The pictures of the laboratory on one self-contained page."""

import json
from html import escape
from pathlib import Path
from string import Template
from typing import Any, Final

from plotly.offline import get_plotlyjs

from twin.mixes.curves import ATTAINMENTS, BASE_LOST, DRIFT, GROWN, NOISE, Curve
from twin.mixes.jobs import CLOCKWORK, FIRST_COME, KAIROS, OURS, label, named
from twin.mixes.tables import PROMISE, THRESHOLD, MixResults
from twin.report.charts.axis import ALARM, UNIT_COLOURS

Json = dict[str, Any]

TEMPLATE: Final = Path(__file__).with_name("page.html")
GRID: Final = "rgba(128, 128, 128, 0.22)"
GREY: Final = "rgba(128, 128, 128, 0.9)"
COLOURS: Final = {
    label(OURS): UNIT_COLOURS[0],
    label(KAIROS): UNIT_COLOURS[1],
    THRESHOLD: UNIT_COLOURS[2],
    label(CLOCKWORK): UNIT_COLOURS[3],
    label(FIRST_COME): UNIT_COLOURS[4],
}
RANK_TICKS: Final = (1, 3, 10, 30, 100, 300)
DRAWN_CURVES: Final = (NOISE, DRIFT, GROWN, BASE_LOST)


def page(results: MixResults) -> str:
    """The page as HTML; it opens offline."""
    figures = {
        "throughput": _throughput(results),
        "ranking": _ranking(results),
        "curves": _curve_panels(results),
    }
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        headline=escape(_headline(results)),
        figures=json.dumps(figures, separators=(",", ":")).replace("</", "<\\/"),
        plotly=get_plotlyjs(),
    )


def _headline(results: MixResults) -> str:
    gains = []
    for model in results.models:
        ours = results.sweep(model, label(OURS)).best.mean
        gains.append(ours / results.alone(model).best.mean)
    return (
        f"A mix carries {min(gains):.1f} to {max(gains):.1f} times what one type alone carries for the money"
    )


def _throughput(results: MixResults) -> Json:
    """Bars: each distributor on its best mix, over the best homogeneous pool."""
    data = []
    for name, colour in COLOURS.items():
        best = [results.sweep(model, name).best for model in results.models]
        alone = [results.alone(model).best.mean for model in results.models]
        data.append(
            {
                "type": "bar",
                "name": name,
                "x": results.models,
                "y": [round(one.mean / base, 3) for one, base in zip(best, alone, strict=True)],
                "error_y": {"array": [one.spread / base for one, base in zip(best, alone, strict=True)]},
                "marker": {"color": colour},
                "text": [escape(named(one.mix)) for one in best],
                "textposition": "none",
                "hovertemplate": "%{y:.2f} ×<br>%{text}",
            }
        )
    layout = _layout(440, "times the best homogeneous pool", barmode="group")
    return {"data": data, "layout": layout}


def _ranking(results: MixResults) -> Json:
    """All mixes by what they carry under ours, as shares of the best, and where the picks stand."""
    data: list[Json] = []
    for model, colour in zip(results.models, UNIT_COLOURS, strict=False):
        measured = sorted(results.sweep(model, label(OURS)).measured, key=lambda one: -one.mean)
        shares = [one.mean / measured[0].mean for one in measured]
        names = [escape(named(one.mix)) for one in measured]
        data.append(_line(model, list(range(1, len(shares) + 1)), shares, colour, text=names))
        for pick, symbol in ((results.pick(model).ours, "diamond"), (results.pick(model).paper, "x")):
            place = next(index for index, one in enumerate(measured) if one.mix == pick)
            data.append(_marker(model, place + 1, shares[place], colour, symbol))
    ranks = {"title": {"text": "rank of the mix"}, "type": "log", "tickvals": RANK_TICKS, "gridcolor": GRID}
    return {"data": data, "layout": _layout(440, "share of the best mix", xaxis=ranks)}


def _curve_panels(results: MixResults) -> Json:
    """Ours solid, KAIROS dashed, a colour per model; a panel per disturbance, two in a row."""
    data: list[Json] = []
    layout = _layout(760, "", grid={"rows": 2, "columns": 2, "pattern": "independent", "ygap": 0.28})
    layout["annotations"] = []
    for panel, kind in enumerate(DRAWN_CURVES, 1):
        axes = {"xaxis": f"x{panel}", "yaxis": f"y{panel}"}
        for one, colour in zip(results.curves, UNIT_COLOURS, strict=False):
            curve = next(curve for curve in one.curves if curve.kind == kind)
            for name, dash in ((label(OURS), "solid"), (label(KAIROS), "dot")):
                drawn = _line(f"{one.model}, {name}", list(curve.strengths), _shares(curve, name), colour)
                data.append(
                    drawn | axes | {"showlegend": panel == 1, "line": {"color": colour, "dash": dash}}
                )
        layout |= _panel_axes(panel, kind)
        layout["annotations"].append(_title(panel, kind))
    layout["shapes"] = [_promise(panel) for panel, kind in enumerate(DRAWN_CURVES, 1) if kind in ATTAINMENTS]
    return {"data": data, "layout": layout}


def _shares(curve: Curve, name: str) -> list[float]:
    """Throughputs as shares of what ours carries undisturbed; attainments as they are."""
    if curve.kind in ATTAINMENTS:
        return list(curve.values[name])
    undisturbed = curve.values[label(OURS)][0]
    return [value / undisturbed for value in curve.values[name]]


def _panel_axes(panel: int, kind: str) -> Json:
    titles = {NOISE: "standard error of predictions", DRIFT: "factor that sizes reach"}
    across: Json = {
        "title": {"text": titles.get(kind, "load, share of what ours carries")},
        "gridcolor": GRID,
    }
    if kind != DRIFT:
        across["tickformat"] = ".0%"
    up = {"tickformat": ".0%", "gridcolor": GRID}
    bounds = {"range": [0.7, 1.01]} if kind in ATTAINMENTS else {"rangemode": "tozero"}
    number = panel if panel > 1 else ""
    return {f"xaxis{number}": across, f"yaxis{number}": up | bounds}


def _title(panel: int, kind: str) -> Json:
    what = "in time" if kind in ATTAINMENTS else "throughput"
    place = {"xref": f"x{panel} domain", "yref": f"y{panel} domain", "x": 0, "y": 1.12, "xanchor": "left"}
    return {"text": f"<b>{escape(kind)}</b>: {what}", "showarrow": False, "font": {"size": 13}} | place


def _promise(panel: int) -> Json:
    line = {"color": ALARM, "width": 1, "dash": "dash"}
    across = {"xref": f"x{panel} domain", "x0": 0, "x1": 1}
    return {"type": "line", "yref": f"y{panel}", "y0": PROMISE, "y1": PROMISE, "line": line} | across


def _line(
    name: str, across: list[Any], up: list[float], colour: str, *, text: list[str] | None = None
) -> Json:
    shown = {"text": text, "hovertemplate": "%{y:.1%}<br>%{text}"} if text else {"hovertemplate": "%{y:.1%}"}
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": across,
        "y": [round(value, 4) for value in up],
        "line": {"color": colour},
    } | shown


def _marker(model: str, across: int, up: float, colour: str, symbol: str) -> Json:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": f"{model}, {'ours' if symbol == 'diamond' else 'paper'}",
        "x": [across],
        "y": [round(up, 4)],
        "marker": {"color": colour, "size": 11, "symbol": symbol, "line": {"color": GREY, "width": 1}},
        "showlegend": False,
        "hovertemplate": "rank %{x}, %{y:.1%}",
    }


def _layout(height: int, up: str, **more: Any) -> Json:
    return {
        "height": height,
        "margin": {"l": 70, "r": 20, "t": 40, "b": 50},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "legend": {"orientation": "h", "y": -0.14},
        "yaxis": {"title": {"text": up}, "rangemode": "tozero", "gridcolor": GRID},
        "xaxis": {"gridcolor": GRID},
    } | more
