"""What becomes of what holds data when the stack goes."""

from aws_cdk import RemovalPolicy

from infra.settings import Settings


def kept(settings: Settings) -> RemovalPolicy:
    """With `keep_data` it outlives the stack, unless the deploy that made it fails: it is empty then.

    Not for what a build may have filled by then: CloudFormation deletes no bucket and no repository that
    holds something, and its rollback would get stuck there.
    """
    return RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE if settings.keep_data else RemovalPolicy.DESTROY
