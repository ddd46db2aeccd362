"""Why RabbitMQ cannot be reached: the problem and its remedy as text, without secrets."""

import socket
import ssl
from collections.abc import Iterator
from typing import Final, NamedTuple

from aio_pika.exceptions import AMQPConnectionError, ProbableAuthenticationError
from aiormq.exceptions import ProtocolSyntaxError
from yarl import URL

from worker.broker.address import host_port, vhost

REACHABLE_REMEDY: Final = "start RabbitMQ, open its port (5672, TLS 5671), or correct RABBITMQ_URL"
CERTIFICATE_PROBLEMS: Final = {
    9: ("is not valid yet", "check both clocks, or renew the broker's certificate"),
    10: ("has expired", "renew the broker's certificate"),
    62: ("is for another host name", "use in RABBITMQ_URL a name that the broker's certificate contains"),
    64: ("is for another IP address", "use in RABBITMQ_URL a name that the broker's certificate contains"),
}
"""Problem and remedy by OpenSSL's verify code (X509_V_ERR_*). Every other code means an untrusted certificate."""
CA_REMEDY: Final = "set RABBITMQ_CA_FILE to the certificate of the authority that signed the broker's"
ALERT_PROBLEMS: Final = {
    "CERTIFICATE_REQUIRED": "asks for a client certificate",
    "HANDSHAKE_FAILURE": "refuses the TLS handshake; it may ask for a client certificate",
    "UNKNOWN_CA": "does not trust our client certificate",
    "BAD_CERTIFICATE": "refuses our client certificate",
    "CERTIFICATE_EXPIRED": "refuses our client certificate, which has expired",
    "CERTIFICATE_UNKNOWN": "refuses our client certificate",
}
"""Problem by the last part of OpenSSL's reason, for example TLSV13_ALERT_CERTIFICATE_REQUIRED (RFC 8446, 6.2)."""
CLIENT_CERTIFICATE_REMEDY: Final = (
    "set RABBITMQ_CERT_FILE and RABBITMQ_KEY_FILE to a client certificate that the broker accepts"
)
TLS_REMEDY: Final = "use amqps:// with the broker's TLS port, often 5671"


class ConnectFailure(NamedTuple):
    """Why a connection failed, and the remedy."""

    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}"


class NodesUnreachableError(AMQPConnectionError):
    """None of the nodes could be connected to. `failure` has the problems of all nodes."""

    def __init__(self, failures: list[ConnectFailure]) -> None:
        problems = "; ".join(failure.problem for failure in failures)
        self.failure = ConnectFailure(problems, "; ".join(dict.fromkeys(failure.remedy for failure in failures)))
        super().__init__(str(self.failure))


def explain(error: BaseException, node: URL) -> ConnectFailure:
    """Return why connecting to `node` failed, and the remedy; for a NodesUnreachableError, those of all nodes."""
    for cause in _causes(error):
        if isinstance(cause, NodesUnreachableError):
            return cause.failure
        failure = _login_failure(cause, node) or _tls_failure(cause, node) or _network_failure(cause, node)
        if failure is not None:
            return failure
    return ConnectFailure(
        f"{host_port(node)} cannot be reached: {str(error) or type(error).__name__}", REACHABLE_REMEDY
    )


def _login_failure(error: BaseException, node: URL) -> ConnectFailure | None:
    name, user = vhost(node), node.user or "guest"
    if isinstance(error, ProbableAuthenticationError):
        return ConnectFailure(
            f"{host_port(node)} refuses the user {user!r} or its password", "correct them in RABBITMQ_URL"
        )
    if isinstance(error, ProtocolSyntaxError):  # aiormq, when the broker closes the connection instead of opening it
        remedy = f"rabbitmqctl add_vhost {name}; rabbitmqctl set_permissions -p {name} {user} '.*' '.*' '.*'"
        return ConnectFailure(f"{host_port(node)} has no virtual host {name!r}, or {user!r} may not use it", remedy)
    return None


def _tls_failure(error: BaseException, node: URL) -> ConnectFailure | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        untrusted = f"is not trusted ({error.verify_message})", CA_REMEDY
        problem, remedy = CERTIFICATE_PROBLEMS.get(error.verify_code, untrusted)
        return ConnectFailure(f"the certificate of {host_port(node)} {problem}", remedy)
    if isinstance(error, ConnectionResetError) and node.scheme == "amqps":
        # In TLS 1.3 the broker refuses after our side of the handshake, and its reset can arrive before its alert.
        problem = f"{host_port(node)} closes the connection; it may ask for a client certificate"
        return ConnectFailure(problem, CLIENT_CERTIFICATE_REMEDY)
    if isinstance(error, ssl.SSLError):
        reason = error.reason or "unknown error"
        for alert, problem in ALERT_PROBLEMS.items():
            if reason.endswith(alert):
                return ConnectFailure(f"{host_port(node)} {problem}", CLIENT_CERTIFICATE_REMEDY)
        return ConnectFailure(f"TLS with {host_port(node)} failed ({reason})", TLS_REMEDY)
    return None


def _network_failure(error: BaseException, node: URL) -> ConnectFailure | None:
    problem = None
    if isinstance(error, TimeoutError):
        problem = "no answer"
    elif isinstance(error, socket.gaierror):
        problem = "no such host"
    elif isinstance(error, ConnectionRefusedError):
        problem = "connection refused"
    return (
        None if problem is None else ConnectFailure(f"{host_port(node)} cannot be reached: {problem}", REACHABLE_REMEDY)
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and its causes, the innermost first, because libraries wrap the system's errors."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__
    yield from reversed(chain)
