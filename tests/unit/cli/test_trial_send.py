"""What `outlast try --via webhook` says of a receiver's answer, with a real HTTP server in its place."""

import pytest
from aiohttp import web

from worker.cli.trial.send import Sender
from worker.cli.trial.steps import StoppedError, TrialOptions
from worker.settings import Settings


@pytest.mark.parametrize(
    ("status", "remedy"), [(401, "SUPABASE_WEBHOOK_SECRETS"), (503, "RabbitMQ"), (520, "the receiver's log")]
)
async def test_every_status_has_a_remedy(status, remedy):
    """Cloudflare answers with 520 and others that no RFC defines."""

    async def answer(_request):
        return web.Response(status=status, text="refused")

    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    settings = Settings(_env_file=None, supabase_webhook_secrets=("a secret of the test",))
    options = TrialOptions(via="webhook", receiver_url=f"http://127.0.0.1:{runner.addresses[0][1]}")
    with pytest.raises(StoppedError, match=f"answered {status}: refused") as stopped:
        await Sender(settings, None, {}, print).send(options)
    assert remedy in stopped.value.remedy
    await runner.cleanup()
