"""How far a replay is: a bar on a terminal, a line per quarter in a pipe."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from twin.steering import replay


@contextmanager
def shown(console: Console, name: str) -> Iterator[replay.Progress]:
    """Yield the function that a replay reports its minutes to."""
    if not console.is_terminal:
        yield _Lines(console, name)
        return
    columns = (TextColumn("{task.description:<16}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class _Lines:
    """Prints a line whenever another quarter is done."""

    def __init__(self, console: Console, name: str) -> None:
        self._console = console
        self._name = name
        self._quarters = 0

    def __call__(self, done: int, total: int) -> None:
        quarters = 4 * done // total
        if quarters > self._quarters:
            self._quarters = quarters
            self._console.print(f"{self._name}: {25 * quarters} %, {done:,} of {total:,} minutes")
