"""How much of a node is left for a pod of ours, and how much of it a model takes.

A node's capacity less what kubelet reserves is allocatable (nodeadm's formulas, awslabs/amazon-eks-ami,
nodeadm/internal/kubelet/config.go); less what the agents of every node ask for, it is a pod's.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import ceil
from typing import Final

from control_lambda.core.fleet import Accelerator
from infra.catalog import TABLES, InstanceType

# What an instance type's memory loses to firmware and kernel before the kubelet sees it: Karpenter's default
# for VM_MEMORY_OVERHEAD_PERCENT.
VM_OVERHEAD: Final = 0.075
EVICTION_MIB: Final = 100
RESERVED_MIB: Final = 255
RESERVED_MIB_PER_POD: Final = 11
# Reserved thousandths of the first, the second, the next two and every further core.
RESERVED_MILLICORES: Final = (60, 10, 5, 5)
RESERVED_OF_FURTHER: Final = 2.5

# What runs on every node beside our pod: VPC CNI and its policy agent, kube-proxy, Pod Identity agent,
# CloudWatch agent, Fluent Bit, device plugin and its exporter. Their CPU requests; more memory than those.
DAEMONS_MILLICORES: Final = 800
DAEMONS_MIB: Final = 768

# A server's process without a model: Python, torch, the runtime of the accelerator.
PROCESS_MIB: Final = 2560
# Bytes of host memory per parameter. On GPUs the weights pass through it in half precision; Neuron's compiled
# parts hold them once more beside the pipeline that they stand in for; CPUs compute in single precision.
HOST_BYTES: Final[Mapping[Accelerator, int]] = {"nvidia": 2, "neuron": 4, "cpu": 4}
MIB: Final = 2**20


@dataclass(frozen=True, slots=True)
class Room:
    """Thousandths of a core, and MiB of memory."""

    millicores: int
    mib: int


def allocatable(instance_type: InstanceType) -> Room:
    """What the node offers to pods, its agents' included."""
    cores = instance_type.vcpus
    firsts = RESERVED_MILLICORES[:cores]
    reserved_cpu = sum(firsts) + RESERVED_OF_FURTHER * (cores - len(firsts))
    reserved_mib = RESERVED_MIB + RESERVED_MIB_PER_POD * instance_type.max_pods + EVICTION_MIB
    seen = int(instance_type.memory_mib * (1 - VM_OVERHEAD))
    return Room(1000 * cores - ceil(reserved_cpu), seen - reserved_mib)


def for_pods(instance_type: InstanceType) -> Room:
    """What is left for pods of ours beside the agents of every node."""
    whole = allocatable(instance_type)
    return Room(whole.millicores - DAEMONS_MILLICORES, whole.mib - DAEMONS_MIB)


def needed_mib(model: str, accelerator: Accelerator) -> int | None:
    """The host memory that a server of the model takes; None where the table does not hold the model."""
    millions = _parameters_millions().get(model)
    if millions is None:
        return None
    return PROCESS_MIB + ceil(millions * 1e6 * HOST_BYTES[accelerator] / MIB)


@cache
def _parameters_millions() -> Mapping[str, float]:
    with (TABLES / "models.csv").open(encoding="utf-8", newline="") as file:
        return {row["model"]: float(row["parameters_millions"]) for row in csv.DictReader(file)}
