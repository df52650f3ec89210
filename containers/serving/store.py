"""Where models and compiled artifacts come from: a local directory, the bucket, the hub, in that order.

Whatever lies in the bucket lies there with a file of SHA-256 sums, written last, so that a half-made upload
is not seen, and read first, so that every file is checked as it arrives. What is in the cache is complete:
a folder is filled under another name and renamed.
"""

import hashlib
import logging
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Final

from containers.serving import tiny
from containers.serving.settings import InvalidSettingsError, Settings

# boto3 and huggingface_hub are imported where they are used: most servers need one of them or none.
# ruff: noqa: PLC0415

log = logging.getLogger(__name__)

SUMS: Final = "SHA256SUMS"  # in the format of `sha256sum`, which can make and check it
_MARK_OF_A_PIPELINE: Final = "model_index.json"
# Without the right to list a bucket, S3 says 403 for what is not there.
_ABSENT: Final = frozenset({"NoSuchKey", "404", "403", "AccessDenied", "NoSuchBucket"})


class StoreError(Exception):
    """The model or artifact can't be had; the message says what was tried."""


class NotStoredError(StoreError, InvalidSettingsError):
    """It is nowhere."""


class ChecksumError(StoreError):
    """What arrived is not what was stored."""


def model_directory(settings: Settings) -> Path:
    """The directory of the model, fetched if need be.

    Raises:
        StoreError: it is in no directory, not in the bucket and not on the hub, or is damaged.
    """
    given = Path(settings.model)
    if given.is_dir() or given.is_absolute():
        _check_is_pipeline(given, settings.model)
        return given
    is_tiny = settings.model == tiny.NAME
    directory = settings.cache_directory / "models" / (tiny.FOLDER if is_tiny else settings.model)
    if directory.is_dir():
        return directory
    if is_tiny:
        with _filled(directory) as unfinished:
            tiny.save(unfinished)
        return directory
    if settings.model_bucket:
        try:
            return _from_bucket(settings, _joined(settings.model_prefix, settings.model), directory)
        except NotStoredError as error:
            log.warning("%s; trying the hub", error)
    return _from_hub(settings.model, settings.model_revision, directory)


def publish_model(settings: Settings, directory: Path | None = None) -> None:
    """Put the model into the bucket, where `model_directory` finds it; `directory` holds it, if given.

    Raises:
        StoreError: it can't be had.
        InvalidSettingsError: no bucket is set.
    """
    if not settings.model_bucket:
        raise InvalidSettingsError("environment: MODEL_BUCKET: not set; valid: the name of an S3 bucket")
    prefix = _joined(settings.model_prefix, settings.model)
    if directory is None:
        directory = model_directory(settings)
    _check_is_pipeline(directory, settings.model)
    upload(directory, settings.model_bucket, prefix)


def artifact_directory(settings: Settings, key: str) -> Path:
    """The directory of compiled artifacts, from the cache or the bucket.

    Raises:
        NotStoredError: they are in neither.
        ChecksumError: they are damaged.
    """
    directory = settings.cache_directory / "artifacts" / key
    if directory.is_dir():
        return directory
    if not settings.model_bucket:
        raise NotStoredError(f"{directory} is not there, and MODEL_BUCKET is not set")
    return _from_bucket(settings, _joined(settings.neuron_artifacts_prefix, key), directory)


@contextmanager
def new_artifact(settings: Settings, key: str) -> Iterator[Path]:
    """A directory to fill; when that succeeds it is in the cache, and in the bucket if there is one."""
    directory = settings.cache_directory / "artifacts" / key
    with _filled(directory) as unfinished:
        yield unfinished
    if settings.model_bucket:
        upload(directory, settings.model_bucket, _joined(settings.neuron_artifacts_prefix, key))


def upload(directory: Path, bucket: str, prefix: str) -> None:
    """Put a directory into the bucket, its checksums last."""
    client = _s3()
    sums = {file.relative_to(directory).as_posix(): _sha256(file) for file in _files(directory)}
    for name in sums:
        log.info("upload s3://%s/%s/%s", bucket, prefix, name)
        client.upload_file(str(directory / name), bucket, f"{prefix}/{name}")
    text = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
    client.put_object(Bucket=bucket, Key=f"{prefix}/{SUMS}", Body=text.encode())


