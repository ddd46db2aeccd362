"""The documents agree with the code: settings, commands, make targets, files, and links between pages."""

import ast
import json
import re
import shlex
import subprocess
import textwrap
import tomllib
from pathlib import Path

import pytest
import typer
import yaml

from handlers.media import MEDIA_TYPES
from tests import media_matrix, reference
from worker.cli.main import app
from worker.cli.settings_table import with_new_table
from worker.observability.metrics import Metrics
from worker.settings import Settings

ROOT = Path(__file__).parents[3]
MAKE = (ROOT / "Makefile").read_text()
SETTINGS = ROOT / "deploy/docs/settings.md"
MEDIA = ROOT / "deploy/docs/media.md"
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("deploy/*.md"), *ROOT.glob("deploy/docs/*.md"), *ROOT.glob("tests/**/*.md")]
)
MANUAL = [page for page in PAGES if page.name != "CHANGELOG.md" and "tests" not in page.parts]
OTHER_VARIABLES = {
    *("RABBITMQ_PASSWORD", "GRAFANA_PASSWORD", "RECEIVER_ADDRESS"),  # deploy/compose.yml
    *("RUNBOOK_URL", "ALERTMANAGER_CONFIG", "ALERTMANAGER_USER"),  # the same
    *("PROMETHEUS_URL", "SUPABASE_ANON_KEY"),  # Grafana's provisioning; `make test-live`
    *("DATABASE_URL", "ON_ERROR_STOP"),  # psql in the README
}
"""Environment variables in the documents that are not settings of Outlast."""
LINK = re.compile(r"\]\(([^)\s]+)\)")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
manual = pytest.mark.parametrize("page", MANUAL, ids=lambda page: str(page.relative_to(ROOT)))


