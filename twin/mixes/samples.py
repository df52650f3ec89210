"""KAIROS' measured latencies (HPDC'23; artifact boringlee24/hpdc23-kairos, MIT), and their predictions.

The artifact holds about 100 latencies for each of 4 instance types, 5 models and 100 query sizes, and as
many times to load the query's data. As its server does, a latency is the sum of both, and the largest of a
hundred, the first call on a cold process, is left out.
"""

import json
import os
import tarfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from containers.router.matching import LatencyModel
from twin.bench.scenarios import DATA_DEFAULT, DATA_VARIABLE
from twin.errors import InputError

Floats = NDArray[np.float64]

ARCHIVE: Final = Path("kairos", "latency_samples.tar.gz")
SIZE_STEP: Final = 10
SIZES: Final = np.arange(SIZE_STEP, 1001, SIZE_STEP, dtype=np.float64)
MILLISECONDS: Final = 1000.0


@dataclass(frozen=True, slots=True)
class InstanceType:
    """An EC2 instance type and its price on demand, as in KAIROS' table 4."""

    name: str
    usd_per_hour: float


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A recommendation model: its name in the paper, in the artifact's files, and its 99 % latency target."""

    name: str
    file_name: str
    target_seconds: float


# The first is the base: it alone serves every size in time.
TYPES: Final = (
    InstanceType("g4dn.xlarge", 0.526),
    InstanceType("c5n.2xlarge", 0.432),
    InstanceType("r5n.large", 0.149),
    InstanceType("t3.xlarge", 0.1664),
)
MODELS: Final = (
    ServedModel("NCF", "ncf", 0.005),
    ServedModel("RM2", "rm2", 0.350),
    ServedModel("WND", "wnd", 0.025),
    ServedModel("MT-WND", "mtwnd", 0.025),
    ServedModel("DIEN", "dien", 0.035),
)
BUDGET_USD_PER_HOUR: Final = 2.5


@dataclass(frozen=True, slots=True, eq=False)
class Latencies:
    """Service seconds of one model as measured: types × `SIZES` × samples, and its target."""

    target_seconds: float
    seconds: Floats

    def line(self, kind: int) -> LatencyModel:
        """A type's latency as a line in query size, by least squares on relative errors, with its spread."""
        samples = self.seconds[kind]
        means = samples.mean(axis=1)
        slope, intercept = np.polyfit(SIZES, means, 1, w=1.0 / means)
        residuals = samples / (intercept + slope * SIZES)[:, np.newaxis] - 1.0
        return LatencyModel(max(float(intercept), 0.0), float(slope), float(residuals.std()))

    def lines(self) -> list[LatencyModel]:
        """The line of every type."""
        return [self.line(kind) for kind in range(len(self.seconds))]


def load(model: ServedModel) -> Latencies:
    """The measured latencies of a model on `TYPES`.

    Raises:
        InputError: the recorded data is absent, or lacks a file.
    """
    files = _archive(data_file(ARCHIVE))
    of_type = [[_samples(files, kind, model, int(size)) for size in SIZES] for kind in TYPES]
    fewest = min(len(samples) for row in of_type for samples in row)
    seconds = np.array([[samples[:fewest] for samples in row] for row in of_type]) / MILLISECONDS
    return Latencies(model.target_seconds, seconds)


def data_file(name: Path) -> Path:
    """A file of the recorded data.

    Raises:
        InputError: it is absent.
    """
    folder = Path(os.environ.get(DATA_VARIABLE, DATA_DEFAULT))
    if not (folder / name).is_file():
        raise InputError(f"{DATA_VARIABLE}: {folder} holds no {name}; valid: a folder with that file in it")
    return folder / name


@cache
def _archive(path: Path) -> dict[str, bytes]:
    """Every JSON file of the archive by its name in it."""
    with tarfile.open(path) as archive:
        members = [member for member in archive if member.isfile() and member.name.endswith(".json")]
        files = ((member.name, archive.extractfile(member)) for member in members)
        return {name: file.read() for name, file in files if file is not None}


def _samples(files: dict[str, bytes], kind: InstanceType, model: ServedModel, size: int) -> Floats:
    """Milliseconds: service and loading of one type, model and size, without the largest."""
    name = f"{kind.name}/{model.file_name}_{size}_1.json"
    try:
        served, loaded = (json.loads(files[f"data/{folder}{name}"]) for folder in ("", "logs_load/"))
    except KeyError as error:
        raise InputError(f"{ARCHIVE}: {error} is missing; valid: the artifact's archive, complete") from None
    total: Floats = np.array(served, dtype=np.float64) + np.array(loaded, dtype=np.float64)
    return np.delete(total, total.argmax())
