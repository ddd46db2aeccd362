"""Webhook sources: signature checks and parsing. First the tests for all sources, then those of each source."""

import asyncio
import hashlib
import json
import time
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.utils import base64url_encode
from multidict import CIMultiDict
from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook

from handlers.settings import MediaSettings
from handlers.sources import SOURCES
from handlers.sources.errors import ClosedError, RejectedError, UnreadableError, VerifierUnavailableError
from handlers.sources.fal import FalSource
from handlers.sources.fal_keys import MAX_JWKS_BYTES, Jwks
from handlers.sources.settings import SourceSettings
from handlers.sources.supabase import SupabaseSource
from schemas.events import CompletedGeneration, IgnoredWebhook
from tests.time_limits import WAIT_SECONDS

SETTINGS = MediaSettings(_env_file=None)
OLD, NEW = "whsec_b2xkIHNlY3JldCBvbGQgc2VjcmV0IG9sZA==", "whsec_bmV3IHNlY3JldCBuZXcgc2VjcmV0IG5ldw=="
ROW = {"id": 7, "status": "completed", "user_id": None, "output": {"images": [{"url": "https://fal.media/a.png"}]}}
EVENT = {"type": "UPDATE", "table": "generations", "schema": "public", "record": ROW, "old_record": None}
FAL_EVENT = {"request_id": "r1", "gateway_request_id": "g1", "status": "OK", "payload": {"image": {"url": "x://y"}}}


class Fal:
    """A key pair, and a real server that publishes the public key as FAL does."""

    def __init__(self):
        self.key = Ed25519PrivateKey.generate()
        self.requests = 0
        self.fails = False
        self.body = None
        self.hangs = False
        self.continues = asyncio.Event()

    async def handle(self, _request):
        self.requests += 1
        if self.fails:
            raise web.HTTPInternalServerError
        if self.hangs:
            await self.continues.wait()
        if self.body is not None:
            return web.Response(body=self.body, content_type="application/json")
        x = base64url_encode(self.key.public_key().public_bytes_raw()).decode()
        return web.json_response({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x}]})

    def sign(self, body, user="acct", at=None):
        stamp = str(int(time.time() if at is None else at))
        signed = f"r1\n{user}\n{stamp}\n{hashlib.sha256(body).hexdigest()}".encode()
        parts = ("r1", user, stamp, self.key.sign(signed).hex())
        names = ("Request-Id", "User-Id", "Timestamp", "Signature")
        return CIMultiDict({f"x-fal-webhook-{name}": part for name, part in zip(names, parts, strict=True)})


@pytest.fixture
async def fal():
    server = Fal()
    app = web.Application()
    app.router.add_get("/jwks.json", server.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/jwks.json"
    yield server
    server.continues.set()
    await runner.cleanup()


@pytest.fixture
def supabase():
    return SupabaseSource(SETTINGS, [SecretStr(OLD), SecretStr(NEW), SecretStr("plain secret")])


def signed(body, secret=NEW, at=None):
    at = at or datetime.now(UTC)
    signature = Webhook(secret).sign("msg_1", at, body.decode())
    return CIMultiDict(
        {"Webhook-Id": "msg_1", "Webhook-Timestamp": str(int(at.timestamp())), "Webhook-Signature": signature}
    )


@pytest.mark.parametrize("kind", SOURCES)
async def test_every_source_rejects_a_request_without_proof(kind, fal, supabase):
    source = supabase if kind is SupabaseSource else FalSource(Jwks(fal.url))
    with pytest.raises(RejectedError):
        await source.verify(CIMultiDict(), b"{}")


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"type":"UPDATE"}'])
def test_every_source_reports_an_unreadable_body(kind, body, supabase):
    source = supabase if kind is SupabaseSource else FalSource(Jwks("http://127.0.0.1:9/"))
    with pytest.raises(UnreadableError, match=r"\w"):
        source.parse(body)


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {OLD}"},
        {"authorization": "bearer plain secret"},
        {"X-Webhook-Secret": "plain secret"},
        {"Authorization": "Bearer the project's anon key", "X-Webhook-Secret": "plain secret"},
        {"Authorization": "Bearer plain secret", "X-Webhook-Secret": "outdated"},
        {"Authorization": "Basic plain", "X-Webhook-Secret": NEW},
    ],
)
async def test_supabase_accepts_any_of_the_shared_secrets(supabase, headers):
    assert supabase.check_headers(CIMultiDict(headers)) is True
    assert await supabase.verify(CIMultiDict(headers), b"{}") is None


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer plain secre"},
        {"Authorization": "Bearer plain", "X-Webhook-Secret": "secret"},
        {"Authorization": "Basic plain secret"},
        {"Authorization": "Bearer"},
        {"X-Webhook-Secret": ""},
        {"X-Webhook-Secret": "пароль"},
        {"X-Webhook-Secret": "\udcff"},
        {"Authorization": "Bearer \udcff"},
    ],
)
async def test_supabase_rejects_a_wrong_shared_secret(supabase, headers):
    with pytest.raises(RejectedError):
        await supabase.verify(CIMultiDict(headers), b"{}")


