"""One self-contained page about a replay: it opens offline, and a tired engineer understands it."""

import json
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Final

from plotly.offline import get_plotlyjs

from control_lambda.core.fleet import Objective
from control_lambda.core.reasons import Code
from control_lambda.core.record import DecisionRecord
from twin.report.charts import Axis, figure, unit_colours
from twin.report.explain import changes
from twin.report.figures import TABLE_HEADER, headline, table_rows
from twin.report.results import Result, Summary
from twin.world.world import EPOCH

TEMPLATE: Final = Path(__file__).with_name("report.html")
SHOWN_DECISIONS: Final = 500
DAY_SECONDS: Final = 86_400


def report(result: Result) -> str:
    """The page as HTML."""
    fleet = result.minutes.fleet
    axis = Axis(result.minutes, fleet)
    drawn = figure(axis, result.records, result.summary.get("phases", ()))
    page = Template(TEMPLATE.read_text(encoding="utf-8"))
    return page.substitute(
        title=escape(f"{fleet.fleet}, {result.minutes.policy}"),
        headline=escape(headline(result.summary, fleet.objective, result.comparison)),
        facts="".join(_facts(result.summary, fleet.objective)),
        key="".join(_key(axis)),
        unscored=result.minutes.unscored,
        thinned=_thinned(axis),
        table=_table(result),
        decisions=_decisions(result.records),
        setting="".join(_setting(result)),
        figure=_as_script(json.dumps(drawn, separators=(",", ":"))),
        plotly=get_plotlyjs(),
    )


def _facts(summary: Summary, objective: Objective) -> Iterator[str]:
    promise = f"promised {100 * objective.attainment:g} % within {objective.latency_seconds:g} s"
    yield _fact("requests", f"{summary['requests']:,}", f"{summary['minutes']:,} scored minutes")
    yield _fact("failed", f"{summary['failed']:,}", "no answer within 60 s, or refused")
    if summary["p95_seconds"] is not None:
        yield _fact("p95", f"{summary['p95_seconds']:.2f} s", promise)
    yield _fact("cost", f"${summary['cost_usd']:,.2f}", "billed from launch to termination")
    refused = f"{summary['launches_refused']:,} refused by AWS"
    yield _fact("nodes launched", f"{summary['node_launches']:,}", refused)
    failovers = summary["failover_seconds"]
    if failovers:
        yield _fact("slowest failover", f"{max(failovers):.0f} s", f"{len(failovers)} in all")


def _fact(name: str, value: str, meaning: str) -> str:
    return f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(meaning)}</small></dd></div>"


def _key(axis: Axis) -> Iterator[str]:
    for unit, colour in unit_colours(axis.fleet).items():
        yield f'<li><i style="background:{colour}"></i>{escape(unit)}</li>'


def _thinned(axis: Axis) -> str:
    if axis.step == 1:
        return ""
    return (
        f"<p class=hint>A long replay: every point stands for {axis.step} minutes, their mean, "
        "and for p95 the worst of them. minutes.json has every minute.</p>"
    )


def _table(result: Result) -> str:
    if not result.comparison:
        return ""
    head = "".join(f"<th>{escape(name)}</th>" for name in TABLE_HEADER)
    rows = "".join(_table_row(row, result.summary["policy"]) for row in table_rows(result.comparison))
    return (
        "<h2>Compared on the same requests</h2><div class=scroll><table class=figures>"
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div><p>The minimum is the least cost "
        "at which as many requests could have been answered by somebody who knew the future.</p>"
    )


def _table_row(row: Sequence[str], ours: str) -> str:
    cells = "".join(f"<td>{escape(cell)}</td>" for cell in row)
    return f"<tr class=ours>{cells}</tr>" if row[0] == ours else f"<tr>{cells}</tr>"


def _decisions(records: Sequence[DecisionRecord]) -> str:
    if not records:
        return "<p>This policy keeps no decision records.</p>"
    changed = [
        record
        for before, record in zip([None, *records], records, strict=False)
        if _is_change(before, record)
    ]
    shown = changed[-SHOWN_DECISIONS:]
    left_out = len(changed) - len(shown)
    rest = f" The {left_out:,} before these are in decisions.jsonl." if left_out else ""
    told = (
        f"<p>{len(changed):,} of {len(records):,} ticks changed something or met a failure.{rest} "
        "<code>python -m twin explain decisions.jsonl --tick N</code> tells one in full.</p>"
    )
    rows = "".join(_decision(record) for record in shown)
    head = "<tr><th>tick</th><th>time</th><th>mode</th><th>changed</th><th>why</th></tr>"
    return (
        f"{told}<div class=scroll><table class=log><thead>{head}</thead><tbody>{rows}</tbody></table></div>"
    )


def _is_change(before: DecisionRecord | None, record: DecisionRecord) -> bool:
    switched = before is not None and before.mode is not record.mode
    return bool(record.writes or record.failures or switched)


def _decision(record: DecisionRecord) -> str:
    why = [reason.text for reason in record.reasons if reason.code != Code.SHIFT]
    failed = [f"<b class=alarm>{escape(failure)}</b>" for failure in record.failures]
    cells = (
        str(record.tick),
        _trace_time(record.at),
        f"<span class=mode-{escape(record.mode)}>{escape(record.mode)}</span>",
        "<br>".join(map(escape, changes(record))),
        "<br>".join([*map(escape, why), *failed]),
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _trace_time(at: float) -> str:
    """Epoch seconds as the charts' axis tells them: the trace's day and time."""
    days, seconds = divmod(int(at) - EPOCH, DAY_SECONDS)
    minutes = seconds // 60
    return f"day {days + 1}, {minutes // 60:02d}:{minutes % 60:02d}:{seconds % 60:02d}"


def _setting(result: Result) -> Iterator[str]:
    told = {"policy": result.minutes.policy, **result.minutes.setting}
    for name, value in told.items():
        yield f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"


def _as_script(text: str) -> str:
    """JSON that cannot end the script element that it stands in."""
    return text.replace("</", "<\\/")
