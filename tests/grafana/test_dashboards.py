"""The dashboards' JSON is up to date, complete, and uses only existing metrics."""

import json
import re
import shutil
import subprocess

import pytest
import yaml

from deploy.grafana import __main__ as generator
from tests.grafana.dashboards import GRAFANA, annotations, dashboards, panels, queries
from worker.console.dead_letters.items import FILTERS as DEAD_FILTERS
from worker.console.tasks import FILTERS as TASK_FILTERS
from worker.observability.metrics import Metrics

DASHBOARDS = dashboards()
EVERY_PANEL = [
    pytest.param(panel, id=f"{uid}: {panel['title']}") for uid in DASHBOARDS for panel in panels(DASHBOARDS[uid])
]
EVERY_QUERY = [query for dashboard in DASHBOARDS.values() for query in (*queries(dashboard), *annotations(dashboard))]
RABBITMQ = {
    "rabbitmq_queue_messages",
    "rabbitmq_queue_messages_ready",
    "rabbitmq_queue_messages_unacked",
    "rabbitmq_queue_consumers",
    "rabbitmq_process_resident_memory_bytes",
    "rabbitmq_resident_memory_limit_bytes",
    "rabbitmq_disk_space_available_bytes",
    "rabbitmq_disk_space_available_limit_bytes",
}
"""Metrics of RabbitMQ's plugin; tests/metrics/test_run.py queries a real one for each."""
ENDINGS = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""], "info": ["_info"]}


def known_metrics():
    families = list(Metrics("0").registry.collect())
    return RABBITMQ | {family.name + ending for family in families for ending in ENDINGS[family.type]}


def test_dashboard_files_are_up_to_date():
    assert {path.name: path.read_text("utf-8") for path in generator.FOLDER.glob("*.json")} == generator.rendered()


@pytest.mark.parametrize("panel", EVERY_PANEL)
def test_every_panel_has_description_unit_and_thresholds(panel):
    defaults = panel["fieldConfig"]["defaults"]
    assert len(panel["description"]) > 20
    assert defaults["unit"]
    assert defaults["thresholds"]["steps"][0]["value"] is None
    values = [step["value"] for step in defaults["thresholds"]["steps"][1:]]
    assert values == sorted(values)
    assert panel["targets"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


@pytest.mark.parametrize("dashboard", DASHBOARDS.values(), ids=DASHBOARDS)
def test_every_dashboard_has_variables_annotations_and_links(dashboard):
    assert [variable["name"] for variable in dashboard["templating"]["list"]] == ["datasource", "instance", "console"]
    assert [annotation["name"] for annotation in dashboard["annotations"]["list"]] == ["Deploys", "Replays"]
    assert [link["tags"] for link in dashboard["links"]] == [dashboard["tags"]] == [["outlast"]]
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("panel", EVERY_PANEL)
def test_panel_links_lead_to_existing_dashboards(panel):
    for link in panel.get("links", []):
        assert re.match(r"/d/([\w-]+)\?", link["url"])[1] in DASHBOARDS


def test_panels_link_to_pages_and_filters_of_the_console():
    links = {
        link["url"] for panel in EVERY_PANEL for link in panel.values[0]["fieldConfig"]["defaults"].get("links", [])
    }
    assert len(links) >= 5
    for url in links:
        page, _, query = url.removeprefix("${console}").partition("?")
        names = {part.partition("=")[0] for part in query.split("&") if part}
        assert names <= {"/dead": set(), "/dead/letters": set(DEAD_FILTERS), "/tasks": set(TASK_FILTERS)}[page]


@pytest.mark.parametrize("panel", EVERY_PANEL)
def test_stacked_panels_hide_series_that_are_always_zero(panel):
    custom = panel["fieldConfig"]["defaults"].get("custom", {})
    labelled = any("{{" in target["legendFormat"] for target in panel["targets"])
    hidden = [override["matcher"]["options"]["reducer"] for override in panel["fieldConfig"].get("overrides", [])]
    if custom.get("stacking", {}).get("mode") == "normal" and labelled:
        assert hidden == ["allIsZero"]
    if panel["title"] == "Consumers":  # in this panel 0 matters
        assert hidden == []


@pytest.mark.parametrize("dashboard", DASHBOARDS.values(), ids=DASHBOARDS)
def test_panels_do_not_overlap(dashboard):
    taken = [
        (x, y)
        for grid in (panel["gridPos"] for panel in dashboard["panels"])
        for x in range(grid["x"], grid["x"] + grid["w"])
        for y in range(grid["y"], grid["y"] + grid["h"])
    ]
    assert len(set(taken)) == len(taken)
    assert max(x for x, _ in taken) == 23


def test_queries_use_only_existing_metrics():
    exprs = [re.sub(r'"[^"]*"', "", query.expr) for query in EVERY_QUERY]
    named = {name for expr in exprs for name in re.findall(r"\w+(?=[{\[])|outlast_\w+|rabbitmq_\w+", expr)}
    assert named - known_metrics() == set()
    assert named >= RABBITMQ


def test_every_query_is_valid_promql(tmp_path):
    rules = [{"record": f"query:{number}", "expr": query.concrete("1m")} for number, query in enumerate(EVERY_QUERY)]
    file = tmp_path / "rules.json"  # JSON is valid YAML
    file.write_text(json.dumps({"groups": [{"name": "dashboards", "rules": rules}]}))
    promtool = shutil.which("promtool")
    assert promtool, "apt-get install prometheus"
    checked = subprocess.run([promtool, "check", "rules", file], capture_output=True, text=True, check=False)  # noqa: S603
    assert checked.returncode == 0, checked.stderr
    assert f"{len(rules)} rules found" in checked.stdout


def test_grafana_provisioning_files_are_consistent():
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/outlast.yaml").read_text())["datasources"]
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/outlast.yaml").read_text())["providers"]
    assert (source["type"], source["url"]) == ("prometheus", "$PROMETHEUS_URL")
    assert (provider["type"], provider["options"]["path"]) == ("file", "/var/lib/grafana/dashboards/outlast")
