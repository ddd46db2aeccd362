"""Checks of the webhooks: secret, URL, and a test webhook that the receiver ignores."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

import httpx
from standardwebhooks.webhooks import Webhook
from yarl import URL

from worker.doctor.context import CheckContext
from worker.doctor.database import APPLY_REMEDY
from worker.doctor.project import error_message, parse_body
from worker.doctor.result import CheckFailure, CheckWarning

PATH: Final = "/webhooks/supabase"
IGNORED_EVENT: Final = json.dumps(
    {"type": "INSERT", "schema": "outlast_doctor", "table": "outlast_doctor", "record": {}}
)
"""An event of a table that does not exist. A receiver that accepts the signature answers `ignored`."""
DIGEST_CHARACTERS: Final = 16
SWEEP_ONLY_REMEDY: Final = "none needed: the sweep finds generations; or run outlast init --receiver-url https://..."


async def webhook_secret(context: CheckContext) -> str:
    """The receiver needs a secret to start, and a `whsec_` secret to accept webhooks of our trigger."""
    secrets = context.settings.supabase_webhook_secrets
    if not secrets:
        raise CheckFailure(
            "SUPABASE_WEBHOOK_SECRETS is not set", "`outlast init` generates one for the database and .env"
        )
    if not _signing_secrets(context):
        problem = "SUPABASE_WEBHOOK_SECRETS has no whsec_ secret, so only webhooks created in Studio are accepted"
        raise CheckWarning(problem, "`outlast init` generates one for the database and .env")
    return f"{len(secrets)} set"


async def signing(context: CheckContext) -> str:
    """The trigger must sign with a secret that the receiver knows."""
    if not context.health["trigger_signed"]:
        raise CheckFailure("the database has no signing secret, so the trigger sends no webhooks", APPLY_REMEDY)
    known = {hashlib.sha256(secret.encode()).hexdigest()[:DIGEST_CHARACTERS] for secret in _signing_secrets(context)}
    if context.health["webhook_secret_digest"] not in known:
        remedy = "run: select public.outlast_set_webhook_secret('<the secret in SUPABASE_WEBHOOK_SECRETS>');"
        raise CheckFailure("the database signs with a secret that is not in SUPABASE_WEBHOOK_SECRETS", remedy)
    return f"signed with our secret, which is stored in {context.health['webhook_secret_in']}"


async def webhook_url(context: CheckContext) -> str:
    """The trigger must have pg_net and the URL of the receiver, unless no webhooks are wanted (`init --sweep-only`)."""
    if context.health["webhook_url"] == "":
        raise CheckWarning("no webhooks are sent, as `outlast init --sweep-only` set it", SWEEP_ONLY_REMEDY)
    if not context.health["pg_net"]:
        raise CheckFailure(
            "the extension pg_net is missing, so the database sends no webhooks",
            "enable it: Database, Extensions, pg_net",
        )
    url = str(context.health["webhook_url"] or "")
    remedy = "run outlast init --receiver-url https://... (or set webhook_url in public.outlast_settings)"
    if not url:
        raise CheckFailure("the database has no webhook URL", remedy)
    if URL(url).path != PATH:
        raise CheckFailure(f"{url} is not the URL of a receiver: the path must be {PATH}", remedy)
    return url


async def receiver(context: CheckContext) -> str:
    """Send a signed test webhook, which the receiver must accept and ignore."""
    if not context.health["webhook_url"]:
        raise CheckWarning("not checked, because no webhooks are sent", SWEEP_ONLY_REMEDY)
    url, now, webhook_id = str(context.health["webhook_url"]), datetime.now(UTC), f"msg_{uuid4()}"
    headers = {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(_signing_secrets(context)[0]).sign(webhook_id, now, IGNORED_EVENT),
        "Content-Type": "application/json",
    }
    try:
        response = await context.http.post(url, content=IGNORED_EVENT, headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        problem = f"{url} cannot be reached from here ({type(error).__name__}); the database may be able to reach it"
        raise CheckWarning(problem, "start `outlast receiver`, and check that the database can reach it") from error
    if response.status_code == httpx.codes.UNAUTHORIZED:
        problem = f"the receiver refuses our signature: {error_message(response)}"
        raise CheckFailure(problem, "set the same SUPABASE_WEBHOOK_SECRETS there, and check its clock")
    body = parse_body(response)
    if response.status_code != httpx.codes.OK or not isinstance(body, dict) or "ignored" not in body:
        problem = f"{url} answers {response.status_code}, and not like a receiver"
        raise CheckFailure(
            problem, "correct webhook_url, or the proxy in front of the receiver; redirects lose the body"
        )
    return await _check_ready(context, url)


async def fal_keys(context: CheckContext) -> str:
    """The keys that FAL signs its webhooks with must be readable."""
    url = context.settings.fal_jwks_url
    remedy = "allow this connection, or correct FAL_JWKS_URL; only FAL's own webhooks need it"
    try:
        response = await context.http.get(url)
        keys = response.raise_for_status().json()["keys"]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
        raise CheckWarning(f"FAL's keys cannot be read at {url}: {type(error).__name__}", remedy) from error
    return f"{len(keys)} keys at {url}"


async def _check_ready(context: CheckContext, url: str) -> str:
    """Check /readyz of the receiver, if it can be reached."""
    readyz = str(URL(url).with_path("/readyz").with_query(None))
    try:
        response = await context.http.get(readyz)
    except httpx.HTTPError:
        return f"{url} accepts our signature"
    if response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        problem = f"{url} accepts our signature, but is not ready: {response.text[:200]}"
        raise CheckWarning(problem, "check RABBITMQ_URL of the receiver")
    return f"{url} accepts our signature"


def _signing_secrets(context: CheckContext) -> list[str]:
    secrets = (secret.get_secret_value() for secret in context.settings.supabase_webhook_secrets)
    return [secret for secret in secrets if secret.startswith("whsec_")]