@pytest.mark.parametrize("secret", [OLD, NEW])
async def test_supabase_accepts_a_signature_with_any_secret(supabase, secret):
    body = json.dumps(EVENT).encode()
    assert await supabase.verify(signed(body, secret), body) is None


def with_svix_names(headers):
    return CIMultiDict({name.replace("Webhook-", "svix-"): value for name, value in headers.items()})


async def test_supabase_accepts_a_signature_in_svix_headers(supabase):
    headers = with_svix_names(signed(b"{}"))
    assert supabase.check_headers(headers) is False
    assert await supabase.verify(headers, b"{}") is None


async def test_of_two_signatures_the_one_in_standard_headers_must_be_valid(supabase):
    both = with_svix_names(signed(b"{}"))
    both.update(signed(b"another body"))
    with pytest.raises(RejectedError):
        await supabase.verify(both, b"{}")


@pytest.mark.parametrize("name", ["svix-id", "svix-timestamp"])
async def test_supabase_rejects_an_incomplete_svix_signature_even_with_a_valid_secret(supabase, name):
    headers = with_svix_names(signed(b"{}"))
    del headers[name]
    headers["X-Webhook-Secret"] = NEW
    with pytest.raises(RejectedError, match=name):
        await supabase.verify(headers, b"{}")


@pytest.mark.parametrize("rename", [CIMultiDict, with_svix_names])
async def test_supabase_rejects_a_body_changed_after_signing(supabase, rename):
    body = json.dumps(EVENT).encode()
    with pytest.raises(RejectedError):
        await supabase.verify(rename(signed(body)), body.replace(b"a.png", b"b.png"))


@pytest.mark.parametrize("minutes", [-6, 6])
async def test_supabase_rejects_a_signature_more_than_five_minutes_off(supabase, minutes):
    with pytest.raises(RejectedError):
        await supabase.verify(signed(b"{}", at=datetime.now(UTC) + timedelta(minutes=minutes)), b"{}")


@pytest.mark.parametrize("signature", ["", "v1", "v1,", "v1,!!", "v2,abcd", "v1,abcd v1,", ",,"])
async def test_supabase_rejects_a_malformed_signature_even_with_a_valid_secret(supabase, signature):
    headers = signed(b"{}")
    headers["Webhook-Signature"] = signature
    headers["Authorization"] = f"Bearer {NEW}"
    with pytest.raises(RejectedError):
        await supabase.verify(headers, b"{}")


def test_supabase_headers_are_checked_without_the_body(supabase):
    assert supabase.check_headers(CIMultiDict({"X-Webhook-Secret": "plain secret"})) is True
    assert supabase.check_headers(CIMultiDict(signed(b"{}"))) is False


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Webhook-Id", ""),
        ("Webhook-Id", "x" * 257),
        ("Webhook-Timestamp", ""),
        ("Webhook-Timestamp", "now"),
        ("Webhook-Timestamp", "١٢٣"),
        ("Webhook-Timestamp", "1" * 5000),
        ("Webhook-Timestamp", "1700000000"),
        ("Webhook-Signature", ""),
        ("Webhook-Signature", "v1,AAAA"),
        ("Webhook-Signature", "v2," + "A" * 43 + "="),
    ],
)
def test_supabase_headers_without_a_possible_signature_are_rejected_without_the_body(supabase, name, value):
    with pytest.raises(RejectedError):
        supabase.check_headers(CIMultiDict(dict(signed(b"{}")) | {name: value}))


