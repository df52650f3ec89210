"""The tick's Lambda: environment -> ports -> tick. The wall clock is read here and nowhere below."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from aws_lambda_powertools import Logger

from control_lambda.aws import SLOWEST_CALL_SECONDS, AwsActuators, AwsSensors, Clients
from control_lambda.aws_memory import DynamoMemory
from control_lambda.emf import put_metrics
from control_lambda.environment import Environment
from control_lambda.loop import Record, iso_time, tick

TICK_SECONDS: Final = 20.0
# After the moment in which the last write may begin there is time for a slow call and for the save. Should
# AWS be slow in every call of that write, Lambda's timeout ends the tick, and the next one repairs.
WRITE_SECONDS: Final = TICK_SECONDS - 2 * SLOWEST_CALL_SECONDS

logger = Logger(service="tick")


@dataclass(frozen=True, slots=True)
class Ports:
    """What a tick runs over."""

    environment: Environment
    sensors: AwsSensors
    actuators: AwsActuators
    memory: DynamoMemory


@cache
def shared_ports() -> Ports:
    """The ports over clients that later invocations of this process share."""
    environment = Environment.from_environ(os.environ)
    clients = Clients.connect()
    sensors = AwsSensors(clients, environment)
    return Ports(
        environment,
        sensors,
        AwsActuators(clients, environment, sensors),
        DynamoMemory(clients.dynamodb, environment.state_table, environment.cluster_name),
    )


def handler(event: Mapping[str, Any], context: object) -> Record:
    """Run one tick; return and log its decision record.

    Raises:
        ValueError: the event or the environment is malformed.
    """
    del context  # Lambda's own timeout is longer than the tick's budget
    ports = shared_ports()
    event = {**event, "time": event.get("time") or iso_time(time.time())}
    record = tick(event, ports.sensors, ports.actuators, ports.memory, remaining=time_to_write())
    logger.info("tick", record=record)
    if "skipped" not in record:
        put_metrics(record, ports.environment)
    return record


def time_to_write() -> Callable[[], float]:
    """The seconds, from now, within which writes may begin."""
    end = time.monotonic() + WRITE_SECONDS
    return lambda: end - time.monotonic()
