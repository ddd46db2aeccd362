import shutil
from pathlib import Path

import pytest

from tests.deploy import checks

ROOT = Path(__file__).parents[2]
BASE = "deploy/kubernetes/base"
PLANTED = [
    (checks.dockerfile, "deploy/Dockerfile", "python:${PYTHON} AS build", "python:latest AS build", "DL3007"),
    (checks.yaml_style, "deploy/compose.yml", "services:", "services: ", "trailing spaces"),
    (checks.compose, "deploy/compose.yml", "read_only:", "readonly:", "readonly"),
    (checks.workflow, ".github/workflows/ci.yml", "runs-on:", "runs_on:", "runs_on"),
    (checks.kubernetes, f"{BASE}/worker.yaml", "readOnlyRootFilesystem", "readonlyRootFilesystem", "unexpected"),
    (checks.kubernetes, f"{BASE}/worker-scaling.yaml", "maxReplicaCount", "maxReplicas", "maxReplicas"),
    (checks.kubernetes, f"{BASE}/rabbitmq.yaml", "additionalConfig", "config", "config"),
]
"""What each check must find: the check, the file, what stands there, what is planted instead, what is said of it."""
if shutil.which("kubectl"):
    dev = "deploy/kubernetes/overlays/dev/kustomization.yaml"
    PLANTED += [(checks.overlays, dev, "outlast-worker", "worker", "no matches")]
if shutil.which("systemd-analyze"):
    receiver, worker = (f"deploy/systemd/outlast-{unit}.service" for unit in ("receiver", "worker@"))
    PLANTED += [
        (checks.units, receiver, "Type=exec", "Typ=exec", "Unknown key"),
        (checks.units, worker, "CapabilityBoundingSet=\n", "\n", "Overall exposure"),
    ]


def test_all_is_well(capsys):
    assert checks.main(ROOT) == 0, capsys.readouterr().out


@pytest.mark.parametrize(("check", "file", "good", "bad", "said"), PLANTED)
def test_a_planted_fault_is_found(tmp_path, check, file, good, bad, said):
    for place in ("deploy", ".github"):
        shutil.copytree(ROOT / place, tmp_path / place, ignore=shutil.ignore_patterns("__pycache__", "local"))
    text = (tmp_path / file).read_text()
    assert good in text
    (tmp_path / file).write_text(text.replace(good, bad))
    faults = check(tmp_path)
    assert said in "\n".join(faults)
