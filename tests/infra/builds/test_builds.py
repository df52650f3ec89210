"""The sources that builds unpack."""

from pathlib import Path

import pytest
from aws_cdk import App, Stack

from infra.builds.builds import sources
from infra.builds.images import DOCKERFILES, ImageKind
from tests.infra.conftest import ROOT


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that CodeBuild finds: the asset as it is uploaded."""
    staged = tmp_path_factory.mktemp("cdk.out")
    asset = sources(Stack(App(outdir=str(staged)), "Sources"), "Sources")
    return staged / asset.asset_path


def copied(dockerfile: Path) -> list[str]:
    """What a Dockerfile copies from the sources; what it copies from another stage is none of them."""
    lines = [line.split() for line in dockerfile.read_text(encoding="utf-8").splitlines()]
    copies = [words[1:-1] for words in lines if words[:1] == ["COPY"]]
    return [source for words in copies if not words[0].startswith("--from") for source in words]


@pytest.mark.parametrize("kind", [kind for kind in DOCKERFILES if kind != "router"])
def test_a_build_finds_what_its_dockerfile_copies(unpacked: Path, kind: ImageKind) -> None:
    """And the Dockerfile itself, where the build is told that it is."""
    dockerfile = unpacked / DOCKERFILES[kind]
    assert len(copied(dockerfile)) >= 2
    assert [source for source in copied(dockerfile) if not (unpacked / source).exists()] == []


def test_the_sources_are_the_containers_alone(unpacked: Path) -> None:
    """What else changes in the checkout builds no new image, and compiled Python is no source."""
    assert [found.name for found in unpacked.iterdir()] == ["containers"]
    assert not list(unpacked.rglob("__pycache__"))
    assert not list(unpacked.rglob("*.pyc"))


def test_the_sources_are_small(unpacked: Path) -> None:
    """No weights, no pictures, no environment slipped in."""
    size = sum(file.stat().st_size for file in unpacked.rglob("*") if file.is_file())
    whole = sum(file.stat().st_size for file in (ROOT / "containers").rglob("*.py"))
    assert whole <= size < 2_000_000
