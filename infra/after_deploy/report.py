"""The report of a game day: report.json for machines, report.html, without a script, for people."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any, Final

PAGE: Final = Path(__file__).with_name("report_page.html")
Whole = Mapping[str, Any]
COLOURS: Final = ("#0b6e99", "#d9730d", "#448361", "#9065b0", "#c14c8a")
WIDTH: Final = 1000.0  # of every chart, stretched to the page's width
HEIGHT: Final = 120.0
MOST_REASONS: Final = 14
TICKS: Final = 5  # marks on the time axis


def write(whole: Whole, out: Path) -> None:
    """Write both into the folder."""
    (out / "report.json").write_text(json.dumps(whole, indent=1), encoding="utf-8")
    (out / "report.html").write_text(page(whole), encoding="utf-8")


def page(whole: Whole) -> str:
    """The report as one HTML page."""
    says = whole["says"][:1].upper() + whole["says"][1:]
    started = datetime.fromtimestamp(whole["started_at"], UTC).strftime("%Y-%m-%d %H:%M UTC")
    ended = f"<p class=bad>Ended early: {escape(whole['ended_by'])} rang.</p>" if whole["ended_by"] else ""
    parts = {
        "TITLE": escape(f"Game day: {whole['scenario']}"),
        "LEAD": escape(
            f"{says}. {whole['stack']} ({whole['fleet']}), {started}, {whole['rpm']:g} requests a minute."
        ),
        "ENDED": ended,
        "FACTS": "".join(_facts(whole)),
        "PHASES": "".join(_phase_rows(whole)),
        "ATTAINMENT": _attainment(whole),
        "SHARES": _shares(whole),
        "REASONS": "".join(_reasons(whole)),
        "AXIS": _axis(whole),
        "TWIN": _twin_note(whole),
    }
    text = PAGE.read_text(encoding="utf-8")
    for name, value in parts.items():
        text = text.replace(f"<!--{name}-->", value)
    return text


def _facts(whole: Whole) -> Iterator[str]:
    measured, predicted = whole["measured"], whole["predicted"]
    for label, key, show in (
        ("failover", "failover_seconds", _seconds),
        ("failback", "failback_seconds", _seconds),
        ("requests lost", "lost", _count),
        ("nodes cost", "cost_usd", _usd),
    ):
        twin = "" if "error" in predicted else f"<small>twin: {show(predicted[key])}</small>"
        yield f"<div><b>{show(measured[key])}</b><span>{label}</span>{twin}</div>"


def _phase_rows(whole: Whole) -> Iterator[str]:
    twin = {phase["name"]: phase for phase in whole["predicted"].get("phases", ())}
    for phase in whole["measured"]["phases"]:
        same = twin.get(phase["name"], {})
        kept = phase["attainment"] is None or phase["attainment"] >= whole["objective"]["attainment"]
        yield (
            f"<tr><th>{phase['name']}</th>"
            f"<td class={'good' if kept else 'bad'}>{_share(phase['attainment'])}</td>"
            f"<td>{_share(same.get('attainment'))}</td><td>{phase['requests']}</td><td>{phase['lost']}</td>"
            f"<td>{_usd(phase['cost_usd'])}</td></tr>"
        )


def _attainment(whole: Whole) -> str:
    """A bar for each minute; what it lacks to the top was late or lost."""
    minutes = whole["minutes"]
    width = WIDTH / max(1, len(minutes))
    bars = [
        f"<rect x={each['minute'] * width + width * 0.08:.1f} y={HEIGHT * (1 - share):.1f} "
        f"width={width * 0.84:.1f} height={HEIGHT * share:.1f} "
        f"class={'good' if share >= whole['objective']['attainment'] else 'bad'}>"
        f"<title>minute {each['minute']}: {_share(share)} of {each['requests']}, {each['lost']} lost</title>"
        "</rect>"
        for each in minutes
        if (share := each["attainment"]) is not None
    ]
    return _chart(whole, "".join(bars), HEIGHT)


def _shares(whole: Whole) -> str:
    """The units' shares of traffic, stacked, as steps from tick to tick."""
    points, length = whole["shares"], _length(whole)
    units = _units(whole)
    pieces = []
    for index, point in enumerate(points):
        begin = point["seconds"]
        end = points[index + 1]["seconds"] if index + 1 < len(points) else length
        top = 0.0
        for unit, colour in units:
            share = point["of"].get(unit, 0.0)
            if share:
                pieces.append(
                    f"<rect x={_x(begin, length):.1f} y={HEIGHT * top:.1f} "
                    f"width={_x(end - begin, length) + 0.5:.1f} height={HEIGHT * share:.1f} fill={colour}>"
                    f"<title>{escape(unit)}: {share:.0%}</title></rect>"
                )
            top += share
    legend = "".join(f"<i style=background:{colour}></i>{escape(unit)} " for unit, colour in units)
    return _chart(whole, "".join(pieces), HEIGHT) + f"<p class=legend>{legend}</p>"


