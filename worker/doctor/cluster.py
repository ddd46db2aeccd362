"""Check of a RabbitMQ cluster: members of the quorum queues. Only the management API knows them, not AMQP."""

from collections import Counter
from typing import Any, Final
from urllib.parse import quote

import httpx
from yarl import URL

from worker.broker import topology
from worker.broker.address import vhost
from worker.doctor.context import CheckContext
from worker.doctor.result import CheckWarning

MANAGEMENT_PORTS: Final = {"amqp": ("http", 15672), "amqps": ("https", 15671)}
MAX_MEMBERS: Final = topology.MEMBERS["x-quorum-initial-group-size"]
QUEUE_COLUMNS: Final = "name,type,members"


async def queue_members(context: CheckContext) -> str:
    """Every quorum queue must have a member on each node of the cluster; MAX_MEMBERS are enough."""
    node = context.node or context.settings.rabbitmq_nodes[0]
    api = URL(context.settings.rabbitmq_management_url or _default_api_url(node))
    try:
        nodes = await _get(context, api, "nodes?columns=name,running", node)
        queues = await _get(context, api, f"queues/{quote(vhost(node), safe='')}?columns={QUEUE_COLUMNS}", node)
        names = {str(entry["name"]) for entry in nodes}
        members = {str(queue["name"]): set(queue["members"]) for queue in queues if queue.get("type") == "quorum"}
    except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"unknown: the management API at {api} cannot be used ({_reason(error)}); see RABBITMQ_MANAGEMENT_URL"
    ours = {spec.name for spec in topology.queues(context.settings.retry_delays)} & members.keys()
    expected = min(len(names), MAX_MEMBERS)
    too_few = Counter({name: len(members[name]) for name in ours if len(members[name]) < expected})
    if too_few:
        raise CheckWarning(_problem(too_few, len(names)), _remedy(names, members, ours, vhost(node)))
    return f"{len(ours)} queues, each with {expected} members in a cluster of {len(names)}"


async def _get(context: CheckContext, api: URL, path: str, node: URL) -> list[dict[str, Any]]:
    response = await context.http.get(f"{api}/api/{path}".replace("//api", "/api"), auth=_auth(node))
    response.raise_for_status()
    parsed = response.json()
    if not isinstance(parsed, list):
        raise TypeError("the response is not a list")
    return parsed


def _auth(node: URL) -> tuple[str, str]:
    return node.user or "guest", node.password or "guest"


def _default_api_url(node: URL) -> str:
    scheme, port = MANAGEMENT_PORTS[node.scheme]
    return str(URL.build(scheme=scheme, host=node.host or "", port=port))


def _problem(too_few: Counter[str], nodes: int) -> str:
    name, fewest = min(too_few.items(), key=lambda item: item[1])
    others = f" and {len(too_few) - 1} other queues have" if len(too_few) > 1 else " has"
    return f"{name}{others} fewer members ({fewest}) than the cluster has nodes ({nodes}); losing a node can lose jobs"


def _remedy(names: set[str], members: dict[str, set[str]], ours: set[str], virtual_host: str) -> str:
    """Return a command for each node with missing members, at most three, those with the fewest members first."""
    counts = {name: sum(name in members[queue] for queue in ours) for name in names}
    missing = sorted((name for name in names if counts[name] < len(ours)), key=lambda name: (counts[name], name))
    pattern = f"--vhost-pattern '^{virtual_host}$' --queue-pattern '^outlast'"
    return "; ".join(f"rabbitmq-queues grow {name} all {pattern}" for name in missing[:3])


def _reason(error: Exception) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return f"status {error.response.status_code}; the user needs the tag `monitoring`"
    return type(error).__name__
