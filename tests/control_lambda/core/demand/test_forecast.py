"""Demand from late, gappy counts: what a minute means, and how good the forecast is."""

import csv
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest

from control_lambda.core.demand import forecast
from control_lambda.core.demand.counts import counted_minutes
from control_lambda.core.model import DemandMemory, MarginMemory, Snapshot, State, state_to_json
from tests.control_lambda.core.examples import NOON, minutes
from twin.traces import DEMAND

HORIZON = 13  # minutes: 120 s late, a tick of 60 s, a start of 600 s
MISS_SHARE = 0.02
DAY = 1440


def after(counts: Sequence[float], horizon: int = HORIZON) -> DemandMemory:
    """The memory after a minute of each count, the first one at noon."""
    by_start = {NOON + 60 * minute: count for minute, count in enumerate(counts)}
    return forecast.observe(DemandMemory(), by_start, horizon)


def forecasts(counts: Sequence[float]) -> list[tuple[float, float]]:
    """Mean and upper end of the forecast after each minute, `HORIZON` minutes ahead."""
    memory, found = DemandMemory(), []
    for minute, count in enumerate(counts):
        start = NOON + 60 * minute
        memory = forecast.observe(memory, {start: count}, HORIZON)
        made = forecast.look_ahead(memory, start + 180.0, HORIZON, MISS_SHARE)
        found.append((made.mean, made.upper))
    return found


def shipped() -> list[float]:
    """The requests by minute of the trace that the project ships."""
    with DEMAND.open() as file:
        return [float(row["requests"]) for row in csv.DictReader(file)]


def sinusoid(days: int) -> list[float]:
    """A cosine of a day, 50 to 550 rpm, counted as a Poisson process would be."""
    draw = random.Random(11)
    means = [300 - 250 * math.cos(2 * math.pi * minute / DAY) for minute in range(days * DAY)]
    return [max(0.0, round(draw.gauss(mean, math.sqrt(mean)))) for mean in means]


# --- Memory --------------------------------------------------------------------------------------------


def test_a_minute_is_learned_once() -> None:
    """Every tick sees the last quarter of an hour again."""
    memory = after([100.0] * 20)

    assert forecast.observe(memory, {NOON + 60: 5000.0, NOON + 19 * 60: 5000.0}, HORIZON) == memory


def test_late_minutes_are_learned_together_when_they_come() -> None:
    """Ten minutes at once teach what ten ticks would have taught."""
    counts = [100.0 + minute for minute in range(30)]
    one_by_one = DemandMemory()
    for minute, count in enumerate(counts):
        one_by_one = forecast.observe(one_by_one, {NOON + 60 * minute: count}, HORIZON)

    assert after(counts) == one_by_one


def test_a_gap_is_bridged_without_inventing_minutes() -> None:
    """After an hour without counts the first new one is believed at once, or nearly so."""
    memory = forecast.observe(after([100.0] * 30), {NOON + 90 * 60: 400.0}, HORIZON)

    assert forecast.look_ahead(memory, NOON + 93 * 60, 1, MISS_SHARE).now == pytest.approx(400.0, rel=0.1)


def test_the_memory_stays_compact() -> None:
    """A DynamoDB item takes 400 KB; after two days and with hour-long starts 20 KB of JSON are enough."""
    draw = random.Random(5)
    memory = after([draw.uniform(0, 5000) for _ in range(2 * DAY)], horizon=30)

    assert len(state_to_json(State(demand=memory))) < 20_000


# --- The forecast --------------------------------------------------------------------------------------


def test_before_any_count_the_forecast_is_stale() -> None:
    """Nothing is known, and that is said."""
    found = forecast.look_ahead(DemandMemory(), NOON, HORIZON, MISS_SHARE)

    assert found.stale
    assert found.upper == 0.0


def test_five_minutes_without_a_count_make_the_forecast_stale() -> None:
    """Age counts from the end of the last counted minute."""
    memory = after([100.0])
    end = NOON + 60

    assert not forecast.look_ahead(memory, end + 300, HORIZON, MISS_SHARE).stale
    assert forecast.look_ahead(memory, end + 301, HORIZON, MISS_SHARE).stale


