import re
import shutil
from pathlib import Path

import pytest

from tests.deploy import checks

ROOT = Path(__file__).parents[2]
BASE = "deploy/kubernetes/base"
RECEIVER, SERVE, WORKER = (f"deploy/systemd/outlast-{unit}.service" for unit in ("receiver", "serve", "worker@"))
DEV, PROD = (f"deploy/kubernetes/overlays/{name}/kustomization.yaml" for name in ("dev", "prod"))
FAULTS = [
    (checks.dockerfile, "deploy/Dockerfile", "python:${PYTHON} AS build", "python:latest AS build", "DL3007"),
    (checks.yaml_style, "deploy/compose.yml", "services:", "services: ", "trailing spaces"),
    (checks.compose, "deploy/compose.yml", "read_only:", "readonly:", "readonly"),
    (checks.workflow, ".github/workflows/ci.yml", "runs-on:", "runs_on:", "runs_on"),
    (checks.kubernetes, f"{BASE}/worker.yaml", "readOnlyRootFilesystem", "readonlyRootFilesystem", "unexpected"),
    (checks.kubernetes, f"{BASE}/worker-scaling.yaml", "maxReplicaCount", "maxReplicas", "maxReplicas"),
    (checks.kubernetes, f"{BASE}/rabbitmq.yaml", "additionalConfig", "config", "config"),
    (checks.overlays, DEV, "outlast-worker", "worker", "ScaledObject worker: no matches in base"),
    (checks.overlays, PROD, "name: outlast\n", "name: outlasts\n", "image outlasts: no matches in base"),
    (checks.platforms, "deploy/platforms/fly.toml", "kill_timeout", "kill_timout", "kill_timout"),
    (checks.platforms, "deploy/platforms/render.yaml", "key: API_TOKEN", "key: API_TOKENS", "API_TOKENS is no setting"),
    (checks.units, RECEIVER, "Type=exec", "Typ=exec", "Unknown key"),
    (checks.units, WORKER, "CapabilityBoundingSet=\n", "\n", "Overall exposure level for outlast-worker"),
]
"""(check, file, text, its faulty replacement, expected message) for each check."""


def test_the_repository_has_no_faults_and_units_have_low_exposure(capsys):
    code = checks.main(ROOT)
    output = capsys.readouterr()
    assert (code, output.out) == (0, "")
    exposures = re.findall(r"exposure level for outlast-(receiver|serve|worker)\S*: (\d+\.\d)", output.err)
    assert [name for name, exposure in exposures if float(exposure) < 2.0] == ["receiver", "serve", "worker"]


@pytest.mark.parametrize(("check", "file", "good", "bad", "message"), FAULTS)
def test_a_check_finds_its_fault(tmp_path, check, file, good, bad, message):
    for folder in ("deploy", ".github"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "local"))
    text = (tmp_path / file).read_text()
    assert good in text
    (tmp_path / file).write_text(text.replace(good, bad))
    faults = check(tmp_path)
    assert message in "\n".join(faults)


def test_every_check_has_a_fault_case():
    assert {check for check, *_ in FAULTS} == set(checks.CHECKS)


@pytest.mark.parametrize("unit", [RECEIVER, SERVE, WORKER])
def test_a_unit_with_high_exposure_is_a_fault(tmp_path, unit):
    text = (ROOT / unit).read_text()
    without_sandbox = "\n".join(
        line for line in text.splitlines() if not line.startswith(("Protect", "Restrict", "SystemCall"))
    )
    copy = tmp_path / Path(unit).name
    copy.write_text(without_sandbox)
    assert any("Overall exposure" in fault for fault in checks.unit_faults(copy))
