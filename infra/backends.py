"""Which backend of the server runs a framework on an accelerator."""

from collections.abc import Mapping
from typing import Final

from control_lambda.core.fleet import Accelerator, Framework

# The backends are those of containers/serving/backends/.
BACKENDS: Final[Mapping[Accelerator, Mapping[Framework, str]]] = {
    "neuron": {"neuronx": "neuron"},
    "nvidia": {"inductor": "inductor", "eager": "cuda"},
    "cpu": {"inductor": "inductor", "eager": "cpu"},
}
