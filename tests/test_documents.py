"""The documents name files that exist: who reads a path can open it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "infra").rglob("*.md")])
PATH = re.compile(r"`([\w.-]+(?:/[\w.-]+)*/(?:[\w.-]+\.(?:py|md|yaml|csv|json|html))?)`")
# Where a document may begin a path: decisions speak of the core's rooms from the Lambda's folder on.
BEGINNINGS = (ROOT, ROOT / "control_lambda", ROOT / "control_lambda" / "core", ROOT / "twin", ROOT / "infra")
# What a run makes or a person's data holds, and a folder that is spoken of before it is deployed.
ELSEWHERE = ("out/", "cdk.out/", "../")


def missing(document: Path) -> list[str]:
    """The paths that a document names and that lead nowhere."""
    named = PATH.findall(document.read_text(encoding="utf-8"))
    return sorted(
        path
        for path in {*named}
        if not path.startswith(ELSEWHERE) and not any((beginning / path).exists() for beginning in BEGINNINGS)
    )


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_every_path_that_a_document_names_exists(document: Path) -> None:
    """A file that moves takes its name in the documents along."""
    assert missing(document) == []


def test_a_path_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    """The check can fail."""
    page = tmp_path / "page.md"
    page.write_text("See `twin/nowhere.py`, `out/day/report.html` and `twin/world/`.", encoding="utf-8")
    assert missing(page) == ["twin/nowhere.py"]
