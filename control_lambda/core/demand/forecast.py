"""Demand now and at the horizon of the slowest start, from late, gappy, one-minute counts.

The mean is a combination of simple forecasters, each weighted by its past errors (Bates and Granger,
"The Combination of Forecasts", 1969); the margin above it is the smallest one that would have left
at most the allowed share of past requests without capacity. Nothing is fitted beforehand: a fleet's
own traffic teaches both. Rates are requests per minute (rpm).
"""

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from control_lambda.core.model import DemandMemory, Forecast, MarginMemory

# Without a count for this long, demand is known too badly to change sizes by it.
STALE_SECONDS: Final = 300

# Time constants in minutes: the last count, bursts, ramps and the time of day.
AVERAGES: Final = (1.0, 5.0, 10.0, 30.0, 120.0)
# Positions in AVERAGES that Brown's double exponential smoothing (1956) extrapolates.
TRENDS: Final = (1, 2)
NOW: Final = 1
UNSEEN: Final = -1.0
DAY_BINS: Final = 96
BIN_SECONDS: Final = 86400 // DAY_BINS
# The daily profile is half yesterday's and half what was known before.
DAY_RATE: Final = 0.5
# How much the level may move as the daily profile does; at its foot a ratio says little.
STEEPEST: Final = 4.0
RATIO_FLOOR_SHARE: Final = 0.1

MINUTES_PER_DAY: Final = 1440
# Errors count for about a day: long enough for a whole cycle, short enough to follow a change.
LOSS_DISCOUNT: Final = math.exp(-1 / MINUTES_PER_DAY)
# Bates and Granger weight by inverse mean squared error, which is right for independent errors. These
# forecasters err together, which favours the best ones: the inverse is raised to this power.
SHARPNESS: Final = 4

# The margin remembers about three days of standardised errors, as a histogram.
MARGIN_DISCOUNT: Final = math.exp(-1 / (3 * MINUTES_PER_DAY))
LOWEST: Final = -4.0
BIN_WIDTH: Final = 0.25
BINS: Final = 97
# Before errors were seen, and fading over eight hours of them: three standard errors are planned for, and a
# standard error is a fifth of the demand (at the horizon it was 18 to 37 % on the evaluation's traces),
# or what counts that vary ten times as much as Poisson ones make it. A quiet hour proves little.
PRIOR_MARGIN: Final = 3.0
PRIOR_MINUTES: Final = 480
PRIOR_ERROR: Final = 0.2
PRIOR_DISPERSION: Final = 10.0
PRIOR_DISPERSION_MINUTES: Final = 240
# Errors at night are standardised as if demand were at least this share of the usual.
FLOOR_SHARE: Final = 0.05


def observe(memory: DemandMemory, counts: Mapping[int, float], horizon: int) -> DemandMemory:
    """Learn from the minutes that are newer than the memory's last.

    `horizon` is how many minutes ahead forecasts are made, and later judged.
    """
    for start in sorted(counts):
        if start > memory.minute:
            memory = _learn(memory, start, counts[start], horizon)
    return memory


def look_ahead(memory: DemandMemory, at: float, horizon: int, miss_share: float) -> Forecast:
    """Demand `horizon` minutes after the last counted one.

    `upper` is what capacity has to carry so that, judged by past errors, at most `miss_share` of all
    requests come above it.
    """
    if not memory.averages:
        return Forecast(now=0.0, mean=0.0, upper=0.0, age=math.inf, stale=True)
    mean = _combine(_forecasts(memory, horizon), memory.losses)
    upper = mean + _margin(memory.margin, miss_share) * _scale(memory.margin, mean)
    age = at - (memory.minute + 60)
    present = _combine(_forecasts(memory, max(1, round(age / 60))), memory.losses)
    now = max(present, memory.averages[NOW])
    return Forecast(now, mean, max(upper, 0.0), age, stale=age > STALE_SECONDS)


def saving_up_to(memory: DemandMemory, mean: float, saved: float) -> float:
    """The demand (rpm) up to which one more rpm of capacity saves at least `saved` requests per minute.

    Where demand D exceeds capacity C, all of the minute's requests are taken to be late, for they wait
    in the same queues. So one more rpm of capacity saves C times the density of D at C; the density is
    P(D > C) over the mean excess, as for an exponential tail.
    """
    scale = _scale(memory.margin, mean)
    if not memory.margin.errors:
        return mean + PRIOR_MARGIN * scale
    margin = _highest_margin_saving(saved, memory.margin, mean, scale)
    return max(0.0, mean + _with_prior(memory.margin, margin) * scale)