def test_steady_demand_is_forecast_as_it_is_with_some_margin() -> None:
    """The mean is the level; the upper end lies above it."""
    found = forecast.look_ahead(after([200.0] * 120), NOON + 120 * 60 + 120, HORIZON, MISS_SHARE)

    assert found.now == pytest.approx(200.0)
    assert found.mean == pytest.approx(200.0)
    assert 200.0 < found.upper < 400.0


def test_a_ramp_is_forecast_ahead_of_its_last_value() -> None:
    """Demand that has risen for hours is expected to go on rising."""
    counts = [100.0 + 5 * minute for minute in range(240)]

    assert forecast.look_ahead(after(counts), NOON + 242 * 60, HORIZON, MISS_SHARE).mean > counts[-1]


def test_no_demand_at_all_is_a_forecast_of_nothing_below_zero() -> None:
    """Zero requests are data, not staleness."""
    found = forecast.look_ahead(after([0.0] * 60), NOON + 62 * 60, HORIZON, MISS_SHARE)

    assert not found.stale
    assert found.mean == 0.0
    assert found.upper >= 0.0


def test_stronger_noise_gets_a_wider_margin() -> None:
    """The margin is learned from past errors."""
    draw = random.Random(3)
    calm = [300.0] * 400
    noisy = [300.0 + draw.choice((-150.0, 150.0)) for _ in range(400)]
    margins = []
    for counts in (calm, noisy):
        found = forecast.look_ahead(after(counts), NOON + 402 * 60, HORIZON, MISS_SHARE)
        margins.append(found.upper - found.mean)

    assert margins[1] > 2 * margins[0]


@pytest.mark.parametrize("counts", [shipped(), sinusoid(3)], ids=["shipped trace", "sinusoid"])
def test_the_forecast_beats_the_last_value(counts: list[float]) -> None:
    """In mean squared error at the horizon of the slowest start, from the second hour on."""
    made = forecasts(counts)
    ahead = range(120, len(counts) - HORIZON)
    ours = math.fsum((made[minute][0] - counts[minute + HORIZON]) ** 2 for minute in ahead)
    last = math.fsum((counts[minute] - counts[minute + HORIZON]) ** 2 for minute in ahead)

    assert ours < 0.9 * last


def test_on_the_shipped_trace_few_requests_come_above_the_upper_forecast() -> None:
    """About the share that was allowed, once an hour was seen."""
    counts = shipped()
    made = forecasts(counts)
    ahead = range(60, len(counts) - HORIZON)
    above = math.fsum(
        counts[minute + HORIZON] for minute in ahead if counts[minute + HORIZON] > made[minute][1]
    )

    assert above < 3 * MISS_SHARE * math.fsum(counts)


# --- What a margin is worth ----------------------------------------------------------------------------


def test_the_more_a_further_node_has_to_save_the_less_is_carried() -> None:
    """Capacity that seldom helps is only worth it while it costs little."""
    memory = after(shipped()[:600])
    levels = [forecast.saving_up_to(memory, 400.0, saved) for saved in (0.001, 0.01, 0.1, 0.5)]

    assert all(dear <= cheap for cheap, dear in pairwise(levels))
    assert levels[0] > 400.0


def test_counts_from_the_sensors_reach_the_forecast() -> None:
    """From a snapshot's minutes to demand now."""
    counts = counted_minutes(Snapshot(NOON, minutes={"aa": minutes(NOON, 250.0)}), {})
    memory = forecast.observe(DemandMemory(), counts, HORIZON)

    assert forecast.look_ahead(memory, NOON, HORIZON, MISS_SHARE).now == pytest.approx(250.0)


# --- The time of day, in numbers -----------------------------------------------------------------------

# Five averages and two trends come before these three.
PROFILE, RATIO, STEP = 7, 8, 9
QUARTER_AT_NOON = 48


def believing(forecaster: int, *, profile: Mapping[int, float], level: float = 0.0) -> DemandMemory:
    """A memory at noon that trusts one forecaster alone; the profile is 100 rpm but where it is told."""
    losses = tuple(1e-6 if position == forecaster else 1e6 for position in range(10))
    day = tuple(profile.get(quarter, 100.0) for quarter in range(96))
    return DemandMemory(minute=NOON, averages=(level,) * 7, day=day, losses=losses)


def mean_after(memory: DemandMemory, minutes_ahead: int) -> float:
    """The mean that is forecast so many minutes after noon."""
    return forecast.look_ahead(memory, NOON + 180.0, minutes_ahead, MISS_SHARE).mean


