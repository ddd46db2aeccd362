"""A cluster: does every quorum queue have as many members as it can? Only the management API tells, not AMQP."""

from collections import Counter
from typing import Any, Final
from urllib.parse import quote

import httpx
from yarl import URL

from worker.broker import topology
from worker.broker.address import vhost
from worker.doctor.context import CheckContext
from worker.doctor.result import Concern

PORTS: Final = {"amqp": ("http", 15672), "amqps": ("https", 15671)}
MOST_MEMBERS: Final = topology.MEMBERS["x-quorum-initial-group-size"]
QUEUE_COLUMNS: Final = "name,type,members"


async def queue_members(site: CheckContext) -> str:
    """Compare the members of our queues with the nodes of the cluster."""
    node = site.node or site.settings.rabbitmq_nodes[0]
    api = URL(site.settings.rabbitmq_management_url or _default(node))
    try:
        nodes = await _get(site, api, "nodes?columns=name,running", node)
        queues = await _get(site, api, f"queues/{quote(vhost(node), safe='')}?columns={QUEUE_COLUMNS}", node)
        names = {str(found["name"]) for found in nodes}
        members = {str(found["name"]): set(found["members"]) for found in queues if found.get("type") == "quorum"}
    except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"not known: the management API at {api} does not tell ({_reason(error)}); see RABBITMQ_MANAGEMENT_URL"
    ours = {spec.name for spec in topology.queues(site.settings.retry_delays)} & members.keys()
    wanted = min(len(names), MOST_MEMBERS)
    lacking = Counter({name: len(members[name]) for name in ours if len(members[name]) < wanted})
    if lacking:
        raise Concern(_lacking(lacking, len(names)), _remedy(names, members, ours, vhost(node)))
    return f"{len(ours)} queues, each with {wanted} members in a cluster of {len(names)}"


async def _get(site: CheckContext, api: URL, path: str, node: URL) -> list[dict[str, Any]]:
    response = await site.outside.get(f"{api}/api/{path}".replace("//api", "/api"), auth=_auth(node))
    response.raise_for_status()
    found = response.json()
    if not isinstance(found, list):
        raise TypeError("the answer is no list")
    return found


def _auth(node: URL) -> tuple[str, str]:
    return node.user or "guest", node.password or "guest"


def _default(node: URL) -> str:
    scheme, port = PORTS[node.scheme]
    return str(URL.build(scheme=scheme, host=node.host or "", port=port))


def _lacking(lacking: Counter[str], nodes: int) -> str:
    name, least = min(lacking.items(), key=lambda item: item[1])
    others = f" and {len(lacking) - 1} other queues have" if len(lacking) > 1 else " has"
    return f"{name}{others} fewer members ({least}) than the cluster has nodes ({nodes}): they are lost with a node"


def _remedy(names: set[str], members: dict[str, set[str]], ours: set[str], virtual_host: str) -> str:
    """Return a command for each node that misses members, the emptiest first, three at most."""
    counts = {name: sum(name in members[queue] for queue in ours) for name in names}
    missing = sorted((name for name in names if counts[name] < len(ours)), key=lambda name: (counts[name], name))
    pattern = f"--vhost-pattern '^{virtual_host}$' --queue-pattern '^outlast'"
    return "; ".join(f"rabbitmq-queues grow {name} all {pattern}" for name in missing[:3])


def _reason(error: Exception) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return f"status {error.response.status_code}; the user needs the tag `monitoring`"
    return type(error).__name__
