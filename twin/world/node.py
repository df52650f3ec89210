"""One instance of the twin's fleet: what it does, and what AWS says about it. Times are absolute seconds."""

from dataclasses import dataclass
from math import inf
from typing import Final

# The target group's deregistration delay: the longest that a shrinking pool's nodes finish their work.
DRAIN_SECONDS: Final = 75.0
# The load balancer takes a target for unhealthy after two missed checks, ten seconds apart.
UNHEALTHY_SECONDS: Final = 20.0
# EKS drains a node before it lets it go; one that does not answer holds that up. It is paid meanwhile.
WAIT_SECONDS: Final = 300.0
# An instance is Pending until EC2 reports it running, about half a minute after its launch.
PENDING_SECONDS: Final = 30.0
# The load balancer calls a target anomalous after about two minutes of errors, if it has others to compare.
ANOMALY_SECONDS: Final = 120.0
ANOMALY_TARGETS: Final = 3


@dataclass(slots=True)
class Node:
    """One instance. It takes new requests from `ready_at` until `leaving_at` (drain began) or `gone_at`.

    It is billed from `launched_at` to `gone_at`. `noticed_at` is when its interruption was announced; a
    noticed node keeps serving until it is gone, and what it has in flight then is lost. A hung node has
    `ready_at` inf. From `dead_at` on it answers 503 at once; EC2 and its group think all is well. It takes
    `slow_factor` times the unit's service seconds, and answers `error_share` of its requests with 500, since
    `errors_since`. Under `checks_fail` its target is unhealthy though it serves. `terminating_until` is when
    a node that could not be drained is gone.
    """

    id: str
    pool: str
    launched_at: float
    ready_at: float
    zone: str = ""
    leaving_at: float = inf
    gone_at: float = inf
    noticed_at: float = inf
    dead_at: float = inf
    slow_factor: float = 1.0
    error_share: float = 0.0
    errors_since: float = inf
    checks_fail: bool = False
    terminating_until: float = inf

    def is_ready(self, at: float) -> bool:
        """Whether it answers new requests at `at`."""
        return self.ready_at <= at < self.leaving_at and at < self.gone_at and at < self.dead_at

    def is_registered(self, at: float) -> bool:
        """Whether it is a target at `at` that is not draining: it has started, whatever became of it."""
        return self.ready_at <= at < self.leaving_at and at < self.gone_at

    def is_member(self, at: float) -> bool:
        """Whether its Auto Scaling group holds it at `at`: neither draining nor gone."""
        return at < self.leaving_at and at < self.gone_at

    @property
    def healthy_until(self) -> float:
        """When the load balancer ceases to call it healthy; -inf where its checks fail."""
        if self.checks_fail:
            return -inf
        return min(self.leaving_at, self.gone_at, self.dead_at + UNHEALTHY_SECONDS)

    def target_state(self, at: float) -> str | None:
        """What DescribeTargetHealth says: healthy, unhealthy, initial or draining; None: no target."""
        if at >= self.gone_at:
            return None
        if at >= self.leaving_at:
            return "draining" if at < self.leaving_at + DRAIN_SECONDS else None
        if at < self.ready_at:
            return "initial"
        return "healthy" if at < self.healthy_until else "unhealthy"

    def anomalous(self, at: float, healthy_in_group: int) -> bool:
        """Whether DescribeTargetHealth calls it anomalous, among so many healthy targets of its group."""
        return healthy_in_group >= ANOMALY_TARGETS and at >= self.errors_since + ANOMALY_SECONDS

    def lifecycle(self, at: float) -> str:
        """Its state in its Auto Scaling group."""
        if at >= self.leaving_at:
            return "Terminating:Wait" if at < self.terminating_until < inf else "Terminating"
        return "Pending" if at < min(self.ready_at, self.launched_at + PENDING_SECONDS) else "InService"

    def leave(self, at: float) -> None:
        """Have it drain from `at` on; one that does not answer waits in `Terminating:Wait`."""
        self.leaving_at = at
        if self.dead_at <= at or self.ready_at == inf:
            self.terminating_until = at + WAIT_SECONDS
            self.gone_at = min(self.gone_at, self.terminating_until)
        else:
            self.gone_at = min(self.gone_at, at + DRAIN_SECONDS)
