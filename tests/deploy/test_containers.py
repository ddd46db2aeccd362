"""The Dockerfile and the compose file, checked without Docker."""

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
from worker.cli.init_project import make_setup, write
from worker.notices.alertmanager import alertmanager_config
from worker.settings import Settings

DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yml").read_text())
SERVICES = COMPOSE["services"]


SECRETS = {name.upper() for name, field in Settings.model_fields.items() if "Secret" in repr(field.annotation)}
NOT_FOR_WORKERS = {"API_TOKEN", "CONSOLE_TOKEN", "CONSOLE_READ_TOKEN", "FAL_KEY", "SUPABASE_WEBHOOK_SECRETS"}
NOT_FOR_RECEIVERS = {"NOTIFY_URLS", "NOTIFY_SECRET"}
FOR_OTHER_SERVICES = {"RABBITMQ_PASSWORD", "GRAFANA_PASSWORD"}


def mounted(service):
    """Return the container paths of a service's mounted files, by their path in deploy/."""
    pairs = [volume.split(":") for volume in SERVICES[service]["volumes"] if volume.startswith("./")]
    return {here.removeprefix("./"): there for here, there, *_ in pairs}


def test_the_image_is_slim_locked_and_runs_as_an_unprivileged_user():
    text = (DEPLOY / "Dockerfile").read_text()
    build, final = re.split(r"^FROM ", text, flags=re.MULTILINE)[1:]
    assert re.search(r"^ARG PYTHON=3\.\d+\.\d+-slim-", text, re.MULTILINE)
    assert "pip install --require-hashes -r requirements.lock" in build
    assert "libmagic1" in final
    assert "pip uninstall" in final
    assert not re.search(r"build-essential|gcc|-dev\b", text)
    assert re.search(r"^USER 10001:10001$", final, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK ", final, re.MULTILINE)
    assert re.search(r'^CMD \["serve"\]$', final, re.MULTILINE)
    assert (SERVICES["receiver"]["command"], SERVICES["worker"]["command"]) == (["receiver"], ["worker"])
    assert SERVICES["receiver"]["image"] == SERVICES["worker"]["image"]


def test_dockerignore_includes_every_copied_path():
    ignore = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    wanted = re.findall(r"^COPY (?!--)(.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    names = {name for line in wanted for name in line.split()}
    assert {"requirements.lock", "worker"} <= names
    assert {f"!{name}" for name in names} <= set(ignore)
    assert all((ROOT / name).exists() for name in names)


@pytest.mark.parametrize("variable", ["RECEIVER_PORT", "METRICS_PORT"])
@pytest.mark.parametrize(("status", "exit_code"), [(200, 0), (503, 1)])
def test_the_health_check_works_for_receiver_and_worker(variable, status, exit_code):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, *_arguments):
            pass

    ports = {"RECEIVER_PORT": "1", "METRICS_PORT": "1"}
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        env = {**os.environ, **ports, variable: str(server.server_port)}
        done = subprocess.run([sys.executable, "-I", "-m", "deploy.health"], env=env, check=False)
        server.shutdown()
    assert done.returncode == exit_code
    assert '"python", "-I", "-m", "deploy.health"' in (DEPLOY / "Dockerfile").read_text()


@pytest.mark.parametrize("name", ["receiver", "worker"])
def test_containers_are_read_only_except_the_temporary_folder(name):
    service = SERVICES[name]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    scratch = [str(place).partition(":")[0] for place in service.get("tmpfs", []) + service.get("volumes", [])]
    assert scratch == ["/tmp"]  # noqa: S108 - the image's TEMP_DIR


def test_outlast_init_writes_every_variable_that_compose_requires(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wanted = set(re.findall(r"\$\{(\w+):\?", (DEPLOY / "compose.yml").read_text()))
    env = dict(re.findall(r"^(\w+)=(.*)$", make_setup(Settings(_env_file=None), None).env, re.MULTILINE))
    assert wanted == {"RABBITMQ_PASSWORD", "GRAFANA_PASSWORD"}
    assert all(re.fullmatch(r"[0-9a-f]{32}", env[name]) for name in wanted)
    assert SERVICES["worker"]["env_file"] == ".env"


def test_each_container_gets_only_the_secrets_that_it_needs():
    removed = {
        name: {key for key, value in SERVICES[name]["environment"].items() if value == ""}
        for name in ("receiver", "worker")
    }
    assert removed == {
        "receiver": FOR_OTHER_SERVICES | NOT_FOR_RECEIVERS,
        "worker": FOR_OTHER_SERVICES | NOT_FOR_WORKERS,
    }
    assert SECRETS - removed["worker"] == {
        "RABBITMQ_URL",
        "SUPABASE_SERVICE_ROLE_KEY",
        *("FORWARD_SECRET", "METRICS_TOKEN"),
        *NOT_FOR_RECEIVERS,
    }
    assert not any("env_file" in SERVICES[name] for name in ("rabbitmq", "prometheus", "alertmanager", "grafana"))


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("receiver", FOR_OTHER_SERVICES | NOT_FOR_RECEIVERS),
        ("serve", FOR_OTHER_SERVICES),
        ("worker@", FOR_OTHER_SERVICES | NOT_FOR_WORKERS),
    ],
)
def test_each_unit_runs_with_only_the_secrets_that_it_needs(unit, expected):
    text = (DEPLOY / f"systemd/outlast-{unit}.service").read_text()
    env, *arguments = re.search(r"^ExecStart=(.*)$", text, re.MULTILINE)[1].split()
    assert env == "/usr/bin/env"
    assert set(arguments[1 : arguments.index("/opt/outlast/bin/outlast") : 2]) == expected
    assert set(arguments[0 : arguments.index("/opt/outlast/bin/outlast") : 2]) == {"-u"}


