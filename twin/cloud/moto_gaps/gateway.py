"""The door of the embedded AWS: a WSGI application in front of moto's.

It finds out which action of which service is called, counts it, injects the faults it was told to, and
has the gap answer, or moto. Requests are routed and parsed, and answers serialized, by moto's own code
from botocore's service models, so no wire format is written here except that of errors (moto's warns about
every code that a model lacks, and throttling is such a code).
"""

import io
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from threading import RLock
from typing import TYPE_CHECKING, Any, Final
from xml.sax.saxutils import escape

from botocore.utils import parse_timestamp
from moto.core.model import OperationModel, ServiceModel
from moto.core.parse import PROTOCOL_PARSERS
from moto.core.request import Request, determine_request_protocol
from moto.core.routing import get_service_router
from moto.core.serialize import SERIALIZERS
from moto.core.utils import get_service_model
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

from twin.cloud.moto_gaps.protocol import AwsError, Gap, Operation, Parameters, Result, not_implemented

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

SIGNED_SERVICE: Final = re.compile(r"Credential=[^/]+/[0-9]+/[^/]+/([^/]+)/aws4_request")
SERVICE_OF_SIGNING_NAME: Final[Mapping[str, str]] = {
    "autoscaling": "autoscaling",
    "cloudformation": "cloudformation",
    "codebuild": "codebuild",
    "dynamodb": "dynamodb",
    "ec2": "ec2",
    "eks": "eks",
    "elasticloadbalancing": "elbv2",
    "fis": "fis",
    "lambda": "lambda",
    "logs": "logs",
    "monitoring": "cloudwatch",
    "pricing": "pricing",
    "scheduler": "scheduler",
    "sns": "sns",
    "ssm": "ssm",
    "sts": "sts",
}

WHOLE_SERVICES_OF_MOTO: Final = frozenset({"dynamodb", "scheduler", "sns", "ssm", "sts"})
ACTIONS_OF_MOTO: Final[Mapping[str, frozenset[str]]] = {
    "ec2": frozenset(
        {
            "DescribeAvailabilityZones",
            "DescribeInstanceTypeOfferings",
            "DescribeInstanceTypes",
            "DescribeSubnets",
            "DescribeVpcs",
        }
    ),
    "elbv2": frozenset(
        {
            "AddTags",
            "CreateListener",
            "CreateLoadBalancer",
            "CreateRule",
            "CreateTargetGroup",
            "DeleteListener",
            "DeleteRule",
            "DeleteTargetGroup",
            "DescribeListeners",
            "DescribeLoadBalancers",
            "DescribeRules",
            "DescribeTags",
            "DescribeTargetGroupAttributes",
            "DescribeTargetGroups",
            "ModifyListener",
            "ModifyRule",
            "ModifyTargetGroupAttributes",
            "SetRulePriorities",
        }
    ),
}

# Marks the user agent of the clients of tests and tools, which trouble spares.
TOOL: Final = "twin-tool"
Trouble = Callable[[str, str, Callable[[], Parameters], str], AwsError | None]
"""By service, action, the way to the parameters and the SDK's invocation id: the error that answers."""

THROTTLED: Final[Mapping[str, tuple[str, int]]] = {
    "dynamodb": ("ThrottlingException", 400),
    "ec2": ("RequestLimitExceeded", 503),
    "eks": ("ThrottlingException", 429),
    "lambda": ("TooManyRequestsException", 429),
    "pricing": ("ThrottlingException", 400),
    "ssm": ("ThrottlingException", 400),
}
THROTTLED_ELSEWHERE: Final = ("Throttling", 400)
"""The code and HTTP status with which each service answers too many requests."""


@dataclass(slots=True)
class _Fault:
    """Answers the next `calls` calls (negative: all) with `code`; None is the service's throttling."""

    code: str | None
    calls: int


@dataclass(frozen=True, slots=True)
class _Call:
    """One request, understood."""

    model: OperationModel
    protocol: str
    request: Request
    url_parameters: Mapping[str, Any]

    @property
    def service(self) -> str:
        return str(self.model.service_model.service_name)

    @property
    def action(self) -> str:
        return str(self.model.name)

    def parameters(self) -> Parameters:
        """What the client sent, timestamps as epoch seconds."""
        if self.protocol == "json":
            parameters: Parameters = json.loads(self.request.get_data() or b"{}")
            return parameters
        parser = PROTOCOL_PARSERS[self.protocol](self.model, timestamp_parser=_epoch_seconds)
        return parser.parse(
            {
                "method": self.request.method,
                "values": self.request.values,
                "headers": self.request.headers,
                "body": self.request.get_data(),
                "url_path": self.request.path,
                "url_params": dict(self.url_parameters),
            }
        )


