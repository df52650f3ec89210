import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from containers.serving.backends import inductor
from containers.serving.backends.diffusion import load_pipeline, render
from containers.serving.backends.protocol import Picture, Served, Shape, Work
from containers.serving.settings import Settings
from tests.containers.serving import families

SHAPE = Shape(64, 64)

# diffusers asks for torch's version inside the model.
pytestmark = pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")


@pytest.fixture(autouse=True)
def _own_graphs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Compiled graphs and their cache are forgotten after each test."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "chosen-by-torch"))
    yield
    torch.compiler.reset()


def test_compiled_graphs_make_the_same_picture_and_are_made_once(
    tiny_directory: Path, tmp_path: Path
) -> None:
    """Compiled by dynamo, which inductor builds on: as eager in bfloat16; other steps reuse the graphs."""
    graphs: list[torch.fx.GraphModule] = []

    def recording(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    settings = Settings(max_batch=1, cache_directory=tmp_path)
    backend = inductor.load(settings, tiny_directory, compiler=recording)
    assert backend.served == Served((SHAPE,), guided=True)
    picture = Picture("a cat", "", 1, Work(SHAPE, 2, 7.5))
    (compiled,) = backend.generate([picture])
    (plain,) = render(load_pipeline(settings, tiny_directory, torch.bfloat16), [picture])
    difference = np.abs(np.asarray(compiled, np.float64) - np.asarray(plain, np.float64))
    assert difference.mean() < 2
    made = len(graphs)
    backend.generate([Picture("a dog", "", 2, Work(SHAPE, 4, 3.0))])
    assert len(graphs) == made > 0


def test_graphs_are_kept_in_the_cache_directory(tiny_directory: Path, tmp_path: Path) -> None:
    """Where a volume keeps them over a restart, although torch has chosen another place by then."""
    inductor.load(Settings(cache_directory=tmp_path), tiny_directory, compiler="eager")
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "inductor")


def test_layers_for_videos_keep_their_order_of_axes(tmp_path: Path) -> None:
    """Qwen-Image's VAE has five axes, which channels-last has no order for."""
    saved, cache = tmp_path / "model", tmp_path / "cache"
    families.qwen_image().save_pretrained(saved)
    backend = inductor.load(Settings(cache_directory=cache), saved, compiler="eager")
    assert backend.served.kinds == {"text"}
    assert backend.served.guided
