"""Templates are compiled after the start of the receiver, not by the first pages."""

import asyncio

import aiohttp_jinja2
from aiohttp import web

from tests.time_limits import WAIT_SECONDS
from worker.console.templating import add_templates, compile_templates


def loaded(env):
    return {name for _, name in env.cache}


async def test_all_templates_are_compiled_after_the_start():
    app = web.Application()
    add_templates(app)
    app.cleanup_ctx.append(compile_templates)
    env = aiohttp_jinja2.get_env(app)
    runner = web.AppRunner(app)
    await runner.setup()
    assert loaded(env) != set(env.list_templates(["html"])), "the start does not wait"
    async with asyncio.timeout(WAIT_SECONDS):
        while loaded(env) != set(env.list_templates(["html"])):
            await asyncio.sleep(0.01)
    await runner.cleanup()
