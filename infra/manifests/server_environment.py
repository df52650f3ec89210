"""The environment of a serving container: what the server in containers/serving is told."""

from dataclasses import dataclass

from control_lambda.core import names
from control_lambda.core.fleet import Fleet, Pool, Unit
from infra.accelerators import ACCELERATORS
from infra.manifests.common import PORT
from infra.manifests.pool import CACHE


@dataclass(frozen=True, slots=True)
class Model:
    """Where the pods find the model: its name, and where the bucket holds it and its compiled artifacts.

    Weights lie below `<prefix>/<name>`; `bucket` is empty for a model that the server builds itself.
    `revision` is the hub's commit, empty where none is pinned; both prefixes hold it, so that another one is
    another model.
    `shapes` are the served sizes in pixels, such as 512x512 (none: the model's own), and `steps` the
    denoising steps of a request that asks for no other number.
    """

    name: str
    revision: str
    bucket: str
    prefix: str
    artifacts_prefix: str
    shapes: tuple[str, ...]
    steps: int

    @property
    def weights(self) -> str:
        """The key below which the bucket holds the weights."""
        return f"{self.prefix}/{self.name}"


def neuron_target(instance_type: str) -> str:
    """What the Neuron compiler calls the chip of the instance type: its family, such as inf2."""
    return instance_type.partition(".")[0]


def model_environment(model: Model, unit: Unit) -> dict[str, str]:
    """What servers and the compiler must be told alike, so that what is compiled is what is served."""
    common = {
        "MODEL": model.name,
        "MODEL_REVISION": model.revision,
        "MODEL_BUCKET": model.bucket,
        "MODEL_PREFIX": model.prefix,
        "BACKEND": ACCELERATORS[unit.accelerator].backends[unit.framework],
        "SHAPES": ",".join(model.shapes),
    }
    if unit.accelerator != "neuron":
        return common
    return {
        **common,
        "NEURON_ARTIFACTS_PREFIX": model.artifacts_prefix,
        "NEURON_TARGET": neuron_target(unit.instance_type),
    }


def server_environment(
    *, fleet: Fleet, unit: Unit, pool: Pool, model: Model, cluster_name: str
) -> dict[str, str]:
    """The variables of the pool's servers.

    HOME is the cache: libraries that keep files there find it writable under the read-only root.
    """
    return {
        **model_environment(model, unit),
        "PORT": str(PORT),
        "UNIT": unit.name,
        "POOL": pool.name,
        "LATENCY_SECONDS": f"{fleet.objective.latency_seconds:g}",
        "SERVICE_SECONDS": f"{unit.profile.service_seconds:g}",
        "METRIC_NAMESPACE": names.NAMESPACE,
        "FLEET": cluster_name,
        "STEPS": str(model.steps),
        "CACHE_DIRECTORY": CACHE,
        "HOME": CACHE,
    }
