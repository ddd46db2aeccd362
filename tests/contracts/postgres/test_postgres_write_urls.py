"""The URLs of stored files in columns of the application (`write_urls`), and the buckets and folders of bindings."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from handlers.database.task_records import task_row
from handlers.download.allowlist import Allowlist
from handlers.settings import MediaSettings
from handlers.sources.plan import plan_jobs
from handlers.storage import object_path
from schemas.events import CompletedGeneration
from tests.contracts.postgres.conftest import Database, open_database, stored_file

SETTINGS = MediaSettings(_env_file=None)
PUBLIC = "https://abc.supabase.co/storage/v1/object/public/shown/"
SETUP = """
create table public.posts (id bigint primary key generated always as identity, org int default 7,
  author text default 'u', image_url text, stored_url text, video_url text, all_urls text[]);
insert into storage.buckets (id, name, public) values ('hidden', 'hidden', false), ('shown', 'shown', true);
insert into public.outlast_bindings (name, "table", owner_column, output_columns, media_column, media_status_column,
    write_urls, bucket, object_path)
  values ('posts', 'posts', 'author', '{image_url,video_url,all_urls}', 'media', 'media_status',
    '{"image_url": "stored_url", "video_url": "video_url"}', 'shown', 'posts/{org}/{user_id}');
create table public.albums (id uuid primary key default gen_random_uuid(), status text, output jsonb, links text[]);
insert into public.outlast_bindings (name, "table", status_column, completed_values, output_columns, media_column,
    media_status_column, write_urls)
  values ('albums', 'albums', 'status', '{done}', '{output}', 'media', 'media_status', '{"output.images": "links"}');
