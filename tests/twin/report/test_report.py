import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from control_lambda.core.fleet import Fleet, Objective, parse_fleet
from control_lambda.core.model import Mode, Reason, State
from control_lambda.core.reasons import Code
from control_lambda.core.record import DecisionRecord, Write, record_without_decision
from control_lambda.core.traffic.survival import NO_SIGNS
from twin.report.charts import Axis, figure, unit_colours
from twin.report.charts.layout import capacity_bands, trouble_bands
from twin.report.figures import headline
from twin.report.report import SHOWN_DECISIONS, report
from twin.report.results import DECISIONS, Minutes, Result, load, save
from twin.traces import (
    CAPACITY,
    DEMAND,
    capacity_csv,
    demand_csv,
    synthetic_capacity,
    synthetic_demand,
)
from twin.world.world import EPOCH

OBJECTIVE = Objective(latency_seconds=2.0)
SUMMARY: dict[str, Any] = {
    "policy": "merit-order",
    "minutes": 345,
    "requests": 1000,
    "failed": 3,
    "slo_attainment": 0.99871,
    "p95_seconds": 0.9,
    "cost_usd": 12.5,
    "cost_per_thousand_usd": 0.1301,
    "cost_over_oracle": None,
    "node_launches": 7,
    "launches_refused": 2,
    "flips": 1,
    "failover_seconds": [],
}
REFERENCE = {**SUMMARY, "policy": "sample-loop", "cost_per_thousand_usd": 0.1832}


def make_fleet() -> Fleet:
    """Two units; the first in both markets."""
    profile = {
        "service_seconds": 0.5,
        "throughput_rpm": 105,
        "latency_seconds": 0.67,
        "start_seconds": 60,
    }
    pool = {"nodes": {"max": 9}, "price_usd_per_hour": 1.0}
    unit = {
        "instance_type": "inf2.xlarge",
        "accelerator": "neuron",
        "framework": "neuronx",
        "profile": profile,
    }
    on_demand = {**pool, "market": "on-demand"}
    return parse_fleet(
        {
            "fleet": "test",
            "model": "m",
            "objective": {"latency_seconds": 2.0},
            "budget_usd_per_hour": 10,
            "units": [
                {**unit, "name": "inf2", "pools": [{**pool, "market": "spot"}, on_demand]},
                {**unit, "name": "g5", "pools": [on_demand]},
            ],
        }
    )


def make_minutes(count: int = 60) -> Minutes:
    """Constant minutes of the fleet, the first 15 unscored."""
    return Minutes(
        policy="merit-order",
        setting={"demand": "a <trace>"},
        fleet_json=make_fleet().to_json(),
        first_minute=0,
        unscored=15,
        requests=[200 + minute % 2 for minute in range(count)],
        failed=[0] * count,
        p50_seconds=[0.5] * count,
        p95_seconds=[0.9 + minute % 7 for minute in range(count)],
        cost_usd=[3 / 60] * count,
        nodes={"inf2-spot": [2] * count, "inf2-on-demand": [0] * count, "g5-on-demand": [1] * count},
        ready={"inf2-spot": [2] * count, "inf2-on-demand": [0] * count, "g5-on-demand": [1] * count},
        shares={"inf2": [0.6] * count, "g5": [0.4] * count},
    )


def make_record(minute: int, mode: Mode = Mode.COST, **changes: Any) -> DecisionRecord:
    """A record of a quiet tick, changed."""
    state = State(tick=minute + 1, mode=mode)
    return replace(record_without_decision(state, EPOCH + 60.0 * minute, NO_SIGNS, (), (), ()), **changes)


def make_page(records: Sequence[DecisionRecord] = (), count: int = 60, **comparison: Any) -> str:
    """The page about constant minutes, without the chart library."""
    page = report(Result(SUMMARY, make_minutes(count), records, **comparison))
    return re.sub(r"<script>/\*\*.*?</script>", "<script></script>", page, count=1, flags=re.DOTALL)


