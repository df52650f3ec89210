"""When the world's metrics can be seen, and what of them. Times are epoch seconds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from control_lambda.core.metrics import Metric

# Load balancer metrics come 1 to 3 minutes after the minute that they count: two, here.
LATE_SECONDS: Final = 120
MINUTE_SECONDS: Final = 60
# A sum that first shows a part of itself is complete so much later.
PARTIAL_SECONDS: Final = 300
# An average is told so exactly that the order in which it was summed does not show.
AVERAGE_DIGITS: Final = 9

Which = Literal["requests", "all"]
REQUESTS: Final = frozenset(
    metric.metric_name for metric in (Metric.REQUEST_COUNT, Metric.FIXED_RESPONSE_COUNT, Metric.ELB_503_COUNT)
)
ALL: Final = REQUESTS | {
    metric.metric_name
    for metric in (Metric.TARGET_RESPONSE_TIME, Metric.TARGET_5XX_COUNT, Metric.HEALTHY_HOST_COUNT)
}
OF: Final = {"requests": REQUESTS, "all": ALL}


@dataclass(frozen=True, slots=True)
class Disturbance:
    """What befalls the counts of the minutes that start in [`begin`, `end`).

    Those `of` the metrics come `late_seconds` later than usual, or never with `missing`; a sum first shows
    `share` of itself. `unit` None: every unit's, and what found no target.
    """

    begin: float
    end: float
    of: Which
    late_seconds: float = 0.0
    missing: bool = False
    share: float = 1.0
    unit: str | None = None

    def concerns(self, metric: str, unit: str | None, minute: float) -> bool:
        """Whether it befalls the datum of that metric, unit (None: of the load balancer) and minute."""
        return self.begin <= minute < self.end and metric in OF[self.of] and self.unit in (None, unit)


@dataclass(frozen=True, slots=True)
class Visibility:
    """What CloudWatch shows of the load balancer's metrics."""

    disturbances: Sequence[Disturbance] = ()

    def share(self, metric: str, unit: str | None, minute: float, now: float) -> float:
        """How much of the minute's sum is seen `now`: 0 none, 1 all; above 0, other statistics are whole."""
        due = minute + MINUTE_SECONDS + LATE_SECONDS
        if now < due:
            return 0.0
        if not self.disturbances:
            return 1.0
        found = [item for item in self.disturbances if item.concerns(metric, unit, minute)]
        due += sum(item.late_seconds for item in found)
        if now < due or any(item.missing for item in found):
            return 0.0
        return 1.0 if now >= due + PARTIAL_SECONDS else min((item.share for item in found), default=1.0)


def partial(total: float, share: float) -> float | None:
    """The part of a sum that is seen, a whole number; None where that is nothing: the datum is absent."""
    return total if share == 1 else float(round(total * share)) or None