def _reasons(whole: Whole) -> Iterator[str]:
    """A row for each reason that the loop gave, with a mark for each tick that gave it."""
    marks: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for reason in whole["reasons"]:
        marks.setdefault((reason["code"], reason["subject"]), []).append(reason)
    rows = sorted(marks.items(), key=lambda row: row[1][0]["seconds"])
    for (code, subject), given in rows[:MOST_REASONS]:
        shapes = "".join(
            f"<rect x={_x(each['seconds'], _length(whole)):.1f} y=2 width=6 height=10 class=mark>"
            f"<title>{escape(each['text'])}</title></rect>"
            for each in given
        )
        label = f"<b>{escape(code)}</b> {escape(subject)}"
        text = f"<p>{label} <em>{escape(given[0]['text'])}</em></p>"
        yield f"<div class=reason>{text}{_chart(whole, shapes, 14)}</div>"
    if len(rows) > MOST_REASONS:
        yield f"<p class=legend>and {len(rows) - MOST_REASONS} more in report.json</p>"


def _chart(whole: Whole, shapes: str, height: float) -> str:
    """Shapes over the band in which there was trouble."""
    phases = {phase["name"]: phase for phase in whole["measured"]["phases"]}
    begin, end = phases["during"]["from"], phases["during"]["to"]
    length = _length(whole)
    left, width = _x(begin, length), _x(end - begin, length)
    band = f"<rect x={left:.1f} y=0 width={width:.1f} height={height:g} class=band />"
    return (
        f'<svg viewBox="0 0 {WIDTH:g} {height:g}" style="height:{height:g}px" preserveAspectRatio=none>'
        f"{band}{shapes}</svg>"
    )


def _axis(whole: Whole) -> str:
    minutes = _length(whole) / 60
    return "".join(f"<span>{minutes * step / TICKS:.0f} min</span>" for step in range(TICKS + 1))


def _twin_note(whole: Whole) -> str:
    predicted = whole["predicted"]
    if "error" in predicted:
        return f"The twin made no prediction: {escape(predicted['error'])}"
    return (
        "The twin replays the same load and trouble from one ready node in each pool, and knows nothing of "
        "other users."
    )


def _units(whole: Whole) -> Sequence[tuple[str, str]]:
    names = dict.fromkeys(unit for point in whole["shares"] for unit in point["of"])
    return list(zip(names, COLOURS, strict=False))


def _length(whole: Whole) -> float:
    return max(1.0, float(whole["measured"]["phases"][-1]["to"]))


def _x(seconds: float, length: float) -> float:
    return WIDTH * seconds / length


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.2%}"


def _seconds(value: float | None) -> str:
    return "not seen" if value is None else f"{value:.0f} s"


def _count(value: int) -> str:
    return f"{value:,}"


def _usd(value: float | None) -> str:
    return "–" if value is None else f"${value:.2f}"
