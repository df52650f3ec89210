"""The model store: a bucket with the model's weights and with what is compiled from them."""

from hashlib import sha256
from typing import Final

from aws_cdk import Aws, Duration, RemovalPolicy
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra import permissions
from infra.builds import buildspecs
from infra.builds.builds import Build, Recipe, sources
from infra.manifests.server_environment import Model
from infra.permissions import Grant
from infra.settings import Settings

WEIGHTS: Final = "models"
ARTIFACTS: Final = "neuron"
DIGEST: Final = 12  # of a source's address, as part of a key
OLD_VERSION_DAYS: Final = 30
HUB_TOKEN: Final = "HF_TOKEN"  # noqa: S105 - the variable's name, which the hub's own library reads

_FILES: Final = "The model and the compiler name the files; the prefix is that of this fleet's model"
_UNLOGGED: Final = (
    "Public weights and what is compiled from them, read by this stack's pods alone; a log of these reads "
    "would tell nothing that the pods' own logs do not."
)


class ModelStore(Construct):
    """The bucket, and the build `download` that puts the fleet's model into it, once.

    Keys: `models/<version>/<model>/…` with a `SHA256SUMS` that is written last, and
    `neuron/<version>/<compiler>/<target>/<model>/<shape>/<cores>/…`, where the version is the hub's commit or
    a digest of `model_source`: another one is fetched and compiled beside what serves. A model whose name has
    no slash is no hub id: unless it has a source, the servers build it themselves, and `download` is None.
    """

    def __init__(self, scope: Construct, id: str, *, settings: Settings) -> None:
        super().__init__(scope, id)
        self._settings = settings
        name = settings.fleet.model
        fetched = "/" in name or settings.model_source is not None
        version = _version(settings)
        self.bucket = self._create_bucket()
        self.model = Model(
            name=name,
            revision=settings.revision or "",
            bucket=self.bucket.bucket_name if fetched else "",
            prefix=f"{WEIGHTS}/{version}" if version else WEIGHTS,
            artifacts_prefix=f"{ARTIFACTS}/{version}" if version else ARTIFACTS,
            shapes=settings.shapes,
            steps=settings.steps,
        )
        self.download: Build | None = self._create_download() if fetched else None

    def reading(self, prefix: str) -> Grant:
        """The right to read what lies below the prefix. Listing is not needed: checksums name the files."""
        return self._on_keys("Read", ["s3:GetObject"], prefix)

    def writing(self, prefix: str) -> Grant:
        """The right to read and write below the prefix."""
        return self._on_keys("Write", ["s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject"], prefix)

    def _on_keys(self, verb: str, actions: list[str], prefix: str) -> Grant:
        folder = prefix.partition("/")[0].capitalize()
        resources = [self.bucket.arn_for_objects(f"{prefix}/*")]
        return Grant(sid=verb + folder, actions=actions, resources=resources, forced=_FILES)

    def _create_bucket(self) -> s3.Bucket:
        keep = self._settings.keep_data
        bucket = s3.Bucket(
            self,
            "Bucket",
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            encryption=s3.BucketEncryption.S3_MANAGED,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            versioned=True,
            lifecycle_rules=[
                s3.LifecycleRule(
                    noncurrent_version_expiration=Duration.days(OLD_VERSION_DAYS),
                    abort_incomplete_multipart_upload_after=Duration.days(1),
                )
            ],
            removal_policy=RemovalPolicy.RETAIN if keep else RemovalPolicy.DESTROY,
            auto_delete_objects=not keep,
        )
        permissions.acknowledge(bucket, "AwsSolutions-S1", _UNLOGGED)
        return bucket

    def _create_download(self) -> Build:
        settings = self._settings
        recipe = Recipe(
            description=f"Fulcrum: downloads {self.model.name} into the model store",
            script=buildspecs.PUBLISH_MODEL,
            variables={
                "MODEL": self.model.name,
                "MODEL_REVISION": self.model.revision,
                "MODEL_SOURCE": settings.model_source or "",
                "MODEL_BUCKET": self.model.bucket,
                "MODEL_PREFIX": self.model.prefix,
            },
            timeout=Duration.hours(2),
            source=sources(self, "Source"),
            secrets={HUB_TOKEN: settings.hub_token_secret} if settings.hub_token_secret else {},
        )
        grants = [self.writing(self.model.weights), *_reading_source(settings.model_source)]
        return Build(self, "Download", settings=self._settings, recipe=recipe, grants=grants)


def _version(settings: Settings) -> str:
    """What tells one version of the model from another in keys; empty where nothing does."""
    if settings.model_source:
        return sha256(settings.model_source.encode()).hexdigest()[:DIGEST]
    return settings.revision or ""


def _reading_source(source: str | None) -> list[Grant]:
    """The rights to copy a folder: to list it, and to read what lies in it."""
    if source is None:
        return []
    bucket, _, prefix = source.removeprefix("s3://").partition("/")
    arn = f"arn:{Aws.PARTITION}:s3:::{bucket}"
    why = "Whoever saved the pipeline named its files; the folder is the one that model_source names"
    return [
        Grant(sid="ReadSourceFiles", actions=["s3:GetObject"], resources=[f"{arn}/{prefix}/*"], forced=why),
        Grant(
            sid="ListSourceFiles",
            actions=["s3:ListBucket"],
            resources=[arn],
            conditions={"StringLike": {"s3:prefix": f"{prefix}/*"}},
        ),
    ]
