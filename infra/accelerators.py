"""The accelerators in one table: what each of them runs, and what its nodes, pods and image need.

`Accelerator` in `control_lambda.core.fleet` is the list of their names; which of them an instance type has
stands in `infra/tables/instance_types.csv`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from control_lambda.core.fleet import Accelerator, Framework
from infra import pins
from infra.helm import Chart

Tolerations = Sequence[Mapping[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePlugin:
    """The chart that offers a node's devices to pods as `resource`, and its values for given tolerations."""

    resource: str
    chart: Chart
    values: Callable[[Tolerations], Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceleratorFacts:
    """One accelerator.

    `backends` maps the frameworks that run on it to those of containers/serving/backends/. `ami_type` is
    EKS's image with its driver, `dockerfile` makes the server's image. `node_labels` are what the chart of
    the `device_plugin` finds its nodes by; plain cores need no plugin.
    """

    backends: Mapping[Framework, str]
    ami_type: str
    dockerfile: str
    device_plugin: DevicePlugin | None = None
    node_labels: Mapping[str, str] = field(default_factory=dict)


def _nvidia_values(tolerations: Tolerations) -> Mapping[str, Any]:
    """The plugin goes to nodes labelled nvidia.com/gpu.present, which is the chart's own affinity."""
    return {"tolerations": tolerations}


def _neuron_values(tolerations: Tolerations) -> Mapping[str, Any]:
    """The device plugin alone, without scheduler extension and node problem detector."""
    return {
        "devicePlugin": {"tolerations": tolerations},
        "npd": {"enabled": False},
        "scheduler": {"enabled": False},
    }


ACCELERATORS: Final[Mapping[Accelerator, AcceleratorFacts]] = {
    "nvidia": AcceleratorFacts(
        backends={"inductor": "inductor", "eager": "cuda"},
        ami_type="AL2023_x86_64_NVIDIA",
        dockerfile="containers/serving/Dockerfile.nvidia",
        device_plugin=DevicePlugin(
            resource="nvidia.com/gpu",
            chart=Chart(
                release="nvidia-device-plugin",
                chart="nvidia-device-plugin",
                repository="https://nvidia.github.io/k8s-device-plugin",
                version=pins.version("chart", "nvidia-device-plugin"),
            ),
            values=_nvidia_values,
        ),
        node_labels={"nvidia.com/gpu.present": "true"},
    ),
    "neuron": AcceleratorFacts(
        backends={"neuronx": "neuron"},
        ami_type="AL2023_x86_64_NEURON",
        dockerfile="containers/serving/Dockerfile.neuron",
        device_plugin=DevicePlugin(
            resource="aws.amazon.com/neuron",
            chart=Chart(
                release="neuron-device-plugin",
                chart="neuron-helm-chart",
                repository="oci://public.ecr.aws/neuron/neuron-helm-chart",
                version=pins.version("chart", "neuron-helm-chart"),
            ),
            values=_neuron_values,
        ),
    ),
    "cpu": AcceleratorFacts(
        backends={"inductor": "inductor", "eager": "cpu"},
        ami_type="AL2023_x86_64_STANDARD",
        dockerfile="containers/serving/Dockerfile.cpu",
    ),
}
