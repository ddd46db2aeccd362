"""RABBITMQ_URL: the address of one RabbitMQ node, or of several nodes of one cluster."""

import re
from typing import Final

from yarl import URL

PORTS: Final = {"amqp": 5672, "amqps": 5671}
MAX_NODES: Final = 16
FORMAT_ERROR: Final = (
    "must be amqp://user:password@host:port/vhost, or amqps://; more nodes of the same cluster follow after commas, "
    "each as host:port or as an address with the same scheme, user, password and virtual host"
)
URL_SEPARATOR: Final = re.compile(r",\s*(?=amqps?://)")


def read_nodes(text: str) -> tuple[URL, ...]:
    """Return the complete address of each node, with its port, in the given order.

    Entries after the first may be `host` or `host:port`, because all nodes of a cluster share users and virtual hosts.
    A comma in the password of the first address is not a separator.

    Raises:
        ValueError: an address is invalid. The message never contains it, because it contains a password.
    """
    entries = [entry for group in URL_SEPARATOR.split(text.strip()) for entry in _entries(group)]
    first = _url(entries[0])
    nodes = [first] + [_complete(entry, first) for entry in entries[1:]]
    if len(nodes) > MAX_NODES:
        raise ValueError(f"names {len(nodes)} nodes; at most {MAX_NODES} can be used")
    return tuple(dict.fromkeys(nodes))


def host_port(node: URL) -> str:
    """Return `host:port`, which contains no secret and may be logged."""
    return f"[{node.host}]:{node.port}" if ":" in (node.host or "") else f"{node.host}:{node.port}"


def vhost(node: URL) -> str:
    """Return the name of the virtual host."""
    return node.path.removeprefix("/") or "/"


def _entries(group: str) -> list[str]:
    """Split at the commas after the user's password."""
    userinfo, at, rest = group.rpartition("@")
    first, *others = rest.split(",")
    return [userinfo + at + first, *(other.strip() for other in others)]


def _url(text: str) -> URL:
    try:
        url = URL(text)
        port = url.port or PORTS.get(url.scheme, 0)
    except ValueError:
        raise ValueError(FORMAT_ERROR) from None
    if url.scheme not in PORTS or not url.host or url.explicit_port == 0:
        raise ValueError(FORMAT_ERROR)
    return url.with_port(port)


def _complete(entry: str, first: URL) -> URL:
    """Return the address of an entry after the first; what it does not contain is taken from the first."""
    is_url = "://" in entry
    url = _url(entry if is_url else f"{first.scheme}://{entry}")
    if is_url and _shared_parts(url) != _shared_parts(first):
        raise ValueError(FORMAT_ERROR)
    if not is_url and (url.user or url.path not in {"", "/"} or url.query_string):
        raise ValueError(FORMAT_ERROR)
    return first.with_host(url.host or "").with_port(url.port)


def _shared_parts(url: URL) -> tuple[str | None, ...]:
    """Return the parts that must be the same for all nodes."""
    return url.scheme, url.user, url.password, vhost(url)
