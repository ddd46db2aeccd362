"""Every page as it is seen: pictures of it for people, axe-core for the rest, with JavaScript and without."""

import pytest
from axe_playwright_python.base import AXE_FILE_PATH

from tests.console.conftest import somebody_else
from tests.console.scene import Scene

WIDE, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
SCHEMES = ("light", "dark")
FAULTS = """async () => (await axe.run({resultTypes: ["violations"]})).violations
  .filter(one => ["serious", "critical"].includes(one.impact))
  .map(one => `${one.id}: ${one.nodes.map(node => node.html.slice(0, 200)).join(" | ")}`)"""
WIDTH = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture
async def scene(bench, yard, source):
    return await Scene(bench, yard, source).set()


def pages(scene):
    """Every page there is, by the name of its picture."""
    return {
        "now": "",
        "tasks": "tasks",
        "tasks-found": "tasks?status=failed",
        "task-completed": f"tasks/{scene.whole.task_id}",
        "task-known": f"tasks/{scene.again.task_id}",
        "task-failed": f"tasks/{scene.broken.task_id}",
        "task-running": f"tasks/{scene.slow.task_id}",
        "generation": f"generations/{scene.whole.generation_id}",
        "dead": "dead",
        "letters": "dead/letters?code=source_unavailable&stage=download&host=v3.fal.media",
        "letters-all": "dead/letters",
        "confirm": "dead/confirm?verb=replay&stage=download",
        "archive": "dead/archive",
        "history": "history",
        "operation": f"history/{scene.operation}",
        "error": "tasks/none",
    }


async def faults(page):
    await page.evaluate(AXE_FILE_PATH.read_text())
    return await page.evaluate(FAULTS)


async def look(operator, name, found):
    """Take four pictures of a page, and note what axe-core finds in each light, and what does not fit a phone."""
    page = operator.page
    for width, size in (("wide", WIDE), ("phone", PHONE)):
        await page.set_viewport_size(size)
        for scheme in SCHEMES:
            await page.emulate_media(color_scheme=scheme)
            await operator.shoot(f"{name}-{width}-{scheme}")
            if width == "wide":
                found += [f"{name}, {scheme}: {fault}" for fault in await faults(page)]
        if await page.evaluate(WIDTH) > 0:
            found.append(f"{name} is wider than a {width} screen")


async def test_no_page_has_a_serious_fault_in_light_or_dark(operator, scene):
    found = []
    await operator.open()
    await look(operator, "sign-in", found)
    await operator.sign_in()
    for name, path in pages(scene).items():
        await operator.open(path)
        await look(operator, name, found)
    assert found == []


async def test_the_pages_have_no_serious_fault_without_javascript_either(chromium, console, scene):
    found = []
    async with somebody_else(chromium, console, java_script_enabled=False) as operator:
        await operator.open()
        await operator.sign_in()
        session = await operator.page.context.new_cdp_session(operator.page)
        for name, path in pages(scene).items():
            await session.send("Emulation.setScriptExecutionDisabled", {"value": True})
            await operator.open(path)
            assert "UTC" in (await operator.page.locator("time").all_inner_texts() or ["UTC"])[0]
            await session.send("Emulation.setScriptExecutionDisabled", {"value": False})  # for axe; the page's ran not
            for scheme in SCHEMES:
                await operator.page.emulate_media(color_scheme=scheme)
                found += [f"{name}, {scheme}: {fault}" for fault in await faults(operator.page)]
    assert found == []
