"""Stands in for the one module that only AWS's images hold: the calls that the backend makes, on the CPU.

It keeps what the real one asks of its caller: a part is traced for fixed shapes, refuses others, and
`DataParallel` gives every core an equal share of the batch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

calls: list[dict[str, Any]] = []


def trace(func: torch.nn.Module, inputs: tuple[torch.Tensor, ...], **options: Any) -> torch.jit.ScriptModule:
    """Trace on the CPU, and remember how it was asked."""
    calls.append({"part": type(func).__name__, "shapes": [tuple(one.shape) for one in inputs], **options})
    traced: torch.jit.ScriptModule = torch.jit.trace(func, inputs, check_trace=False)
    return traced


class DataParallel:
    """Splits the first dimension evenly over the cores."""

    def __init__(
        self, part: torch.jit.ScriptModule, device_ids: Sequence[int], *, set_dynamic_batching: bool
    ) -> None:
        assert not set_dynamic_batching, "compiled for one batch size"
        self._part = part
        self._cores = len(device_ids)

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        """One call of the part for each core's share."""
        assert all(len(one) % self._cores == 0 for one in inputs), "cores share a batch evenly"
        shares = zip(*(one.chunk(self._cores) for one in inputs), strict=True)
        return torch.cat([self._part(*share) for share in shares])


def fake_compiler(site: Path, version: str) -> None:
    """Let `importlib.metadata` find a neuronx-cc of that version under `site`."""
    folder = site / f"neuronx_cc-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: neuronx-cc\nVersion: {version}\n", "utf-8"
    )