def test_supabase_without_signing_secrets_rejects_every_signature_without_the_body():
    with pytest.raises(RejectedError, match="signing secret"):
        SupabaseSource(SETTINGS, [SecretStr("plain secret")]).check_headers(signed(b"{}"))


@pytest.mark.parametrize("size", [1, 2_000_000])
async def test_signatures_of_small_and_large_bodies_are_verified(supabase, fal, size):
    body = b"x" * size
    await supabase.verify(signed(body), body)
    await FalSource(Jwks(fal.url)).verify(fal.sign(body), body)
    with pytest.raises(RejectedError):
        await supabase.verify(signed(body), body + b"y")
    with pytest.raises(RejectedError):
        await FalSource(Jwks(fal.url)).verify(fal.sign(body), body + b"y")


async def test_supabase_without_secrets_rejects_everything():
    with pytest.raises(RejectedError):
        await SupabaseSource(SETTINGS, []).verify(CIMultiDict({"Authorization": "Bearer "}), b"{}")


def test_supabase_parses_a_completed_generation(supabase):
    event = supabase.parse(json.dumps(EVENT).encode())
    assert isinstance(event, CompletedGeneration)
    assert (event.generation_id, event.user_id, event.output) == ("7", None, ROW["output"])


BINDING_EVENT = {
    "v": 2,
    "binding": "clips",
    "generation_id": "7",
    "user_id": "u1",
    "request_id": None,
    "event_at": "2026-11-29T12:00:00+00:00",
    "outputs": [{"field": "image_url", "value": "https://fal.media/a.png"}],
    "timeout_ms": 5000,
}
"""What our trigger sends. The receiver needs no column of the table."""


@pytest.mark.parametrize(
    ("outputs", "output"),
    [
        (BINDING_EVENT["outputs"], "https://fal.media/a.png"),
        (
            [{"field": "image_url", "value": None}, {"field": "video", "value": {"url": "https://fal.media/b.mp4"}}],
            {"image_url": None, "video": {"url": "https://fal.media/b.mp4"}},
        ),
    ],
)
def test_supabase_parses_the_event_of_a_binding(supabase, outputs, output):
    event = supabase.parse(json.dumps({"outlast": BINDING_EVENT | {"outputs": outputs}}).encode())
    assert isinstance(event, CompletedGeneration)
    assert (event.binding, event.generation_id, event.user_id, event.output) == ("clips", "7", "u1", output)
    assert (event.event_at.isoformat(), event.sender_timeout_ms) == ("2026-11-29T12:00:00+00:00", 5000)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"v": 3}, "version 3"),
        ({"outputs": []}, "outputs"),
        ({"generation_id": None}, "generation_id"),
        ({"binding": "No such name"}, "binding"),
        ({"generation_id": "x" * 257}, "256"),
        ({"event_at": "2026-11-29T12:00:00"}, "event_at"),
    ],
)
def test_supabase_reports_an_invalid_event_of_a_binding_as_unreadable(supabase, change, message):
    with pytest.raises(UnreadableError, match=message):
        supabase.parse(json.dumps({"outlast": BINDING_EVENT | change}).encode())


PENDING = {**ROW, "status": "pending", "output": None}
EARLIER = {**ROW, "output": {"images": []}}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"table": "profiles"}, "other_table"),
        ({"schema": "private"}, "other_table"),
        ({"type": "DELETE", "record": None, "old_record": ROW}, "not_a_completion"),
        ({"record": PENDING}, "not_completed"),
        ({"old_record": ROW}, "already_completed"),
        ({"old_record": {**ROW, "media": []}}, "already_completed"),
    ],
)
def test_supabase_ignores_other_webhooks_with_a_reason(supabase, change, reason):
    assert supabase.parse(json.dumps(EVENT | change).encode()) == IgnoredWebhook(reason=reason)


