"""The replays behind docs/evaluation.md, each a job that a process of its own can run."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from unittest.mock import patch

from control_lambda.core.demand import worth
from control_lambda.core.record import Answer
from twin.bench.scenarios import scenario
from twin.steering.baselines import BASELINES
from twin.steering.oracle import OracleError, least_cost
from twin.steering.replay import replay, summarise
from twin.steering.steering import CoreSteering, Steering
from twin.world.nodes import Event
from twin.world.world import World

OURS: Final = "merit-order"
POLLING: Final = "merit-order, polling alone"


@dataclass(frozen=True, slots=True)
class ReplayJob:
    """One policy on one scenario; `minutes` cuts it short, `worth` replaces the loop's `worth.WORTH`."""

    scenario: str
    policy: str
    seed: int
    minutes: int | None = None
    worth: float | None = None

    @property
    def name(self) -> str:
        """What a person recognises it by."""
        value = "" if self.worth is None else f", worth {self.worth:g}"
        return f"{self.scenario} {self.policy}{value}, seed {self.seed}"

    def run(self) -> "Replayed":
        """Replay it and measure."""
        played = scenario(self.scenario, self.seed, minutes=self.minutes)
        with worth_set_to(self.worth):
            began = time.perf_counter()
            run = replay(played, self.policy, steering_of(self.policy))
            wall_seconds = time.perf_counter() - began
        summary = summarise(run)
        return Replayed(
            job=self,
            attainment=summary["slo_attainment"],
            cost_per_thousand_usd=summary["cost_per_thousand_usd"],
            requests=summary["requests"],
            failed=summary["failed"],
            flips=summary["flips"],
            launches=summary["node_launches"],
            failover_seconds=tuple(summary["failover_seconds"]),
            wall_seconds=wall_seconds,
        )


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay measured, its unscored beginning left out.

    `attainment` is a share, `failover_seconds` has a value per failover, `wall_seconds` is how long the
    replay took. `attainment` and the cost per thousand answered requests are None where there were none.
    """

    job: ReplayJob
    attainment: float | None
    cost_per_thousand_usd: float | None
    requests: int
    failed: int
    flips: int
    launches: int
    failover_seconds: tuple[float, ...]
    wall_seconds: float

    def told(self) -> str:
        """The outcome in a few words."""
        if self.attainment is None or self.cost_per_thousand_usd is None:
            return "no request was answered"
        return f"{self.attainment:.2%} at ${self.cost_per_thousand_usd:.3f} per 1,000, {self.flips} flips"


@dataclass(frozen=True, slots=True)
class BoundJob:
    """The least possible cost of one scenario, for as many requests as its capacity allows."""

    scenario: str
    seed: int
    minutes: int | None = None

    @property
    def name(self) -> str:
        """What a person recognises it by."""
        return f"{self.scenario} least possible cost, seed {self.seed}"

    def run(self) -> "Bounded":
        """Solve it."""
        try:
            bound = least_cost(scenario(self.scenario, self.seed, minutes=self.minutes))
        except OracleError as error:
            return Bounded(self, cost_per_thousand_usd=None, problem=str(error))
        return Bounded(self, bound.cost_per_thousand_usd, problem="")


@dataclass(frozen=True, slots=True)
class Bounded:
    """The least possible cost, USD per thousand answered requests; None where `problem` says why not."""

    job: BoundJob
    cost_per_thousand_usd: float | None
    problem: str

    def told(self) -> str:
        """The outcome in a few words."""
        if self.cost_per_thousand_usd is None:
            return self.problem or "no request can be answered"
        return f"${self.cost_per_thousand_usd:.3f} per 1,000"


class PollingSteering(CoreSteering):
    """The loop without events: it learns of a lost node when the next minute's tick finds it gone."""

    def react(self, events: Sequence[Event]) -> Answer | None:  # noqa: ARG002 - the protocol's
        """Nothing: no event arrives."""
        return None


def steering_of(policy: str) -> Callable[[World], Steering]:
    """What makes the policy's controller: ours, or a baseline."""
    ours: dict[str, Callable[[World], Steering]] = {OURS: CoreSteering, POLLING: PollingSteering}
    return ours[policy] if policy in ours else BASELINES[policy]


@contextmanager
def worth_set_to(value: float | None) -> Iterator[None]:
    """Let the loop value a late request at `value` times a served one's cost; None leaves it as it is.

    It is a constant of the loop: no fleet can set it, so the sweep has to replace it.
    """
    with patch.object(worth, "WORTH", worth.WORTH if value is None else value):
        yield