"""


class Project(Database):
    """A project with the bindings `posts`, in a public bucket, and `albums`, in a private one."""

    async def process(self, binding: str, generation: str, output: Any, *, failed: int = 0) -> dict[str, Any]:
        """Begin a task and finish it, with the last `failed` files failed; return the answer of `outlast_begin`."""
        begun, job, lease = await self.begin(binding, generation, output)
        await self.finish(begun, job, lease, failed)
        return begun

    async def begin(self, binding: str, generation: str, output: Any) -> tuple[dict[str, Any], dict[str, Any], Any]:
        event = CompletedGeneration(source="supabase", binding=binding, generation_id=generation, output=output)
        (job,) = plan_jobs(event, SETTINGS, Allowlist(SETTINGS.source_allowlist))
        row, lease = task_row(job), uuid4()
        begun = await self.call("outlast_begin", p_job=row, p_lease=lease, p_worker="w")
        assert begun["state"] == "run"
        return begun, row, lease

    async def finish(self, begun: dict[str, Any], job: dict[str, Any], lease: Any, failed: int = 0) -> None:
        keys = job["source_keys"]
        stored = keys[: len(keys) - failed]
        files = [
            stored_file(
                begun["generation_id"], key, job, id=str(uuid4()), bucket=begun.get("bucket", "hidden"), path=key
            )
            for key in stored
        ]
        failures = [
            {"url": "x", "error": "gone", "code": "source_gone", "source_key": key} for key in keys[len(stored) :]
        ]
        arguments = {"p_files": files, "p_failed": failures, "p_status": "partial" if failed else "completed"}
        finished = await self.call("outlast_finish", p_task_id=job["task_id"], p_lease=lease, **arguments)
        assert finished["state"] == "recorded", finished
        assert "row_rejected" not in finished, finished

    async def post(self, **columns: str) -> str:
        names, places = ", ".join(columns), ", ".join(f"${number}" for number in range(1, len(columns) + 1))
        sql = f"insert into posts ({names}) values ({places}) returning id::text"  # noqa: S608 - fixed names
        return str(await self.value(sql, *columns.values()))

    async def change(self, generation: str, **columns: str | None) -> None:
        for name, value in columns.items():
            await self.run(f"update posts set {name} = $2 where id::text = $1", generation, value)  # noqa: S608 - fixed names

    async def of(self, generation: str, column: str) -> Any:
        return await self.value(f"select {column} from posts where id::text = $1", generation)  # noqa: S608 - fixed names


@pytest.fixture(scope="module")
async def made(postgres: Any) -> AsyncIterator[Project]:
    async with open_database(await postgres.create_database("write_urls")) as database:
        await database.run(SETUP)
        await database.install()
        await database.call("outlast_note_public_url", p_url="https://abc.supabase.co")
        await database.run("update outlast_settings set value = 'http://x' where key = 'webhook_url'")
        await database.value("select outlast_set_webhook_secret($1)", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
        yield Project(database.pool)


@pytest.fixture
async def project(made: Project) -> Project:
    await made.run("delete from net.http_request_queue")
    return made


def fal(name: str) -> str:
    return f"https://v3.fal.media/files/{name}?expires=1"


def outputs(image: str | None = None, video: str | None = None) -> dict[str, Any]:
    return {"image_url": image and fal(image), "video_url": video and fal(video), "all_urls": None}


async def key_of(project: Project, generation: str) -> str:
    return str(await project.value("select media -> 0 ->> 'path' from posts where id::text = $1", generation))


async def test_the_public_url_is_in_the_column_and_in_media_and_follows_a_new_output(project: Project) -> None:
    post = await project.post(image_url=fal("a.png"))
    begun = await project.process("posts", post, outputs("a.png"))
    assert (begun["bucket"], begun["folders"]) == ("shown", ["posts", "7", "u"])
    assert object_path("u", "ab" * 32, "png", begun["folders"]).startswith("posts/7/u/ab/")
    first = await project.of(post, "stored_url")
    assert first == PUBLIC + await key_of(project, post)
    assert await project.of(post, "media -> 0 ->> 'url'") == first

    await project.change(post, image_url=fal("b.png"))
    await project.process("posts", post, outputs("b.png"))
    second = await project.of(post, "stored_url")
    assert (second != first, second) == (True, PUBLIC + await key_of(project, post))


@pytest.mark.parametrize("mine", ["https://mine.example/x.png", None])
async def test_a_value_that_was_changed_meanwhile_stays(project: Project, mine: str | None) -> None:
    post = await project.post(image_url=fal("a.png"), stored_url="/loading.png")
    running = await project.begin("posts", post, outputs("a.png"))
    await project.change(post, stored_url=mine)
    await project.finish(*running)
    assert await project.of(post, "stored_url") == mine
    assert await project.of(post, "media_status") == "completed"

    # For another output, an empty column is written, and a value of the application's own stays.
    await project.process("posts", post, outputs("b.png"))
    assert await project.of(post, "stored_url") == (mine or PUBLIC + await key_of(project, post))


async def test_a_value_that_was_found_before_is_replaced(project: Project) -> None:
    post = await project.post(image_url=fal("a.png"), stored_url="/loading.png")
    await project.process("posts", post, outputs("a.png"))
    written = await project.of(post, "stored_url")
    assert written == PUBLIC + await key_of(project, post)
    await project.change(post, stored_url="https://mine.example/x.png")
    await project.call("outlast_refresh_media", p_generation_id=post, p_files=[], p_binding="posts")
    assert await project.of(post, "stored_url") == "https://mine.example/x.png"


async def test_an_output_column_gets_the_url_in_place_of_its_own(project: Project) -> None:
    post = await project.post(video_url=fal("v.mp4"))
    sent = "select count(*) from net.http_request_queue"
    assert await project.value(sent) == 1
    running = await project.begin("posts", post, outputs(video="v.mp4"))
    await project.finish(*running)
    assert await project.of(post, "video_url") == PUBLIC + await key_of(project, post)
    assert await project.value(sent) == 1, "Outlast's own update sends no event"

    # A new output is an event of its own; one that was replaced before its file was stored stays.
    await project.change(post, video_url=fal("w.mp4"))
    assert await project.value(sent) == 2
    running = await project.begin("posts", post, outputs(video="w.mp4"))
    await project.change(post, video_url="https://mine.example/x.mp4")
    await project.finish(*running)
    assert await project.of(post, "video_url") == "https://mine.example/x.mp4"


async def test_a_data_uri_is_replaced_in_place(project: Project) -> None:
    uri = "data:video/mp4;base64,AAAA"
    post = await project.post(video_url=uri)
    await project.process("posts", post, outputs() | {"video_url": uri})
    assert await project.of(post, "video_url") == PUBLIC + await key_of(project, post)


async def test_a_list_has_the_path_of_each_stored_file_in_a_private_bucket(project: Project) -> None:
    output = {"images": [{"url": fal("a.png")}, {"url": fal("b.png")}], "mask": {"url": fal("m.png")}}
    album = await project.value("insert into albums (status, output) values ('done', $1) returning id::text", output)
    begun = await project.process("albums", album, output, failed=2)
    assert not {"bucket", "folders"} & set(begun)
    media, links = await project.pool.fetchrow("select media, links from albums where id::text = $1", album)
    assert [entry["field"] for entry in media] == ["images[0].url", "images[1].url", "mask.url"]
    assert (links, "url" in media[0]) == ([media[0]["path"], None], False)


async def test_the_url_follows_a_file_that_is_moved_and_is_forgotten_with_its_row(project: Project) -> None:
    post = await project.post(image_url=fal("a.png"))
    await project.process("posts", post, outputs("a.png"))
    path = await key_of(project, post)
    await project.call("outlast_claim", p_bucket="shown", p_path="smaller")
    file = stored_file(post, "x", path="smaller", profile="auto-q50-strip")
    moved = await project.call("outlast_move_object", p_bucket="shown", p_path=path, p_file=file)
    assert moved["state"] == "moved"
    assert await project.of(post, "stored_url") == f"{PUBLIC}smaller"
    assert await project.of(post, "media -> 0 ->> 'url'") == f"{PUBLIC}smaller"
    assert "shown" in await project.call("outlast_used_buckets")

    await project.run("delete from posts where id::text = $1", post)
    await project.call("outlast_release", p_grace_seconds=0)
    records = "select count(*) from outlast_written_urls where binding = 'posts' and generation_id = $1"
    assert await project.value(records, post) == 0


async def test_a_batch_leaves_no_mark_that_would_hide_a_change_of_the_application(project: Project) -> None:
    """The update that writes a URL marks the row as its own, so that it sends no webhook; the mark ends with it."""
    running = {}
    for author in ("one", "two"):
        post = await project.post(video_url=fal("a.mp4"), author=author)
        running[post] = await project.begin("posts", post, outputs(video="a.mp4"))
    calls = [finish_call(*attempt) for attempt in running.values()]
    await project.run("delete from net.http_request_queue")
    async with project.role("service_role") as connection:
        answers = await connection.fetchval("select public.outlast_many('outlast_finish', $1)", calls)
        written = list(running)[len(answers) - 1]
        found = await connection.fetchval("select video_url from posts where id = $1::bigint", int(written))
        assert found.startswith(PUBLIC)
        await connection.execute("update posts set video_url = 'new' where id = $1::bigint", int(written))
    assert await project.value("select count(*) from net.http_request_queue") == 1


def finish_call(begun: dict[str, Any], job: dict[str, Any], lease: Any) -> dict[str, Any]:
    """The arguments of outlast_finish for a job with one file, in a batch."""
    (key,) = job["source_keys"]
    file = stored_file(begun["generation_id"], key, job, id=str(uuid4()), bucket="shown", path=key)
    return {
        "p_task_id": job["task_id"],
        "p_lease": str(lease),
        "p_status": "completed",
        "p_files": [file],
        "p_failed": [],
    }
