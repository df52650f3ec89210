"""AWS on localhost: moto, what it lacks (`moto_gaps`), and a fleet provisioned as the stack would.

The cloud has its own clock (epoch seconds), and nothing happens in it until it is told the time. Each
cloud is an AWS account of its own, so several in one process do not see each other.
"""

import itertools
import json
import shlex
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from types import TracebackType
from typing import Any, Final, Self

import boto3
import numpy as np
from botocore.config import Config
from moto.backends import SERVICE_NAMES, get_backend
from numpy.typing import ArrayLike

from control_lambda.core import names
from control_lambda.core.fleet import Fleet
from control_lambda.core.metrics import Metric
from twin.cloud.moto_gaps.autoscaling import AutoScaling
from twin.cloud.moto_gaps.cloudwatch import CloudWatch
from twin.cloud.moto_gaps.deployed import CloudFormation, CodeBuild, Logs
from twin.cloud.moto_gaps.deployment import Deployment, address, metric_dimension
from twin.cloud.moto_gaps.ec2 import Ec2
from twin.cloud.moto_gaps.eks import Eks
from twin.cloud.moto_gaps.elbv2 import Elbv2
from twin.cloud.moto_gaps.failing_calls import FailingCalls
from twin.cloud.moto_gaps.fis import Fis
from twin.cloud.moto_gaps.gateway import TOOL, Gateway
from twin.cloud.moto_gaps.lambda_ import LOG_GROUPS, Lambda
from twin.cloud.moto_gaps.launch_failures import eventbridge, rebalance_recommendation
from twin.cloud.moto_gaps.minutes import KEPT_SECONDS, MINUTE, Minutes, minute_of, series
from twin.cloud.moto_gaps.prices import Prices, Pricing
from twin.cloud.moto_gaps.protocol import REGION
from twin.cloud.moto_gaps.server import HOST, Server
from twin.cloud.moto_gaps.stack import (
    ACCESS,
    NAME,
    SCHEDULE,
    TICK_FUNCTION,
    create_experiments,
    create_stack,
    resources,
)
from twin.cloud.moto_gaps.table_policy import TablePolicy
from twin.world.nodes import Event, Nodes
from twin.world.strikes import Strikes

# Where a cloud's clock stands before it is first told the time: 2024-01-01T00:00:00Z.
BEGINNING: Final = 1_704_067_200.0
ACCOUNTS: Final = itertools.count(100_000_000_001)
BACKENDS: Final[tuple[SERVICE_NAMES, ...]] = (
    "dynamodb",
    "ec2",
    "elbv2",
    "scheduler",
    "sns",
    "ssm",
    "sts",
)


