"""Gap: what a deploy leaves behind to be found: the stack's resources, its builds and its logs.

Moto's CloudFormation crashes on this template and CodeBuild builds nothing. Restored: ListStackResources of
the one stack, the latest build of each project, and the lines that builds and ticks have logged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from twin.cloud.moto_gaps.deployment import Deployment
from twin.cloud.moto_gaps.protocol import AwsError, Operation, Parameters, Result, page

PAGE: Final = 100
BUILD_LOGS: Final = "/aws/codebuild"


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource as CloudFormation lists it."""

    kind: str
    logical_id: str
    physical_id: str


class CloudFormation:
    """The resources of one stack."""

    service = "cloudformation"

    def __init__(self, stack: str, resources: Sequence[Resource]) -> None:
        self._stack = stack
        self._resources = resources

    @property
    def operations(self) -> Mapping[str, Operation]:
        """What is answered here; nothing of this service is left to moto."""
        return {"ListStackResources": self.list_resources}

    def list_resources(self, parameters: Parameters) -> Result:
        """The stack's resources, in pages.

        Raises:
            AwsError: ValidationError for another stack.
        """
        name = parameters["StackName"]
        if name != self._stack:
            raise AwsError("ValidationError", f"Stack with id {name} does not exist")
        shown, token = page(self._resources, parameters.get("NextToken"), PAGE, "ValidationError")
        return {
            "StackResourceSummaries": [
                {
                    "ResourceType": resource.kind,
                    "LogicalResourceId": resource.logical_id,
                    "PhysicalResourceId": resource.physical_id,
                    "ResourceStatus": "CREATE_COMPLETE",
                    "LastUpdatedTimestamp": 0.0,
                }
                for resource in shown
            ],
            "NextToken": token,
        }


@dataclass(slots=True)
class Logs:
    """CloudWatch Logs: lines by group and stream, each with its time (epoch seconds)."""

    service = "logs"
    lines: dict[tuple[str, str], list[tuple[float, str]]] = field(default_factory=dict)

    @property
    def operations(self) -> Mapping[str, Operation]:
        """What is answered here; nothing of this service is left to moto."""
        return {"FilterLogEvents": self.filter_events, "GetLogEvents": self.get_events}

    def write(self, group: str, stream: str, at: float, line: str) -> None:
        """Add a line."""
        self.lines.setdefault((group, stream), []).append((at, line))

    def filter_events(self, parameters: Parameters) -> Result:
        """The group's lines between two times (milliseconds), in pages; the pattern is not evaluated."""
        start, end = parameters.get("startTime", 0), parameters.get("endTime", float("inf"))
        found = [
            {"timestamp": int(at * 1000), "message": line, "logStreamName": stream}
            for (group, stream), lines in self.lines.items()
            if group == parameters["logGroupName"]
            for at, line in lines
            if start <= at * 1000 <= end
        ]
        shown, token = page(found, parameters.get("nextToken"), PAGE, "InvalidParameterException")
        return {"events": list(shown)} | ({"nextToken": token} if token else {})

    def get_events(self, parameters: Parameters) -> Result:
        """The last lines of a stream."""
        lines = self.lines.get((parameters["logGroupName"], parameters["logStreamName"]), [])
        last = lines[-int(parameters.get("limit", PAGE)) :]
        return {"events": [{"timestamp": int(at * 1000), "message": line} for at, line in last]}


class CodeBuild:
    """The latest build of each project; `states` maps the project to how it stands, in CodeBuild's words."""

    service = "codebuild"

    def __init__(self, deployment: Deployment, logs: Logs) -> None:
        self._deployment = deployment
        self._logs = logs
        self.states: dict[str, str] = {}

    @property
    def operations(self) -> Mapping[str, Operation]:
        """What is answered here; nothing of this service is left to moto."""
        return {"ListBuildsForProject": self.list_builds, "BatchGetBuilds": self.get_builds}

    def fail(self, project: str, line: str) -> None:
        """Have the project's build fail, with that last line in its log."""
        self.states[project] = "FAILED"
        self._logs.write(f"{BUILD_LOGS}/{project}", "1", self._deployment.time, line)

    def list_builds(self, parameters: Parameters) -> Result:
        """The project's one build, if there was any."""
        project = parameters["projectName"]
        return {"ids": [f"{project}:1"] if project in self.states else []}

    def get_builds(self, parameters: Parameters) -> Result:
        """Builds by id, with where they log to."""
        projects = [str(id_).partition(":")[0] for id_ in parameters["ids"]]
        return {
            "builds": [
                {
                    "id": f"{project}:1",
                    "projectName": project,
                    "buildStatus": self.states[project],
                    "currentPhase": "BUILD",
                    "logs": {"groupName": f"{BUILD_LOGS}/{project}", "streamName": "1"},
                }
                for project in projects
            ]
        }
