"""An installation that tests break in one place, and then check with doctor."""

import asyncio
import contextlib

import aiohttp
import asyncpg
from aiohttp import web
from rich.console import Console

from deploy.local.gateway import Gateway
from deploy.local.processes import free_port
from tests.time_limits import WAIT_SECONDS
from worker.app import run_receiver
from worker.doctor.context import CheckContext
from worker.doctor.run import CHECKS, run_checks
from worker.settings import Settings

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
QUICK_CHECKS = [check for check in CHECKS if check.name not in {"libvips", "libmagic"}]


class DoctorInstallation:
    """A complete installation in this process, with access to its database and its Storage."""

    def __init__(self, gateway, rabbitmq_url, sql, environment):
        self.gateway, self.rabbitmq_url, self.sql, self.environment = gateway, rabbitmq_url, sql, environment

    def settings(self, **more):
        return Settings(_env_file=None, **{name.lower(): value for name, value in (self.environment | more).items()})

    async def run_checks(self, checks=QUICK_CHECKS, **more):
        """Return the state, the detail and the remedy of each check by name."""
        context = CheckContext.of(self.settings(**more))
        try:
            results = await run_checks(context, checks, Console(quiet=True))
        finally:
            await context.aclose()
        return {result.check: (str(result.state), result.detail, result.remedy) for result in results}

    async def storage(self, method, path, body):
        key = self.gateway.service_role_key
        headers = {"apikey": key, "Authorization": f"Bearer {key}"}
        url = f"{self.gateway.url}/storage/v1/bucket{path}"
        async with aiohttp.ClientSession(headers=headers) as session, session.request(method, url, json=body) as answer:
            assert answer.ok, await answer.text()


@contextlib.asynccontextmanager
async def project(database_url, source, folder):
    """An intact project without broker and receiver, which is enough for most checks."""
    port = free_port()
    async with Gateway(database_url=database_url, storage_dir=folder / "objects") as gateway:
        environment = {
            "RABBITMQ_URL": "amqp://u:p@127.0.0.1:1/",
            "SUPABASE_URL": gateway.url,
            "SUPABASE_SERVICE_ROLE_KEY": gateway.service_role_key,
            "SUPABASE_WEBHOOK_SECRETS": SECRET,
            "API_TOKEN": "token-of-the-api",
            "FAL_KEY": "key-of-fal",
            "FAL_USER_IDS": "acct",
            "FAL_JWKS_URL": f"{source.url}/.well-known/jwks.json",
            "RECEIVER_HOST": "127.0.0.1",
            "RECEIVER_PORT": str(port),
            "WORKER_CONCURRENCY": "1",
        }
        sql = await asyncpg.connect(database_url)
        await sql.execute(f"select public.outlast_set_webhook_secret('{SECRET}')")
        url = f"http://127.0.0.1:{port}/webhooks/supabase"
        await sql.execute("update public.outlast_settings set value = $1 where key = 'webhook_url'", url)
        found = DoctorInstallation(gateway, environment["RABBITMQ_URL"], sql, environment)
        await found.storage("POST", "", {"id": "generations", "name": "generations"})
        yield found
        await sql.close()


@contextlib.asynccontextmanager
async def with_receiver(installation, rabbitmq_url):
    """Add a broker and a ready receiver to the installation."""
    installation.rabbitmq_url = installation.environment["RABBITMQ_URL"] = rabbitmq_url
    stop = asyncio.Event()
    receiving = asyncio.create_task(run_receiver(installation.settings(), stop))
    async with asyncio.timeout(WAIT_SECONDS), aiohttp.ClientSession() as session:
        while not receiving.done():
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(
                    f"http://127.0.0.1:{installation.environment['RECEIVER_PORT']}/readyz"
                ) as answer:
                    if answer.status == 200:
                        break
            await asyncio.sleep(0.05)
    try:
        yield installation
    finally:
        stop.set()
        await receiving


@contextlib.asynccontextmanager
async def serving(handler):
    """Serve every path with one handler; yield the base URL."""
    runner = web.AppRunner(web.Application(), access_log=None)
    runner.app.router.add_route("*", "/{anything:.*}", handler)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()
