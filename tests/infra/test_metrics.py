"""The age of the last tick, as the dashboard's expression gives it of what ticks put."""

from collections.abc import Collection
from functools import cache
from typing import Final

import pytest

from control_lambda.core.metrics import Metric
from control_lambda.core.reasons import Skip
from control_lambda.core.record import DecisionRecord, Skipped
from infra.metrics import FleetMetrics
from tests.infra.observability.alarm_evaluator import Metrics
from tests.infra.observability.alarmed import FLEET, template
from tests.infra.observability.dashboard_picture import Widget, lines_of, widgets_of
from tests.infra.replayed import put_record, run
from twin.cloud.moto_gaps.minutes import MINUTE
from twin.world.world import EPOCH

TITLE: Final = "Age of the last tick (s)"
SKIPPED: Final = Skipped(Skip.LEASE_HELD.told())


@cache
def record() -> DecisionRecord:
    """What a tick says that decided."""
    return run(FLEET, [100] * 5).records[-1]


def widget() -> Widget:
    """The graph of the tick's age."""
    (found,) = (item for item in widgets_of(template()) if item["properties"].get("title") == TITLE)
    return found


def ages(ticked: Collection[int], minutes: int, skipped: Collection[int] = ()) -> list[float]:
    """The age by the minute, when ticks decided in `ticked` and found the lease held in `skipped`."""
    metrics = Metrics()
    for minute in ticked:
        put_record(metrics, record(), EPOCH + minute * MINUTE)
    for minute in skipped:
        put_record(metrics, SKIPPED, EPOCH + minute * MINUTE)
    shown = range(EPOCH, EPOCH + minutes * MINUTE, MINUTE)
    (line,) = lines_of(widget(), metrics, [], shown).values()
    assert list(line) == list(shown)
    return list(line.values())


def test_a_metric_is_asked_for_by_the_dimensions_under_which_it_is_put() -> None:
    """Any other would be an empty graph and a silent alarm; the message says what would be right."""
    metrics = FleetMetrics(cluster_name="fulcrum", load_balancer="app/fulcrum/0123")
    with pytest.raises(ValueError, match="ReadyNodes is put by Fleet, Unit"):
        metrics.of_fleet(Metric.READY_NODES, "Maximum")
    with pytest.raises(ValueError, match="ReadyNodes is put by Fleet, Unit"):
        metrics.of_load_balancer(Metric.READY_NODES, "Maximum")


def test_the_age_is_zero_while_a_tick_decides_in_every_minute() -> None:
    """A healthy loop draws a flat line."""
    assert ages(range(10), 10) == [0] * 10


def test_the_age_rises_for_as_long_as_no_tick_decides_and_falls_with_the_next_one() -> None:
    """By 60 seconds a minute, to the end of what is shown."""
    assert ages([0, 1, 5], 9) == [0, 0, 60, 120, 180, 0, 60, 120, 180]


def test_a_tick_that_was_skipped_does_not_make_the_loop_young() -> None:
    """It decided nothing."""
    assert ages([0], 4, skipped=[1, 2, 3]) == [0, 60, 120, 180]


@pytest.mark.parametrize(
    ("ticked", "shown"),
    [([], [0, 60, 120, 180, 240]), ([-3], [0, 60, 120, 180, 240]), ([3], [0, 60, 120, 0, 60])],
)
def test_before_any_tick_in_sight_the_age_counts_from_where_the_graph_begins(
    ticked: list[int], shown: list[float]
) -> None:
    """A loop that has long been silent leaves no empty graph."""
    assert ages(ticked, 5) == shown
