"""What a game day does to a fleet, and how it is undone.

Whatever is begun ends by itself at a time that is set beforehand, or with the node: a game day that is killed
leaves nothing behind for long. `end` ends it earlier, may be called at any time and more than once, and needs
nothing but the note.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from botocore.exceptions import ClientError

from control_lambda.core.names import NODE_GROUP_TAG
from infra.after_deploy.deployed import Client, Deployed, is_error
from infra.scenarios import POOL_TAG, SCENARIO_TAG, Experiment

SHORTAGE, SPOT_LOSS, NODE_DEATH = "shortage", "spot-loss", "node-death"
TICK_STOP, TABLE_THROTTLE = "tick-stop", "table-throttle"
SCENARIOS: Final = (SHORTAGE, SPOT_LOSS, NODE_DEATH, TICK_STOP, TABLE_THROTTLE)

Note = dict[str, Any]

RUNNING: Final = ("pending", "initiating", "running")
# What a tick does with its table; the twin's embedded AWS knows the same.
TABLE_ACTIONS: Final = ("dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem")
NO_POLICY: Final = "NO_POLICY"
READ_ONLY: Final = frozenset({"Arn", "CreationDate", "LastModificationDate", "ResponseMetadata", "StartDate"})


class TroubleError(Exception):
    """It could not be begun; the message says why and what would be valid."""


class Trouble(Protocol):
    """One kind of trouble. `prepare` only reads; `begin` does what `end` undoes."""

    says: str

    def prepare(self) -> Note:
        """What it is about to harm.

        Raises:
            TroubleError: there is nothing to harm.
        """
        ...

    def begin(self, note: Note, until: float) -> None:
        """Begin, to end by itself at `until` (epoch seconds) or soon after.

        Raises:
            TroubleError: AWS refuses.
        """
        ...

    def end(self, note: Note) -> None:
        """Undo it, as far as there is something left to undo."""
        ...

    def entry(self, note: Note) -> Mapping[str, Any]:
        """The same trouble as the twin's trouble file says it, without its time."""
        ...


def trouble_of(scenario: str, client: Client, deployed: Deployed, *, hard: bool = False) -> Trouble:
    """The trouble of a scenario.

    Raises:
        TroubleError: the stack holds no experiment for it.
    """
    match scenario:
        case "shortage":
            return _Experiment(client, deployed, Experiment.SHORTAGE)
        case "spot-loss":
            return _Experiment(client, deployed, Experiment.SPOT_LOSS)
        case "node-death" if hard:
            return _Experiment(client, deployed, Experiment.NODE_TERMINATED)
        case "node-death":
            return _Unreachable(client, deployed)
        case "tick-stop":
            return _StoppedTicks(client, deployed)
        case _:
            return _DeniedTable(client, deployed)


class _Experiment:
    """A Fault Injection experiment that the stack holds as a template."""

    def __init__(self, client: Client, deployed: Deployed, experiment: Experiment) -> None:
        self._client = client
        self._deployed = deployed
        self._fis = client("fis")
        self._experiment = experiment
        self.template, self.pool = self._found()
        self.says = {
            Experiment.SHORTAGE: f"every launch of {self.pool} is refused, in every zone",
            Experiment.SPOT_LOSS: f"all spot nodes of {self.pool} are interrupted, with two minutes' notice",
            Experiment.NODE_TERMINATED: f"one node of {self.pool} is terminated",
        }[experiment]

    def _found(self) -> tuple[str, str]:
        for id_ in self._deployed.templates:
            tags = self._fis.get_experiment_template(id=id_)["experimentTemplate"]["tags"]
            if tags.get(SCENARIO_TAG) == self._experiment:
                return id_, tags[POOL_TAG]
        wanted = "a fleet with a spot pool" if self._experiment is Experiment.SPOT_LOSS else "a newer deploy"
        held = f"stack {self._deployed.stack} holds no experiment {self._experiment}"
        raise TroubleError(f"{held}; valid: {wanted}, or another scenario")

    def prepare(self) -> Note:
        return {"template": self.template, "pool": self.pool}

    def begin(self, note: Note, until: float) -> None:
        del until  # the template's own duration ends it
        try:
            started = self._fis.start_experiment(experimentTemplateId=note["template"])["experiment"]
        except ClientError as error:
            raise TroubleError(f"Fault Injection refused: {error.response['Error']['Message']}") from None
        if started["state"]["status"] == "failed":
            raise TroubleError(f"the experiment failed: {started['state'].get('reason', 'no reason given')}")

    def end(self, note: Note) -> None:
        for page in self._fis.get_paginator("list_experiments").paginate():
            for each in page["experiments"]:
                mine = each["experimentTemplateId"] == note["template"]
                if mine and each["state"]["status"] in RUNNING:
                    self._fis.stop_experiment(id=each["id"])

    def entry(self, note: Note) -> Mapping[str, Any]:
        match self._experiment:
            case Experiment.SHORTAGE:
                zones = ["us-east-1a", "us-east-1b", "us-east-1c"]  # the twin's
                return {"what": "zone-refuses", "pool": note["pool"], "zones": zones, "kind": "shortage"}
            case Experiment.SPOT_LOSS:
                return {"what": "interrupted", "pool": note["pool"], "share": 1.0}
            case Experiment.NODE_TERMINATED:
                return {"what": "node-dead", "pool": note["pool"], "nodes": 1}