def _highest_margin_saving(saved: float, margin: MarginMemory, mean: float, scale: float) -> float:
    """The highest margin (standard errors) at which a further rpm still saves `saved` requests per minute.

    Judged by past errors alone, from the largest down: `above` weighs the minutes whose demand was higher,
    `excess` by how many rpm in all, so the density at `capacity` is above² / excess.
    """
    needed = saved * math.fsum(margin.errors)
    width = BIN_WIDTH * scale
    above = excess = 0.0
    for position in range(BINS - 1, 0, -1):
        above += margin.errors[position]
        if not above:
            continue
        excess += above * width
        capacity = mean + LOWEST * scale + width * (position - 0.5)
        if capacity <= 0:
            break
        if above > needed or above * capacity * above > needed * excess:
            return LOWEST + BIN_WIDTH * position
    return -mean / scale


def _learn(memory: DemandMemory, start: int, count: float, horizon: int) -> DemandMemory:
    elapsed = (start - memory.minute) / 60 if memory.minute else 1.0
    memory = _judge(memory, start, count)
    memory = replace(
        memory,
        minute=start,
        averages=_averages(memory.averages, count, elapsed),
    )
    memory = _day(memory, start, count)
    due = start + 60 * horizon
    waiting = tuple(item for item in memory.pending if item[0] > start)
    return replace(memory, pending=(*waiting, (due, _forecasts(memory, horizon))))


def _averages(old: Sequence[float], count: float, elapsed: float) -> tuple[float, ...]:
    """The moving averages, `elapsed` minutes later, then the averages of those that trends need."""
    if not old:
        return (count,) * (len(AVERAGES) + len(TRENDS))
    rates = [1 - math.exp(-elapsed / constant) for constant in AVERAGES]
    single = [value + rate * (count - value) for value, rate in zip(old, rates, strict=False)]
    double = [
        value + rates[position] * (single[position] - value)
        for value, position in zip(old[len(AVERAGES) :], TRENDS, strict=True)
    ]
    return (*single, *double)


def _day(memory: DemandMemory, start: int, count: float) -> DemandMemory:
    """Count into the current quarter of an hour; on its end let the daily profile learn it."""
    position = _bin(start)
    if memory.quarter and memory.quarter[0] == position:
        _, total, minutes = memory.quarter
        return replace(memory, quarter=(position, total + count, minutes + 1))
    day = memory.day or (UNSEEN,) * DAY_BINS
    if memory.quarter:
        ended, total, minutes = memory.quarter
        mean, seen = total / minutes, day[ended]
        learned = mean if seen == UNSEEN else seen + DAY_RATE * (mean - seen)
        day = (*day[:ended], learned, *day[ended + 1 :])
    return replace(memory, day=day, quarter=(position, count, 1))


