"""What came in each minute, from counts that may be late, partial or missing.

Absence is no evidence: a count that is not there is unknown until another metric of the same minute, a
later read or time decides it. A minute is read again until it no longer changes, and what counts have
grown by after they were first read corrects those that are first read now. Rates are requests per minute.
"""

from collections.abc import Mapping
from typing import Final

from control_lambda.core.model import CountMemory, Minute, Snapshot

# CloudWatch's load balancer counts are complete about two minutes after the minute they count.
LATENESS_SECONDS: Final = 120
# Sums were seen to be complete five minutes after they first appeared; then a minute is not read again.
SETTLED_MINUTES: Final = 6
# Where nothing at all was counted, though hosts were: so many minutes after counts usually come it was zero.
ABSENT_MINUTES: Final = 2
# Fewer requests than this may well be none by chance: exp(-5) is less than 1 %.
PLAUSIBLE_NONE: Final = 5.0
# A unit that carried more than this leaves too little to tell by what the others counted.
MOST_IMPUTED: Final = 0.9
# Half of what is believed of a count's growth is the last minute's: a feed that lags says so at once.
GROWTH_RATE: Final = 0.5
# Growth below this is jitter, and above that no sum of the same minute.
LEAST_GROWTH: Final = 1.05
MOST_GROWTH: Final = 10.0


def counted_minutes(
    snapshot: Snapshot, shares: Mapping[str, float], *, often_empty: bool = False
) -> dict[int, float]:
    """Requests of each minute that is known, keyed by its start: all that came, with a target or without.

    `shares` are the units' shares of traffic (empty: not known, as with a router that chooses by itself).
    What a unit did not count is taken from the responses timed in the same minute; or, where it should have
    had some by its share, from what the others counted. Where minutes are `often_empty`, one without any
    count is taken to be so at once.
    """
    latest = snapshot.at - LATENESS_SECONDS - 60
    minutes: dict[int, dict[str, Minute]] = {start: {} for start in snapshot.untargeted if start <= latest}
    for unit, shown in snapshot.minutes.items():
        for minute in shown:
            if minute.at <= latest:
                minutes.setdefault(minute.at, {})[unit] = minute
    sooner = ABSENT_MINUTES if often_empty else 0
    totals = (
        (start, _total(units, snapshot.untargeted.get(start), shares, _age(start, snapshot.at) + sooner))
        for start, units in sorted(minutes.items())
    )
    return {start: total for start, total in totals if total is not None}


def settle(memory: CountMemory, counts: Mapping[int, float], at: float) -> CountMemory:
    """Remember what is shown at `at`, and estimate from it each minute that is not settled yet.

    A minute is settled, and its growth learned, `SETTLED_MINUTES` after it could first be read.
    """
    shown = {start: dict(values) for start, values in memory.shown}
    growth = memory.growth or (1.0,) * SETTLED_MINUTES
    estimates = {}
    for start, count in sorted(counts.items()):
        age = _age(start, at)
        if age < SETTLED_MINUTES:
            shown.setdefault(start, {})[age] = count
            estimates[start] = count * _believed(growth[age])
        elif start in shown:
            growth = _learned(growth, shown.pop(start), count)
    kept = tuple(
        (start, tuple(sorted(values.items())))
        for start, values in sorted(shown.items())
        if _age(start, at) < SETTLED_MINUTES
    )
    return CountMemory(kept, growth, tuple(estimates.items()))


def settled(counts: Mapping[int, float], at: float) -> dict[int, float]:
    """The minutes that will not be read again."""
    return {start: count for start, count in counts.items() if _age(start, at) >= SETTLED_MINUTES}


def _age(start: int, at: float) -> int:
    """For how many minutes a minute's counts can have been read."""
    return int((at - LATENESS_SECONDS - 60 - start) // 60)


def _total(
    minutes: Mapping[str, Minute], untargeted: float | None, shares: Mapping[str, float], age: int
) -> float | None:
    reported = {unit: count for unit, minute in minutes.items() if (count := _requests(minute)) is not None}
    if not reported and untargeted is None:
        some_host = any(minute.healthy_hosts is not None for minute in minutes.values())
        return 0.0 if some_host and age >= ABSENT_MINUTES else None
    counted = sum(reported.values())
    silent = sum(
        share for unit, share in shares.items() if unit not in reported and _has_hosts(minutes, unit)
    )
    if reported and 0 < silent <= MOST_IMPUTED:
        missing = counted * silent / (1 - silent)
        counted += missing if missing > PLAUSIBLE_NONE else 0.0
    return counted + (untargeted or 0.0)


def _requests(minute: Minute) -> float | None:
    """The minute's requests, or where they are missing the responses that were timed and the errors."""
    if minute.requests is not None:
        return minute.requests
    if minute.samples is None:
        return None
    return minute.samples + (minute.errors or 0.0)


def _has_hosts(minutes: Mapping[str, Minute], unit: str) -> bool:
    minute = minutes.get(unit)
    return minute is not None and bool(minute.healthy_hosts)


def _believed(growth: float) -> float:
    return growth if growth >= LEAST_GROWTH else 1.0


def _learned(growth: tuple[float, ...], values: Mapping[int, float], final: float) -> tuple[float, ...]:
    """What a settled minute says about counts of each age."""
    learned = list(growth)
    for age, value in values.items():
        if value > 0:
            ratio = min(max(final / value, 1.0), MOST_GROWTH)
            learned[age] += GROWTH_RATE * (ratio - learned[age])
    return tuple(learned)
