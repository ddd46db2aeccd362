"""The Kubernetes manifests: privileges, sizes, scaling, network policies."""

import re

import pytest
import yaml

from handlers.download.addresses import GLOBAL_UNICAST, NON_PUBLIC_IPV4, NON_PUBLIC_IPV6
from schemas.jobs import Queue
from tests.deploy import checks
from tests.deploy.test_checks import ROOT
from tests.deploy.test_containers import NOT_FOR_WORKERS, SECRETS
from worker.broker.topology import work_queue
from worker.observability.metrics import Metrics
from worker.settings import Settings

OBJECTS = {(document["kind"], document["metadata"]["name"]): document for _, document in checks.documents(ROOT)}
DEPLOYMENTS = ("outlast-receiver", "outlast-worker")
MIB = {"Mi": 1, "Gi": 1024}


def pod(name):
    return OBJECTS["Deployment", name]["spec"]["template"]["spec"]


def mib(quantity):
    return int(quantity[:-2]) * MIB[quantity[-2:]]


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_pod_runs_without_privileges(name):
    (container,) = pod(name)["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    context = pod(name)["securityContext"]
    assert (context["runAsNonRoot"], context["seccompProfile"]) == (True, {"type": "RuntimeDefault"})
    image = (ROOT / "deploy/Dockerfile").read_text()
    assert f"\nUSER {context['runAsUser']}:{context['runAsGroup']}\n" in image
    assert pod(name)["automountServiceAccountToken"] is False


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_writable_volumes_have_a_size_within_the_limits(name):
    (container,), (volume,) = pod(name)["containers"], pod(name)["volumes"]
    assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": "/tmp"}]  # noqa: S108 - the image's TEMP_DIR
    size, resources = mib(volume["emptyDir"]["sizeLimit"]), container["resources"]
    assert mib(resources["requests"]["ephemeral-storage"]) >= size
    assert mib(resources["limits"]["ephemeral-storage"]) >= size
    assert mib(resources["requests"]["memory"]) < mib(resources["limits"]["memory"])


def test_a_workers_volume_and_memory_hold_what_its_settings_allow():
    configured = {name.lower(): value for name, value in OBJECTS["ConfigMap", "outlast"]["data"].items()}
    settings = Settings(_env_file=None, **configured)
    (volume,) = pod("outlast-worker")["volumes"]
    assert mib(volume["emptyDir"]["sizeLimit"]) > settings.temp_disk_mb
    (container,) = pod("outlast-worker")["containers"]
    codecs = settings.codec_processes * settings.codec_memory_mb
    assert mib(container["resources"]["limits"]["memory"]) > codecs + 70  # the worker's own, see Sizing


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_liveness_and_readiness_use_different_paths(name):
    (container,) = pod(name)["containers"]
    paths = {
        probe: container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert paths == {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    budget = OBJECTS["PodDisruptionBudget", name]["spec"]
    assert budget["selector"] == OBJECTS["Deployment", name]["spec"]["selector"]


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_secrets_are_referenced_not_contained(name):
    (container,) = pod(name)["containers"]
    assert {"configMapRef": {"name": "outlast"}} in container["envFrom"]
    assert all("value" not in variable for variable in container["env"])
    secret = {name for name, field in Settings.model_fields.items() if "Secret" in repr(field.annotation)}
    assert not {name.lower() for name in OBJECTS["ConfigMap", "outlast"]["data"]} & secret


def test_each_pod_gets_only_the_secrets_that_it_needs():
    (receiver,), (worker,) = (pod(name)["containers"] for name in DEPLOYMENTS)
    assert {"secretRef": {"name": "outlast"}} in receiver["envFrom"]
    assert not any("secretRef" in source for source in worker["envFrom"])
    names = {variable["name"] for variable in worker["env"]}
    optional = {"FORWARD_SECRET", "NOTIFY_URLS", "NOTIFY_SECRET", "METRICS_TOKEN"}
    assert names == {"RABBITMQ_URL", "SUPABASE_URL", "SUPABASE_SERVICE_ROLE_KEY"} | optional
    assert {name for name in SECRETS if name in names} == SECRETS - NOT_FOR_WORKERS


def test_workers_are_scaled_by_queue_length_and_job_age():
    scaled = OBJECTS["ScaledObject", "outlast-worker"]["spec"]
    assert scaled["scaleTargetRef"]["name"] == "outlast-worker"
    lengths = [trigger["metadata"] for trigger in scaled["triggers"] if trigger["type"] == "rabbitmq"]
    assert {length["queueName"] for length in lengths} == {work_queue(Queue.FILES), work_queue(Queue.BULK)}
    assert {length["mode"] for length in lengths} == {"QueueLength"}
    (age,) = [trigger["metadata"]["query"] for trigger in scaled["triggers"] if trigger["type"] == "prometheus"]
    known = {f"{family.name}_bucket" for family in Metrics("test").registry.collect()}
    assert set(re.findall(r"outlast_\w+", age)) <= known
    receivers = OBJECTS["HorizontalPodAutoscaler", "outlast-receiver"]["spec"]
    assert receivers["scaleTargetRef"]["name"] == "outlast-receiver"


def test_pods_reach_only_dns_the_broker_and_public_addresses():
    policies = {name: each["spec"] for (kind, name), each in OBJECTS.items() if kind == "NetworkPolicy"}
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    names, broker, world = policies["outlast-egress"]["egress"]
    assert {port["port"] for port in names["ports"]} == {53}
    assert broker["to"] == [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "rabbitmq"}}}]
    assert [port["port"] for rule in (broker, world) for port in rule["ports"]] == [5672, 443]
    v4, v6 = [block["ipBlock"] for block in world["to"]]
    assert v4 == {"cidr": "0.0.0.0/0", "except": [str(network) for network in NON_PUBLIC_IPV4]}
    assert v6 == {"cidr": str(GLOBAL_UNICAST), "except": [str(network) for network in NON_PUBLIC_IPV6]}


def test_every_process_is_scraped_with_the_job_name_of_the_alerts():
    monitor = OBJECTS["ServiceMonitor", "outlast"]["spec"]
    for name in DEPLOYMENTS:
        service = OBJECTS["Service", name]
        assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        assert {port["name"] for port in service["spec"]["ports"]} == {monitor["endpoints"][0]["port"]}
    jobs = {
        job["job_name"]
        for job in yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    }
    assert jobs == {*DEPLOYMENTS, "rabbitmq"}


def test_the_broker_has_the_same_configuration_as_in_compose():
    spec = OBJECTS["RabbitmqCluster", "rabbitmq"]["spec"]
    plugins = (ROOT / "deploy/rabbitmq/enabled_plugins").read_text().strip("[].\n").split(",")
    assert set(plugins) <= set(spec["rabbitmq"]["additionalPlugins"])
    file = {line for line in (ROOT / "deploy/rabbitmq/rabbitmq.conf").read_text().splitlines() if " = " in line}
    cluster = set(spec["rabbitmq"]["additionalConfig"].splitlines())
    assert file - cluster == {"log.console = true"}, "the operator's default"
    assert cluster - file == {"cluster_partition_handling = pause_minority"}
