"""promtool checks the configuration and the rules; each alert has test cases in which it fires and does not fire."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))
CASES = sorted((PROMETHEUS / "tests").glob("*.yml"))


def promtool(*arguments):
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False)  # noqa: S603, S607 - promtool from the path
    assert done.returncode == 0, done.stdout + done.stderr


def alerts():
    groups = [group for file in RULES for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def expected():
    """Yield each alert name with the number of alerts that a case expects."""
    for file in CASES:
        for case in yaml.safe_load(file.read_text())["tests"]:
            for expectations in case["alert_rule_test"]:
                yield expectations["alertname"], len(expectations["exp_alerts"])


def anchors(text):
    """Return the anchors that GitHub generates for headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_configuration_and_its_rules_are_valid():
    promtool("check", "config", PROMETHEUS / "prometheus.yml")
    promtool("check", "rules", "--lint-fatal", *RULES)


@pytest.mark.parametrize("cases", CASES, ids=lambda file: file.stem)
def test_alerts_fire_when_they_should_and_only_then(cases):
    promtool("test", "rules", cases)


def test_every_alert_has_a_case_that_fires_and_one_that_does_not():
    names = {alert["alert"] for alert in alerts()}
    expectations = list(expected())
    assert names == {name for name, count in expectations if count}
    assert names == {name for name, count in expectations if not count}
    assert len(names) == 17


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_every_alert_has_annotations_and_a_runbook_section(alert):
    notes = alert["annotations"]
    assert set(notes) == {"summary", "description", "runbook_url"}
    assert all(notes.values())
    assert alert["labels"]["severity"] in {"critical", "warning"}
    page, _, anchor = notes["runbook_url"].partition("#")
    assert page == "{{ with $externalLabels.runbooks }}{{ . }}{{ else }}deploy/README.md{{ end }}"
    assert anchor == alert["alert"].lower()
    assert anchor in anchors((DEPLOY / "README.md").read_text())


def test_every_runbook_section_says_where_to_look_and_what_to_do():
    parts = re.split(r"^### (Outlast\w+)$", (DEPLOY / "README.md").read_text(), flags=re.MULTILINE)[1:]
    sections = dict(zip(parts[::2], parts[1::2], strict=True))
    assert set(sections) == {alert["alert"] for alert in alerts()}
    for name, text in sections.items():
        section = text.partition("\n## ")[0]
        assert "\n- Look: " in section, name
        assert "\n- Do: " in section, name
