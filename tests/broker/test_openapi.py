"""The served OpenAPI document matches the server: generated requests cause no 5xx and no undocumented response."""

import asyncio
import json
import os
import re
import sys
from pathlib import Path

import aiohttp
import pytest
from pydantic import SecretStr

from handlers.sources.supabase import SupabaseSource
from worker.runtime import serve
from worker.web.openapi import document
from worker.web.receiver import Receiver

TOKEN = "the-api-token"
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@pytest.fixture
async def address(worker_env):
    settings = worker_env.settings.model_copy(update={"api_token": SecretStr(TOKEN)})
    sources = [SupabaseSource(settings, (SecretStr(TOKEN),))]
    app = Receiver(settings, sources, worker_env.broker, worker_env.metrics, worker_env.parts.supabase).app()
    async with serve(app, "127.0.0.1", 0) as addresses:
        yield f"http://{addresses[0]}"


async def test_every_route_is_described(worker_env):
    app = Receiver(worker_env.settings, [], worker_env.broker, worker_env.metrics, worker_env.parts.supabase).app()
    served = {
        (route.method.lower(), route.resource.canonical)
        for route in app.router.routes()
        if route.method != "HEAD"
        and (not (path := route.resource.canonical).startswith("/console") or path == "/console/")
    }
    described = {(method, path) for path, methods in document()["paths"].items() for method in methods}
    webhooks = {("post", "/webhooks/supabase"), ("post", "/webhooks/fal")}
    assert served == described - webhooks


async def test_generated_requests_cause_no_server_error_and_no_undocumented_response(address, tmp_path):
    async with aiohttp.ClientSession() as session, session.get(f"{address}/openapi.json") as response:
        described = await response.json()
    del described["paths"]["/webhooks/fal"]  # it needs a JWKS; its body is described like the other webhook's
    (tmp_path / "openapi.json").write_text(json.dumps(described))
    tool = Path(sys.executable).with_name("schemathesis")
    process = await asyncio.create_subprocess_exec(
        *(tool, "run", tmp_path / "openapi.json", "--url", address, "--checks", CHECKS, "--seed", "1"),
        *("--phases", "examples,coverage,fuzzing", "--max-examples", "25", "--generation-database", "none"),
        *("-H", f"Authorization: Bearer {TOKEN}"),
        cwd=tmp_path,
        env=os.environ | {"PYTHONWARNINGS": "default", "NO_COLOR": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()[-6000:]
    passed = re.findall(r"(\d+) passed", output.decode())
    assert int(passed[-1]) > 300
