"""The lines, areas and markers of every panel."""

from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from control_lambda.core.reasons import Code
from control_lambda.core.record import DecisionRecord
from twin.report.charts.axis import ALARM, INK, Axis, Json, axis_name, unit_colours
from twin.world.plant import MINUTE_SECONDS
from twin.world.world import EPOCH

SHOWN_REASONS: Final = 4
SHOWN_CHARACTERS: Final = 120

# Rows of the events panel from the bottom, and the reason codes that they show.
FAILURE_ROW: Final = "failure"
EVENT_ROWS: Final[Sequence[tuple[str, frozenset[str]]]] = (
    (FAILURE_ROW, frozenset()),
    ("interruption", frozenset({Code.INTERRUPTED})),
    ("refusal", frozenset({Code.REFUSED, Code.SHORTFALL, Code.BUDGET})),
    ("failover", frozenset({Code.FAILOVER, Code.JUMP, Code.NO_READY_UNIT})),
    ("mode", frozenset({Code.CAPACITY_MODE, Code.COST_MODE})),
)


def demand(axis: Axis, panel: int) -> Iterator[Json]:
    """Demand before the ready capacity, and what failed."""
    minutes = axis.minutes
    yield axis.line(
        panel,
        "ready capacity",
        axis.thin(axis.capacity_rpm()),
        line={"width": 0, "shape": "hv"},
        fill="tozeroy",
        fillcolor="rgba(128, 128, 128, 0.25)",
        hovertemplate="%{y:,.0f}",
    )
    yield _ink(axis, panel, "demand", axis.thin(minutes.requests), hovertemplate="%{y:,.0f}")
    if any(minutes.failed):
        yield axis.line(
            panel,
            "failed",
            axis.thin(minutes.failed),
            line={"width": 1.2, "color": ALARM},
            fill="tozeroy",
            fillcolor=ALARM,
            hovertemplate="%{y:,.1f}",
        )


def nodes(axis: Axis, panel: int) -> Iterator[Json]:
    """Billed nodes by pool; spot pools are hatched."""
    colours = unit_colours(axis.fleet)
    for pool, counts in axis.minutes.nodes.items():
        if not any(counts):
            continue
        spot = axis.fleet.pool_named[pool].market == "spot"
        hatched = {"fillpattern": {"shape": "/", "size": 6, "solidity": 0.3, "fillmode": "overlay"}}
        style = hatched if spot else {}
        colour = colours[axis.fleet.unit_of[pool].name]
        yield axis.area(panel, pool, counts, colour, hovertemplate="%{y:.3~g}", **style)


def shares(axis: Axis, panel: int) -> Iterator[Json]:
    """Shares of traffic by unit."""
    colours = unit_colours(axis.fleet)
    for unit, part in axis.minutes.shares.items():
        if any(part):
            yield axis.area(panel, unit, part, colours[unit], hovertemplate="%{y:.0%}")


def latency(axis: Axis, panel: int) -> Iterator[Json]:
    """Median and 95th percentile; a thinned point shows its worst minute's 95th."""
    minutes = axis.minutes
    median = axis.thin(minutes.p50_seconds)
    yield _ink(axis, panel, "p50", median, hovertemplate="%{y:.2f} s", opacity=0.55)
    yield _ink(axis, panel, "p95", axis.thin(minutes.p95_seconds, max), hovertemplate="%{y:.2f} s")


def cost(axis: Axis, panel: int) -> Iterator[Json]:
    """What an hour like this minute costs."""
    hourly = axis.thin([60 * usd for usd in axis.minutes.cost_usd])
    yield _ink(axis, panel, "cost", hourly, hovertemplate="$%{y:.2f}")


def events(axis: Axis, panel: int, records: Sequence[DecisionRecord]) -> Iterator[Json]:
    """A marker for every point in time that saw events of a kind, their reasons on hover."""
    for row, codes in EVENT_ROWS:
        texts: dict[int, list[str]] = {}
        for record in records:
            if told := _told(record, row, codes):
                minute = int((record.at - EPOCH) // MINUTE_SECONDS)
                texts.setdefault(minute - minute % axis.step, []).extend(told)
        if texts:
            yield _markers(axis, panel, row, texts)


def _ink(axis: Axis, panel: int, name: str, values: Sequence[float | None], **style: object) -> Json:
    shape = "linear" if panel == 0 else "hv"
    return axis.line(panel, name, values, line={"width": 1.6, "shape": shape}, meta=INK, **style)


def _told(record: DecisionRecord, row: str, codes: frozenset[str]) -> list[str]:
    if row == FAILURE_ROW:
        return list(record.failures)
    return [reason.text for reason in record.reasons if reason.code in codes]


def _markers(axis: Axis, panel: int, row: str, texts: dict[int, list[str]]) -> Json:
    failure = row == FAILURE_ROW
    marker = {"symbol": "diamond", "size": 9, "opacity": 0.85}
    return {
        "type": "scatter",
        "mode": "markers",
        "name": row,
        "x": [axis.time(minute) for minute in texts],
        "y": [row] * len(texts),
        "text": [_hover_text(told) for told in texts.values()],
        "hovertemplate": "%{text}",
        "marker": {**marker, "color": ALARM} if failure else marker,
        "meta": "" if failure else INK,
        "yaxis": axis_name(panel),
    }


def _hover_text(told: Sequence[str]) -> str:
    different = list(dict.fromkeys(told))
    lines = [escape(_shortened(text)) for text in different[:SHOWN_REASONS]]
    more = len(different) - SHOWN_REASONS
    return "<br>".join([*lines, *([f"and {more} more"] if more > 0 else [])])


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
