"""Every page is checked by axe-core, with and without JavaScript. `make pictures` writes them to .outlast/console/."""

import pytest
from axe_playwright_python.base import AXE_FILE_PATH

from tests.console.conftest import another_operator
from tests.console.scene import Scene

WIDE, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
SCHEMES = ("light", "dark")
VIOLATIONS = """async () => (await axe.run({resultTypes: ["violations"], preload: false})).violations
  .filter(violation => ["serious", "critical"].includes(violation.impact))
  .map(violation => `${violation.id}: ${violation.nodes.map(node => node.html.slice(0, 200)).join(" | ")}`)"""
OVERFLOWS = """[document.documentElement, ...document.querySelectorAll(".stacked")].some(
  (element) => element.scrollWidth > document.documentElement.clientWidth)"""
EXPECTED_NODES = {
    "": (
        *('navigation "Pages"', 'heading "Now"', 'img "tasks ended per minute', 'region "Workers"'),
        *('img "Last 24 hours, tasks per 30 minutes', 'button "Pause file_processing"'),
    ),
    "dead": (
        'link "source_gone"',
        'button "Replay 15 dead letters with code source_gone"',
        'img "15 failures over time"',
    ),
    "dead/letters": (
        'search "Why has it no media?"',
        'checkbox "Select the dead letter of task',
        'columnheader "Failed"',
    ),
    "dead/confirm?verb=discard": ('textbox "Maximum per second', 'button "Discard 61"'),
}


def pages(scene):
    """Return the path of every page, by the name of its screenshot."""
    return {
        "now": "",
        "tasks": "tasks",
        "task-completed": f"tasks/{scene.completed.task_id}",
        "task-failed": f"tasks/{scene.failed.task_id}",
        "task-running": f"tasks/{scene.running.task_id}",
        "generation": f"generations/{scene.completed.generation_id}",
        "generation-missed": f"generations/{scene.missed}",
        "find": "find?q=u",
        "find-nothing": "find?q=nobody",
        "dead-letter-groups": "dead",
        "dead-letters": "dead/letters?code=source_unavailable&stage=download&host=v3.fal.media",
        "dead-letters-all": "dead/letters",
        "confirm": "dead/confirm?verb=replay&stage=download",
        "archive": "dead/archive",
        "history": "history",
        "operation": f"history/{scene.operation}",
        "error": "tasks/none",
    }


async def violations(page):
    if await page.evaluate("!window.axe"):
        await page.evaluate(AXE_FILE_PATH.read_text())
    return await page.evaluate(VIOLATIONS)


async def check(operator, name, problems):
    """Take four screenshots of a page; add what axe-core finds, and whether the page is too wide.

    Two of the four are checked. Wide pages in dark colours are checked without JavaScript.
    """
    page = operator.page
    for width, size in (("wide", WIDE), ("phone", PHONE)):
        await page.set_viewport_size(size)
        for scheme in SCHEMES:
            await page.emulate_media(color_scheme=scheme)
            await operator.take_screenshot(f"{name}-{width}-{scheme}")
            if (width, scheme) in {("wide", "light"), ("phone", "dark")}:
                problems += [f"{name}, {width}, {scheme}: {violation}" for violation in await violations(page)]
        if await page.evaluate(OVERFLOWS):
            problems.append(f"{name} is wider than a {width} screen")


async def check_without_javascript(operator, paths, problems):
    """Load each page with JavaScript disabled, then check it with axe-core."""
    await operator.open()
    await operator.sign_in()
    session = await operator.page.context.new_cdp_session(operator.page)
    for name, path in paths.items():
        await session.send("Emulation.setScriptExecutionDisabled", {"value": True})
        await operator.open(path)
        assert "UTC" in (await operator.page.locator("time").all_inner_texts() or ["UTC"])[0], (
            "the script of the page did not run"
        )
        await session.send("Emulation.setScriptExecutionDisabled", {"value": False})
        problems += [f"{name}, without JavaScript: {violation}" for violation in await violations(operator.page)]


@pytest.mark.settings(min_speed_kb=0, download_timeout_seconds=3600)  # the running task must not end during the test
async def test_no_page_has_serious_accessibility_violations_in_light_or_dark_or_without_javascript(
    operator, chromium, console, worker_env, vhost, source
):
    scene, problems = await Scene(worker_env, vhost, source).create(), []
    await operator.open()
    await check(operator, "sign-in", problems)
    await operator.sign_in()
    for name, path in pages(scene).items():
        await operator.open(path)
        await check(operator, name, problems)
    await operator.page.set_viewport_size(WIDE)
    for path, nodes in EXPECTED_NODES.items():
        await operator.open(path)
        tree = await operator.page.locator("body").aria_snapshot()
        problems += [f"/{path} has no {node}" for node in nodes if node not in tree]
    async with another_operator(chromium, console, java_script_enabled=False, color_scheme="dark") as other:
        await check_without_javascript(other, pages(scene), problems)
    assert problems == []


async def test_axe_reports_an_input_without_a_label(operator):
    await operator.open()
    await operator.page.evaluate("document.querySelector('label[for=token]').remove()")
    [violation] = await violations(operator.page)
    assert violation.startswith("label: ")