@pytest.mark.parametrize(("state", "completed"), [(True, "true"), (False, "false"), (7, "7"), ("done", "done")])
def test_the_completed_value_is_compared_as_text(state, completed):
    settings = SETTINGS.model_copy(update={"generations_completed_value": completed})
    event = EVENT | {"record": {**ROW, "status": state}, "old_record": {**ROW, "status": None}}
    assert isinstance(SupabaseSource(settings, []).parse(json.dumps(event).encode()), CompletedGeneration)


@pytest.mark.parametrize("change", [{"old_record": PENDING}, {"old_record": EARLIER}, {"type": "INSERT"}])
def test_supabase_accepts_completion_by_status_output_or_insert(supabase, change):
    assert isinstance(supabase.parse(json.dumps(EVENT | change).encode()), CompletedGeneration)


@pytest.mark.parametrize(
    ("column", "variable"),
    [("status", "GENERATIONS_STATUS_COLUMN"), ("id", "GENERATIONS_ID_COLUMN"), ("output", "GENERATIONS_OUTPUT_COLUMN")],
)
def test_supabase_names_the_setting_of_a_missing_column(supabase, column, variable):
    record = {name: value for name, value in ROW.items() if name != column}
    with pytest.raises(UnreadableError, match=variable):
        supabase.parse(json.dumps(EVENT | {"record": record}).encode())


@pytest.mark.parametrize("kind", ["INSERT", "UPDATE"])
def test_supabase_reports_a_change_without_its_record_as_unreadable(supabase, kind):
    with pytest.raises(UnreadableError, match="record"):
        supabase.parse(json.dumps(EVENT | {"type": kind, "record": None}).encode())


@pytest.mark.parametrize("value", [None, ""])
def test_supabase_reports_a_row_without_id_as_unreadable(supabase, value):
    with pytest.raises(UnreadableError, match="GENERATIONS_ID_COLUMN"):
        supabase.parse(json.dumps(EVENT | {"record": {**ROW, "id": value}}).encode())


async def test_fal_accepts_a_valid_signature(fal):
    body = json.dumps(FAL_EVENT).encode()
    assert await FalSource(Jwks(fal.url)).verify(fal.sign(body), body) is None


@pytest.mark.parametrize("seconds", [-301, 302])
async def test_fal_rejects_a_timestamp_more_than_five_minutes_off(fal, seconds):
    with pytest.raises(RejectedError, match="clock"):
        await FalSource(Jwks(fal.url)).verify(fal.sign(b"{}", at=time.time() + seconds), b"{}")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timestamp", "now"),
        ("timestamp", "١٢٣"),
        ("timestamp", "1" * 400),
        ("timestamp", "1" * 5000),
        ("user-id", "\udcff"),
        ("signature", "zz"),
        ("signature", "00" * 64),
        ("user-id", "another user"),
        ("request-id", "another"),
    ],
)
async def test_fal_rejects_a_changed_header(fal, name, value):
    headers = fal.sign(b"{}")
    headers[f"x-fal-webhook-{name}"] = value
    with pytest.raises(RejectedError):
        await FalSource(Jwks(fal.url)).verify(headers, b"{}")


async def test_fal_rejects_accounts_that_are_not_listed(fal):
    source = FalSource(Jwks(fal.url), user_ids=["mine"])
    await source.verify(fal.sign(b"{}", user="mine"), b"{}")
    with pytest.raises(RejectedError, match="FAL_USER_IDS"):
        await source.verify(fal.sign(b"{}", user="theirs"), b"{}")


