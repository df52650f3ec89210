"""`python -m containers.serving.gpu_bench`: full-size models on a GPU, eager against compiled."""

import dataclasses
import gc
import json
import sys
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from PIL.Image import Image
from rich.console import Console
from rich.table import Table

from containers.serving.backends.loading import load_backend
from containers.serving.backends.protocol import Backend
from containers.serving.command_line import FAILED, Parser, count, folder
from containers.serving.consistency.compare import Tolerance
from containers.serving.gpu_bench import architectures, measure
from containers.serving.settings import Settings

PROGRAM: Final = "python -m containers.serving.gpu_bench"
DESCRIPTION: Final = """\
Measure Stable Diffusion 2.1 and SDXL at full size on this machine's NVIDIA GPU, with random weights (nothing
is downloaded): eager against torch.compile, by batch size, and whether the CPU makes the same pictures."""
EPILOG: Final = """\
example:
  python -m containers.serving.gpu_bench --out out/gpu-bench --models sd-2.1

exit codes: 0 done, 1 there is no GPU, 2 bad input. SDXL needs 10 GB of disk for its weights."""
BATCHES: Final = (1, 2, 4, 8)
BACKENDS: Final = ("cuda", "inductor")
# The CPU is slow at this size: a few steps show whether the arithmetic agrees.
AGREEMENT_STEPS: Final = 4
AGREEMENT_PICTURES: Final = 2
TOLERANCE: Final = Tolerance(least_ssim=0.8, most_hash_distance=10)
RESULTS: Final = "gpu-bench.json"


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(prog=PROGRAM, description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--out", type=folder, required=True, metavar="DIR")
    names = tuple(architectures.ARCHITECTURES)
    parser.add_argument("--models", nargs="+", choices=names, default=names, metavar="MODEL")
    parser.add_argument("--steps", type=count, default=20, help="of every picture (default: 20)")
    parser.add_argument("--repeats", type=count, default=10, help="of every batch size (default: 10)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    given = make_parser().parse_args(arguments)
    if not torch.cuda.is_available():
        print(f"{PROGRAM}: no NVIDIA GPU is here, so there is nothing to measure", file=sys.stderr)
        return FAILED
    given.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"device": torch.cuda.get_device_name(), "steps": given.steps}
    for name in given.models:
        with tempfile.TemporaryDirectory() as directory:
            architectures.save(architectures.ARCHITECTURES[name], Path(directory))
            results[name] = _measured(given, Path(directory))
        Console().print(*(table(name, backend, results[name][backend]) for backend in BACKENDS), sep="\n")
        # After each model: should the next one not fit, the figures of this one are kept.
        (given.out / RESULTS).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


def _measured(given: Namespace, model: Path) -> dict[str, Any]:
    """The figures of one saved model on every backend."""
    cpu = _backend("cpu", model)
    reference = [
        cpu.generate([picture])[0] for picture in measure.pictures(cpu, AGREEMENT_PICTURES, AGREEMENT_STEPS)
    ]
    del cpu
    return {backend: _on(backend, given, model, reference) for backend in BACKENDS}


def _on(name: str, given: Namespace, model: Path, reference: list[Image]) -> dict[str, Any]:
    backend = _backend(name, model)
    device = measure.Device(
        finish=torch.cuda.synchronize,
        forget_peak=torch.cuda.reset_peak_memory_stats,
        peak_bytes=torch.cuda.max_memory_allocated,
    )
    speeds = [measure.speed(backend, device, batch, given.steps, given.repeats) for batch in BATCHES]
    alike = measure.agreement(reference, backend, AGREEMENT_STEPS, TOLERANCE)
    del backend
    gc.collect()
    torch.cuda.empty_cache()
    return {
        "speeds": [dataclasses.asdict(one) for one in speeds],
        "agreement": [dataclasses.asdict(one) for one in alike],
    }


def _backend(name: str, model: Path) -> Backend:
    """The server's own backend, loaded as the server loads it."""
    environment = {"BACKEND": name, "MODEL": str(model), "MAX_BATCH": str(max(BATCHES))}
    return load_backend(Settings.from_environ(environment))


def table(model: str, backend: str, result: dict[str, Any]) -> Table:
    """The figures of one model on one backend."""
    lowest = min(one["ssim"] for one in result["agreement"])
    made = Table(
        title=f"{model} on {backend}; lowest SSIM against the CPU {lowest:.3f}", title_justify="left"
    )
    for head in ("batch", "images/s", "p50, s", "p95, s", "first call, s more", "peak GiB"):
        made.add_column(head, justify="right")
    for speed in result["speeds"]:
        made.add_row(
            str(speed["batch"]), *(f"{value:.3f}" for name, value in speed.items() if name != "batch")
        )
    return made


if __name__ == "__main__":
    sys.exit(main())
