"""The results as tables for the terminal."""

from collections.abc import Callable, Sequence
from typing import Any

from rich.table import Table


def table(section: str, result: Any) -> Table:
    """The table of one section's result."""
    makers: dict[str, Callable[[Any], Table]] = {
        "overhead": _overhead,
        "batching": _batching,
        "soak": _soak,
        "peers": _peers,
    }
    return makers[section](result)


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    made = Table(title=title, title_justify="left")
    for name in head:
        made.add_column(name, justify="right" if name != head[0] else "left")
    for row in rows:
        made.add_row(*row)
    return made


def _overhead(results: Sequence[dict[str, Any]]) -> Table:
    rows = [
        [
            str(result["batch"]),
            f"{result['direct_images_per_second']:.2f}",
            f"{result['server_images_per_second']:.2f}",
            f"{100 * result['overhead']:.1f} %",
            _range(result["overhead_interval"], 100, " %"),
            _range(result["overhead_quartiles"], 100, " %"),
            f"{100 * result['waiting']:.1f} %",
            str(len(result["turns"])),
        ]
        for result in results
    ]
    head = [
        "batch",
        "direct, images/s",
        "server, images/s",
        "overhead",
        "95 % interval",
        "quartiles",
        "device waits",
        "turns",
    ]
    return _table("Overhead of the server at saturation", head, rows)


def _batching(result: dict[str, Any]) -> Table:
    row = [
        str(result["max_batch"]),
        f"{result['single_images_per_second']:.2f}",
        f"{result['batched_images_per_second']:.2f}",
        f"× {result['gain']:.2f}",
        _range(result["gain_interval"], 1, ""),
        _range(result["gain_quartiles"], 1, ""),
        f"{result['mean_batch']:.2f}",
    ]
    head = [
        "largest batch",
        "one by one, images/s",
        "batched, images/s",
        "gain",
        "95 % interval",
        "quartiles",
        "mean batch",
    ]
    return _table("What batching gains at saturation", head, [row])


def _range(quartiles: Sequence[float], factor: float, unit: str) -> str:
    low, high = quartiles
    return f"{factor * low:.2f} to {factor * high:.2f}{unit}"


def _soak(result: dict[str, Any]) -> Table:
    first, last = result["states"][0], result["states"][-1]
    rows = [
        ["good requests answered", f"{result['good_answered']} of {result['good']}"],
        ["malformed requests refused", f"{result['malformed_refused']} of {result['malformed']}"],
        ["cancelled by the client", str(result["cancelled"])],
        ["answered before they were cancelled", str(result["answered_before_cancelled"])],
        ["resident memory, first to last block", f"{_mebibytes(first)} to {_mebibytes(last)} MiB"],
        ["tasks, first to last block", f"{first['tasks']} to {last['tasks']}"],
        ["threads, first to last block", f"{first['threads']} to {last['threads']}"],
        ["problems", "; ".join(result["problems"]) or "none"],
    ]
    return _table(f"{result['requests']} requests", ["what", "measured"], rows)


def _mebibytes(state: dict[str, int]) -> int:
    return round(state["resident_bytes"] / 2**20)


def _peers(results: Sequence[dict[str, Any]]) -> Table:
    rows = [
        [
            result["server"],
            f"{result['load']:.1f} ({result['offered_per_second']:.1f}/s)",
            f"{result['answered_per_second']:.2f}",
            f"{result['p50_seconds']:.2f} s",
            f"{result['p95_seconds']:.2f} s",
            f"{result['p95_lowest']:.2f} to {result['p95_highest']:.2f} s",
            f"{result['failed']} of {result['requests']}",
        ]
        for result in results
    ]
    head = ["server", "offered × plain loop", "answered/s", "p50", "p95", "p95 by round", "failed"]
    return _table("Peers at the same load", head, rows)
