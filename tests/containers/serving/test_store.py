import hashlib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import boto3
import httpx2
import pytest
from huggingface_hub.errors import RepositoryNotFoundError
from moto import mock_aws

from containers.serving import store
from containers.serving.settings import InvalidSettingsError, Settings

MODEL = "someone/a-model"


@pytest.fixture
def bucket() -> Iterator[Any]:
    """An empty bucket `models`, and its client."""
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket="models")
        yield client


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A hub's model, a bucket and an empty cache."""
    return Settings(
        model=MODEL, model_bucket="models", model_prefix="weights/", cache_directory=tmp_path / "cache"
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """What a saved pipeline looks like to the store."""
    folder = tmp_path / "saved"
    (folder / "unet").mkdir(parents=True)
    (folder / "model_index.json").write_text("{}", "utf-8")
    (folder / "unet" / "weights.safetensors").write_bytes(b"weights" * 1000)
    return folder


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that has no model; tests of the hub put their own in its place."""
    FakeHub.files, FakeHub.revisions = {}, []
    monkeypatch.setattr("huggingface_hub.HfApi", FakeHub)


class FakeHub:
    """The two calls of the hub's client that the store makes."""

    files: dict[str, bytes] = {}  # noqa: RUF012 - set by tests, read by the instance that the store makes
    damaged = ""
    revisions: list[str | None] = []  # noqa: RUF012 - the same

    def snapshot_download(
        self,
        model: str,
        *,
        revision: str | None,
        local_dir: Path,
        allow_patterns: list[str],
        ignore_patterns: list[str],
    ) -> str:
        """Write the files, those that are asked for."""
        FakeHub.revisions.append(revision)
        if not self.files:
            response = httpx2.Response(404, request=httpx2.Request("GET", "https://hub.invalid"))
            raise RepositoryNotFoundError(f"404: {model}\nmore", response=response)
        for name, content in self.files.items():
            wanted = any(fnmatch(name, pattern) for pattern in allow_patterns)
            unwanted = any(fnmatch(name, pattern) for pattern in ignore_patterns)
            if name.startswith(".cache/") or (wanted and not unwanted):
                (local_dir / name).parent.mkdir(parents=True, exist_ok=True)
                (local_dir / name).write_bytes(content)
        return str(local_dir)

    def verify_repo_checksums(self, _model: str, *, revision: str | None, local_dir: Path) -> Any:
        """Say which file is damaged."""
        FakeHub.revisions.append(revision)
        assert any(local_dir.iterdir())
        return type("Verified", (), {"mismatches": [{"path": self.damaged}] if self.damaged else []})


def test_a_local_directory_comes_first(settings: Settings, saved: Path) -> None:
    """No network is touched for it."""
    assert store.model_directory(settings.model_copy(update={"model": str(saved)})) == saved


def test_a_directory_without_a_pipeline_is_refused(settings: Settings, tmp_path: Path) -> None:
    """A path is no hub id: the message names the file that is missing."""
    with pytest.raises(InvalidSettingsError, match=r"holds no model_index\.json"):
        store.model_directory(settings.model_copy(update={"model": str(tmp_path)}))


@pytest.mark.usefixtures("bucket")
def test_a_published_model_is_loaded_from_the_bucket(settings: Settings, saved: Path) -> None:
    """Every file arrives, in its folder; the second time it is in the cache."""
    store.upload(saved, "models", f"weights/{MODEL}")
    directory = store.model_directory(settings)
    assert (directory / "unet" / "weights.safetensors").read_bytes() == b"weights" * 1000
    assert store.model_directory(settings.model_copy(update={"model_bucket": "gone"})) == directory


def test_a_damaged_file_is_refused_and_leaves_nothing(bucket: Any, settings: Settings, saved: Path) -> None:
    """The checksum is of the content, and a half-filled cache would be taken for a whole one."""
    store.upload(saved, "models", f"weights/{MODEL}")
    bucket.put_object(Bucket="models", Key=f"weights/{MODEL}/unet/weights.safetensors", Body=b"other")
    with pytest.raises(store.ChecksumError, match=r"unet/weights\.safetensors"):
        store.model_directory(settings)
    assert list((settings.cache_directory / "models" / "someone").iterdir()) == []


def test_an_upload_without_its_checksums_is_not_there(bucket: Any, settings: Settings, saved: Path) -> None:
    """They are written last: an upload that was cut off is not taken for a model."""
    store.upload(saved, "models", f"weights/{MODEL}")
    bucket.delete_object(Bucket="models", Key=f"weights/{MODEL}/{store.SUMS}")
    with pytest.raises(store.NotStoredError, match="no directory, not in the bucket, not on the hub: 404"):
        store.model_directory(settings)


def test_checksums_are_in_the_format_of_sha256sum(bucket: Any, saved: Path) -> None:
    """So that a build can make them, and a person check them, with the usual tool."""
    store.upload(saved, "models", "prefix")
    text = bucket.get_object(Bucket="models", Key=f"prefix/{store.SUMS}")["Body"].read().decode()
    digest = hashlib.sha256(b"{}").hexdigest()
    assert text.splitlines()[0] == f"{digest}  model_index.json"


def test_a_name_that_leaves_the_folder_is_refused(bucket: Any, settings: Settings) -> None:
    """What lies in a bucket must not write elsewhere."""
    bucket.put_object(Bucket="models", Key=f"weights/{MODEL}/{store.SUMS}", Body=b"0  ../../evil\n")
    with pytest.raises(store.ChecksumError, match=r"no path inside the folder"):
        store.model_directory(settings)


@pytest.mark.usefixtures("bucket")
def test_the_hub_comes_last(settings: Settings) -> None:
    """What the bucket lacks is fetched from there: the pipeline's files, not other programs' checkpoints."""
    FakeHub.files = {
        "model_index.json": b"{}",
        "unet/a.safetensors": b"1",
        "unet/a.fp16.safetensors": b"half",
        "all.safetensors": b"2",
        ".cache/huggingface/notes.json": b"{}",
    }
    directory = store.model_directory(settings)
    assert {file.name for file in directory.rglob("*")} == {"model_index.json", "unet", "a.safetensors"}
    assert (directory / "unet" / "a.safetensors").read_bytes() == b"1"


def test_a_hub_model_that_is_no_pipeline_is_refused(settings: Settings) -> None:
    """A language model can't be served as pictures: said before anything is loaded."""
    FakeHub.files = {"config.json": b"{}"}
    with pytest.raises(store.NotStoredError, match=r"holds no model_index\.json"):
        store.model_directory(settings.model_copy(update={"model_bucket": ""}))


def test_a_damaged_download_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's own checksums decide."""
    FakeHub.files = {"model_index.json": b"{}"}
    monkeypatch.setattr(FakeHub, "damaged", "model_index.json")
    with pytest.raises(store.ChecksumError, match=r"model_index\.json"):
        store.model_directory(settings.model_copy(update={"model_bucket": ""}))
    assert not (settings.cache_directory / "models" / MODEL).exists()


@pytest.mark.usefixtures("bucket")
def test_publishing_puts_the_model_where_servers_look(settings: Settings) -> None:
    """From the hub into the bucket, and from there into another machine's cache."""
    FakeHub.files = {"model_index.json": b"{}"}
    store.publish_model(settings)
    FakeHub.files, FakeHub.revisions = {}, []
    elsewhere = settings.model_copy(update={"cache_directory": settings.cache_directory.with_name("other")})
    assert (store.model_directory(elsewhere) / "model_index.json").read_bytes() == b"{}"


def test_publishing_needs_a_bucket(settings: Settings) -> None:
    """The message names the variable."""
    with pytest.raises(InvalidSettingsError, match="MODEL_BUCKET: not set"):
        store.publish_model(settings.model_copy(update={"model_bucket": ""}))


@pytest.mark.usefixtures("bucket")
def test_an_artifact_is_seen_by_others_once_it_is_complete(settings: Settings) -> None:
    """Made here, stored in the bucket, found there by a server with an empty cache."""
    with store.new_artifact(settings, "compiler/key") as directory:
        (directory / "unet.pt").write_bytes(b"compiled")
        with pytest.raises(store.NotStoredError):
            store.artifact_directory(settings, "compiler/key")
    elsewhere = settings.model_copy(update={"cache_directory": settings.cache_directory.with_name("other")})
    assert (store.artifact_directory(elsewhere, "compiler/key") / "unet.pt").read_bytes() == b"compiled"


def test_a_failed_compilation_leaves_no_artifact(settings: Settings) -> None:
    """Nothing in the cache, nothing in the bucket."""

    def fail() -> None:
        with store.new_artifact(settings, "key") as directory:
            (directory / "unet.pt").write_bytes(b"half")
            raise RuntimeError("the compiler failed")

    with pytest.raises(RuntimeError, match="compiler failed"):
        fail()
    assert list((settings.cache_directory / "artifacts").iterdir()) == []


def test_two_processes_may_fill_the_cache_at_once(settings: Settings) -> None:
    """The second one finds what the first one made."""
    alone = settings.model_copy(update={"model_bucket": ""})
    with store.new_artifact(alone, "key") as slower, store.new_artifact(alone, "key") as faster:
        (slower / "part").write_bytes(b"slower")
        (faster / "part").write_bytes(b"faster")
    assert (store.artifact_directory(alone, "key") / "part").read_bytes() == b"faster"
    assert len(list((alone.cache_directory / "artifacts").iterdir())) == 1


@pytest.mark.parametrize(("revision", "asked"), [("0123abcd", "0123abcd"), ("", None)])
def test_the_hub_is_asked_for_the_revision_that_is_set(
    settings: Settings, revision: str, asked: str | None
) -> None:
    """For its download and for its checksums alike; without one, for whatever the hub has now."""
    FakeHub.files = {"model_index.json": b"{}"}
    store.model_directory(settings.model_copy(update={"model_bucket": "", "model_revision": revision}))
    assert FakeHub.revisions == [asked, asked]


@pytest.mark.usefixtures("bucket")
def test_a_directory_may_be_published_under_another_name(settings: Settings, saved: Path) -> None:
    """A copy of one's own becomes the fleet's model; a folder without a pipeline does not."""
    store.publish_model(settings, saved)
    assert (store.model_directory(settings) / "model_index.json").is_file()
    with pytest.raises(InvalidSettingsError, match=r"holds no model_index\.json"):
        store.publish_model(settings, saved / "unet")