def traces_named(drawn: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The figure's traces of that name."""
    return [trace for trace in drawn["data"] if trace["name"] == name]


def make_figure(records: Sequence[DecisionRecord] = (), count: int = 60) -> dict[str, Any]:
    """The figure about constant minutes."""
    return figure(Axis(make_minutes(count), make_fleet()), records)


def test_the_headline_tells_everything_that_was_measured() -> None:
    """Attainment, cost, the reference loop and the possible minimum, in one sentence."""
    summary = {**SUMMARY, "cost_over_oracle": 1.0984}
    told = headline(summary, OBJECTIVE, [summary, REFERENCE])
    assert told == (
        "99.8 % within 2 s at $0.13 per 1,000 images, 29 % below the reference loop, "
        "1.1 × the possible minimum"
    )


def test_the_headline_leaves_out_what_was_not_measured() -> None:
    """No reference and no minimum, no words about them."""
    assert headline(SUMMARY, OBJECTIVE) == "99.8 % within 2 s at $0.13 per 1,000 images"


def test_the_headline_says_when_the_reference_loop_was_cheaper() -> None:
    """Dearer than the reference is told as it is."""
    cheap = {**REFERENCE, "cost_per_thousand_usd": 0.1}
    assert "30 % above the reference loop" in headline(SUMMARY, OBJECTIVE, [SUMMARY, cheap])


@pytest.mark.parametrize(("share", "told"), [(0.99999, "99.9 %"), (1.0, "100.0 %"), (None, "no request")])
def test_attainment_is_rounded_down(share: float | None, told: str) -> None:
    """A single late request keeps the headline from saying 100 %."""
    assert headline({**SUMMARY, "slo_attainment": share}, OBJECTIVE).startswith(told)


def test_the_page_loads_nothing_from_anywhere() -> None:
    """It opens offline: no source, link or import leads out of it."""
    page = make_page()
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//|@import|url\(""", page)


def test_what_comes_from_files_is_escaped() -> None:
    """Text of traces and failures cannot become markup."""
    page = make_page([make_record(20, failures=("</script><b>",))])
    assert "a &lt;trace&gt;" in page
    assert "&lt;/script&gt;&lt;b&gt;" in page
    assert "</script><b>" not in page


def test_the_log_lists_only_ticks_that_changed_something() -> None:
    """A quiet tick is left out; a write, a failure and a change of mode are told."""
    size = Write("size", "g5-on-demand", 1, 2)
    page = make_page(
        [
            make_record(1),
            make_record(2, writes=(size,)),
            make_record(3, failures=("metrics: Throttling",)),
            make_record(4, mode=Mode.CAPACITY),
            make_record(5, mode=Mode.CAPACITY),
        ]
    )
    assert "3 of 5 ticks changed something" in page
    assert "g5-on-demand: size 1 → 2" in page
    assert "metrics: Throttling" in page
    assert re.findall(r"<tr><td>(\d+)</td><td>(day 1, 00:0\d:00)", page) == [
        ("3", "day 1, 00:02:00"),
        ("4", "day 1, 00:03:00"),
        ("5", "day 1, 00:04:00"),
    ]


def test_a_long_log_is_limited_to_its_latest_decisions() -> None:
    """The rest is counted, with the name of the file that has it."""
    page = make_page([make_record(minute, failures=("x",)) for minute in range(SHOWN_DECISIONS + 7)])
    assert page.count("<td>day 1") == SHOWN_DECISIONS
    assert "The 7 before these are in decisions.jsonl." in page
    assert "<td>8</td>" in page
    assert "<td>7</td>" not in page


def test_skipped_ticks_are_left_out(tmp_path: Path) -> None:
    """A tick that did nothing has no values to draw."""
    save(Result(SUMMARY, make_minutes(60), [make_record(1)]), "", tmp_path)
    with (tmp_path / DECISIONS).open("a") as decisions:
        decisions.write('{"skipped": "late"}\n')
    assert load(tmp_path).records == [make_record(1)]


def test_the_comparison_marks_the_reported_policy() -> None:
    """The table has a row per policy, the reported one marked."""
    page = make_page(comparison=(SUMMARY, REFERENCE))
    assert "<tr class=ours><td>merit-order</td>" in page
    assert "<tr><td>sample-loop</td>" in page


def test_a_page_of_a_long_replay_is_thinned_and_says_so() -> None:
    """Fifteen days stay quick: at most 1,500 points a line, and a page below 8 MB."""
    count = 15 * 1440
    page = report(Result(SUMMARY, make_minutes(count), [make_record(minute) for minute in range(count)]))
    assert len(page) < 8e6
    assert "every point stands for 15 minutes" in page
    (demand,) = traces_named(make_figure(count=count), "demand")
    assert len(demand["y"]) == 1440
    assert demand["dx"] == 15 * 60_000


def test_a_thinned_point_shows_mean_demand_and_the_worst_latency() -> None:
    """Thinning hides no bad minute."""
    drawn = make_figure(count=3000)
    (demand,) = traces_named(drawn, "demand")
    (worst,) = traces_named(drawn, "p95")
    assert demand["y"][0] == 200.5
    assert worst["y"][:4] == [1.9, 3.9, 5.9, 6.9]


@pytest.mark.parametrize(("days", "between_ticks"), [(3, 1), (15, 1), (40, 3)])
def test_a_long_time_axis_names_each_day_once(days: int, between_ticks: int) -> None:
    """Ticks stand at midnight, whole days apart, and are no more than can be read."""
    axis = make_figure(count=days * 1440)["layout"]["xaxis"]
    assert axis["tick0"] == "2026-01-01 00:00:00"
    assert axis["dtick"] == between_ticks * 86_400_000


def test_a_unit_has_one_colour_in_every_panel() -> None:
    """Its pools and its share of traffic look alike."""
    drawn = make_figure()
    colours = unit_colours(make_fleet())
    assert traces_named(drawn, "inf2-spot")[0]["fillcolor"] == colours["inf2"]
    assert traces_named(drawn, "inf2")[0]["fillcolor"] == colours["inf2"]
    assert colours["inf2"] != colours["g5"]


def test_only_spot_pools_are_hatched() -> None:
    """Markets are told apart without a second colour."""
    drawn = make_figure()
    assert "fillpattern" in traces_named(drawn, "inf2-spot")[0]
    assert "fillpattern" not in traces_named(drawn, "g5-on-demand")[0]


def test_ready_capacity_is_what_ready_nodes_answer_without_a_rest() -> None:
    """Three ready nodes of half a second each answer 360 requests a minute."""
    (capacity,) = traces_named(make_figure(), "ready capacity")
    assert capacity["y"][0] == 360


def test_events_carry_their_reason() -> None:
    """A marker stands at the minute of the tick, in the row of its kind, with the reason's words."""
    reason = Reason(Code.REFUSED, "inf2-spot: launch refused <5>", "inf2-spot")
    (refusal,) = traces_named(make_figure([make_record(30, reasons=(reason,))]), "refusal")
    assert refusal["x"] == ["2026-01-01 00:30:00"]
    assert refusal["text"] == ["inf2-spot: launch refused &lt;5&gt;"]


def test_capacity_mode_is_banded_from_its_first_to_its_last_tick() -> None:
    """A band ends with the tick that returns to cost mode, or with the replay."""
    cost, capacity = Mode
    modes = [(1, cost), (2, capacity), (3, capacity), (5, cost), (7, capacity)]
    records = [make_record(minute, mode) for minute, mode in modes]
    assert list(capacity_bands(Axis(make_minutes(), make_fleet()), records)) == [(2, 5), (7, 60)]


def test_trouble_is_banded_over_the_phases_that_name_it() -> None:
    """A band is drawn through the panels, with the trouble's name where it begins."""
    names = [("before", 0, 10), ("a@10", 10, 20), ("a@10+b@20", 20, 30), ("b@20", 30, 40), ("after", 40, 60)]
    phases = [{"name": name, "from": begin, "to": end} for name, begin, end in names]
    assert trouble_bands(phases) == {"a@10": (10, 30), "b@20": (20, 40)}
    drawn = figure(Axis(make_minutes(), make_fleet()), [], phases)["layout"]
    plain = make_figure()["layout"]
    assert len(drawn["shapes"]) == len(plain["shapes"]) + 2 * 5
    assert {"a@10", "b@20"} <= {label["text"] for label in drawn["annotations"]}


def test_minutes_of_another_length_are_refused() -> None:
    """Every list of a replay has a value per minute."""
    raw = make_minutes().model_dump()
    raw["failed"].append(0)
    with pytest.raises(ValueError, match="every list needs one value per minute"):
        Minutes.model_validate_json(json.dumps(raw))


def test_minutes_of_other_pools_are_refused() -> None:
    """The lists are those of the fleet."""
    raw = make_minutes().model_dump()
    raw["nodes"]["g6-spot"] = raw["nodes"]["inf2-spot"]
    with pytest.raises(ValueError, match="one list for each pool or unit"):
        Minutes.model_validate_json(json.dumps(raw))


@pytest.mark.parametrize(
    ("path", "text"),
    [(DEMAND, demand_csv(synthetic_demand())), (CAPACITY, capacity_csv(synthetic_capacity()))],
)
def test_the_shipped_traces_are_what_their_generator_makes(path: Path, text: str) -> None:
    """The files can be made again from their seed."""
    assert path.read_text(encoding="utf-8") == text
