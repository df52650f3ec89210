"""What a Helm chart is to the stack, before the CDK installs it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart of one version; an OCI repository is that of the chart itself."""

    release: str
    chart: str
    repository: str
    version: str