def test_grafana_is_provisioned_with_dashboards_and_prometheus():
    provisioning = DEPLOY / "grafana/provisioning"
    assert mounted("grafana")["grafana/provisioning"] == "/etc/grafana/provisioning"
    (provider,) = yaml.safe_load((provisioning / "dashboards/outlast.yaml").read_text())["providers"]
    assert mounted("grafana")["grafana/dashboards"] == provider["options"]["path"]
    (datasource,) = yaml.safe_load((provisioning / "datasources/outlast.yaml").read_text())["datasources"]
    address = SERVICES["grafana"]["environment"][datasource["url"].strip("${}")]
    assert address == "http://prometheus:9090"
    assert "prometheus" in SERVICES


def test_prometheus_has_its_rules_and_scrapes_existing_services():
    assert mounted("prometheus") == {"prometheus": "/etc/prometheus"}
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    assert all(list((DEPLOY / "prometheus").glob(pattern)) for pattern in config["rule_files"])
    scraped = {name for job in config["scrape_configs"] for each in job["dns_sd_configs"] for name in each["names"]}
    assert scraped == {"receiver", "worker", "rabbitmq"}
    assert scraped < set(SERVICES)


def test_alerts_reach_an_alertmanager_that_init_configures():
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    (found,) = config["alerting"]["alertmanagers"][0]["dns_sd_configs"]
    assert (found["names"], found["port"]) == (["alertmanager"], 9093)
    default = re.search(r"ALERTMANAGER_CONFIG:-\./(\S+?)}", SERVICES["alertmanager"]["volumes"][0])[1]
    assert (DEPLOY / default).read_text() == alertmanager_config()
    assert SERVICES["prometheus"]["environment"].keys() == {"RUNBOOK_URL"}
    assert config["global"]["external_labels"] == {"runbooks": "${RUNBOOK_URL}"}


@pytest.mark.parametrize(
    ("address", "kind", "expected"),
    [
        (
            "https://hooks.slack.com/services/T/B/x",
            "slack_configs",
            {"api_url": "https://hooks.slack.com/services/T/B/x"},
        ),
        ("https://me.example.com/a?b=%22", "webhook_configs", {"url": "https://me.example.com/a?b=%22"}),
        (
            "smtp://me%40example.com:p%22w@smtp.example.com/you@example.com",
            "email_configs",
            {
                "to": "you@example.com",
                "from": "me@example.com",
                "smarthost": "smtp.example.com:587",
                "auth_username": "me@example.com",
                "auth_password": 'p"w',
            },
        ),
    ],
)
def test_outlast_init_configures_who_is_told_of_alerts(tmp_path, monkeypatch, address, kind, expected):
    monkeypatch.chdir(tmp_path)
    setup = make_setup(Settings(_env_file=None), None, alerts_to=address)
    write(setup, tmp_path / "made")
    config = yaml.safe_load((tmp_path / "made/alertmanager.yml").read_text())
    (receiver,) = config["receivers"]
    (entry,) = receiver[kind]
    assert expected.items() <= entry.items()
    assert "\nALERTMANAGER_CONFIG=./alertmanager.yml\nALERTMANAGER_USER=" in setup.env
    with pytest.raises(ValueError, match="--alerts-to"):
        make_setup(Settings(_env_file=None), None, alerts_to="me@example.com")


class ComposeRabbitMQ(RabbitMQ):
    """The local stack's broker, with the configuration files of compose."""

    def _configure(self):
        super()._configure()
        more = (DEPLOY / "rabbitmq/rabbitmq.conf").read_text()
        own = self._home / "rabbitmq.conf"
        overridden = {line.split(" = ")[0] for line in more.splitlines() if " = " in line}
        own.write_text(
            "".join(f"{line}\n" for line in own.read_text().splitlines() if line.split(" = ")[0] not in overridden)
            + more
        )
        (self._home / "enabled_plugins").write_text((DEPLOY / "rabbitmq/enabled_plugins").read_text())


async def test_rabbitmq_applies_its_configuration_and_plugins(tmp_path):
    broker = ComposeRabbitMQ(tmp_path, plugins=("rabbitmq_management", "rabbitmq_prometheus"))
    try:
        await broker.start()
        await broker.evaluate("1800000 = application:get_env(rabbit, consumer_timeout, none).")
        await broker.create_vhost("test-vhost")
        async with aiohttp.ClientSession() as session, session.get(broker.metrics_url) as status:
            assert "rabbitmq_identity_info" in await status.text()
    finally:
        await broker.stop()
