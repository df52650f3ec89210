"""What every measurement of the bench shares: the model, its settings, one core for the device."""

import contextlib
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from containers.serving.server_process import Server, running

PROMPT: Final = "a lighthouse at dusk, oil painting"
OBSERVED_SERVER: Final = "containers.serving.bench.observed_server"
START_TIMEOUT_SECONDS: Final = 300.0
ANSWER_TIMEOUT_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class Setting:
    """The tiny pipeline on the CPU with so many steps; server logs and its cache go to `folder`.

    torch gets one thread everywhere: the device is one core, as a GPU is one device, and the server's
    own work has another core, as it has beside a GPU.
    """

    folder: Path
    steps: int
    max_batch: int
    seed: int = 0

    def environment(self, *, max_batch: int | None = None) -> dict[str, str]:
        """The variables of a server under test."""
        return {
            "BACKEND": "cpu",
            "STEPS": str(self.steps),
            "MAX_BATCH": str(max_batch or self.max_batch),
            "CACHE_DIRECTORY": str(self.folder / "cache"),
            "OMP_NUM_THREADS": "1",
        }

    def body(self, index: int) -> Mapping[str, Any]:
        """The body of the request with this index."""
        return {"prompt": PROMPT, "seed": index, "response_format": "b64_json"}

    @contextmanager
    def server(
        self, name: str, command: Sequence[str], *, ready_path: str, max_batch: int | None = None
    ) -> Iterator[Server]:
        """Run a server on a free port, which PORT tells it; `name` names its log.

        Raises:
            ServerError: it does not start.
        """
        port = free_port()
        variables = {**self.environment(max_batch=max_batch), "PORT": str(port)}
        self.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            log = stack.enter_context((self.folder / f"{name}.log").open("wb"))
            yield stack.enter_context(
                running(
                    command,
                    f"http://127.0.0.1:{port}",
                    ready_path=ready_path,
                    timeout_seconds=START_TIMEOUT_SECONDS,
                    environment=variables,
                    output=log,
                )
            )

    def ours(
        self, name: str, *, module: str = "containers.serving", max_batch: int | None = None
    ) -> contextlib.AbstractContextManager[Server]:
        """The server of this project, or the `OBSERVED_SERVER` around it."""
        command = [sys.executable, "-m", module]
        return self.server(name, command, ready_path="/health/ready", max_batch=max_batch)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
