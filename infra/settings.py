"""What a deployment is told: CDK context in, one frozen and validated `Settings` out.

Every setting is a key of the context in cdk.json, which holds its default and says what it means;
`-c key=value` on the command line overrides it. There, lists are written as `a,b` and mappings as
`key=value,key=value`; an empty string means that the setting is absent.
"""

from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from control_lambda.core.fleet import Fleet, FleetError, Unit
from control_lambda.fleet_file import load_fleet
from infra import catalog, pins
from infra.accelerators import ACCELERATORS
from infra.room import for_pods, needed_mib

MIN_ZONES: Final = 2  # EKS's control plane and a load balancer ask for two
SYSTEM_INSTANCE_TYPE: Final = "m7i.large"  # offered in two zones or more of every region of the table
# What CloudWatch Logs takes as a retention.
RETENTION_DAYS: Final = (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 3653)
# Of these the kubectl of the layer for 1.36 may talk to all: one minor version to either side of its own.
KUBERNETES_VERSIONS: Final = pins.kubernetes_versions()
ANYWHERE: Final = IPv4Network("0.0.0.0/0")
WIDEST_NETWORK: Final = 16  # a VPC's limit
NARROWEST_NETWORK: Final = 19  # leaves a public subnet /27, which a load balancer asks for
MAX_SHOWN: Final = 40  # characters of a bad value that a message quotes


class SettingsError(ValueError):
    """A setting that cannot be used; one line that names file and key, and what would be valid."""


def _absent(value: object) -> object:
    return None if value == "" else value


def _newest(value: object) -> object:
    return KUBERNETES_VERSIONS[-1] if value == "" else value


def _listed(value: object) -> object:
    if not isinstance(value, str):
        return value
    return [item.strip() for item in value.split(",") if item.strip()]


def _mapped(value: object) -> object:
    if not isinstance(value, str):
        return value
    pairs = (item.partition("=") for item in value.split(",") if item.strip())
    return {key.strip(): text.strip() for key, _, text in pairs}


def _one_of(*choices: object) -> AfterValidator:
    """A validator that refuses whatever is not among the choices."""

    def validate(value: Any) -> Any:
        if value not in choices:
            raise ValueError
        return value

    return AfterValidator(validate)


OptionalText = Annotated[str | None, BeforeValidator(_absent)]
ZoneId = Annotated[str, Field(pattern=r"^[a-z0-9]+-az[0-9]+$")]
Zones = Annotated[tuple[ZoneId, ...], BeforeValidator(_listed)]
SubnetId = Annotated[str, Field(pattern=r"^subnet-[0-9a-f]{8,17}$")]
Subnets = Annotated[Mapping[ZoneId, SubnetId], BeforeValidator(_mapped)]
Networks = Annotated[tuple[IPv4Network, ...], BeforeValidator(_listed)]
Shape = Annotated[str, Field(pattern=r"^[1-9][0-9]{1,3}x[1-9][0-9]{1,3}$")]
Shapes = Annotated[tuple[Shape, ...], BeforeValidator(_listed)]
Principal = Annotated[str, Field(pattern=r"^arn:aws[a-z-]*:iam::[0-9]{12}:(role|user)/.+$")]
Principals = Annotated[tuple[Principal, ...], BeforeValidator(_listed)]

_VALID_ZONES: Final = "zone ids such as use1-az4,use1-az5"
_VALID_SUBNETS: Final = "zone id=subnet id such as use1-az4=subnet-0123abcd,use1-az5=subnet-4567cdef"
_VALID_SWITCH: Final = "true or false"


