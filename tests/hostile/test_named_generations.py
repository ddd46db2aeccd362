"""FAL's signature does not cover the address of its webhook. What the address names gives no one another user's row."""

from typing import Any
from uuid import uuid4

import pytest

from handlers.database.task_records import task_row
from handlers.download.allowlist import Allowlist
from handlers.settings import MediaSettings
from handlers.sources.errors import UnreadableError
from handlers.sources.fal import FalSource
from handlers.sources.fal_results import result_only_jobs
from handlers.sources.plan import plan_jobs
from schemas.events import CompletedGeneration, IgnoredWebhook
from schemas.jobs import NamedGeneration
from tests.contracts.postgres.conftest import open_database

SETTINGS = MediaSettings(_env_file=None)
VICTIM, ATTACKER = str(uuid4()), str(uuid4())
FORGED = {"images": [{"url": "https://v3.fal.media/files/forged.png"}]}


class Rows:
    """Rows of a victim and of an attacker, in a project whose binding has `fal_finishes`."""

    def __init__(self, db: Any) -> None:
        self.db = db

    async def row(self, user: str, request: str | None, status: str = "pending") -> str:
        sql = "insert into generations (user_id, request_id, status) values ($1::text::uuid, $2, $3) returning id::text"
        return str(await self.db.value(sql, user, request, status))

    async def state(self, generation: str) -> tuple[Any, ...]:
        sql = "select status, output, media, request_id from generations where id::text = $1"
        return tuple((await self.db.row(sql, generation)).values())

    async def send(self, request: str, named: str) -> Any:
        """Begin the job of a webhook whose address names this generation; return the generation that is found."""
        name = NamedGeneration(generation_id=named)
        event = CompletedGeneration(source="fal", request_id=request, output=FORGED, named=name)
        (job,) = plan_jobs(event, SETTINGS, Allowlist(SETTINGS.source_allowlist))
        begun = await self.db.call("outlast_begin", p_job=task_row(job), p_lease=uuid4(), p_worker="w")
        error = IgnoredWebhook(reason="generation_failed", request_id=request, error="forged")
        (failed,) = result_only_jobs(error, name, SETTINGS)
        await self.db.call("outlast_fal_result", p_job=task_row(failed))
        return begun.get("generation_id")


@pytest.fixture
async def rows(database_url):
    async with open_database(database_url) as db:
        await db.bind(fal_finishes=True, failed_values=["failed"])
        yield Rows(db)


async def test_a_row_of_another_request_is_not_found_by_its_id(rows: Rows) -> None:
    victim, mine = await rows.row(VICTIM, "r-victim"), await rows.row(ATTACKER, "r-mine")
    before = await rows.state(victim)
    assert await rows.send("r-no-row", named=victim) is None
    assert await rows.send("r-mine", named=victim) == mine
    assert await rows.state(victim) == before


async def test_a_request_of_an_own_row_does_not_complete_a_row_without_request_id(rows: Rows) -> None:
    victim, mine = await rows.row(VICTIM, None), await rows.row(ATTACKER, "r-mine")
    before = await rows.state(victim)
    assert await rows.send("r-mine", named=victim) == mine
    assert await rows.state(victim) == before


async def test_a_copied_request_id_is_nobodys_whatever_the_address_names(rows: Rows) -> None:
    victim, copy = await rows.row(VICTIM, "r-victim"), await rows.row(ATTACKER, "r-victim")
    before = await rows.state(victim), await rows.state(copy)
    assert await rows.send("r-victim", named=copy) is None
    assert await rows.send("r-victim", named=victim) is None
    assert (await rows.state(victim), await rows.state(copy)) == before


async def test_a_row_is_completed_by_one_request_only_and_a_finished_one_by_none(rows: Rows) -> None:
    victim, finished = await rows.row(VICTIM, None), await rows.row(VICTIM, None, "completed")
    assert await rows.send("r-first", named=victim) == victim
    assert await rows.send("r-second", named=victim) is None
    assert (await rows.state(victim))[3] == "r-first"
    await rows.send("r-third", named=finished)
    assert (await rows.state(finished))[:2] == ("completed", None)


@pytest.mark.parametrize(
    "query", [{"generation_id": "x" * 257}, {"generation_id": ""}, {"generation_id": "1", "binding": "'; --"}]
)
def test_an_address_that_names_no_generation_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(UnreadableError, match="generation_id or binding"):
        FalSource(None, []).named_generation(query)  # type: ignore[arg-type]  # no keys are needed