def _from_bucket(settings: Settings, prefix: str, directory: Path) -> Path:
    client, bucket = _s3(), settings.model_bucket
    sums = _stored_sums(client, bucket, prefix)
    began = time.monotonic()
    with _filled(directory) as unfinished:
        for number, (name, digest) in enumerate(sums.items(), 1):
            file = unfinished / name
            file.parent.mkdir(parents=True, exist_ok=True)
            client.download_file(bucket, f"{prefix}/{name}", str(file))
            if _sha256(file) != digest:
                raise ChecksumError(
                    f"s3://{bucket}/{prefix}/{name} is not what its {SUMS} says: upload it again"
                )
            log.info(
                "%d of %d files from s3://%s/%s after %.0f s: %s, %.1f MB",
                number, len(sums), bucket, prefix, time.monotonic() - began, name, file.stat().st_size / 1e6,
            )  # fmt: skip
    return directory


def _stored_sums(client: Any, bucket: str, prefix: str) -> dict[str, str]:
    from botocore.exceptions import ClientError

    try:
        text = client.get_object(Bucket=bucket, Key=f"{prefix}/{SUMS}")["Body"].read().decode()
    except ClientError as error:
        if error.response["Error"]["Code"] not in _ABSENT:
            raise
        raise NotStoredError(f"s3://{bucket}/{prefix}/{SUMS} is not there") from error
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in text.splitlines())}
    for name in sums:
        if not name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ChecksumError(f"s3://{bucket}/{prefix}/{SUMS}: {name!r} is no path inside the folder")
    return sums


def _from_hub(model: str, revision: str, directory: Path) -> Path:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    hub = HfApi()
    try:
        with _filled(directory) as unfinished:
            hub.snapshot_download(
                model,
                revision=revision or None,
                local_dir=unfinished,
                allow_patterns=_OF_A_PIPELINE,
                ignore_patterns=_OTHER_VARIANTS,
            )
            _check_is_pipeline(unfinished, model)
            found = hub.verify_repo_checksums(model, revision=revision or None, local_dir=unfinished)
            if found.mismatches:
                raise ChecksumError(f"{model}: damaged on the way: {found.mismatches[0]['path']}")
            shutil.rmtree(unfinished / ".cache", ignore_errors=True)  # the hub's notes about the download
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        first_line = str(error).strip().partition("\n")[0]
        raise NotStoredError(
            f"environment: MODEL: {model} is no directory, not in the bucket, not on the hub: {first_line}"
        ) from error
    return directory


# A pipeline's own files; not the single-file checkpoints of other programs that lie beside them.
_OF_A_PIPELINE: Final = ["*.json", "*/*.json", "*/*.txt", "*/*.model", "*/*.safetensors"]
# The same weights once more: in half precision, before averaging, for other runtimes.
_OTHER_VARIANTS: Final = ["*.fp16.*", "*.bf16.*", "*non_ema*", "*onnx*", "*openvino*", "*flax*"]


@contextmanager
def _filled(directory: Path) -> Iterator[Path]:
    """An empty directory to fill; it gets its name only when that succeeds, and is gone when it fails."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        yield unfinished
        _rename(unfinished, directory)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)  # gone already if it was renamed


def _rename(unfinished: Path, directory: Path) -> None:
    try:
        unfinished.rename(directory)
    except OSError:
        if not directory.is_dir():  # else another process has filled it meanwhile
            raise


def _files(directory: Path) -> list[Path]:
    return sorted(file for file in directory.rglob("*") if file.is_file())


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check_is_pipeline(directory: Path, model: str) -> None:
    if not (directory / _MARK_OF_A_PIPELINE).is_file():
        raise NotStoredError(
            f"environment: MODEL: {model} holds no {_MARK_OF_A_PIPELINE}; valid: a saved pipeline"
        )


def _joined(prefix: str, key: str) -> str:
    return f"{prefix.strip('/')}/{key}".lstrip("/")


def _s3() -> Any:
    import boto3

    return boto3.client("s3")
