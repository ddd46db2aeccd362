"""The console as an application of its own, put on a receiver under `/console/`."""

from aiohttp import web
from yarl import URL

from handlers.database.client import Supabase
from handlers.database.console_queries import ConsoleQueries
from worker.broker.connection import Broker
from worker.console.archive import ArchivePages
from worker.console.auth import ConsoleAuth, see
from worker.console.dead import DeadPages
from worker.console.dead_letter_cache import Snapshot
from worker.console.generations import GenerationPages
from worker.console.history import HistoryPages
from worker.console.now import NowPages
from worker.console.operations import Operations
from worker.console.session import Sessions
from worker.console.sse import let_end
from worker.console.tasks import TaskPages
from worker.console.templating import PACKAGE, add_templates
from worker.observability.metrics import Metrics
from worker.settings import Settings


def mount(
    app: web.Application, settings: Settings, supabase: Supabase | None, broker: Broker, metrics: Metrics
) -> None:
    """Serve the console. Without CONSOLE_TOKEN it says that it is closed, and nothing else."""
    console, records = web.Application(client_max_size=app._client_max_size), ConsoleQueries(supabase)  # noqa: SLF001 - it has no other name
    add_templates(console)
    origin = str(URL(settings.supabase_url).origin()) if settings.supabase_url else ""
    ConsoleAuth(Sessions(settings), origin).add_to(console)
    let_end(console)
    operations, snapshot = Operations(settings, records, metrics), Snapshot(settings, broker)
    NowPages(records, broker, supabase).add_to(console)
    TaskPages(settings, records, broker, operations).add_to(console)
    GenerationPages(settings, records).add_to(console)
    DeadPages(settings, records, operations, snapshot).add_to(console)
    ArchivePages(records, broker, operations).add_to(console)
    HistoryPages(records).add_to(console)
    console.router.add_static("/static", str(PACKAGE.joinpath("static")))
    console.on_shutdown.append(operations.aclose)

    async def enter(_request: web.Request) -> web.Response:
        return see("/console/")

    app.router.add_get("/console", enter, allow_head=False)
    app.add_subapp("/console", console)
