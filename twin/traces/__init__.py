"""The traces that come with the project: one synthetic day, so that everything runs without other data.

Nothing in them was recorded. `synthetic_demand` and `synthetic_capacity` made the two files.
"""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

DEMAND: Final = Path(__file__).with_name("demand.csv")
CAPACITY: Final = Path(__file__).with_name("capacity.csv")

MINUTES: Final = 1440
SEED: Final = 2503
BUSIEST_MINUTE: Final = 19 * 60
QUIET_RPM: Final = 90.0
BUSY_RPM: Final = 950.0
BURSTS: Final = 9
BURST_DECAY_MINUTES: Final = 8.0
# From before demand rises above what is ready until after it has fallen: growth needs other pools.
INF2_SHORT: Final = range(17 * 60 + 30, 20 * 60 + 15)
G5_SHORT: Final = range(18 * 60 + 45, 19 * 60 + 20)

Counts = NDArray[np.int64]


def synthetic_demand(seed: int = SEED) -> Counts:
    """Requests in each minute of a day: Poisson counts around a daily shape with bursts.

    The shape is a raised cosine, squared, with its peak at 19:00 and its trough at 07:00; each burst
    adds 20 to 50 % at once and dies away with a time constant of eight minutes.
    """
    random = np.random.default_rng(seed)
    minutes = np.arange(MINUTES)
    shape = (0.5 + 0.5 * np.cos(2 * np.pi * (minutes - BUSIEST_MINUTE) / MINUTES)) ** 2
    rpm = QUIET_RPM + (BUSY_RPM - QUIET_RPM) * shape
    starts = random.integers(0, MINUTES, BURSTS)
    heights = random.uniform(0.2, 0.5, BURSTS)
    for start, height in zip(starts, heights, strict=True):
        since = np.maximum(minutes - start, 0)
        rpm = rpm * (1 + height * np.exp(-since / BURST_DECAY_MINUTES) * (minutes >= start))
    return random.poisson(rpm).astype(np.int64)


def synthetic_capacity() -> dict[str, Counts]:
    """Whether nodes of each family can be had, 0 or 1 by the minute: inf2 is short at the busiest time."""
    capacity = {family: np.ones(MINUTES, dtype=np.int64) for family in ("inf2", "trn1", "g5", "g6")}
    capacity["inf2"][INF2_SHORT] = 0
    capacity["g5"][G5_SHORT] = 0
    return capacity


def demand_csv(requests: Counts) -> str:
    """The demand as the CSV that `--demand` reads."""
    lines = [f"{minute},{count}" for minute, count in enumerate(requests.tolist())]
    return "\n".join(["minute,requests", *lines]) + "\n"


def capacity_csv(capacity: dict[str, Counts]) -> str:
    """The capacity as the CSV that `--capacity` reads."""
    header = ",".join(["minute", *capacity])
    rows = zip(*(values.tolist() for values in capacity.values()), strict=True)
    lines = [",".join(map(str, (minute, *row))) for minute, row in enumerate(rows)]
    return "\n".join([header, *lines]) + "\n"