class Cloud:
    """One AWS account on localhost; close it, or use it as a context manager.

    What concerns a fleet raises RuntimeError before `provision`; an unknown pool or unit is a ValueError.
    """

    def __init__(self, port: int = 0) -> None:
        self.account = str(next(ACCOUNTS))
        self._gateway = Gateway(self.account)
        self._server = Server(self._gateway, port)
        self._minutes = Minutes()
        self._lambda = Lambda(TICK_FUNCTION, lambda: self._environment)
        self._environment: Mapping[str, str] = {}
        self._logs = Logs()
        self._builds: CodeBuild | None = None
        self._beginning = self._reported_until = BEGINNING
        self._silent_until = 0.0
        self._provisioned: Deployment | None = None
        self._prices: Prices | None = None
        self._cloudwatch: CloudWatch | None = None
        self._recommended: list[Mapping[str, Any]] = []
        self._clients: dict[str, Any] = {}
        self._connected: list[Any] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop serving and forget the account."""
        for client in (*self._clients.values(), *self._connected):
            client.close()
        self._server.close()
        for service in BACKENDS:
            get_backend(service).pop(self.account, None)

    @property
    def endpoint_url(self) -> str:
        """Where AWS_ENDPOINT_URL has to point."""
        return f"http://{HOST}:{self._server.port}"

    @property
    def time(self) -> float:
        """Now, epoch seconds."""
        return self._beginning if self._provisioned is None else self._provisioned.time

    @property
    def calls(self) -> Counter[str]:
        """How often each action was called, refused calls and retries included; clear it at will."""
        return self._gateway.calls

    @property
    def nodes(self) -> Nodes:
        """The nodes that the cloud shows."""
        return self._deployment.nodes

    def client(self, service: str) -> Any:
        """A boto3 client of this cloud, for tests and tools: never retries, and is closed with the cloud."""
        if service not in self._clients:
            once = Config(retries={"total_max_attempts": 1}, user_agent_extra=TOOL)
            self._clients[service] = self._new_client(service, config=once)
        return self._clients[service]

    def connect(self, service: str, **options: Any) -> Any:
        """A boto3 client of this cloud as `boto3.client` would make it where the environment leads here.

        For the handlers; it is closed with the cloud.
        """
        made = self._new_client(service, **options)
        self._connected.append(made)
        return made

    def provision(self, fleet: Fleet, nodes: Nodes | None = None) -> dict[str, str]:
        """Create everything that the deployed stack holds; return the environment of its Lambda.

        The cloud shows `nodes` (new ones unless given), whose clock becomes its own.

        Raises:
            RuntimeError: the cloud holds a fleet already.
        """
        if self._provisioned is not None:
            raise RuntimeError(f"this cloud holds {self._provisioned.fleet.fleet} already; start another")
        stack = create_stack(fleet, self.endpoint_url, self.client)
        with self._gateway.lock:
            deployment = Deployment(
                self.account,
                fleet,
                Nodes(fleet, self._beginning) if nodes is None else nodes,
                stack.cluster,
                stack.target_groups,
                stack.load_balancer,
            )
            self._provisioned = deployment
            self._reported_until = deployment.time
            self._prices = Prices(fleet, deployment.time)
            self._fill_gaps(deployment, self._prices)
        experiments = create_experiments(self.client("fis"), fleet, stack.cluster, self.account)
        self._gateway.fill(CloudFormation(NAME, resources(experiments)))
        self._environment = stack.environment
        self.calls.clear()
        return dict(stack.environment)

    def advance(self, time: float) -> None:
        """Set the clock; what is due until then happens, and every minute that ends reports its hosts.

        Raises:
            ValueError: `time` lies before now.
        """
        with self._gateway.lock:
            if self._provisioned is None:
                self._beginning = time
                return
            nodes = self._provisioned.nodes
            first = minute_of(max(self._reported_until, time - KEPT_SECONDS)) + MINUTE
            for end in range(first, minute_of(time) + MINUTE, MINUTE):
                nodes.advance(max(nodes.now, end))
                self._report_hosts(self._provisioned, end - MINUTE)
            nodes.advance(time)
            self._reported_until = time

    def set_capacity(self, pool: str, nodes: int | None) -> None:
        """Let at most that many nodes exist in the pool; None = unlimited. See `Nodes.set_capacity`."""
        with self._gateway.lock:
            self.nodes.set_capacity(pool, nodes, self.time)

    def set_ready(self, pool: str, nodes: int) -> None:
        """Have the pool hold that many nodes, all ready at once, whatever its capacity."""
        with self._gateway.lock:
            self.nodes.start(pool, nodes, self.time)

    def befall(self, strikes: Strikes) -> None:
        """Have trouble strike the handlers' calls and the load balancer's metrics; tools are spared."""
        with self._gateway.lock:
            self._gateway.befall(FailingCalls(strikes, self._deployment).fault)
            if self._cloudwatch is not None:
                self._cloudwatch.visibility = strikes.visibility

    def set_price(self, pool: str, usd_per_hour: float | str) -> None:
        """Change what is quoted for the pool's instance type in its market, valid or not, from now on."""
        with self._gateway.lock:
            if self._prices is None:
                raise _unprovisioned()
            self._prices.set(self._deployment.pool(pool).name, usd_per_hour, self.time)

    def busy(self, pool: str, until: float) -> None:
        """Have the pool's node group UPDATING until that time (epoch seconds)."""
        with self._gateway.lock:
            self._deployment.busy_until[self._deployment.pool(pool).name] = until

    def put_minute(
        self,
        unit: str,
        at: float,
        latencies_seconds: ArrayLike,
        errors: int = 0,
        unanswered: int = 0,
        healthy_hosts: int | None = None,
    ) -> None:
        """Have the load balancer report what the unit's targets answered in the minute of `at`.

        `latencies_seconds` has one entry for each request that was answered; those without an answer are
        counted in `unanswered`, and `errors` (5xx) of both. What is zero is absent, as AWS reports.
        `healthy_hosts` replaces what `advance` found.
        """
        latencies = np.asarray(latencies_seconds, dtype=np.float64)
        requests = len(latencies) + unanswered
        if not 0 <= errors <= requests:
            raise ValueError(f"errors: {errors}; valid: 0 to {requests}, the number of requests")
        group = self._deployment.dimensions(unit)
        with self._gateway.lock:
            self._put(group, Metric.REQUEST_COUNT, at, np.ones(requests))
            self._put(group, Metric.TARGET_RESPONSE_TIME, at, latencies)
            self._put(group, Metric.TARGET_5XX_COUNT, at, np.ones(errors))
            if healthy_hosts is not None:
                self._put(group, Metric.HEALTHY_HOST_COUNT, at, [healthy_hosts])

    def put_node_seconds(self, at: float, seconds: Mapping[str, float]) -> None:
        """Have servers put how long a request takes there in the minute of `at`, by the node's id."""
        deployment = self._deployment
        with self._gateway.lock:
            for node in deployment.existing():
                if node.id in seconds:
                    of_node = {
                        names.FLEET: deployment.cluster,
                        names.UNIT: deployment.fleet.unit_of[node.pool].name,
                        names.NODE: address(node),
                    }
                    metric = Metric.NODE_SERVICE_SECONDS.metric_name
                    key = series(names.NAMESPACE, metric, of_node)
                    self._minutes.put(key, minute_of(at), [seconds[node.id]])

    def put_untargeted(self, at: float, fixed_responses: int, own_503s: int = 0) -> None:
        """Have the load balancer report the requests of the minute of `at` that no target got.

        `fixed_responses` are its default action's, `own_503s` its HTTPCode_ELB_503_Count.
        """
        balancer = {names.LOAD_BALANCER: metric_dimension(self._deployment.load_balancer)}
        counts = {Metric.FIXED_RESPONSE_COUNT: fixed_responses, Metric.ELB_503_COUNT: own_503s}
        with self._gateway.lock:
            for metric, count in counts.items():
                self._put(balancer, metric, at, np.ones(count))

    def silence(self, until: float) -> None:
        """Lose the load balancer's metrics of the minutes that start before `until`, as in an outage."""
        self._silent_until = until

    def throttle(self, action: str, calls: int) -> None:
        """Answer the next `calls` calls of the action with its service's throttling error.

        Negative: all until told otherwise; 0 ends it. A client's retries are calls too.

        Raises:
            ValueError: no service of the cloud has that action.
        """
        self._gateway.fail(action, None, calls)

    def fail(self, action: str, code: str, calls: int = 1) -> None:
        """Answer the next `calls` calls of the action with the error `code`; otherwise as `throttle`."""
        self._gateway.fail(action, code, calls)

    def recommend_rebalance(self, instance: str) -> None:
        """Have EC2 say that the node with this id runs an elevated risk of interruption."""
        self._recommended.append(rebalance_recommendation(self._deployment, instance))

    def events(self) -> list[Mapping[str, Any]]:
        """What EventBridge delivered since the last call, in time order; takes the nodes' events."""
        with self._gateway.lock:
            delivered = self.told(self.nodes.drain_events()) + self._recommended
            self._recommended = []
        return sorted(delivered, key=lambda event: str(event["time"]))

    def told(self, events: Iterable[Event]) -> list[Mapping[str, Any]]:
        """What EventBridge delivers for events that somebody else has taken from the nodes."""
        return [eventbridge(self._deployment, event) for event in events]

    def invocations(self) -> list[Any]:
        """The payloads, read from JSON, with which the tick function was invoked since the last call."""
        with self._gateway.lock:
            return [json.loads(payload) for payload in self._lambda.drain()]

    def ticks_run(self) -> bool:
        """Whether the schedule runs ticks now: it is enabled and its start has come."""
        schedule = self.client("scheduler").get_schedule(Name=SCHEDULE)
        start = schedule.get("StartDate")
        begun = start is None or start.timestamp() <= self.time
        return schedule["State"] == "ENABLED" and begun

    def log_tick(self, record: Mapping[str, Any]) -> None:
        """Have the tick function log its decision record now."""
        line = json.dumps({"level": "INFO", "message": "tick", "record": record})
        with self._gateway.lock:
            self._logs.write(f"{LOG_GROUPS}/{TICK_FUNCTION}", "stream", self.time, line)

    def fail_build(self, project: str, line: str) -> None:
        """Have the project's latest build fail, with that line as its log's last."""
        with self._gateway.lock:
            if self._builds is None:
                raise _unprovisioned()
            self._builds.fail(project, line)

    def ring(self, alarm: str) -> None:
        """Have an alarm of the stack ring, by the end of its name."""
        with self._gateway.lock:
            self._deployment.ringing.add(f"{NAME}-{alarm}")

    def _new_client(self, service: str, **options: Any) -> Any:
        untyped: Any = _session()  # the stubs know no service by a name in a variable
        return untyped.client(service, endpoint_url=self.endpoint_url, **options)

    @property
    def _deployment(self) -> Deployment:
        if self._provisioned is None:
            raise _unprovisioned()
        return self._provisioned

    def _fill_gaps(self, deployment: Deployment, prices: Prices) -> None:
        self._gateway.fill(AutoScaling(deployment))
        self._cloudwatch = CloudWatch(deployment, self._minutes)
        self._gateway.fill(self._cloudwatch)
        self._gateway.fill(Ec2(deployment, prices))
        self._gateway.fill(Eks(deployment))
        self._gateway.fill(Elbv2(deployment))
        self._gateway.fill(Fis(deployment))
        self._gateway.fill(self._logs)
        self._builds = CodeBuild(deployment, self._logs)
        self._gateway.fill(self._builds)
        policy = TablePolicy(deployment)
        self._gateway.fill(policy)
        self._gateway.befall(policy.fault)
        self._gateway.fill(Pricing(prices))
        self._gateway.fill(self._lambda)

    def _report_hosts(self, deployment: Deployment, minute: int) -> None:
        """HealthyHostCount, which the load balancer reports while a target is registered."""
        for unit in deployment.fleet.units:
            now = deployment.time
            registered = [node for node in deployment.hosts(unit.name) if node.is_member(now)]
            if registered:
                healthy = sum(node.target_state(now) == "healthy" for node in registered)
                self._put(deployment.dimensions(unit.name), Metric.HEALTHY_HOST_COUNT, minute, [healthy])

    def _put(self, dimensions: Mapping[str, str], metric: Metric, at: float, values: ArrayLike) -> None:
        if minute_of(at) >= self._silent_until:
            key = series(names.LOAD_BALANCER_NAMESPACE, metric.metric_name, dimensions)
            self._minutes.put(key, minute_of(at), values)


