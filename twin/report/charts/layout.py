"""Where the panels stand, their axes, labels on lines and areas, and the marks behind them."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from math import ceil, log10
from typing import Final

from control_lambda.core.model import Mode
from control_lambda.core.record import DecisionRecord
from twin.report.charts.axis import ALARM, DARK_COLOURS, Axis, Json, axis_name, note, unit_colours
from twin.report.charts.traces import EVENT_ROWS
from twin.world.plant import MINUTE_SECONDS
from twin.world.world import EPOCH

DEMAND, NODES, SHARES, LATENCY, COST, EVENTS = range(6)

# Each panel's title and its place on the page's height, 1 at the top.
PANELS: Final[Sequence[tuple[str, tuple[float, float]]]] = (
    ("Demand and ready capacity, requests per minute", (0.845, 0.972)),
    ("Nodes per pool, starting and draining ones included", (0.668, 0.798)),
    ("Share of traffic per unit", (0.491, 0.621)),
    ("Response time of answered requests, logarithmic", (0.314, 0.444)),
    ("Cost, USD per hour", (0.172, 0.267)),
    ("Events, with their reasons on hover", (0.022, 0.125)),
)
TROUBLED: Final = (DEMAND, NODES, LATENCY, COST, EVENTS)
HEIGHT: Final = 1360
GRID: Final = "rgba(128, 128, 128, 0.22)"
FAINT: Final = "rgba(128, 128, 128, 0.22)"
CAPACITY_BAND: Final = "rgba(213, 94, 0, 0.12)"
CAPACITY_STRIP: Final = "rgba(213, 94, 0, 0.75)"
# Trouble stands behind everything that it may explain.
TROUBLE_BAND: Final = "rgba(204, 121, 167, 0.18)"
TROUBLE_INK: Final = "#A6457E"
TROUBLE_LINES: Final = 4
# The strip above the traffic shares that shows the mode, in shares.
STRIP: Final = (1.02, 1.07)
LATENCY_TICKS: Final = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60)
# An area gets its name where its thickest point is at least this share of the panel.
LABELLED_SHARE: Final = 0.09
# The width of one character of a label, as a share of the panel's.
CHARACTER_SHARE: Final = 0.0068
# Labels at the right end stand at least this share of the panel apart.
CLOSE_SHARE: Final = 0.13
# A budget further above the cost than this would flatten the curve; it is named instead of drawn.
DRAWN_BUDGET: Final = 2.5
# Up to here the time axis tells hours, from here on days.
DAY_MINUTES: Final = 1440
SHORT_MINUTES: Final = 2 * DAY_MINUTES
DAY_MILLISECONDS: Final = 60_000 * DAY_MINUTES
MOST_DAY_TICKS: Final = 16


def layout(axis: Axis, records: Sequence[DecisionRecord], phases: Sequence[Json]) -> Json:
    """The figure's layout; `records` tell in which mode the loop was, `phases` what befell the replay."""
    bands = list(capacity_bands(axis, records))
    trouble = trouble_bands(phases)
    panels = {
        "yaxis" + axis_name(panel)[1:]: {
            "domain": domain,
            "gridcolor": GRID,
            "zeroline": False,
            "fixedrange": True,
            **_value_axis(axis, panel),
        }
        for panel, (_, domain) in enumerate(PANELS)
    }
    return {
        "height": HEIGHT,
        "margin": {"l": 86, "r": 112, "t": 4, "b": 28},
        "showlegend": False,
        "hovermode": "x unified",
        "hoverlabel": {"namelength": -1},
        "xaxis": _time_axis(axis),
        **panels,
        "annotations": [
            *_titles(),
            *_line_labels(axis),
            *_area_labels(axis),
            *_mark_labels(axis, bands),
            *_trouble_labels(axis, trouble),
        ],
        "shapes": [
            *_unscored(axis),
            *_trouble(axis, trouble),
            *_bands(axis, bands),
            *_objective(axis),
            *_budget(axis),
        ],
    }


def capacity_bands(axis: Axis, records: Sequence[DecisionRecord]) -> Iterator[tuple[float, float]]:
    """The trace's minutes, from and to, in which the loop was in capacity mode."""
    since: float | None = None
    for record in records:
        minute = (record.at - EPOCH) / MINUTE_SECONDS
        if record.mode is Mode.CAPACITY and since is None:
            since = minute
        elif record.mode is Mode.COST and since is not None:
            yield since, minute
            since = None
    if since is not None:
        yield since, float(axis.end)


def trouble_bands(phases: Sequence[Json]) -> dict[str, tuple[int, int]]:
    """By each trouble's name the minutes, from and to, counted from the replay's first."""
    bands: dict[str, tuple[int, int]] = {}
    for phase in phases:
        for name in phase["name"].split("+"):
            if "@" in name:
                begin, _ = bands.get(name, (phase["from"], 0))
                bands[name] = begin, phase["to"]
    return bands


