"""The plain loop: a handler that makes the picture itself, one request at a time, the event loop blocked.

It is what the reference sample's handler does (aws-samples/scalable-hw-agnostic-inference, app/run-sd.py:
a FastAPI handler that calls the pipeline), with our pipeline and our answer.
"""

import os
from typing import Any

import uvicorn
from fastapi import FastAPI

from containers.serving.bench.peers.pipeline import Pipeline


def main() -> None:
    """Serve until told to stop."""
    pipeline = Pipeline()
    app = FastAPI()

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Always well."""
        return {"status": "ok"}

    @app.post("/v1/images/generations")
    async def generations(body: dict[str, Any]) -> dict[str, Any]:
        """Make one picture."""
        return pipeline.answers([body])[0]

    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning")


if __name__ == "__main__":
    main()