def _bin(at: float) -> int:
    return int(at // BIN_SECONDS) % DAY_BINS


def _usual(memory: DemandMemory, at: float) -> float | None:
    """The daily profile (rpm) at a time, between the middles of two quarters; None while unseen."""
    place = at / BIN_SECONDS - 0.5
    first = math.floor(place)
    before, after = memory.day[first % DAY_BINS], memory.day[(first + 1) % DAY_BINS]
    if UNSEEN in {before, after}:
        return None
    return before + (place - first) * (after - before)


def _forecasts(memory: DemandMemory, horizon: int) -> tuple[float, ...]:
    """What each forecaster expects `horizon` minutes after the last counted minute."""
    single = memory.averages[: len(AVERAGES)]
    trends = []
    for position, double in zip(TRENDS, memory.averages[len(AVERAGES) :], strict=True):
        gap = single[position] - double
        slope = gap * math.expm1(1 / AVERAGES[position])
        trends.append(max(0.0, single[position] + gap + horizon * slope))
    return (*single, *trends, *_daily(memory, horizon))


def _daily(memory: DemandMemory, horizon: int) -> tuple[float, float, float]:
    """The daily profile itself, and the level now moved as the profile moves: by its ratio, by its step."""
    level = memory.averages[NOW]
    middle_of_level = memory.minute - 60 * AVERAGES[NOW]
    then, now = _usual(memory, memory.minute + 60 * horizon), _usual(memory, middle_of_level)
    if then is None or now is None:
        return level, level, level
    floor = max(RATIO_FLOOR_SHARE * _mean_demand(memory.margin, level), 1.0)
    ratio = (then + floor) / (now + floor)
    return then, level * min(max(ratio, 1 / STEEPEST), STEEPEST), max(0.0, level + then - now)


def _mean_demand(margin: MarginMemory, unknown: float) -> float:
    """The mean of past forecasts (rpm), `unknown` before there were any."""
    return margin.means / margin.minutes if margin.minutes else unknown


def _combine(forecasts: Sequence[float], losses: Sequence[float]) -> float:
    """The mean of the forecasts, weighted by a power of their inverse mean squared errors."""
    if not losses:
        return forecasts[NOW]
    least = max(min(losses), 1e-9)
    weights = [(least / max(loss, least)) ** SHARPNESS for loss in losses]
    return math.fsum(map(operator.mul, weights, forecasts)) / math.fsum(weights)


def _judge(memory: DemandMemory, start: int, count: float) -> DemandMemory:
    """Hold the forecasts that were due at `start` against what came."""
    forecasts = next((made for due, made in memory.pending if due == start), None)
    if forecasts is None:
        return memory
    mean = _combine(forecasts, memory.losses)
    margin = _judge_margin(memory.margin, mean, count)
    errors = [(made - count) ** 2 for made in forecasts]
    losses = memory.losses or errors
    rate = 1 - LOSS_DISCOUNT
    learned = tuple(loss + rate * (error - loss) for loss, error in zip(losses, errors, strict=True))
    return replace(memory, losses=learned, margin=margin)


def _judge_margin(margin: MarginMemory, mean: float, count: float) -> MarginMemory:
    scale = _scale(margin, mean)
    position = round(((count - mean) / scale - LOWEST) / BIN_WIDTH)
    errors = [mass * MARGIN_DISCOUNT for mass in margin.errors or (0.0,) * BINS]
    requests = [mass * MARGIN_DISCOUNT for mass in margin.requests or (0.0,) * BINS]
    position = min(max(position, 0), BINS - 1)
    errors[position] += scale
    requests[position] += count
    return MarginMemory(
        squares=margin.squares * LOSS_DISCOUNT + (count - mean) ** 2,
        means=margin.means * LOSS_DISCOUNT + mean,
        minutes=margin.minutes * LOSS_DISCOUNT + 1,
        errors=tuple(errors),
        requests=tuple(requests),
        demanded=margin.demanded * MARGIN_DISCOUNT + count,
    )


def _scale(margin: MarginMemory, mean: float) -> float:
    """The standard error of a forecast `mean`, from the dispersion (variance over mean) seen so far."""
    weight = (1 - _known(margin)) * PRIOR_DISPERSION_MINUTES * max(mean, 1.0) + 1.0
    prior = max(PRIOR_DISPERSION, PRIOR_ERROR**2 * mean)
    dispersion = (margin.squares + prior * weight) / (margin.means + weight)
    usual = _mean_demand(margin, mean)
    return math.sqrt(dispersion * max(mean, FLOOR_SHARE * usual, 1.0))


def _margin(margin: MarginMemory, miss_share: float) -> float:
    """The margin in standard errors: the least that leaves `miss_share` of past requests late.

    In a minute whose demand is above capacity all requests are late, not just those above it: they
    wait in the same queues.
    """
    if not margin.requests:
        return PRIOR_MARGIN
    return _with_prior(margin, _position(margin.requests, miss_share * margin.demanded))


def _known(margin: MarginMemory) -> float:
    """How far past errors are believed, 0 to 1."""
    return min(1.0, margin.minutes / PRIOR_MINUTES)


def _with_prior(margin: MarginMemory, seen: float) -> float:
    """What past errors say, mixed with the prior margin while there are few."""
    known = _known(margin)
    return known * seen + (1 - known) * PRIOR_MARGIN


def _position(histogram: Sequence[float], allowed: float) -> float:
    """The standardised error above which a mass of `allowed` lies."""
    above = 0.0
    for position in range(BINS - 1, -1, -1):
        mass = histogram[position]
        if above + mass > allowed:
            return LOWEST + BIN_WIDTH * (position + 0.5 - (allowed - above) / mass)
        above += mass
    return LOWEST