def _time_axis(axis: Axis) -> Json:
    minutes = len(axis.minutes.requests)
    days = {"tick0": axis.time(0), "dtick": ceil(minutes / MOST_DAY_TICKS / DAY_MINUTES) * DAY_MILLISECONDS}
    return {
        "type": "date",
        "range": [axis.time(axis.begin), axis.time(axis.end)],
        "anchor": axis_name(EVENTS),
        **({"tickformat": "%H:%M"} if minutes <= SHORT_MINUTES else {"tickformat": "day %-j", **days}),
        "hoverformat": "<b>day %-j, %H:%M</b>",
        "gridcolor": GRID,
        "showspikes": True,
        "spikemode": "across",
        "spikethickness": 1,
        "spikedash": "solid",
        "spikecolor": "rgba(128, 128, 128, 0.7)",
    }


def _value_axis(axis: Axis, panel: int) -> Json:
    if panel == SHARES:
        return {"range": [0, STRIP[1]], "tickformat": ".0%", "tickvals": [0, 0.25, 0.5, 0.75, 1]}
    if panel == LATENCY:
        texts = [f"{tick:g} s" for tick in LATENCY_TICKS]
        bounds = [log10(bound) for bound in _latency_range(axis)]
        return {"type": "log", "range": bounds, "tickvals": LATENCY_TICKS, "ticktext": texts}
    if panel == COST:
        return {"range": [0, 1.12 * _highest_cost(axis)], "tickprefix": "$"}
    if panel == EVENTS:
        rows = [row for row, _ in EVENT_ROWS]
        bounds = [-0.6, len(rows) - 0.4]
        return {"type": "category", "categoryarray": rows, "range": bounds, "tickvals": rows}
    return {"rangemode": "tozero", "separatethousands": True, "tickformat": ",d"}


def _latency_range(axis: Axis) -> tuple[float, float]:
    """From below the fastest to above the slowest scored minute, the objective in between."""
    scored = slice(axis.minutes.unscored, None)
    known = [seconds for seconds in axis.minutes.p95_seconds[scored] if seconds is not None]
    medians = [seconds for seconds in axis.minutes.p50_seconds[scored] if seconds is not None]
    objective = axis.fleet.objective.latency_seconds
    return 0.8 * min([*medians, objective]), 1.25 * max([*known, objective])


def _highest_cost(axis: Axis) -> float:
    highest = 60 * max(axis.minutes.cost_usd)
    budget = axis.fleet.budget_usd_per_hour
    return max(highest, budget if budget <= DRAWN_BUDGET * highest else 0.0, 0.01)


def _titles() -> Iterator[Json]:
    for title, (_, top) in PANELS:
        yield note(
            f"<b>{title}</b>",
            xref="paper",
            x=0,
            xanchor="left",
            yref="paper",
            y=top,
            yanchor="bottom",
            yshift=6,
            font={"size": 14},
        )


def _line_labels(axis: Axis) -> Iterator[Json]:
    """The names of lines and of the objective, right of their ends."""
    minutes = axis.minutes
    capacity = axis.capacity_rpm()
    highest = float(max(*capacity, *minutes.requests, 1))
    ends = {"demand": float(minutes.requests[-1]), "capacity": capacity[-1]}
    yield from _end_labels(DEMAND, ends, highest)
    objective = axis.fleet.objective.latency_seconds
    seconds = {
        "p50": minutes.p50_seconds[-1],
        "p95": minutes.p95_seconds[-1],
        f"<b>{objective:g} s promised</b>": objective,
    }
    low, high = _latency_range(axis)
    logs = {name: log10(min(value, high)) for name, value in seconds.items() if value}
    yield from _end_labels(LATENCY, logs, log10(high / low))


def _end_labels(panel: int, ends: Mapping[str, float], height: float) -> Iterator[Json]:
    """A label for each end, none closer to the one below than can be read; `height` is the panel's."""
    free = min(ends.values())
    for name, end in sorted(ends.items(), key=lambda item: item[1]):
        y = max(end, free)
        free = y + CLOSE_SHARE * height
        place = {"xref": "paper", "x": 1, "xanchor": "left", "xshift": 6}
        yield note(name, y=y, yref=axis_name(panel), **place)


def _area_labels(axis: Axis) -> Iterator[Json]:
    colours = unit_colours(axis.fleet)
    pools = {pool: colours[unit.name] for pool, unit in axis.fleet.unit_of.items()}
    yield from _names_inside(axis, NODES, axis.minutes.nodes, pools)
    yield from _names_inside(axis, SHARES, axis.minutes.shares, colours)


