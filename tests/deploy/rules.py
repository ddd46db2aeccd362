"""`python -m tests.deploy.rules`: writes deploy/prometheus/rules as a resource of the Prometheus operator."""

from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy/prometheus/rules"
RESOURCE = ROOT / "deploy/kubernetes/base/rules.yaml"
HEAD = "# Made by `python -m tests.deploy.rules` from deploy/prometheus/rules: change it there.\n# yamllint disable\n"


def resource():
    """Return the expected text of RESOURCE."""
    groups = [group for file in sorted(RULES.glob("*.yml")) for group in yaml.safe_load(file.read_text())["groups"]]
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "outlast"},
        "spec": {"groups": groups},
    }
    return HEAD + yaml.safe_dump(rule, sort_keys=False, width=120, allow_unicode=True)


if __name__ == "__main__":
    RESOURCE.write_text(resource())