def start(port: int = 0) -> Cloud:
    """Serve AWS on 127.0.0.1 at `port` (0: any free one) until the cloud is closed.

    Raises:
        OSError: the port is taken.
    """
    return Cloud(port)


def serve_forever(port: int, fleet: Fleet) -> None:
    """Serve a provisioned cloud whose clock is the real one, until interrupted.

    Prints the environment that leads the AWS CLI, an SDK or the handlers to it, as `export` lines.

    Raises:
        OSError: the port is taken.
    """
    with start(port) as cloud:
        cloud.advance(time.time())
        print(f"# AWS on {cloud.endpoint_url}; Ctrl-C ends it")
        for name, value in cloud.provision(fleet).items():
            print(f"export {name}={shlex.quote(value)}", flush=True)
        try:
            while True:
                time.sleep(1)
                cloud.advance(time.time())
        except KeyboardInterrupt:
            print("# ended")


@cache
def _session() -> boto3.Session:
    """One session for all clouds: it reads each service's model once, which is what takes time."""
    return boto3.Session(
        aws_access_key_id=ACCESS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=ACCESS["AWS_SECRET_ACCESS_KEY"],
        region_name=REGION,
    )


def _unprovisioned() -> RuntimeError:
    return RuntimeError("the cloud holds no fleet; call provision first")