def _names_inside(
    axis: Axis, panel: int, areas: Mapping[str, Sequence[float]], colours: Mapping[str, str]
) -> Iterator[Json]:
    """The name of every area in the middle of where it is thickest, if there is room for it."""
    thinned = {name: [value or 0.0 for value in axis.thin(values)] for name, values in areas.items()}
    below = [0.0] * len(next(iter(thinned.values())))
    highest = max(map(sum, zip(*thinned.values(), strict=True)))
    for name, values in thinned.items():
        point, thickness = _roomiest(values, len(name) * CHARACTER_SHARE)
        if thickness > LABELLED_SHARE * highest:
            ink = "#ffffff" if colours[name] in DARK_COLOURS else "#111111"
            time = axis.time(axis.begin + point * axis.step)
            middle = below[point] + values[point] / 2
            yield note(name, x=time, y=middle, yref=axis_name(panel), font={"size": 12, "color": ink})
        below = [base + value for base, value in zip(below, values, strict=True)]


def _roomiest(values: Sequence[float], width: float) -> tuple[int, float]:
    """Where a span of `width` (a share of all) has its greatest least value: its middle, and that value."""
    points = max(int(width * len(values)), 1)
    least = [min(values[first : first + points]) for first in range(len(values) - points + 1)]
    thickest = max(least, default=0.0)
    return (least.index(thickest) + points // 2 if least else 0), thickest


def _unscored(axis: Axis) -> Iterator[Json]:
    until = min(axis.begin + axis.minutes.unscored, axis.end)
    for _, domain in PANELS:
        yield _rectangle(axis.time(axis.begin), axis.time(until), "paper", domain, FAINT)


def _bands(axis: Axis, bands: Sequence[tuple[float, float]]) -> Iterator[Json]:
    for begin, end in bands:
        span = axis.time(begin), axis.time(end)
        for panel in (DEMAND, NODES, LATENCY, COST, EVENTS):
            yield _rectangle(*span, "paper", PANELS[panel][1], CAPACITY_BAND)
        yield _rectangle(*span, axis_name(SHARES), STRIP, CAPACITY_STRIP)


def _trouble(axis: Axis, trouble: Mapping[str, tuple[int, int]]) -> Iterator[Json]:
    """A band through the panels for each trouble while it is under way."""
    for begin, end in trouble.values():
        span = axis.time(axis.begin + begin), axis.time(axis.begin + end)
        for panel in TROUBLED:
            yield _rectangle(*span, "paper", PANELS[panel][1], TROUBLE_BAND)


def _trouble_labels(axis: Axis, trouble: Mapping[str, tuple[int, int]]) -> Iterator[Json]:
    """Each trouble's name where it begins, at the top of the first panel, on four lines in turn."""
    bottom, top = PANELS[DEMAND][1]
    for number, (name, (begin, _)) in enumerate(trouble.items()):
        y = top - (number % TROUBLE_LINES) * (top - bottom) / 8
        place = {"x": axis.time(axis.begin + begin), "yref": "paper", "y": y, "xanchor": "left"}
        yield note(escape(name), **place, yanchor="top", font={"size": 11, "color": TROUBLE_INK})


def _rectangle(begin: str, end: str, yref: str, between: tuple[float, float], colour: str) -> Json:
    return {
        "type": "rect",
        "layer": "below",
        "x0": begin,
        "x1": end,
        "yref": yref,
        "y0": between[0],
        "y1": between[1],
        "fillcolor": colour,
        "line": {"width": 0},
    }


def _objective(axis: Axis) -> Iterator[Json]:
    yield _level(LATENCY, axis.fleet.objective.latency_seconds)


def _budget(axis: Axis) -> Iterator[Json]:
    if axis.fleet.budget_usd_per_hour <= _highest_cost(axis):
        yield _level(COST, axis.fleet.budget_usd_per_hour)


def _level(panel: int, value: float) -> Json:
    return {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "yref": axis_name(panel),
        "y0": value,
        "y1": value,
        "line": {"color": ALARM, "width": 1.2, "dash": "dash"},
    }


def _mark_labels(axis: Axis, bands: Sequence[tuple[float, float]]) -> Iterator[Json]:
    """The budget, and what the coloured strip means."""
    alarm = {"size": 12, "color": ALARM}
    budget = axis.fleet.budget_usd_per_hour
    if budget <= _highest_cost(axis):
        place = {"xref": "paper", "x": 1, "xanchor": "left", "xshift": 6}
        yield note(f"<b>${budget:g} budget</b>", y=budget, yref=axis_name(COST), **place)
    else:
        place = {"xref": "paper", "x": 1, "xanchor": "right", "yref": "paper", "yanchor": "bottom"}
        yield note(f"budget ${budget:,.0f}, far above", y=PANELS[COST][1][1], yshift=6, **place)
    if bands:
        widest = max(bands, key=lambda band: band[1] - band[0])
        middle = axis.time(sum(widest) / 2)
        place = {"x": middle, "y": STRIP[1], "yref": axis_name(SHARES), "yanchor": "bottom"}
        yield note("capacity mode", font=alarm, **place)