@pytest.mark.parametrize(
    ("name", "value"),
    [("timestamp", "1"), ("timestamp", ""), ("signature", "00"), ("signature", "zz"), ("user-id", "theirs")],
)
def test_fal_headers_without_a_possible_signature_are_rejected_without_the_body(name, value):
    headers = Fal().sign(b"{}", user="mine")
    source = FalSource(Jwks("http://127.0.0.1:9/"), user_ids=["mine"])
    assert source.check_headers(headers) is False
    headers[f"x-fal-webhook-{name}"] = value
    with pytest.raises(RejectedError):
        source.check_headers(headers)


@pytest.mark.parametrize(
    ("settings", "accepts"),
    [({}, False), ({"fal_user_ids": "acct"}, True), ({"local_stack": True}, True)],
)
async def test_fal_is_closed_without_accounts_outside_of_the_local_stack(fal, settings, accepts):
    source = FalSource.from_settings(SourceSettings(_env_file=None, fal_jwks_url=fal.url, **settings))
    if accepts:
        await source.verify(fal.sign(b"{}"), b"{}")
    else:
        with pytest.raises(ClosedError, match="FAL_USER_IDS"):
            source.check_headers(CIMultiDict())
        with pytest.raises(ClosedError):
            await source.verify(fal.sign(b"{}"), b"{}")
        assert fal.requests == 0


async def test_a_hanging_fetch_of_fal_keys_does_not_delay_webhooks_with_a_known_key(fal):
    now = 0.0
    source = FalSource(Jwks(fal.url, timeout=WAIT_SECONDS, clock=lambda: now))
    await source.verify(fal.sign(b"{}"), b"{}")
    fal.hangs, now = True, 31.0
    invalid = asyncio.create_task(source.verify(Fal().sign(b"{}"), b"{}"))
    async with asyncio.timeout(WAIT_SECONDS):
        while fal.requests < 2:
            await asyncio.sleep(0.01)
    assert await source.verify(fal.sign(b"{}"), b"{}") is None
    assert not invalid.done()
    with pytest.raises(RejectedError):
        await invalid


async def test_keep_ready_fetches_the_keys_before_a_webhook_needs_them(fal):
    source = FalSource(Jwks(fal.url))
    keeping = asyncio.create_task(source.keep_ready())
    async with asyncio.timeout(WAIT_SECONDS):
        while fal.requests < 1:
            await asyncio.sleep(0.01)
    await source.verify(fal.sign(b"{}"), b"{}")
    keeping.cancel()
    assert fal.requests == 1


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"{}", b"null", b'{"keys": []}', b'{"keys": {}}', b'{"keys": [1, null, {}]}', b"\xff"),
        *(b'{"keys": [{"kty": "OKP", "crv": "Ed25519"}]}', b'{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": 7}]}'),
        *(b'{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AA"}]}', b'{"keys": [{"kty": [], "crv": "Ed25519"}]}'),
        *(b"[" * 60_000, b'{"keys": [' + b" " * MAX_JWKS_BYTES + b"]}"),
    ],
)
async def test_an_unusable_list_of_fal_keys_does_not_replace_the_known_keys(fal, body):
    now = 0.0
    source = FalSource(Jwks(fal.url, clock=lambda: now))
    await source.verify(fal.sign(b"{}"), b"{}")
    fal.body, now = body, 31.0
    with pytest.raises(RejectedError):
        await source.verify(Fal().sign(b"{}"), b"{}")
    assert fal.requests == 2
    assert await source.verify(fal.sign(b"{}"), b"{}") is None


async def test_an_odd_key_does_not_hide_the_others(fal):
    x = base64url_encode(fal.key.public_key().public_bytes_raw()).decode()
    good = {"kty": "OKP", "crv": "Ed25519", "x": x}
    fal.body = json.dumps({"keys": [None, {"kty": "OKP", "crv": "Ed25519", "x": {}}, {"kty": "RSA"}, good]}).encode()
    assert await FalSource(Jwks(fal.url)).verify(fal.sign(b"{}"), b"{}") is None


async def test_fal_keys_expire_after_a_day_without_a_fetch(fal):
    now = 0.0
    source = FalSource(Jwks(fal.url, clock=lambda: now))
    await source.verify(fal.sign(b"{}"), b"{}")
    fal.fails, now = True, 25 * 3600.0
    with pytest.raises(VerifierUnavailableError):
        await source.verify(fal.sign(b"{}"), b"{}")


