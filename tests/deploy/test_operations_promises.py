"""Values that appear in several deployment files must agree."""

import re
from pathlib import Path

import yaml

from tests.deploy import rules
from worker.settings import Settings

DEPLOY = Path(__file__).parents[2] / "deploy"
BASE = DEPLOY / "kubernetes/base"
GRACE = Settings.model_fields["shutdown_grace_seconds"].default


def test_every_stop_timeout_is_longer_than_the_shutdown_grace_period():
    for name in ("worker@", "serve"):
        unit = (DEPLOY / f"systemd/outlast-{name}.service").read_text()
        assert int(re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)[1]) > GRACE
    for platform in ("fly.toml", "railway.toml", "render.yaml"):
        text = (DEPLOY / "platforms" / platform).read_text()
        assert int(re.search(r"(?:kill_timeout|drainingSeconds|maxShutdownDelaySeconds)\W+(\d+)", text)[1]) > GRACE
    worker = yaml.safe_load((DEPLOY / "compose.yml").read_text())["services"]["worker"]
    assert int(worker["stop_grace_period"].rstrip("s")) > int(worker["environment"]["SHUTDOWN_GRACE_SECONDS"])
    pods, *_ = yaml.safe_load_all((BASE / "worker.yaml").read_text())
    settings, *_ = yaml.safe_load_all((BASE / "settings.yaml").read_text())
    grace = int(settings["data"]["SHUTDOWN_GRACE_SECONDS"])
    assert pods["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > grace


def test_a_workers_memory_limit_exceeds_that_of_its_codec_processes():
    """The worker itself needs 133 MiB; see Sizing in the README."""
    unit = (DEPLOY / "systemd/outlast-worker@.service").read_text()
    environment = dict(
        word.split("=") for line in re.findall(r"^Environment=(.*)$", unit, re.MULTILINE) for word in line.split()
    )
    required = int(environment["CODEC_PROCESSES"]) * int(environment["CODEC_MEMORY_MB"]) + 133
    limits = dict(re.findall(r"^(Memory\w+)=(\d+)M$", unit, re.MULTILINE))
    assert required < int(limits["MemoryHigh"]) < int(limits["MemoryMax"])
    worker = yaml.safe_load((DEPLOY / "compose.yml").read_text())["services"]["worker"]
    environment = worker["environment"]
    assert int(environment["CODEC_PROCESSES"]) * int(environment["CODEC_MEMORY_MB"]) + 133 < int(
        worker["mem_limit"].rstrip("m")
    )


def test_every_secret_is_in_the_table_of_secrets():
    security = (DEPLOY / "README.md").read_text().partition("\n## Security\n")[2].partition("\n## ")[0]
    secrets = [name.upper() for name, field in Settings.model_fields.items() if "Secret" in repr(field.annotation)]
    assert "SUPABASE_SERVICE_ROLE_KEY" in secrets
    assert [name for name in (*secrets, "RABBITMQ_PASSWORD", "GRAFANA_PASSWORD") if f"`{name}`" not in security] == []


def test_the_brokers_consumer_timeout_equals_the_setting():
    minutes = Settings.model_fields["broker_consumer_timeout_minutes"].default
    for file in (DEPLOY / "rabbitmq/rabbitmq.conf", BASE / "rabbitmq.yaml"):
        assert f"consumer_timeout = {minutes * 60_000}\n" in file.read_text()


def test_no_manifest_contains_a_secret():
    kinds = {document["kind"] for path in BASE.glob("*.yaml") for document in yaml.safe_load_all(path.read_text())}
    assert "Deployment" in kinds
    assert "Secret" not in kinds


def test_the_kubernetes_alerts_are_up_to_date():
    assert rules.RESOURCE.read_text() == rules.resource(), "run `python -m tests.deploy.rules`"
