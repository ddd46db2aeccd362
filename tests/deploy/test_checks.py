import re
import shutil
from pathlib import Path

import pytest

from tests.deploy import checks

ROOT = Path(__file__).parents[2]
BASE = "deploy/kubernetes/base"
RECEIVER, WORKER = (f"deploy/systemd/outlast-{unit}.service" for unit in ("receiver", "worker@"))
DEV, PROD = (f"deploy/kubernetes/overlays/{name}/kustomization.yaml" for name in ("dev", "prod"))
PLANTED = [
    (checks.dockerfile, "deploy/Dockerfile", "python:${PYTHON} AS build", "python:latest AS build", "DL3007"),
    (checks.yaml_style, "deploy/compose.yml", "services:", "services: ", "trailing spaces"),
    (checks.compose, "deploy/compose.yml", "read_only:", "readonly:", "readonly"),
    (checks.workflow, ".github/workflows/ci.yml", "runs-on:", "runs_on:", "runs_on"),
    (checks.kubernetes, f"{BASE}/worker.yaml", "readOnlyRootFilesystem", "readonlyRootFilesystem", "unexpected"),
    (checks.kubernetes, f"{BASE}/worker-scaling.yaml", "maxReplicaCount", "maxReplicas", "maxReplicas"),
    (checks.kubernetes, f"{BASE}/rabbitmq.yaml", "additionalConfig", "config", "config"),
    (checks.overlays, DEV, "outlast-worker", "worker", "ScaledObject worker: no matches in base"),
    (checks.overlays, PROD, "name: outlast\n", "name: outlasts\n", "image outlasts: no matches in base"),
    (checks.units, RECEIVER, "Type=exec", "Typ=exec", "Unknown key"),
    (checks.units, WORKER, "CapabilityBoundingSet=\n", "\n", "Overall exposure level for outlast-worker"),
]
"""What each check must find: the check, the file, what stands there, what is planted instead, what is said of it."""


def test_all_is_well(capsys):
    code = checks.main(ROOT)
    told = capsys.readouterr()
    assert (code, told.out) == (0, "")
    exposures = re.findall(r"exposure level for outlast-(receiver|worker)\S*: (\d+\.\d)", told.err)
    assert [name for name, exposure in exposures if float(exposure) < 2.0] == ["receiver", "worker"]


@pytest.mark.parametrize(("check", "file", "good", "bad", "said"), PLANTED)
def test_a_planted_fault_is_found(tmp_path, check, file, good, bad, said):
    for place in ("deploy", ".github"):
        shutil.copytree(ROOT / place, tmp_path / place, ignore=shutil.ignore_patterns("__pycache__", "local"))
    text = (tmp_path / file).read_text()
    assert good in text
    (tmp_path / file).write_text(text.replace(good, bad))
    faults = check(tmp_path)
    assert said in "\n".join(faults)


def test_every_check_is_seen_to_find_something():
    assert {check for check, *_ in PLANTED} == set(checks.CHECKS)


@pytest.mark.parametrize("unit", [RECEIVER, WORKER])
def test_each_unit_is_held_below_two(tmp_path, unit):
    text = (ROOT / unit).read_text()
    loose = "\n".join(line for line in text.splitlines() if not line.startswith(("Protect", "Restrict", "SystemCall")))
    copy = tmp_path / Path(unit).name
    copy.write_text(loose)
    assert any("Overall exposure" in fault for fault in checks.unit_faults(copy))
