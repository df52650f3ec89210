"""A deployed stack in the embedded AWS, with users, nodes and ticks; its time passes when somebody sleeps."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from control_lambda.core.fleet import Fleet, parse_fleet
from control_lambda.core.model import plain
from control_lambda.core.reasons import Code
from control_lambda.core.record import Answer as TickAnswer
from control_lambda.core.record import DecisionRecord
from infra.after_deploy.load import NO_ANSWER, Answer
from infra.after_deploy.prediction import Hour
from twin.steering.aws import AwsSteering
from twin.world.plant import Served
from twin.world.queues import SERVED
from twin.world.trace import CapacityTrace, Demand, PriceTrace
from twin.world.world import EPOCH, Scenario, World

LONGEST = 60  # minutes that the simulated users have requests for
MINUTE = 60.0


def unit(name: str, instance_type: str, pools: list[dict[str, Any]]) -> dict[str, Any]:
    """A unit whose nodes start in two minutes and take half a second."""
    profile = {"service_seconds": 0.5, "throughput_rpm": 105, "latency_seconds": 0.67, "start_seconds": 120}
    return {
        "name": name,
        "instance_type": instance_type,
        "accelerator": "neuron" if instance_type.startswith("inf") else "nvidia",
        "framework": "neuronx" if instance_type.startswith("inf") else "eager",
        "profile": profile,
        "pools": pools,
    }


FLEET = parse_fleet(
    {
        "fleet": "small",
        "model": "tiny",
        "objective": {"latency_seconds": 2.0, "percentile": 95, "attainment": 0.99},
        "budget_usd_per_hour": 40,
        "policy": "merit-order",
        "units": [
            unit(
                "inf2-neuron",
                "inf2.xlarge",
                [
                    {"market": "on-demand", "nodes": {"min": 0, "max": 20}, "price_usd_per_hour": 0.7582},
                    {"market": "spot", "nodes": {"min": 0, "max": 4}, "price_usd_per_hour": 0.25},
                ],
            ),
            unit(
                "g5-eager",
                "g5.xlarge",
                [{"market": "on-demand", "nodes": {"min": 0, "max": 20}, "price_usd_per_hour": 1.006}],
            ),
        ],
    }
)


class Account:
    """The account: a clock to sleep by, load that its own users are, and what AWS answers."""

    def __init__(self, world: World, steering: AwsSteering, requests: NDArray[np.int64]) -> None:
        self.world = world
        self._requests = requests
        self.steering = steering
        self.cloud = steering.cloud
        self.ticks: list[float] = []
        self._answers: list[Answer] = []
        self._sending = False
        self._played = 0.0
        world.observe(self._note)

    @property
    def client(self) -> Any:
        """Makes clients, as boto3 does for a person's tools."""
        return self.cloud.client

    def now(self) -> float:
        """The world's time."""
        return self.world.now

    def sleep(self, seconds: float) -> None:
        """Let whole minutes pass: requests, the tick if its schedule runs, what AWS announces."""
        self._played += seconds
        while self._played >= MINUTE:
            self._played -= MINUTE
            self._minute()

    def begin(self, rpm: float) -> None:
        """Send so many requests a minute, and count answers, from now on."""
        self.change(rpm)
        self._sending = True

    def change(self, rpm: float) -> None:
        """Send so many a minute from now on."""
        self._requests[self.world.minute :] = round(rpm)

    def end(self) -> list[Answer]:
        """The answers since `begin`."""
        self._sending = False
        return self._answers

    def _minute(self) -> None:
        self.world.begin_minute()
        announced = self.world.events()
        if self.cloud.ticks_run():
            self._log(self.steering.schedule())
        for event in announced + self.world.events():
            self._log(self.steering.react([event]))
        self.world.end_minute()

    def _log(self, answer: TickAnswer | None) -> None:
        if isinstance(answer, DecisionRecord):
            if Code.NO_MEMORY not in {reason.code for reason in answer.reasons}:
                self.ticks.append(answer.at)
            self.cloud.log_tick(plain(answer))

    def _note(self, start: int, served: Served) -> None:
        if not self._sending:
            return
        count = len(served.outcome)
        for index in range(count):
            status = 200 if served.outcome[index] == SERVED else NO_ANSWER
            due = start + index * MINUTE / count
            self._answers.append(Answer(due, float(served.latency[index]), status))


@contextmanager
def account(
    rpm: int, ready: Mapping[str, int] | None = None, warm_up: int = 5, fleet: Fleet = FLEET
) -> Iterator[Account]:
    """An account whose fleet has served `rpm` requests a minute for `warm_up` minutes."""
    requests = np.full(LONGEST, rpm, np.int64)
    demand = Demand(requests, seed=1, epoch=EPOCH)
    world = World(Scenario(fleet, demand, CapacityTrace({}), PriceTrace({}), seed=1))
    with closing(AwsSteering(world)) as steering:
        for pool, nodes in (ready or {}).items():
            world.nodes.start(pool, nodes, world.now)
        made = Account(world, steering, requests)
        made.sleep(warm_up * MINUTE)
        yield made


def prediction(hour: Hour, folder: Path) -> Mapping[str, Any]:
    """Instead of the twin: figures of which a test knows where they come from."""
    del folder
    phases = [
        {"name": name, "requests": 100, "lost": 0, "attainment": 1.0}
        for name in ("before", "during", "after")
    ]
    return {
        "phases": phases,
        "lost": 0,
        "failover_seconds": 1.0,
        "failback_seconds": 2.0,
        "cost_usd": 3.0,
        "entry": hour.entry,
    }