async def test_fal_keys_are_cached_and_fetched_again_when_none_verifies(fal):
    now = 0.0
    source = FalSource(Jwks(fal.url, clock=lambda: now))
    for _ in range(3):
        await source.verify(fal.sign(b"{}"), b"{}")
    assert fal.requests == 1
    fal.key = Ed25519PrivateKey.generate()
    now = 31.0
    await source.verify(fal.sign(b"{}"), b"{}")
    assert fal.requests == 2


async def test_many_invalid_signatures_fetch_the_keys_once(fal):
    now = 100.0
    source = FalSource(Jwks(fal.url, clock=lambda: now))
    await source.verify(fal.sign(b"{}"), b"{}")
    other_fal = Fal()
    now = 200.0
    for _ in range(20):
        with pytest.raises(RejectedError):
            await source.verify(other_fal.sign(b"{}"), b"{}")
    assert fal.requests == 2


async def test_without_fal_keys_verification_is_unavailable(fal):
    fal.fails = True
    now = 0.0
    source = FalSource(Jwks(fal.url, clock=lambda: now))
    for _ in range(5):
        with pytest.raises(VerifierUnavailableError):
            await source.verify(fal.sign(b"{}"), b"{}")
    assert fal.requests == 1
    fal.fails = False
    now = 2.0
    await source.verify(fal.sign(b"{}"), b"{}")


async def test_cached_fal_keys_are_used_during_an_outage(fal):
    now = 0.0
    source = FalSource(Jwks(fal.url, clock=lambda: now))
    await source.verify(fal.sign(b"{}"), b"{}")
    fal.fails = True
    now = 23 * 3600.0
    assert await source.verify(fal.sign(b"{}"), b"{}") is None


async def test_concurrent_webhooks_fetch_the_keys_once(fal):
    source = FalSource(Jwks(fal.url))
    await asyncio.gather(*(source.verify(fal.sign(b"{}"), b"{}") for _ in range(20)))
    assert fal.requests == 1


def test_fal_parses_results_failures_and_lost_payloads():
    source = FalSource(Jwks("http://127.0.0.1:9/"))
    event = source.parse(json.dumps(FAL_EVENT).encode())
    assert isinstance(event, CompletedGeneration)
    assert (event.request_id, event.generation_id) == ("r1", None)
    failed = {**FAL_EVENT, "status": "ERROR", "error": "out of memory", "payload": {"detail": []}}
    ignored = source.parse(json.dumps(failed).encode())
    assert ignored == IgnoredWebhook(reason="generation_failed", request_id="r1", error="out of memory")
    lost = source.parse(json.dumps({**FAL_EVENT, "payload": None, "payload_error": "too large"}).encode())
    assert isinstance(lost, CompletedGeneration)
    assert lost.output is None


@pytest.mark.parametrize(
    "change",
    [
        {"error": {"type": "x"}},
        {"error": [1]},
        {"payload_error": {"detail": "not serialisable"}},
        {"gateway_request_id": 7},
        {"prompt": "\ud800"},
    ],
)
def test_fal_needs_only_request_id_status_and_payload(change):
    event = FalSource(Jwks("http://127.0.0.1:9/")).parse(json.dumps(FAL_EVENT | change).encode())
    assert isinstance(event, CompletedGeneration)
    assert event.output == FAL_EVENT["payload"]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ({"type": "oom", "message": "ü"}, '{"type": "oom", "message": "ü"}'),
        (["x" * 1_000_000], '["' + "x" * 298),
        ("y" * 1000, "y" * 300),
        (None, ""),
    ],
)
def test_the_error_of_a_failed_fal_generation_may_be_any_json(error, text):
    body = json.dumps(FAL_EVENT | {"status": "ERROR", "error": error}).encode()
    ignored = FalSource(Jwks("http://127.0.0.1:9/")).parse(body)
    assert ignored == IgnoredWebhook(reason="generation_failed", request_id="r1", error=text)
