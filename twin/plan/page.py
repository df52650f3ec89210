"""The picture of a plan: throughput against budget, with the homogeneous line beneath, as one page."""

import json
from html import escape
from pathlib import Path
from string import Template
from typing import Any, Final

from plotly.offline import get_plotlyjs

from control_lambda.core.mix.model import Mix, Problem
from control_lambda.core.mix.search import MixChoice
from twin.plan.plan import MixPlan
from twin.plan.words import certainty, headline, named, why_less
from twin.report.charts.axis import ALARM, UNIT_COLOURS, note

TEMPLATE: Final = Path(__file__).with_name("plan.html")
HEIGHT: Final = 520
GRID: Final = "rgba(128, 128, 128, 0.22)"
UNBROKEN_TIMES: Final = "\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}"
GREY: Final = "rgba(128, 128, 128, 0.9)"


def page(plan: MixPlan) -> str:
    """The page as HTML; it opens offline."""
    template = Template(TEMPLATE.read_text(encoding="utf-8"))
    figure = json.dumps({"data": _lines(plan), "layout": _layout(plan)}, separators=(",", ":"))
    return template.substitute(
        headline=escape(headline(plan).replace(" × ", UNBROKEN_TIMES)),
        certainty=escape(certainty(plan)),
        rows="".join(_rows(plan)),
        frontier="".join(_frontier(plan)),
        height=HEIGHT,
        figure=figure.replace("</", "<\\/"),
        plotly=get_plotlyjs(),
    )


def _unbroken(problem: Problem, mix: Mix) -> str:
    """The mix in words, no count parted from its type at the end of a line."""
    return named(problem, mix).replace(" × ", UNBROKEN_TIMES)


def _lines(plan: MixPlan) -> list[dict[str, Any]]:
    budgets = [round(point.budget_usd_per_hour, 4) for point in plan.points]
    mixes = [point.mix for point in plan.points]
    alone = [point.homogeneous for point in plan.points]
    return [
        _line("paper's bound on it", budgets, [point.bound_rpm for point in plan.points], GREY, dash="dot"),
        _line("best mix", budgets, [item.throughput_rpm for item in mixes], UNIT_COLOURS[0], width=3)
        | {"text": [escape(_unbroken(plan.problem, item.mix)) for item in mixes]},
        _line("one type alone", budgets, [item.throughput_rpm for item in alone], UNIT_COLOURS[1])
        | {
            "text": [escape(_unbroken(plan.problem, item.mix)) for item in alone],
            "fill": "tozeroy",
            "fillcolor": "rgba(230, 159, 0, 0.15)",
        },
        _marker(plan),
    ]


def _line(
    name: str, budgets: list[float], rpm: list[float], colour: str, *, width: float = 2, dash: str = "solid"
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": budgets,
        "y": [round(value, 2) for value in rpm],
        # What one budget buys stays until the next instance can be paid for.
        "line": {"color": colour, "width": width, "dash": dash, "shape": "hv"},
        "hovertemplate": "%{y:,.0f} per minute<br>%{text}",
        "text": ["" for _ in budgets],
    }


def _marker(plan: MixPlan) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "chosen",
        "x": [plan.chosen.cost_usd_per_hour],
        "y": [plan.chosen.throughput_rpm],
        "marker": {"color": ALARM, "size": 11, "symbol": "diamond"},
        "text": [escape(_unbroken(plan.problem, plan.chosen.mix))],
        "hovertemplate": "%{y:,.0f} per minute for $%{x:.2f}<br>%{text}",
    }


def _layout(plan: MixPlan) -> dict[str, Any]:
    last = plan.points[-1]
    ends = {
        "best mix": last.mix.throughput_rpm,
        "one type alone": last.homogeneous.throughput_rpm,
        "paper's bound": last.bound_rpm,
    }
    place = {"xref": "paper", "x": 1, "xanchor": "left", "xshift": 8}
    return {
        "height": HEIGHT,
        "margin": {"l": 80, "r": 130, "t": 20, "b": 60},
        "showlegend": False,
        "hovermode": "x unified",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "xaxis": {"title": {"text": "budget, USD per hour"}, "tickprefix": "$", "gridcolor": GRID},
        "yaxis": {
            "title": {"text": f"requests per minute within {plan.problem.latency_seconds:g} s"},
            "rangemode": "tozero",
            "gridcolor": GRID,
            "tickformat": ",.0f",
        },
        "annotations": [note(name, y=value, yref="y", **place) for name, value in _apart(ends).items()],
    }


def _apart(ends: dict[str, float]) -> dict[str, float]:
    """The labels' heights, none closer to the one below than can be read."""
    highest = max(ends.values())
    free, placed = 0.0, {}
    for name, value in sorted(ends.items(), key=lambda item: item[1]):
        placed[name] = max(value, free)
        free = placed[name] + highest / 22
    return placed


def _rows(plan: MixPlan) -> list[str]:
    told = [_row(plan, plan.chosen, "chosen", "ours")]
    told += [_row(plan, other, why_less(plan.problem, plan.chosen, other), "") for other in plan.runners_up]
    return told


def _row(plan: MixPlan, choice: MixChoice, why: str, kind: str) -> str:
    share = choice.throughput_rpm / plan.chosen.throughput_rpm if plan.chosen.throughput_rpm else 0.0
    cells = (
        escape(_unbroken(plan.problem, choice.mix)),
        f"{choice.cost_usd_per_hour:.2f}",
        f"{choice.throughput_rpm:,.0f}",
        f"{share:.0%}",
        escape(why),
    )
    return f"<tr class='{kind}'>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _frontier(plan: MixPlan) -> list[str]:
    """What each budget of the picture buys, in words for who can't hover; equal mixes once."""
    rows, before = [], None
    for point in plan.points:
        if point.mix.mix != before:
            cells = (
                f"{point.budget_usd_per_hour:.2f}",
                escape(_unbroken(plan.problem, point.mix.mix)),
                f"{point.mix.throughput_rpm:,.0f}",
                f"{point.homogeneous.throughput_rpm:,.0f}",
            )
            rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
        before = point.mix.mix
    return rows
