"""Gap: Fault Injection Service.

Moto keeps templates and starts nothing. Restored: experiments over the nodes that a template's tags find, for
the three actions that the stack's templates name, with their end, by time, by hand or by an alarm that rings.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final

from control_lambda.core.model import EvidenceKind
from control_lambda.core.names import NODE_GROUP_TAG
from twin.cloud.moto_gaps.deployment import Deployment
from twin.cloud.moto_gaps.protocol import (
    REGION,
    AwsError,
    Operation,
    Parameters,
    Result,
    not_implemented,
    page,
)
from twin.world.nodes import ZONES, Node

PAGE: Final = 100
SPOT_INSTANCES: Final = 5  # that one action may interrupt, unless the quota is raised


@dataclass(slots=True)
class _Experiment:
    """One experiment: when it ends by itself, how it ended, and what ends its effect before that."""

    id: str
    template: Mapping[str, Any]
    began: float
    until: float
    status: str = "running"
    reason: str = ""
    ended: float | None = None
    undo: Callable[[], None] = field(default=lambda: None)


class Fis:
    """Experiments on the deployment's nodes."""

    service = "fis"

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._templates: dict[str, dict[str, Any]] = {}
        self._experiments: dict[str, _Experiment] = {}

    @property
    def operations(self) -> Mapping[str, Operation]:
        """What is answered here; nothing of this service is left to moto."""
        return {
            "CreateExperimentTemplate": self.create_template,
            "GetExperimentTemplate": self.get_template,
            "StartExperiment": self.start,
            "GetExperiment": self.get,
            "StopExperiment": self.stop,
            "ListExperiments": self.list_experiments,
        }

    def create_template(self, parameters: Parameters) -> Result:
        """Keep a template; its ids count up."""
        id_ = f"EXT{len(self._templates) + 1:017d}"
        self._templates[id_] = {
            "id": id_,
            "arn": f"arn:aws:fis:{REGION}:{self._deployment.account}:experiment-template/{id_}",
            **{key: value for key, value in parameters.items() if key != "clientToken"},
        }
        return {"experimentTemplate": self._templates[id_]}

    def get_template(self, parameters: Parameters) -> Result:
        """One template.

        Raises:
            AwsError: ResourceNotFoundException.
        """
        return {"experimentTemplate": self._template(parameters["id"])}

    def start(self, parameters: Parameters) -> Result:
        """Begin the experiment of a template; refused while an alarm among its stop conditions rings.

        Raises:
            AwsError: ResourceNotFoundException, ConflictException.
        """
        template = self._template(parameters["experimentTemplateId"])
        if rung := self._rung(template):
            raise AwsError("ConflictException", f"Stop condition {rung} is in alarm state", 409)
        now = self._deployment.time
        made = _Experiment(f"EXP{len(self._experiments) + 1:017d}", template, now, now)
        self._experiments[made.id] = made
        (action,) = template["actions"].values()
        try:
            self._act(made, action, template["targets"][next(iter(action["targets"].values()))])
        except AwsError as error:
            made.status, made.reason, made.ended = "failed", error.message, now
        return {"experiment": _shown(made)}

    def get(self, parameters: Parameters) -> Result:
        """How an experiment stands."""
        return {"experiment": _shown(self._looked_at(parameters["id"]))}

    def list_experiments(self, parameters: Parameters) -> Result:
        """Every experiment, in pages."""
        found = [_shown(self._looked_at(id_)) for id_ in self._experiments]
        shown, token = page(found, parameters.get("nextToken"), PAGE, "ValidationException")
        return {"experiments": list(shown), "nextToken": token}

    def stop(self, parameters: Parameters) -> Result:
        """End an experiment, and what it did as far as it can be undone."""
        experiment = self._looked_at(parameters["id"])
        if experiment.status == "running":
            self._end(experiment, "stopped", "Experiment stopped by user.")
        return {"experiment": _shown(experiment)}

    def _template(self, id_: str) -> Mapping[str, Any]:
        if id_ not in self._templates:
            raise AwsError("ResourceNotFoundException", f"Experiment template {id_} not found", 404)
        return self._templates[id_]

    def _rung(self, template: Mapping[str, Any]) -> str:
        """The first stop condition whose alarm rings."""
        alarms = (str(stop.get("value", "")) for stop in template["stopConditions"])
        return next((alarm for alarm in alarms if alarm.rpartition(":")[2] in self._deployment.ringing), "")

    def _looked_at(self, id_: str) -> _Experiment:
        if id_ not in self._experiments:
            raise AwsError("ResourceNotFoundException", f"Experiment {id_} not found", 404)
        experiment = self._experiments[id_]
        if experiment.status == "running":
            if experiment.until <= self._deployment.time:
                self._end(experiment, "completed", "Experiment completed.")
            elif self._rung(experiment.template):
                self._end(experiment, "stopped", "Experiment halted by stop condition.")
        return experiment

    def _end(self, experiment: _Experiment, status: str, reason: str) -> None:
        experiment.undo()
        experiment.status, experiment.reason = status, reason
        experiment.ended = min(experiment.until, self._deployment.time)

    def _act(self, experiment: _Experiment, action: Mapping[str, Any], target: Mapping[str, Any]) -> None:
        pool = self._deployment.pool(target["resourceTags"][NODE_GROUP_TAG]).name
        nodes, now = self._deployment.nodes, self._deployment.time
        match action["actionId"]:
            case "aws:ec2:asg-insufficient-instance-capacity-error":
                experiment.until = now + _seconds(action["parameters"]["duration"])
                nodes.refuse_zones(pool, ZONES, EvidenceKind.SHORTAGE, experiment.until)
                experiment.undo = lambda: nodes.refuse_zones(pool, ZONES, EvidenceKind.SHORTAGE, -inf)
            case "aws:ec2:send-spot-instance-interruptions":
                found = _some(nodes.members(pool))
                if len(found) > SPOT_INSTANCES:
                    raise AwsError("Failed", "Target resolution returned more spot instances than the quota")
                nodes.interrupt(pool, share=1.0, until=now, at=now)
            case "aws:ec2:terminate-instances":
                nodes.take(_some(nodes.members(pool))[0].id, now)
            case other:
                raise not_implemented(f"the action {other}")


def _some(nodes: Sequence[Node]) -> Sequence[Node]:
    if not nodes:
        raise AwsError("Failed", "Target resolution returned empty set")
    return nodes


def _seconds(duration: str) -> float:
    """An ISO 8601 duration of hours or minutes."""
    read = re.fullmatch(r"PT(\d+)([HM])", duration)
    if read is None:
        raise not_implemented(f"the duration {duration}")
    return int(read[1]) * (3600 if read[2] == "H" else 60)


def _shown(experiment: _Experiment) -> Result:
    return {
        "id": experiment.id,
        "experimentTemplateId": experiment.template["id"],
        "state": {"status": experiment.status, "reason": experiment.reason},
        "startTime": experiment.began,
        "endTime": experiment.ended,
        "tags": experiment.template.get("tags", {}),
    }
