"""The gateway with the real `supabase` client."""

from uuid import uuid4

import httpx
import pytest
from postgrest.exceptions import APIError
from storage3.exceptions import StorageApiError


@pytest.fixture
async def client(gateway):
    from supabase import AsyncClientOptions, acreate_client  # noqa: PLC0415 - slow to import, and few processes need it

    async with httpx.AsyncClient() as http:
        options = AsyncClientOptions(httpx_client=http)
        yield await acreate_client(gateway.url, gateway.service_role_key, options)


async def test_the_client_inserts_selects_updates_and_deletes_rows(client):
    one, two = str(uuid4()), str(uuid4())
    table = client.table("generations")
    inserted = await table.insert([{"id": one, "prompt": "a"}, {"id": two, "prompt": "b"}]).execute()
    assert [row["id"] for row in inserted.data] == [one, two]
    await table.upsert({"id": one, "status": "completed", "output": {"images": [1]}}).execute()
    await table.update({"request_id": "r"}).eq("id", one).execute()
    found = await table.select("prompt,status,output,request_id").eq("id", one).single().execute()
    assert found.data == {"prompt": "a", "status": "completed", "output": {"images": [1]}, "request_id": "r"}
    counted = (
        await table.select("id", count="exact").in_("id", [one, two]).order("prompt", desc=True).limit(1).execute()
    )
    assert (counted.count, [row["id"] for row in counted.data]) == (2, [two])
    assert (await table.select("id").eq("id", str(uuid4())).maybe_single().execute()) is None
    assert (await table.select("id", head=True, count="exact").execute()).count == 2
    assert (await table.select("id").like("prompt", "%b%").is_("output", "null").execute()).data == [{"id": two}]
    assert (await table.delete().gte("prompt", "b").execute()).data[0]["id"] == two
    with pytest.raises(APIError) as refused:
        await client.table("nothing").select("*").execute()
    assert refused.value.code == "PGRST205"


async def test_the_client_calls_functions(client, database):
    await database.execute(
        "create function echo(a uuid, b jsonb) returns jsonb language sql as "
        "$$ select jsonb_build_object('a', a, 'b', b) $$; "
        "create function quiet() returns void language sql as $$ select $$"
    )
    one = str(uuid4())
    assert (await client.rpc("echo", {"a": one, "b": [1]}).execute()).data == {"a": one, "b": [1]}
    await client.rpc("quiet").execute()
    with pytest.raises(APIError) as refused:
        await client.rpc("echo", {"a": one}).execute()
    assert refused.value.code == "PGRST202"


async def test_the_client_manages_buckets(client):
    await client.storage.create_bucket("main", options={"public": True, "file_size_limit": "1MB"})
    found = await client.storage.get_bucket("main")
    assert (found.public, found.file_size_limit) == (True, 1024 * 1024)
    await client.storage.update_bucket("main", {"public": False})
    assert [bucket.public for bucket in await client.storage.list_buckets()] == [False]
    await client.storage.from_("main").upload("a/b", b"x")
    await client.storage.empty_bucket("main")
    await client.storage.delete_bucket("main")
    with pytest.raises(StorageApiError) as refused:
        await client.storage.get_bucket("main")
    assert (refused.value.status, refused.value.code) == ("404", "Bucket not found")


async def test_the_client_manages_objects(client, tmp_path):
    await client.storage.create_bucket("main", options={"allowed_mime_types": ["image/*", "text/plain"]})
    bucket = client.storage.from_("main")
    options = {"content-type": "image/png; charset=x", "cache-control": "60", "metadata": {"gen": "g1"}}
    assert (await bucket.upload("a/one.png", b"one", options)).full_path == "main/a/one.png"
    info = await bucket.info("a/one.png")
    assert (info["content_type"], info["cache_control"], info["metadata"]) == ("image/png", "max-age=60", {"gen": "g1"})
    with pytest.raises(StorageApiError) as refused:
        await bucket.upload("a/one.png", b"two")
    assert (refused.value.status, refused.value.code) == ("409", "Duplicate")
    await bucket.upload("a/one.png", b"two", {"upsert": "true"})
    file = tmp_path / "three"
    file.write_bytes(b"three" * 100_000)
    await bucket.update("a/one.png", file)
    assert await bucket.download("a/one.png") == b"three" * 100_000
    assert (await bucket.exists("a/one.png"), await bucket.exists("a/two.png")) == (True, False)
    assert [entry["name"] for entry in await bucket.list("a")] == ["one.png"]
    with pytest.raises(StorageApiError) as refused:
        await bucket.upload("a.mp4", b"x", {"content-type": "video/mp4"})
    assert refused.value.status == "415"


async def test_the_client_uses_signed_urls(client):
    await client.storage.create_bucket("main")
    bucket = client.storage.from_("main")
    ticket = await bucket.create_signed_upload_url("up/one")
    await bucket.upload_to_signed_url("up/one", ticket["token"], b"sent")
    with pytest.raises(StorageApiError) as refused:
        await bucket.upload_to_signed_url("up/one", ticket["token"], b"again")
    assert refused.value.code == "Duplicate"
    signed = await bucket.create_signed_url("up/one", 60)
    async with httpx.AsyncClient() as http:
        assert (await http.get(signed["signedURL"])).content == b"sent"
    await bucket.copy("up/one", "up/two")
    await bucket.move("up/two", "up/three")
    assert [removed["name"] for removed in await bucket.remove(["up/three", "up/two"])] == ["up/three"]
    many = await bucket.create_signed_urls(["up/one", "up/two"], 60)
    assert [bool(one["signedURL"]) for one in many] == [True, False]
