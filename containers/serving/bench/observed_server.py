"""Our server with two more paths: what a leak would make grow, and how long the bare pipeline takes."""

import asyncio
import os
import threading
from pathlib import Path
from typing import Final

from fastapi import FastAPI

from containers.serving.app import create_app
from containers.serving.backends.loading import load_backend
from containers.serving.bench.direct import Turn, Turns, TurnTakingBackend
from containers.serving.engine import Engine
from containers.serving.server import make_server, serve
from containers.serving.settings import Settings

PROCESS: Final = Path("/proc/self")


def main() -> None:
    """Serve as `python -m containers.serving` does, until told to stop."""
    settings = Settings.from_environ(os.environ)
    turns = Turns()
    engine = Engine(settings, lambda: TurnTakingBackend(load_backend(settings), settings.max_batch, turns))
    app = create_app(engine)
    add_state(app)
    add_turns(app, turns)
    serve(make_server(settings, app, engine))


def add_state(app: FastAPI) -> None:
    """/bench/state: the process as it sees itself."""

    @app.get("/bench/state")
    async def state() -> dict[str, int]:
        """Resident bytes, asyncio tasks, threads and open files."""
        return {
            "resident_bytes": resident_bytes(),
            "tasks": len(asyncio.all_tasks()),
            "threads": threading.active_count(),
            "files": len(list(PROCESS.joinpath("fd").iterdir())),
        }


def resident_bytes() -> int:
    """This process's resident memory (proc(5), statm: the second field, in pages)."""
    return int(PROCESS.joinpath("statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def add_turns(app: FastAPI, turns: Turns) -> None:
    """/bench/turns: the server and its pipeline in turns."""

    @app.post("/bench/turns")
    async def begin() -> None:
        """Take turns from now on."""
        turns.are_wanted = True

    @app.get("/bench/turns")
    async def taken() -> list[Turn]:
        """Every turn so far."""
        return turns.taken


if __name__ == "__main__":
    main()
