"""Our server with one more path, /bench/state: what a leak would make grow, as the process itself sees it."""

import asyncio
import os
import threading
from pathlib import Path
from typing import Final

from containers.serving.app import create_app
from containers.serving.backends.loading import load_backend
from containers.serving.engine import Engine
from containers.serving.server import make_server, serve
from containers.serving.settings import Settings

PROCESS: Final = Path("/proc/self")


def resident_bytes() -> int:
    """This process's resident memory (proc(5), statm: the second field, in pages)."""
    return int(PROCESS.joinpath("statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Serve as `python -m containers.serving` does, until told to stop."""
    settings = Settings.from_environ(os.environ)
    engine = Engine(settings, lambda: load_backend(settings))
    app = create_app(engine)

    @app.get("/bench/state")
    async def state() -> dict[str, int]:
        """Resident bytes, asyncio tasks, threads and open files."""
        return {
            "resident_bytes": resident_bytes(),
            "tasks": len(asyncio.all_tasks()),
            "threads": threading.active_count(),
            "files": len(list(PROCESS.joinpath("fd").iterdir())),
        }

    serve(make_server(settings, app, engine))


if __name__ == "__main__":
    main()
