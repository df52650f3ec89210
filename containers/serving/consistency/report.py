"""The report: every golden prompt with the pictures of all units side by side, on one page."""

import base64
import dataclasses
import io
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Final

from PIL import Image

from containers.serving.consistency.compare import Likeness, Tolerance, UnitResult
from containers.serving.consistency.golden import Golden

PAGE: Final = "consistency.html"
FIGURES: Final = "consistency.json"
TEMPLATE: Final = Path(__file__).with_name("report.html")


def write(
    prompts: Sequence[Golden], results: Sequence[UnitResult], tolerance: Tolerance, folder: Path
) -> None:
    """Write the page and the figures; the first result is the reference."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PAGE).write_text(page(prompts, results, tolerance), encoding="utf-8")
    (folder / FIGURES).write_text(figures(prompts, results), encoding="utf-8")


def lines(results: Sequence[UnitResult]) -> list[str]:
    """A line of words for every unit but the reference."""
    return [_line(result, results[0].unit) for result in results[1:]]


def _line(result: UnitResult, reference: str) -> str:
    if result.agreement is None:
        return f"{result.unit}: no pictures: {result.failure}"
    worst = min(likeness.ssim for likeness in result.likenesses)
    furthest = max(likeness.hash_distance for likeness in result.likenesses)
    return (
        f"{result.unit}: {100 * result.agreement:.0f} % of {len(result.likenesses)} pictures agree with "
        f"{reference}; lowest SSIM {worst:.3f}, largest hash distance {furthest}"
    )


def figures(prompts: Sequence[Golden], results: Sequence[UnitResult]) -> str:
    """The comparison as JSON."""
    told = [
        {
            "unit": result.unit,
            "agreement": result.agreement,
            "failure": result.failure,
            "pictures": [
                {"prompt": golden.prompt, "seed": golden.seed, **dataclasses.asdict(likeness)}
                for golden, likeness in zip(prompts, result.likenesses, strict=False)
            ],
        }
        for result in results
    ]
    return json.dumps(told, indent=2) + "\n"


def page(prompts: Sequence[Golden], results: Sequence[UnitResult], tolerance: Tolerance) -> str:
    """One self-contained page."""
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        reference=escape(results[0].unit),
        least_ssim=f"{tolerance.least_ssim:g}",
        most_hash_distance=tolerance.most_hash_distance,
        summary="".join(f"<li>{escape(line)}</li>" for line in lines(results)),
        head="".join(f"<th>{escape(result.unit)}</th>" for result in results),
        rows="".join(_row(index, golden, results) for index, golden in enumerate(prompts)),
    )


def _row(index: int, golden: Golden, results: Sequence[UnitResult]) -> str:
    cells = "".join(_cell(index, result) for result in results)
    return f"<tr><th>{escape(golden.prompt)}<small>seed {golden.seed}</small></th>{cells}</tr>"


def _cell(index: int, result: UnitResult) -> str:
    if result.failure is not None:
        return "<td class=no>no picture</td>"
    shown = f'<img alt="picture by {escape(result.unit)}" src="{_data_uri(result.pictures[index])}">'
    return f"<td>{shown}{_told(result.likenesses[index])}</td>"


def _told(likeness: Likeness) -> str:
    style = "yes" if likeness.agrees else "no"
    return f"<small class={style}>SSIM {likeness.ssim:.3f}, hash distance {likeness.hash_distance}</small>"


def _data_uri(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, format="PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
