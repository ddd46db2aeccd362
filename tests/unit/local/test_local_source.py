import asyncio
import base64
import hashlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from deploy.local.source import Source
from tests.time_limits import WAIT_SECONDS

CONTENT = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\0\0\0\0" + bytes(range(256)) * 200


@pytest.fixture
async def source(tmp_path: Path) -> AsyncIterator[Source]:
    (tmp_path / "a.png").write_bytes(CONTENT)
    async with Source(tmp_path) as source:
        yield source


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_files_are_served_with_type_length_etag_and_ranges(source: Source, client: aiohttp.ClientSession) -> None:
    async with client.get(source.file_url("a.png")) as response:
        assert await response.read() == CONTENT
        assert response.headers["Content-Type"] == "image/png"
        assert response.content_length == len(CONTENT)
        assert response.headers["Accept-Ranges"] == "bytes"
        tag = response.headers["ETag"]
    async with client.get(source.file_url("a.png"), headers={"Range": "bytes=1000-", "If-Range": tag}) as response:
        assert response.status == 206
        assert response.headers["Content-Range"] == f"bytes 1000-{len(CONTENT) - 1}/{len(CONTENT)}"
        assert await response.read() == CONTENT[1000:]
    assert source.hits["a.png"] == 2


@pytest.mark.parametrize("name", ["none.png", "..%2fa.png", "%2e%2e"])
async def test_other_paths_are_not_found(source: Source, client: aiohttp.ClientSession, name: str) -> None:
    async with client.get(f"{source.url}/files/{name}") as response:
        assert response.status == 404


async def test_a_requested_status_or_redirect_is_returned(source: Source, client: aiohttp.ClientSession) -> None:
    async with client.get(source.file_url("a.png", status=503, retry_after=7)) as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "7")
    target = "http://127.0.0.1:1/x?y=1&z=2"
    async with client.get(source.file_url("a.png", redirect=target), allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (302, target)


async def test_fail_first_returns_errors_before_the_file(source: Source, client: aiohttp.ClientSession) -> None:
    statuses = []
    for _ in range(3):
        async with client.get(source.file_url("a.png", fail_first=2)) as response:
            statuses.append(response.status)
    assert statuses == [503, 503, 200]


async def test_truncate_ends_the_connection_after_some_bytes(source: Source, client: aiohttp.ClientSession) -> None:
    async with client.get(source.file_url("a.png", truncate=1000)) as response:
        assert response.content_length == len(CONTENT)
        assert await response.content.readexactly(1000) == CONTENT[:1000]
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.content.read()


async def test_length_and_content_type_can_be_left_out_or_wrong(source: Source, client: aiohttp.ClientSession) -> None:
    async with client.get(source.file_url("a.png", length="no", wrong_type="text/html")) as response:
        assert "Content-Length" not in response.headers
        assert response.headers["Content-Type"] == "text/html"
        assert await response.read() == CONTENT


async def test_slow_limits_the_rate(source: Source, client: aiohttp.ClientSession) -> None:
    started = time.monotonic()
    async with client.get(source.file_url("a.png", slow=len(CONTENT) * 2)) as response:
        assert await response.read() == CONTENT
    assert time.monotonic() - started > 0.4


async def test_a_stalled_response_ends_when_the_source_stops(tmp_path: Path, client: aiohttp.ClientSession) -> None:
    (tmp_path / "a.png").write_bytes(CONTENT)
    source = Source(tmp_path)
    await source.start()
    async with client.get(source.file_url("a.png", stall=1)) as response:
        assert response.status == 200
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(response.content.read(1), 0.2)
        async with asyncio.timeout(WAIT_SECONDS):
            await source.stop()
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()


async def test_an_endless_body_does_not_end(source: Source, client: aiohttp.ClientSession) -> None:
    async with client.get(f"{source.url}/endless") as response:
        assert len(await response.content.readexactly(3_000_000)) == 3_000_000


async def test_webhooks_are_signed_with_the_published_key(source: Source, client: aiohttp.ClientSession) -> None:
    async with client.get(f"{source.url}/.well-known/jwks.json") as response:
        (key,) = (await response.json())["keys"]
    assert (key["kty"], key["crv"]) == ("OKP", "Ed25519")
    public = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(key["x"] + "="))
    body = b'{"status": "OK"}'
    headers = source.sign(body, "request", "user", timestamp=1_700_000_000)
    signature = bytes.fromhex(headers.pop("X-Fal-Webhook-Signature"))
    assert headers == {
        "X-Fal-Webhook-Request-Id": "request",
        "X-Fal-Webhook-User-Id": "user",
        "X-Fal-Webhook-Timestamp": "1700000000",
    }
    public.verify(signature, f"request\nuser\n1700000000\n{hashlib.sha256(body).hexdigest()}".encode())
    with pytest.raises(InvalidSignature):
        public.verify(signature, f"request\nuser\n1700000000\n{hashlib.sha256(b'').hexdigest()}".encode())
    assert abs(int(source.sign(body, "request")["X-Fal-Webhook-Timestamp"]) - time.time()) < 5


async def test_outputs_have_the_fields_of_fals_models(source: Source, tmp_path: Path) -> None:
    (tmp_path / "b.mp4").write_bytes(b"\0\0\0\x10ftypisom\0\0\0\0")
    (tmp_path / "c.glb").write_bytes(b"glTF\x02\0\0\0")
    (tmp_path / "d.mp4").write_bytes(b"\0\0\0\x10ftypmp42\0\0\0\0")
    output = source.output(["a.png", "a.png", "b.mp4", "c.glb", "d.mp4"])
    assert [image["url"] for image in output["images"]] == [f"{source.url}/files/a.png"] * 2
    assert output["images"][0]["file_size"] == len(CONTENT)
    assert output["video"]["content_type"] == "video/mp4"
    assert output["model_mesh"]["file_name"] == "c.glb"
    assert [file["file_name"] for file in output["files"]] == ["d.mp4"]


async def test_a_port_in_use_is_an_error(source: Source, tmp_path: Path) -> None:
    other = Source(tmp_path, port=int(source.url.rpartition(":")[2]))
    with pytest.raises(OSError, match="address already in use"):
        await other.start()
    await other.stop()