class Gateway:
    """Answers the calls of one account; `calls` counts them by action, refused ones and retries too."""

    def __init__(self, account: str) -> None:
        self.account = account
        self.calls: Counter[str] = Counter()
        self.lock = RLock()  # moto's backends and the gaps' state are shared by the server's threads
        self._operations: dict[tuple[str, str], Operation] = {}
        self._faults: dict[str, _Fault] = {}
        self._troubles: list[Trouble] = []

    def fill(self, gap: Gap) -> None:
        """Have `gap` answer its operations from now on."""
        for action, operation in gap.operations.items():
            self._operations[gap.service, action] = operation

    def befall(self, trouble: Trouble) -> None:
        """Ask `trouble`, too, of every call but those of tools whether and how it fails."""
        self._troubles.append(trouble)

    def fail(self, action: str, code: str | None, calls: int) -> None:
        """Answer the next `calls` calls of `action` with the error `code` (None: throttling).

        Negative: all until told otherwise; 0 ends it. A client's retries are calls too.

        Raises:
            ValueError: no service here has that action.
        """
        if action not in _known_actions():
            raise ValueError(f"no action {action!r} in {', '.join(sorted(SERVICE_OF_SIGNING_NAME.values()))}")
        with self.lock:
            self._faults[action] = _Fault(code, calls)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        with self.lock:
            return self._answer(environ)(environ, start_response)

    def _answer(self, environ: "WSGIEnvironment") -> Response:
        request = Request(environ)
        request.get_data()  # before form parsing takes it: both we and moto read the body
        try:
            call = _understand(request)
        except AwsError as error:
            return Response(error.message, error.status)
        self.calls[call.action] += 1
        try:
            self._inject_fault(call)
            result = self._result(call)
            return self._from_moto(call) if result is None else _success(call, result)
        except AwsError as error:
            return _failure(call, error)

    def _inject_fault(self, call: _Call) -> None:
        self._inject_trouble(call)
        fault = self._faults.get(call.action)
        if fault is None or fault.calls == 0:
            return
        fault.calls -= 1
        if fault.code is None:
            code, status = THROTTLED.get(call.service, THROTTLED_ELSEWHERE)
            raise AwsError(code, "Rate exceeded", status)
        raise AwsError(fault.code, f"{fault.code} was injected into {call.action}.")

    def _inject_trouble(self, call: _Call) -> None:
        headers = call.request.headers
        if TOOL in headers.get("User-Agent", ""):
            return
        invocation = headers.get("amz-sdk-invocation-id", "")
        for trouble in self._troubles:
            error = trouble(call.service, call.action, call.parameters, invocation)
            if error is not None:
                raise error

    def _result(self, call: _Call) -> Result | None:
        operation = self._operations.get((call.service, call.action))
        if operation is not None:
            return operation(call.parameters())
        if call.service in WHOLE_SERVICES_OF_MOTO or call.action in ACTIONS_OF_MOTO.get(call.service, ()):
            return None
        raise not_implemented(f"{call.service} {call.action}")

    def _from_moto(self, call: _Call) -> Response:
        environ = call.request.environ
        environ["wsgi.input"] = io.BytesIO(call.request.get_data())
        environ["HTTP_X_MOTO_ACCOUNT_ID"] = self.account
        try:
            return Response.from_app(_moto(), environ, buffered=True)
        except NotImplementedError as error:
            raise not_implemented(f"{call.service} {call.action}") from error


@cache
def _moto() -> DomainDispatcherApplication:
    """Moto's application; its backends are kept by account, so every gateway can share it."""
    # 1,300 machine images for each account, which nobody asks for, would double the time of provisioning.
    os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
    return DomainDispatcherApplication(create_backend_app)


@cache
def _known_actions() -> frozenset[str]:
    services = SERVICE_OF_SIGNING_NAME.values()
    return frozenset(action for service in services for action in get_service_model(service).operation_names)


def _epoch_seconds(value: str) -> float:
    return parse_timestamp(value).timestamp()


def _understand(request: Request) -> _Call:
    """Which action is called: the service by the signature's scope, the action by the protocol's rules."""
    signed = SIGNED_SERVICE.search(request.headers.get("Authorization", ""))
    if signed is None:
        raise not_implemented("unsigned requests")
    service = SERVICE_OF_SIGNING_NAME.get(signed[1])
    if service is None:
        raise not_implemented(f"the service {signed[1]}")
    service_model = get_service_model(service)
    protocol = determine_request_protocol(service_model, request.content_type)
    try:
        model, url_parameters = get_service_router(service).match(request)
    except NotFound as error:
        raise not_implemented(f"{request.method} {request.path} of {service}") from error
    return _Call(model, protocol, request, url_parameters)


def _success(call: _Call, result: Result) -> Response:
    if call.protocol == "json":
        content_type = f"application/x-amz-json-{call.model.service_model.metadata['jsonVersion']}"
        return Response(json.dumps(result), content_type=content_type)
    answer = SERIALIZERS[call.protocol](call.model).serialize(result)
    # Invoke's StatusCode is the HTTP status itself, which moto's serializer does not know.
    status = result["StatusCode"] if call.action == "Invoke" else answer["status_code"]
    return Response(answer["body"], status, headers=answer["headers"])


def _modelled_status(service_model: ServiceModel, code: str) -> int | None:
    for shape in service_model.error_shapes:
        told = shape.metadata.get("error", {})
        if code in (shape.name, told.get("code")):
            status: int | None = told.get("httpStatusCode")
            return status
    return None


def _failure(call: _Call, error: AwsError) -> Response:
    service_model: ServiceModel = call.model.service_model
    status = _modelled_status(service_model, error.code) or error.status
    sender = "Receiver" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "Sender"
    if "json" in call.protocol:
        headers = {"x-amzn-errortype": error.code}
        if "awsQueryCompatible" in service_model.metadata:
            headers["x-amzn-query-error"] = f"{error.code};{sender}"
        body = json.dumps({"__type": error.code, "message": error.message})
        return Response(body, status, headers, content_type="application/json")
    told = f"<Code>{escape(error.code)}</Code><Message>{escape(error.message)}</Message>"
    if call.protocol == "ec2":
        body = f"<Response><Errors><Error>{told}</Error></Errors><RequestID>0</RequestID></Response>"
    else:
        kind = f"<Type>{sender}</Type>"
        body = f"<ErrorResponse><Error>{kind}{told}</Error><RequestId>0</RequestId></ErrorResponse>"
    return Response(body, status, content_type="text/xml")
