"""The way from the database to the receiver: secret, address, and a webhook that asks for nothing."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

import httpx
from standardwebhooks.webhooks import Webhook
from yarl import URL

from worker.doctor.context import CheckContext
from worker.doctor.database import APPLY
from worker.doctor.project import body_of, message
from worker.doctor.result import Concern, Failure

PATH: Final = "/webhooks/supabase"
NOTHING: Final = json.dumps({"type": "INSERT", "schema": "outlast_doctor", "table": "outlast_doctor", "record": {}})
"""An event of a table that is nobody's: who accepts the signature says that it does not matter."""
DIGITS: Final = 16


async def webhook_secret(site: CheckContext) -> str:
    """Without a secret the receiver does not start; without a signing one it takes nothing from our trigger."""
    secrets = site.settings.supabase_webhook_secrets
    if not secrets:
        raise Failure("SUPABASE_WEBHOOK_SECRETS is not set", "`outlast init` makes one, for the database and .env")
    if not _signers(site):
        said = "no secret in SUPABASE_WEBHOOK_SECRETS signs (whsec_...): only webhooks made in Studio are taken"
        raise Concern(said, "`outlast init` makes one, for the database and .env")
    return f"{len(secrets)} set"


async def signing(site: CheckContext) -> str:
    """The trigger signs with a secret that the receiver has."""
    if not site.health["trigger_signed"]:
        raise Failure("the database holds no signing secret, so that the trigger sends nothing", APPLY)
    known = {hashlib.sha256(secret.encode()).hexdigest()[:DIGITS] for secret in _signers(site)}
    if site.health["webhook_secret_digest"] not in known:
        remedy = "select public.outlast_set_webhook_secret('<the one in SUPABASE_WEBHOOK_SECRETS>');"
        raise Failure("the database signs with a secret that SUPABASE_WEBHOOK_SECRETS does not have", remedy)
    return f"signed with our secret, which is kept in {site.health['webhook_secret_in']}"


async def webhook_url(site: CheckContext) -> str:
    """Where the trigger sends."""
    if not site.health["pg_net"]:
        raise Failure(
            "pg_net is not there, so that the database sends nothing", "enable it: Database, Extensions, pg_net"
        )
    url = str(site.health["webhook_url"] or "")
    remedy = "outlast init --receiver-url https://... (or set webhook_url in public.outlast_settings)"
    if not url:
        raise Failure("the database knows no address to send to", remedy)
    if URL(url).path != PATH:
        raise Failure(f"{url} is not where a receiver listens: its path is {PATH}", remedy)
    return url


async def receiver(site: CheckContext) -> str:
    """Send there what the trigger would, about nothing."""
    url, now, name = str(site.health["webhook_url"]), datetime.now(UTC), f"msg_{uuid4()}"
    headers = {
        "webhook-id": name,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(_signers(site)[0]).sign(name, now, NOTHING),
        "Content-Type": "application/json",
    }
    try:
        answer = await site.outside.post(url, content=NOTHING, headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        said = f"{url} cannot be reached from here ({type(error).__name__}); the database may see it otherwise"
        raise Concern(said, "start `outlast receiver`, and see that the database can reach it") from error
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        said = f"the receiver refuses our signature: {message(answer)}"
        raise Failure(said, "give it the same SUPABASE_WEBHOOK_SECRETS, and see to its clock")
    told = body_of(answer)
    if answer.status_code != httpx.codes.OK or not isinstance(told, dict) or "ignored" not in told:
        said = f"{url} answers {answer.status_code}, which is not what a receiver of ours says"
        raise Failure(said, "mend webhook_url, or what stands before the receiver; redirects lose the body")
    return await _ready(site, url)


async def fal_keys(site: CheckContext) -> str:
    """FAL's own webhooks are checked with keys that FAL publishes."""
    url = site.settings.fal_jwks_url
    remedy = "let the receiver reach it, or mend FAL_JWKS_URL; only FAL's own webhooks need it"
    try:
        answer = await site.outside.get(url)
        keys = answer.raise_for_status().json()["keys"]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
        raise Concern(f"FAL's keys cannot be read at {url}: {type(error).__name__}", remedy) from error
    return f"{len(keys)} at {url}"


async def _ready(site: CheckContext, url: str) -> str:
    """Ask the receiver whether it can do its work, where it lets us."""
    address = str(URL(url).with_path("/readyz").with_query(None))
    try:
        answer = await site.outside.get(address)
    except httpx.HTTPError:
        return f"{url} accepts our signature"
    if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        raise Concern(f"{url} accepts our signature, but is not ready: {answer.text[:200]}", "look at its RABBITMQ_URL")
    return f"{url} accepts our signature"


def _signers(site: CheckContext) -> list[str]:
    secrets = (secret.get_secret_value() for secret in site.settings.supabase_webhook_secrets)
    return [secret for secret in secrets if secret.startswith("whsec_")]