class Settings(BaseModel):
    """One deployment, validated. `zones` are the zone ids in use, at least two.

    Every field but `fleet` is a key of the context; its `description` is what a message calls valid.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stack_name: str = Field(
        default="Fulcrum",
        pattern=r"^[A-Za-z][A-Za-z0-9-]{0,39}$",
        description="1 to 40 letters, digits and hyphens, a letter first",
    )
    account: OptionalText = Field(
        default=None, pattern=r"^[0-9]{12}$", description="an account of 12 digits, or nothing"
    )
    region: Annotated[str, _one_of(*catalog.regions())] = Field(
        default="us-east-1", description=f"one of {', '.join(catalog.regions())}"
    )
    fleet_file: Path = Field(default=Path("fleet.yaml"), description="the path of a fleet file")
    fleet: Fleet
    vpc_id: OptionalText = Field(
        default=None, pattern=r"^vpc-[0-9a-f]{8,17}$", description="the id of an existing VPC, or nothing"
    )
    vpc_cidr: IPv4Network = Field(
        default=IPv4Network("10.42.0.0/16"), description="an IPv4 network such as 10.42.0.0/16"
    )
    private_subnets: Subnets = Field(default_factory=dict, description=_VALID_SUBNETS)
    public_subnets: Subnets = Field(default_factory=dict, description=_VALID_SUBNETS)
    zones: Zones = Field(default=(), description=_VALID_ZONES)
    zone_offerings: Mapping[str, Zones] = Field(
        default_factory=dict, description='in cdk.json, an object such as {"trn1.2xlarge": ["use1-az4"]}'
    )
    nat_gateways: int = Field(default=1, ge=1, le=6, description="a whole number from 1 to 6")
    interface_endpoints: bool = Field(default=False, description=_VALID_SWITCH)
    public: bool = Field(default=False, description=_VALID_SWITCH)
    certificate_arn: OptionalText = Field(
        default=None,
        pattern=r"^arn:aws[a-z-]*:acm:[a-z0-9-]+:[0-9]{12}:certificate/[0-9a-f-]+$",
        description="the ARN of an ACM certificate in the stack's region, or nothing",
    )
    alert_email: OptionalText = Field(
        default=None, pattern=r"^[^@\s,]+@[^@\s,]+\.[^@\s,]+$", description="an e-mail address, or nothing"
    )
    kubernetes_version: Annotated[str, BeforeValidator(_newest), _one_of(*KUBERNETES_VERSIONS)] = Field(
        default=KUBERNETES_VERSIONS[-1], description=f"one of {', '.join(KUBERNETES_VERSIONS)}"
    )
    application_signals: bool = Field(default=False, description=_VALID_SWITCH)
    api_cidrs: Networks = Field(
        default=(ANYWHERE,), description="IPv4 networks such as 203.0.113.0/24,198.51.100.7/32, or nothing"
    )
    admin_arns: Principals = Field(default=(), description="ARNs of IAM roles or users, or nothing")
    log_retention_days: Annotated[int, _one_of(*RETENTION_DAYS)] = Field(
        default=90, description=f"one of {', '.join(map(str, RETENTION_DAYS))}"
    )
    deletion_protection: bool = Field(default=False, description=_VALID_SWITCH)
    keep_data: bool = Field(default=True, description=_VALID_SWITCH)
    model_revision: OptionalText = Field(
        default=None,
        pattern=r"^[0-9a-f]{40}$",
        description="a commit of the hub, 40 hexadecimal digits, or nothing",
    )
    model_source: OptionalText = Field(
        default=None,
        pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/[A-Za-z0-9!_.*'()/-]*[A-Za-z0-9!_.*'()-]$",
        description="a folder such as s3://bucket/models/mine that holds a saved pipeline, or nothing",
    )
    hub_token_secret: OptionalText = Field(
        default=None,
        pattern=r"^arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[^\s*?]+-[A-Za-z0-9]{6}$",
        description="the full ARN of a secret in the stack's region that holds the token alone, or nothing",
    )
    shapes: Shapes = Field(
        default=(), description="sizes in pixels, width x height, such as 512x512,768x512, or nothing"
    )
    steps: int = Field(default=20, ge=1, le=100, description="a whole number from 1 to 100")

    @property
    def fleet_parameter(self) -> str:
        """The SSM parameter that holds the fleet, named after the stack: two may hold the same fleet."""
        return f"/fulcrum/{self.stack_name}/fleet"

    @property
    def pause_parameter(self) -> str:
        """The SSM parameter whose presence pauses the loop."""
        return f"/fulcrum/{self.stack_name}/pause"

    @property
    def revision(self) -> str | None:
        """The hub's commit of the model that is served: the one set, else the one that the table pins."""
        if self.model_revision or self.model_source:
            return self.model_revision
        try:
            return pins.version("model", self.fleet.model)
        except pins.UnknownPinError:
            return None

    @classmethod
    def from_context(cls, get: Callable[[str], object]) -> Self:
        """Read every setting with `get` (None: use the default), and the fleet file that they name.

        Raises:
            SettingsError: a setting or the fleet file is not valid, or they contradict each other.
        """
        keys = [key for key in cls.model_fields if key != "fleet"]
        given = {key: value for key in keys if (value := get(key)) is not None}
        try:
            fleet = load_fleet(str(given.get("fleet_file", cls.model_fields["fleet_file"].default)))
            settings = cls.model_validate({**given, "fleet": fleet})
        except FleetError as error:
            raise SettingsError(str(error)) from None
        except ValidationError as error:
            raise SettingsError("; ".join(map(_fault, error.errors()))) from None
        settings = settings.model_copy(update={"zones": settings.zones or _default_zones(settings)})
        faults = list(_contradictions(settings))
        if faults:
            raise SettingsError("; ".join(faults))
        return settings

    def zones_with(self, instance_type: str) -> tuple[str, ...]:
        """The zone ids in use that offer the instance type; none of a type that the tables lack."""
        offered = self.zones_offering(instance_type)
        return tuple(zone for zone in self.zones if zone in offered)

    def zones_offering(self, instance_type: str) -> tuple[str, ...]:
        """The zone ids of the region that offer the instance type; the context corrects the table."""
        table = catalog.zones_offering(self.region, instance_type)
        return self.zone_offerings.get(instance_type, table)