def prose(page):
    """Return the text of a page without its code blocks."""
    return re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page):
    """Return the anchors that GitHub generates from the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page):
    """Return the relative links of a page whose file or anchor does not exist."""
    broken = []
    for link in LINK.findall(prose(page)):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


def commands(page):
    """Yield the words of each `outlast ...` command in a page: in code blocks and in code spans."""
    text = re.sub(r"\\\n\s*", "", page.read_text())
    lines = re.findall(r"^ *(?:\S*/)?outlast ([a-z].*?)(?: +#.*| > .*)?$", text, re.MULTILINE)
    spans = re.findall(r"`outlast ([a-z][^`]*)`", text)
    for found in (*lines, *spans):
        yield shlex.split(found)


def unknown_words(words, command):
    """Return the words of a command line that are neither a command nor an option of it."""
    while hasattr(command, "commands"):
        name, *words = words or [""]
        names = name.split("|")
        if not set(names) <= set(command.commands):
            return [name]
        command = command.commands[names[0]]
    options = {option for parameter in command.params for option in parameter.opts}
    return [word for word in words if word.startswith("--") and word.partition("=")[0] not in options | {"--help"}]


def test_the_table_of_settings_is_up_to_date():
    text = SETTINGS.read_text()
    assert with_new_table(text) == text, "run `make docs`"
    assert all(f"| `{name.upper()}` |" in text for name in Settings.model_fields)


def test_the_table_of_media_types_is_up_to_date():
    text = MEDIA.read_text()
    assert media_matrix.with_new_table(text) == text, "run `make docs`"
    assert text.count("| `") >= len(MEDIA_TYPES)


def test_the_reference_pages_are_up_to_date():
    pages = reference.rendered()
    assert {name: (ROOT / "deploy/docs" / name).read_text("utf-8") for name in pages} == pages, "run `make docs`"
    assert pages["sql.md"].count("| `outlast_") > 60
    assert pages["http.md"].count("| `GET /") >= 8
    assert all(f"`{family.name}" in pages["metrics.md"] for family in Metrics("0").registry.collect())


def python_fault(text):
    try:
        compile(textwrap.dedent(text), "block", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except SyntaxError as error:
        return str(error)
    return ""


def shell_fault(text):
    text = re.sub(r"<[a-z][\w-]*>", "placeholder", text)
    return subprocess.run(["sh", "-n"], input=text, capture_output=True, text=True, check=False).stderr  # noqa: S607


def parse_fault(parse, text):
    try:
        parse(text)
    except ValueError as error:
        return str(error)
    return ""


CHECKS = {
    "python": python_fault,
    "sh": shell_fault,
    "json": lambda text: parse_fault(json.loads, text),
    "yaml": lambda text: parse_fault(yaml.safe_load, text),
    "toml": lambda text: parse_fault(tomllib.loads, text),
}


def block_faults(page):
    """Return what is wrong with the fenced blocks of a page, in the languages that can be checked."""
    blocks = re.findall(r"^ *```(\w+)\n(.*?)^ *```$", page.read_text(), re.MULTILINE | re.DOTALL)
    by_language = {language: [text for name, text in blocks if name == language] for language in CHECKS}
    by_language["sh"] = ["\n".join(by_language["sh"])]  # one process for a page
    return [fault for language, texts in by_language.items() for text in texts if (fault := CHECKS[language](text))]


@manual
def test_fenced_blocks_can_be_parsed(page):
    assert block_faults(page) == []


def test_a_wrong_block_is_reported(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```json\n{]\n```\n```sh\nif\n```\n```python\nawait f(\n```\n```sql\n?\n```\n")
    assert len(block_faults(page)) == 3


def test_the_readme_has_at_most_200_lines_and_two_pictures_at_the_top():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 200
    pictures = [line for line in lines[:20] if line.startswith("![")]
    assert ["console" in pictures[0], "grafana" in pictures[1]] == [True, True]


@pages
def test_relative_links_and_anchors_exist(page):
    assert broken_links(page) == []


def test_broken_links_are_reported(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# One section\n[a](#one-section) [b](#two) [c](none.md) [d](page.md#one-section) [e](https://x.org)\n"
    )
    assert broken_links(page) == ["#two", "none.md"]


@manual
def test_every_command_and_option_in_the_manual_exists(page):
    command = typer.main.get_command(app)
    assert [words for words in commands(page) if unknown_words(words, command)] == []


def test_unknown_commands_and_options_are_reported(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "`outlast dead list|groups`\n```sh\noutlast demos\noutlast up --jsn   # x\noutlast dead replay --yes\n```\n"
    )
    command = typer.main.get_command(app)
    assert [unknown_words(words, command) for words in commands(page)] == [["demos"], ["--jsn"], [], []]


@manual
def test_every_variable_in_the_manual_is_a_setting(page):
    named = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", page.read_text()))
    known = {name.upper() for name in Settings.model_fields} | OTHER_VARIABLES
    makefile_variables = set(re.findall(r"^([A-Z_]+) *[?:]?=", MAKE, re.MULTILINE))
    constants = {"MEDIA_TYPES"} | makefile_variables if page.name == "CONTRIBUTING.md" else set()
    assert named - known - constants == set()


@manual
def test_every_make_target_in_the_manual_exists(page):
    named = set(re.findall(r"(?:`|^)make ([a-z][a-z0-9-]*)", page.read_text(), re.MULTILINE))
    assert named <= set(re.findall(r"^([a-z][a-z0-9-]*):", MAKE, re.MULTILINE))


def claims(text):
    """Return the tests that each claim names, by claim, from the tables `claim | test` of a page."""
    visible = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    tables = re.findall(r"^\| claim \| test \|\n\|[-|]+\|\n((?:\|.*\n)+)", visible, re.MULTILINE)
    rows = [row.strip("|").split("|") for table in tables for row in table.splitlines()]
    return {claim.strip(): re.findall(r"`([^`]+)`", tests) for claim, tests in rows}


def missing_tests(found):
    """Return the claims without a test, and the tests that do not exist."""
    missing = [claim for claim, tests in found.items() if not tests]
    for name in (name for tests in found.values() for name in tests):
        path, _, function = name.partition("::")
        text = (ROOT / path).read_text() if (ROOT / path).is_file() else ""
        if not re.search(rf"^(?:async )?def {re.escape(function)}\(", text, re.MULTILINE):
            missing.append(name)
    return missing


def test_every_claim_of_the_security_page_has_a_test_that_exists():
    found = claims((ROOT / "deploy/docs/security.md").read_text())
    assert len(found) >= 20
    assert missing_tests(found) == []


def test_claims_without_an_existing_test_are_reported():
    rows = ("a | ", "b | `tests/none.py::test_x`", "c | `tests/unit/cli/test_docs.py::claims`")
    text = "| claim | test |\n|---|---|\n" + "".join(f"| {row} |\n" for row in rows)
    assert missing_tests(claims(text)) == ["a", "tests/none.py::test_x"]


def test_every_file_in_contributing_exists():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = [path for path in re.findall(r"`((?:handlers|worker|tests|deploy)/[\w/*.]+)`", text) if "/x.py" not in path]
    assert len(named) > 10
    assert [path for path in named if not list(ROOT.glob(path))] == []
