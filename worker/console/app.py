"""The console as an aiohttp application, mounted on a receiver under `/console/`."""

from aiohttp import web
from yarl import URL

from handlers.database.client import Supabase
from handlers.database.console_queries import ConsoleQueries
from worker.broker.connection import Broker
from worker.console.archive import ArchivePages
from worker.console.auth import ConsoleAuth, redirect
from worker.console.dead_letters.cache import DeadLetterCache
from worker.console.dead_letters.confirm import DeadLetterConfirmPages
from worker.console.dead_letters.groups import DeadLetterGroupPages
from worker.console.dead_letters.items import DeadLetterPages
from worker.console.dead_letters.loading import DeadLetterLoadingPages
from worker.console.generation.fetch import Fetcher
from worker.console.generation.pages import GenerationPages
from worker.console.generation.search import SearchPages
from worker.console.history import HistoryPages
from worker.console.now import NowPages
from worker.console.operations import Operations
from worker.console.session import Sessions
from worker.console.sse import end_streams_on_shutdown
from worker.console.tasks import TaskPages
from worker.console.templating import PACKAGE, add_templates, compile_templates
from worker.observability.metrics import Metrics
from worker.settings import Settings


def mount(
    app: web.Application, settings: Settings, supabase: Supabase | None, broker: Broker, metrics: Metrics
) -> None:
    """Add the console to `app`. Without CONSOLE_TOKEN, every page says only that the console is disabled."""
    console = web.Application()
    records = ConsoleQueries(supabase)
    add_templates(console)
    if settings.console_token is not None or settings.console_read_token is not None:
        console.cleanup_ctx.append(compile_templates)
    image_origin = str(URL(settings.supabase_url).origin()) if settings.supabase_url else ""
    by_link = settings.local_stack
    ConsoleAuth(Sessions(settings), image_origin, settings.trusted_proxies, by_link=by_link).add_to(console)
    end_streams_on_shutdown(console)
    operations, cache = Operations(settings, records, metrics), DeadLetterCache(settings, broker)
    NowPages(records, broker, supabase, operations).add_to(console)
    TaskPages(settings, records, broker, operations).add_to(console)
    GenerationPages(settings, records, Fetcher(settings, records, broker), operations).add_to(console)
    SearchPages(records).add_to(console)
    DeadLetterGroupPages(records, cache).add_to(console)
    DeadLetterPages(records, operations, cache).add_to(console)
    DeadLetterConfirmPages(settings, records, operations, cache).add_to(console)
    DeadLetterLoadingPages(cache).add_to(console)
    ArchivePages(records, broker, operations).add_to(console)
    HistoryPages(records).add_to(console)
    console.router.add_static("/static", str(PACKAGE.joinpath("static")))
    console.on_shutdown.extend((operations.aclose, cache.aclose))

    async def redirect_to_console(_request: web.Request) -> web.Response:
        return redirect("/console/")

    app.router.add_get("/console", redirect_to_console, allow_head=False)
    app.add_subapp("/console", console)