def _default_zones(settings: Settings) -> tuple[str, ...]:
    """The existing subnets' zones, or all of the region that can hold the system nodes.

    Not those of the fleet alone: another fleet would then move the subnets of a cluster that stands.
    """
    if settings.vpc_id:
        return tuple(sorted(settings.private_subnets))
    return settings.zones_offering(SYSTEM_INSTANCE_TYPE)


def _contradictions(settings: Settings) -> Iterator[str]:
    """What is wrong although each value is well-formed; one clause each."""
    yield from _network_faults(settings)
    arn = settings.certificate_arn
    if arn and arn.split(":")[3] != settings.region:
        yield _line(
            "certificate_arn", f"is in {arn.split(':')[3]}", f"one in {settings.region}, the stack's region"
        )
    yield from _model_faults(settings)
    for index, unit in enumerate(settings.fleet.units):
        yield from (
            f"{settings.fleet_file}: units[{index}].{fault}" for fault in _unit_faults(unit, settings)
        )


def _model_faults(settings: Settings) -> Iterator[str]:
    if settings.model_source and settings.model_revision:
        yield _line(
            "model_revision", "given beside model_source", "one of the two: the hub's or your own copy"
        )
    secret = settings.hub_token_secret
    if secret and secret.split(":")[3] != settings.region:
        yield _line(
            "hub_token_secret",
            f"is in {secret.split(':')[3]}",
            f"one in {settings.region}, the stack's region",
        )


def _network_faults(settings: Settings) -> Iterator[str]:
    if not WIDEST_NETWORK <= settings.vpc_cidr.prefixlen <= NARROWEST_NETWORK:
        valid = f"a network from /{WIDEST_NETWORK} to /{NARROWEST_NETWORK}"
        yield _line("vpc_cidr", f"given {settings.vpc_cidr}", valid)
    if len(settings.zones) < MIN_ZONES:
        key = "private_subnets" if settings.vpc_id else "zones"
        yield _line(
            key,
            f"too few: {', '.join(settings.zones) or 'none'}",
            f"at least {MIN_ZONES}, which EKS asks for",
        )
    without = sorted(catalog.WITHOUT_EKS.intersection(settings.zones))
    if without:
        yield _line("zones", f"{', '.join(without)} cannot hold an EKS cluster", "other zones of the region")
    if settings.vpc_id is None and (settings.private_subnets or settings.public_subnets):
        yield _line("vpc_id", "missing, yet subnets are given", "the id of the VPC that they belong to")
    if settings.vpc_id and settings.public and len(settings.public_subnets) < MIN_ZONES:
        yield _line(
            "public_subnets", "too few for a public load balancer", f"one in each of {MIN_ZONES} zones"
        )
    if settings.vpc_id and not set(settings.zones) <= set(settings.private_subnets):
        yield _line("zones", "some have no private subnet", ", ".join(sorted(settings.private_subnets)))


def _unit_faults(unit: Unit, settings: Settings) -> Iterator[str]:
    try:
        known = catalog.instance_type(unit.instance_type)
    except catalog.UnknownInstanceTypeError as error:
        yield f"instance_type: {error}"
        return
    if known.accelerator != unit.accelerator:
        yield f"accelerator: given {unit.accelerator!r}; valid: {known.accelerator}, which {known.name} has"
    elif unit.framework not in ACCELERATORS[unit.accelerator].backends:
        valid = " or ".join(ACCELERATORS[unit.accelerator].backends)
        yield f"framework: given {unit.framework!r}; valid: {valid}, which {unit.accelerator} runs"
    needed = needed_mib(settings.fleet.model, known.accelerator)
    if needed and needed > for_pods(known).mib:
        others = catalog.types_with(known.accelerator)
        roomy = [other.name for other in others if needed <= for_pods(other).mib]
        yield (
            f"instance_type: a server of {settings.fleet.model} takes {needed} MiB of memory, "
            f"{known.name} leaves it {for_pods(known).mib}; valid: {' or '.join(roomy) or 'a smaller model'}"
        )
    if not settings.zones_with(unit.instance_type):
        yield f"instance_type: no zone in use offers {known.name}; valid: {_where(known.name, settings)}"


def _where(instance_type: str, settings: Settings) -> str:
    """Where the type can be had instead."""
    here = settings.zones_offering(instance_type)
    if here:
        return f"zones with one of {', '.join(here)}"
    elsewhere = ", ".join(catalog.regions_offering(instance_type))
    return f"another type, or a region that offers it: {elsewhere or 'none is recorded'}"


def _fault(fault: ErrorDetails) -> str:
    """One fault of a single value as its clause."""
    key = str(fault["loc"][0])
    valid = Settings.model_fields[key].description or ""
    shown = repr(fault["input"])
    return _line(key, f"given {shown if len(shown) <= MAX_SHOWN else shown[:MAX_SHOWN] + '...'}", valid)


def _line(key: str, wrong: str, valid: str) -> str:
    return f"cdk.json: context: {key}: {wrong}; valid: {valid} (or -c {key}=...)"
