"""What a backend does with a model: speed, memory, compile time by batch size; agreement with the CPU."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL.Image import Image

from containers.serving.backends.protocol import Backend, Picture, Work
from containers.serving.consistency.compare import Likeness, Tolerance, likeness

PROMPT = "a lighthouse at dusk, oil painting"
GUIDANCE_SCALE = 7.5


@dataclass(frozen=True, slots=True)
class Device:
    """What the measurement needs of the device: wait until it is idle, and its peak memory (bytes)."""

    finish: Callable[[], None]
    forget_peak: Callable[[], None]
    peak_bytes: Callable[[], int]


@dataclass(frozen=True, slots=True)
class Speed:
    """One batch size: images per second, a batch's latencies, how much longer the first took (seconds)."""

    batch: int
    images_per_second: float
    p50_seconds: float
    p95_seconds: float
    first_call_seconds: float
    peak_gibibytes: float


def pictures(backend: Backend, batch: int, steps: int) -> list[Picture]:
    """A batch with seeds from 0."""
    work = Work(backend.served.shapes[0], steps, GUIDANCE_SCALE, has_negative_prompt=False)
    return [Picture(PROMPT, "", seed, work) for seed in range(batch)]


def speed(backend: Backend, device: Device, batch: int, steps: int, repeats: int) -> Speed:
    """Make `repeats` batches after a first one, which compiles and is told apart."""
    device.forget_peak()
    wanted = pictures(backend, batch, steps)
    first = _timed(backend, device, wanted)
    seconds = [_timed(backend, device, wanted) for _ in range(repeats)]
    median, slow = np.percentile(seconds, [50, 95])
    return Speed(
        batch=batch,
        images_per_second=batch * repeats / sum(seconds),
        p50_seconds=float(median),
        p95_seconds=float(slow),
        first_call_seconds=first - float(median),
        peak_gibibytes=device.peak_bytes() / 2**30,
    )


def _timed(backend: Backend, device: Device, wanted: list[Picture]) -> float:
    device.finish()
    began = time.perf_counter()
    backend.generate(wanted)
    device.finish()
    return time.perf_counter() - began


def agreement(reference: list[Image], backend: Backend, steps: int, tolerance: Tolerance) -> list[Likeness]:
    """How alike the backend's pictures are to the reference's, which have the same seeds, made one by one."""
    made = [backend.generate([picture])[0] for picture in pictures(backend, len(reference), steps)]
    return [likeness(one, other, tolerance) for one, other in zip(reference, made, strict=True)]