@pytest.mark.parametrize(
    ("minutes_ahead", "expected"), [(0, 100.0), (15, 150.0), (20, 100 + 100 * 12.5 / 15), (30, 300.0)]
)
def test_between_quarter_hours_the_profile_is_a_line(minutes_ahead: int, expected: float) -> None:
    """From the middle of one quarter to the middle of the next."""
    memory = believing(PROFILE, profile={QUARTER_AT_NOON + 1: 200.0, QUARTER_AT_NOON + 2: 400.0})

    assert mean_after(memory, minutes_ahead) == pytest.approx(expected)


def test_the_profile_goes_on_over_midnight() -> None:
    """The last quarter's neighbour is the first."""
    memory = believing(PROFILE, profile={95: 300.0, 0: 500.0})

    assert mean_after(memory, 12 * 60) == pytest.approx(400.0)


def test_the_level_moves_as_the_profile_does() -> None:
    """By its ratio, over a tenth of the mean on both sides, or by its step."""
    profile = {QUARTER_AT_NOON + 1: 200.0, QUARTER_AT_NOON + 2: 200.0}

    assert mean_after(believing(RATIO, profile=profile, level=50.0), 30) == pytest.approx(50 * 205 / 105)
    assert mean_after(believing(STEP, profile=profile, level=50.0), 30) == pytest.approx(150.0)


def test_the_profiles_ratio_moves_the_level_fourfold_at_most() -> None:
    """At the profile's foot a ratio says little."""
    up = {QUARTER_AT_NOON + 1: 9000.0, QUARTER_AT_NOON + 2: 9000.0}
    down = dict.fromkeys(range(QUARTER_AT_NOON - 1, QUARTER_AT_NOON + 1), 9000.0)

    assert mean_after(believing(RATIO, profile=up, level=50.0), 30) == pytest.approx(200.0)
    assert mean_after(believing(RATIO, profile=down, level=50.0), 30) == pytest.approx(12.5)


def test_the_profile_is_half_yesterdays_and_half_what_was_known() -> None:
    """A quarter of an hour is known by its mean."""
    memory = after([100.0] * DAY + [290.0, 300.0, 310.0] * (DAY // 3) + [0.0])

    assert memory.day == pytest.approx((200.0,) * 96)


def test_a_quarter_that_was_never_seen_leaves_the_level_as_it_is() -> None:
    """Nothing is said about it; -1 is no rate."""
    memory = believing(PROFILE, profile={QUARTER_AT_NOON + 1: forecast.UNSEEN}, level=70.0)

    assert mean_after(memory, 15) == pytest.approx(70.0)


# --- Savings at the ends of the table ------------------------------------------------------------------

MEAN, SCALE = 100.0, 20.0


def with_errors(errors: Mapping[int, float]) -> DemandMemory:
    """A memory of many minutes whose standard error is 20 rpm, with this mass at positions of the table."""
    mass = tuple(errors.get(position, 0.0) for position in range(forecast.BINS))
    margin = MarginMemory(squares=4e9, means=1e9, minutes=1e7, errors=mass, requests=mass)
    return replace(DemandMemory(), margin=margin)


def carried_up_to(errors: Mapping[int, float], saved: float) -> float:
    """Up to which demand a further rpm saves so much."""
    return forecast.saving_up_to(with_errors(errors), MEAN, saved)


def test_no_saving_reaches_beyond_the_highest_error_seen() -> None:
    """20 standard errors where the last of the table was seen, 0 where that was the forecast itself."""
    highest, none = forecast.BINS - 1, 16

    assert carried_up_to({highest: 1.0}, 0.0) == pytest.approx(MEAN + 20 * SCALE)
    assert carried_up_to({none: 1.0}, 0.0) == pytest.approx(MEAN)


def test_what_nothing_saves_is_not_carried_at_all() -> None:
    """More requests a minute than ever came: below the table there is no demand left."""
    assert carried_up_to({16: 1.0, 20: 1.0}, 1e6) == 0.0


def test_a_saving_is_weighed_against_how_often_demand_comes_so_high() -> None:
    """Half the errors at one standard error: 117.5 rpm x 1/2 over a mean excess of 5 rpm saves 11.75."""
    errors = {16: 1.0, 20: 1.0}

    assert carried_up_to(errors, 11.7) == pytest.approx(MEAN + SCALE)
    assert carried_up_to(errors, 11.8) == 0.0
