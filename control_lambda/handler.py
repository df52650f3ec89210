"""The tick's Lambda: environment -> ports -> tick. The wall clock is read here and nowhere below."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Self

import boto3
from aws_lambda_powertools import Logger

from control_lambda.aws.memory import DynamoMemory
from control_lambda.aws.world import SLOWEST_CALL_SECONDS, AwsActuators, AwsSensors, Clients, MakeClient
from control_lambda.core.model import plain
from control_lambda.core.record import Answer
from control_lambda.emf import put_metrics
from control_lambda.environment import Environment
from control_lambda.loop import tick
from control_lambda.ports import Actuators, Memory, Sensors
from control_lambda.trigger import iso_time

TICK_SECONDS: Final = 20.0
# After the moment in which the last write may begin there is time for a slow call and for the save. Should
# AWS be slow in every call of that write, Lambda's timeout ends the tick, and the next one repairs.
WRITE_SECONDS: Final = TICK_SECONDS - 2 * SLOWEST_CALL_SECONDS

logger = Logger(service="tick")


@dataclass(frozen=True, slots=True)
class Ports:
    """What a tick runs over."""

    environment: Environment
    sensors: Sensors
    actuators: Actuators
    memory: Memory

    @classmethod
    def connect(cls, environ: Mapping[str, str], client: MakeClient = boto3.client) -> Self:
        """The ports of the stack that `environ` describes, over clients that `client` makes.

        Raises:
            InvalidEnvironmentError: naming the variable and what would be valid.
        """
        environment = Environment.from_environ(environ)
        clients = Clients.connect(client)
        sensors = AwsSensors(clients, environment)
        return cls(
            environment,
            sensors,
            AwsActuators(clients, environment, sensors),
            DynamoMemory(
                clients.dynamodb, environment.state_table, environment.cluster_name, environment.builds
            ),
        )


@cache
def shared_ports() -> Ports:
    """The ports over clients that later invocations of this process share."""
    return Ports.connect(os.environ)


def handler(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    """Run one tick; return and log its decision record as plain JSON.

    Raises:
        ValueError: the event or the environment is malformed.
    """
    del context  # Lambda's own timeout is longer than the tick's budget
    ports = shared_ports()
    answer = run(event, ports)
    record: dict[str, Any] = plain(answer)
    logger.info("tick", record=record)
    put_metrics(answer, ports.environment)
    return record


def run(event: Mapping[str, Any], ports: Ports) -> Answer:
    """Run one tick over the ports, within the Lambda's time; an event without a time is now's.

    Raises:
        ValueError: the event is malformed.
    """
    timed = {**event, "time": event.get("time") or iso_time(time.time())}
    return tick(timed, ports.sensors, ports.actuators, ports.memory, remaining=time_to_write())


def time_to_write() -> Callable[[], float]:
    """The seconds, from now, within which writes may begin."""
    end = time.monotonic() + WRITE_SECONDS
    return lambda: end - time.monotonic()
