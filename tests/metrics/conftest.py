"""A whole stack, watched by a real Prometheus that applies the rules of deploy/prometheus."""

from uuid import uuid4

import pytest

from deploy.local.processes import free_port
from deploy.local.project import Project
from deploy.local.prometheus import Prometheus
from deploy.local.stack import Stack

SETTINGS = {
    "RETRY_DELAYS": "1,2",
    "MAX_ATTEMPTS": "2",
    "WORKER_CONCURRENCY": "2",
    "CODEC_PROCESSES": "1",
    "RECONCILE_EVERY_SECONDS": "60",
}


class Watched:
    """The stack, a project to write generations to, and the Prometheus that scrapes all of it."""

    def __init__(self, stack, project, broker, prometheus):
        self.stack, self.project, self.broker, self.prometheus = stack, project, broker, prometheus

    async def complete(self, *outputs):
        """Insert completed generations, as an app may; return their ids."""
        rows = [
            {"id": str(uuid4()), "user_id": str(uuid4()), "status": "completed", "output": output} for output in outputs
        ]
        for row in rows:
            await self.project.insert("generations", row)
        return [row["id"] for row in rows]

    async def follow(self):
        """Scrape the workers that run now."""
        await self.prometheus.scrape(targets(self.stack, self.broker))


def targets(stack, broker):
    return {
        "outlast-receiver": [f"{stack.receiver_url}/metrics"],
        "outlast-worker": stack.endpoints.worker_metrics_urls,
        "rabbitmq": [broker.metrics_url],
    }


@pytest.fixture(scope="module")
async def watched(tmp_path_factory, rabbitmq):
    folder, vhost = tmp_path_factory.mktemp("watched"), f"t{uuid4().hex[:12]}"
    # Other tests' queues are on the same broker.
    own = {"source_labels": ["vhost"], "regex": f"|{vhost}", "action": "keep"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**SETTINGS, "RABBITMQ_URL": await rabbitmq.create_vhost(vhost)}.items():
            patch.setenv(name, value)
        async with (
            Stack(folder / "stack", workers=1, port=free_port()) as stack,
            Project(stack.endpoints) as project,
            Prometheus(folder, targets(stack, rabbitmq), relabel=[own]) as prometheus,
        ):
            yield Watched(stack, project, rabbitmq, prometheus)
    await rabbitmq.delete_vhost(vhost)
