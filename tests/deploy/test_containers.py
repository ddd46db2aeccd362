"""What image and compose file promise, as far as it can be seen without Docker."""

import http.server
import os
import re
import subprocess
import sys
import threading

import aiohttp
import pytest
import yaml

from deploy.local.rabbitmq import RabbitMQ
from tests.deploy.test_checks import ROOT
from worker.cli.init_project import prepare
from worker.settings import Settings

DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yml").read_text())
SERVICES = COMPOSE["services"]


def mounted(service):
    """Where a file of deploy/ is in the container, by its path."""
    pairs = [volume.split(":") for volume in SERVICES[service]["volumes"] if volume.startswith("./")]
    return {here.removeprefix("./"): there for here, there, *_ in pairs}


def test_the_image_is_slim_locked_and_nobodys():
    text = (DEPLOY / "Dockerfile").read_text()
    build, final = re.split(r"^FROM ", text, flags=re.MULTILINE)[1:]
    assert re.search(r"^ARG PYTHON=3\.\d+\.\d+-slim-", text, re.MULTILINE)
    assert "pip install --require-hashes -r requirements.lock" in build
    assert "libmagic1" in final
    assert "pip uninstall" in final
    assert not re.search(r"build-essential|gcc|-dev\b", text)
    assert re.search(r"^USER 10001:10001$", final, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK ", final, re.MULTILINE)
    assert (SERVICES["receiver"]["command"], SERVICES["worker"]["command"]) == (["receiver"], ["worker"])
    assert SERVICES["receiver"]["image"] == SERVICES["worker"]["image"]


def test_what_the_image_is_made_of_reaches_the_builder():
    ignore = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    wanted = re.findall(r"^COPY (?!--)(.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    names = {name for line in wanted for name in line.split()}
    assert {"requirements.lock", "worker"} <= names
    assert {f"!{name}" for name in names} <= set(ignore)
    assert all((ROOT / name).exists() for name in names)


@pytest.mark.parametrize("variable", ["RECEIVER_PORT", "METRICS_PORT"])
@pytest.mark.parametrize(("answer", "code"), [(200, 0), (503, 1)])
def test_the_health_check_asks_whichever_process_runs(variable, answer, code):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(answer if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, *_arguments):
            pass

    ports = {"RECEIVER_PORT": "1", "METRICS_PORT": "1"}
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        env = {**os.environ, **ports, variable: str(server.server_port)}
        done = subprocess.run([sys.executable, "-I", "-m", "deploy.health"], env=env, check=False)
        server.shutdown()
    assert done.returncode == code
    assert '"python", "-I", "-m", "deploy.health"' in (DEPLOY / "Dockerfile").read_text()


@pytest.mark.parametrize("name", ["receiver", "worker"])
def test_our_containers_are_read_only_but_for_scratch(name):
    service = SERVICES[name]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    scratch = [str(place).partition(":")[0] for place in service.get("tmpfs", []) + service.get("volumes", [])]
    assert scratch == ["/tmp"]  # noqa: S108 - the image's TEMP_DIR


def test_what_compose_wants_to_be_told_stands_in_the_env_of_outlast_init(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wanted = set(re.findall(r"\$\{(\w+):\?", (DEPLOY / "compose.yml").read_text()))
    env = dict(re.findall(r"^(\w+)=(.*)$", prepare(Settings(_env_file=None), None).env, re.MULTILINE))
    assert wanted == {"RABBITMQ_PASSWORD", "GRAFANA_PASSWORD"}
    assert all(re.fullmatch(r"[0-9a-f]{32}", env[name]) for name in wanted)
    assert SERVICES["worker"]["env_file"] == ".env"


def test_grafana_finds_our_dashboards_and_our_prometheus():
    provisioning = DEPLOY / "grafana/provisioning"
    assert mounted("grafana")["grafana/provisioning"] == "/etc/grafana/provisioning"
    (provider,) = yaml.safe_load((provisioning / "dashboards/outlast.yaml").read_text())["providers"]
    assert mounted("grafana")["grafana/dashboards"] == provider["options"]["path"]
    (datasource,) = yaml.safe_load((provisioning / "datasources/outlast.yaml").read_text())["datasources"]
    address = SERVICES["grafana"]["environment"][datasource["url"].strip("${}")]
    assert address == "http://prometheus:9090"
    assert "prometheus" in SERVICES


def test_prometheus_finds_its_rules_and_every_service_it_asks():
    assert mounted("prometheus") == {"prometheus": "/etc/prometheus"}
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    assert all(list((DEPLOY / "prometheus").glob(pattern)) for pattern in config["rule_files"])
    asked = {name for job in config["scrape_configs"] for each in job["dns_sd_configs"] for name in each["names"]}
    assert asked == {"receiver", "worker", "rabbitmq"}
    assert asked < set(SERVICES)


class Composed(RabbitMQ):
    """The local stack's broker, with the files compose mounts."""

    def _configure(self):
        super()._configure()
        more = (DEPLOY / "rabbitmq/rabbitmq.conf").read_text()
        own = self._home / "rabbitmq.conf"
        told = {line.split(" = ")[0] for line in more.splitlines() if " = " in line}
        own.write_text(
            "".join(f"{line}\n" for line in own.read_text().splitlines() if line.split(" = ")[0] not in told) + more
        )
        (self._home / "enabled_plugins").write_text((DEPLOY / "rabbitmq/enabled_plugins").read_text())


async def test_rabbitmq_takes_its_configuration_and_has_its_plugins(tmp_path):
    broker = Composed(tmp_path, plugins=("rabbitmq_management", "rabbitmq_prometheus"))
    try:
        await broker.start()
        await broker.control("eval", "1800000 = application:get_env(rabbit, consumer_timeout, none).")
        await broker.create_vhost("by-its-management")
        async with aiohttp.ClientSession() as session, session.get(broker.metrics_url) as answer:
            assert "rabbitmq_identity_info" in await answer.text()
    finally:
        await broker.stop()