class _Unreachable:
    """One node's interface is moved into a security group that no request reaches.

    EC2, Auto Scaling and Kubernetes think all is well; the load balancer's checks of its target fail.
    It lasts until the node is gone, or is undone.
    """

    def __init__(self, client: Client, deployed: Deployed) -> None:
        self._client = client
        self._deployed = deployed
        self._ec2 = client("ec2")
        self.says = (
            "one node that serves gets no requests any more, and nothing but the load balancer sees it"
        )
        if not deployed.unreachable_group:
            raise TroubleError(f"stack {deployed.stack} holds no group for it; valid: a newer deploy")

    def prepare(self) -> Note:
        for unit, made in self._deployed.units.items():
            addresses = self._healthy(made["target_group_arn"])
            if not addresses:
                continue
            filters = [{"Name": "addresses.private-ip-address", "Values": addresses}]
            found = self._ec2.describe_network_interfaces(Filters=filters)["NetworkInterfaces"]
            if found:
                return self._note(unit, found[0])
        raise TroubleError("no node serves; valid: a fleet that python -m infra smoke found serving")

    def _healthy(self, target_group: str) -> list[str]:
        answer = self._client("elbv2").describe_target_health(TargetGroupArn=target_group)
        return [
            target["Target"]["Id"]
            for target in answer["TargetHealthDescriptions"]
            if target["TargetHealth"]["State"] == "healthy"
        ]

    def _note(self, unit: str, interface: Mapping[str, Any]) -> Note:
        node = interface["Attachment"]["InstanceId"]
        (reservation,) = self._ec2.describe_instances(InstanceIds=[node])["Reservations"]
        tags = {tag["Key"]: tag["Value"] for tag in reservation["Instances"][0]["Tags"]}
        pools = self._deployed.units[unit]["pools"]
        (pool,) = [name for name, group in pools.items() if group == tags[NODE_GROUP_TAG]]
        return {
            "interface": interface["NetworkInterfaceId"],
            "groups": [group["GroupId"] for group in interface["Groups"]],
            "node": node,
            "pool": pool,
        }

    def begin(self, note: Note, until: float) -> None:
        del until  # the node's replacement ends it
        self._move(note["interface"], [self._deployed.unreachable_group])

    def end(self, note: Note) -> None:
        try:
            self._move(note["interface"], note["groups"])
        except ClientError as error:
            # The node is gone, and its interface with it.
            if not is_error(error, "InvalidNetworkInterfaceID.NotFound"):
                raise

    def _move(self, interface: str, groups: list[str]) -> None:
        self._ec2.modify_network_interface_attribute(NetworkInterfaceId=interface, Groups=groups)

    def entry(self, note: Note) -> Mapping[str, Any]:
        return {"what": "node-dead", "pool": note["pool"], "nodes": 1}


class _StoppedTicks:
    """The schedule starts again only when the game day is over: until then there is no tick."""

    def __init__(self, client: Client, deployed: Deployed) -> None:
        self._scheduler = client("scheduler")
        self._schedule = deployed.schedule
        self.says = "the schedule runs no ticks"

    def prepare(self) -> Note:
        if self._scheduler.get_schedule(Name=self._schedule)["State"] != "ENABLED":
            raise TroubleError(f"schedule {self._schedule}: disabled already; valid: one that runs ticks")
        return {"schedule": self._schedule}

    def begin(self, note: Note, until: float) -> None:
        self._update(note["schedule"], StartDate=datetime.fromtimestamp(until, UTC))

    def end(self, note: Note) -> None:
        self._update(note["schedule"])

    def _update(self, name: str, **changes: Any) -> None:
        schedule = self._scheduler.get_schedule(Name=name)
        kept = {key: value for key, value in schedule.items() if key not in READ_ONLY}
        self._scheduler.update_schedule(**kept, **changes)

    def entry(self, note: Note) -> Mapping[str, Any]:
        del note
        return {"what": "ticks-missing"}


class _DeniedTable:
    """The state table refuses the tick, by a policy of its own that ends by its own condition."""

    def __init__(self, client: Client, deployed: Deployed) -> None:
        self._dynamodb = client("dynamodb")
        self._table = deployed.state_table
        self._role = deployed.tick_role_arn
        self.says = "the state table refuses every call of the tick"

    def prepare(self) -> Note:
        return {"table": self._dynamodb.describe_table(TableName=self._table)["Table"]["TableArn"]}

    def begin(self, note: Note, until: float) -> None:
        ends = datetime.fromtimestamp(until, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        denial = {
            "Sid": "GameDay",
            "Effect": "Deny",
            "Principal": {"AWS": self._role},
            "Action": list(TABLE_ACTIONS),
            "Resource": note["table"],
            "Condition": {"DateLessThan": {"aws:CurrentTime": ends}},
        }
        try:
            self._dynamodb.put_resource_policy(
                ResourceArn=note["table"],
                Policy=json.dumps({"Version": "2012-10-17", "Statement": [denial]}),
                ExpectedRevisionId=NO_POLICY,
            )
        except ClientError as error:
            if not is_error(error, "PolicyNotFoundException"):
                raise
            held = f"table {self._table} has a policy already"
            raise TroubleError(f"{held}; valid: a table without one, as the stack makes it") from None

    def end(self, note: Note) -> None:
        """Take the denial away; a policy that is not ours stays."""
        try:
            found = self._dynamodb.get_resource_policy(ResourceArn=note["table"])
        except ClientError as error:
            if not is_error(error, "PolicyNotFoundException"):
                raise
            return
        sids = [statement.get("Sid") for statement in json.loads(found["Policy"])["Statement"]]
        if sids == ["GameDay"]:
            self._dynamodb.delete_resource_policy(ResourceArn=note["table"])

    def entry(self, note: Note) -> Mapping[str, Any]:
        del note
        return {"what": "table-down"}
