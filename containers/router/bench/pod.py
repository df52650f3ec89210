"""Stand-ins for serving pods: each takes a fixed time for a query, and says how long it really took."""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from typing import Final

from aiohttp import web

# How long the pod itself had the query, its event loop's delays included: what a proxy adds is the rest.
POD_SECONDS: Final = "X-Pod-Seconds"


def pod(service_seconds: float, answer_bytes: int) -> web.Application:
    """A pod that answers a query after `service_seconds` with about `answer_bytes` of JSON."""
    answer = json.dumps({"created": 0, "data": [{"b64_json": "A" * answer_bytes}]}).encode()

    async def query(request: web.Request) -> web.Response:
        began = time.perf_counter()
        await request.read()
        await asyncio.sleep(service_seconds)
        headers = {POD_SECONDS: f"{time.perf_counter() - began:.6f}", "Content-Type": "application/json"}
        return web.Response(body=answer, headers=headers)

    async def ready(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    app = web.Application()
    app.router.add_post("/v1/images/generations", query)
    app.router.add_get("/health/ready", ready)
    return app


async def serve(ports: list[int], service_seconds: float, answer_bytes: int) -> None:
    """Serve one pod on each port of this machine, until the process is ended."""
    for port in ports:
        runner = web.AppRunner(pod(service_seconds, answer_bytes), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    await asyncio.Event().wait()


def command(ports: Sequence[int], service_seconds: float, answer_bytes: int) -> list[str]:
    """The command that serves these pods in a process of its own."""
    options = [*map(str, ports), "--seconds", str(service_seconds), "--answer-bytes", str(answer_bytes)]
    return [sys.executable, "-m", "containers.router.bench.pod", *options]


def main() -> None:
    """Serve pods as the command line says."""
    parser = argparse.ArgumentParser(description="Stand-ins for serving pods, one on each port.")
    parser.add_argument("ports", type=int, nargs="+")
    parser.add_argument("--seconds", type=float, required=True, help="how long a query takes")
    parser.add_argument("--answer-bytes", type=int, required=True, help="how long the answer is")
    given = parser.parse_args()
    asyncio.run(serve(given.ports, given.seconds, given.answer_bytes))


if __name__ == "__main__":
    main()
