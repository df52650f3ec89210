"""Ray Serve around the same pipeline, with its own dynamic batching, set as our server is."""

import os
from typing import Any

import ray
from ray import serve
from starlette.requests import Request

from containers.serving.bench.peers.pipeline import Pipeline

MAX_BATCH = int(os.environ["MAX_BATCH"])
BATCH_WINDOW_SECONDS = 0.004


class Server:
    """One replica with one pipeline."""

    def __init__(self) -> None:
        self._pipeline = Pipeline()

    async def __call__(self, request: Request) -> dict[str, Any]:
        """Answer one request; the health check has no body."""
        if request.method == "GET":
            return {"status": "ok"}
        answer: dict[str, Any] = await self._answer(await request.json())
        return answer

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=BATCH_WINDOW_SECONDS)  # type: ignore[untyped-decorator] # ray is not among the tests' packages
    async def _answer(self, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return self._pipeline.answers(bodies)


def main() -> None:
    """Serve until told to stop."""
    passed = ("BACKEND", "STEPS", "MAX_BATCH", "CACHE_DIRECTORY", "OMP_NUM_THREADS")
    variables = {name: os.environ[name] for name in passed}
    ray.init(include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": variables})
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PORT"])})
    serve.run(serve.deployment(max_ongoing_requests=1000)(Server).bind(), route_prefix="/", blocking=True)


if __name__ == "__main__":
    main()
