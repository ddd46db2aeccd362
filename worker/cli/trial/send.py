"""Sends the test generation: as a row of the table, or as a signed webhook."""

import asyncio
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final
from uuid import uuid4

import aiohttp
from standardwebhooks.webhooks import Webhook
from yarl import URL

from handlers.database.client import Supabase
from handlers.errors import FileProcessingError
from handlers.sources.supabase import EVENT_VERSION
from schemas.jobs import DEFAULT_BINDING
from worker.cli.init_project import WEBHOOK_PATH
from worker.cli.trial.picture import sample_output
from worker.cli.trial.steps import SentGeneration, StoppedError, TrialOptions
from worker.settings import Settings

STEP: Final = "send"
ID_PREFIX: Final = "outlast-try-"
"""`outlast_try_remove` recognizes test generations without a row by this prefix."""
HTTP_SECONDS: Final = 15
START_SECONDS: Final = 10.0
"""How long a receiver that was just started may take until it listens."""
REMEDIES: Final[Mapping[int, str]] = {
    HTTPStatus.UNAUTHORIZED: "give the receiver and this command the same SUPABASE_WEBHOOK_SECRETS; check the clocks",
    HTTPStatus.NOT_FOUND: f"this is no receiver; --receiver-url is the URL without {WEBHOOK_PATH}",
    HTTPStatus.SERVICE_UNAVAILABLE: "RabbitMQ did not confirm the job: see the receiver's log, and `outlast doctor`",
}


class Sender:
    """Sends one test generation. `health` is the answer of `outlast_health`; `note` prints a remark."""

    def __init__(
        self, settings: Settings, supabase: Supabase, health: dict[str, Any], note: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._supabase = supabase
        self._health = health
        self._note = note

    async def send(self, options: TrialOptions) -> SentGeneration:
        """Send the test generation as the options say. Raises StoppedError."""
        if options.via == "webhook":
            return await self._send_webhook(options)
        if webhook_url := self._health.get("webhook_url"):
            await self._wait_for_receiver(URL(str(webhook_url)), min(options.seconds, START_SECONDS))
        try:
            answer = await self._supabase.call(
                "outlast_try_insert",
                {"p_output": sample_output(), "p_values": options.values, "p_binding": options.binding},
            )
        except FileProcessingError as error:
            remedy = "give columns that need a value: --set prompt=test --set user_id=<id of a user>"
            if options.via == "row":
                raise StoppedError(STEP, f"the table refused the row: {error}", remedy) from error
            self._note(f"the table refused a row of the test, so its trigger is not tested: {error}\n{remedy}")
            return await self._send_webhook(options)
        awaits_sweep = not self._health.get("webhook_url")
        if awaits_sweep:
            self._note("the database has no webhook_url, so this waits for the sweep")
        return SentGeneration(
            str(answer["generation_id"]), has_row=True, awaits_sweep=awaits_sweep, binding=options.binding
        )

    async def _wait_for_receiver(self, url: URL, seconds: float) -> None:
        """Wait while the receiver's port is closed: it may be starting, and the database sends a webhook only once."""
        refused = False
        try:
            async with asyncio.timeout(seconds), aiohttp.ClientSession() as session:
                while True:
                    try:
                        async with session.get(url.with_path("/healthz"), allow_redirects=False):
                            return
                    except aiohttp.ClientConnectorError as error:
                        refused = isinstance(error.os_error, ConnectionRefusedError)
                        if not refused:
                            return
                    await asyncio.sleep(0.2)
        except (aiohttp.ClientError, TimeoutError, ValueError):  # the database may reach what this machine does not
            if refused:
                self._note(f"no receiver listens at {url.origin()}, as seen from here; start `outlast receiver`")

    async def _send_webhook(self, options: TrialOptions) -> SentGeneration:
        generation_id, url = f"{ID_PREFIX}{uuid4()}", self._url(options)
        body = json.dumps(self._event(generation_id, options.binding))
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=HTTP_SECONDS)) as session,
                session.post(url, data=body, headers=self._headers(body), allow_redirects=False) as response,
            ):
                status, text = response.status, (await response.content.read(2000)).decode(errors="replace")
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            problem = f"{url} did not answer: {type(error).__name__}"
            raise StoppedError(STEP, problem, "start `outlast receiver`; name it with --receiver-url") from error
        if status == HTTPStatus.OK:
            problem = f"{url} ignored the webhook: {text}"
            remedy = "give the receiver and this command the same GENERATIONS_... settings"
            raise StoppedError(STEP, problem, remedy)
        if status != HTTPStatus.ACCEPTED:
            remedy = REMEDIES.get(status, "see the receiver's log, and `outlast doctor`")
            raise StoppedError(STEP, f"{url} answered {status}: {text}", remedy)
        return SentGeneration(generation_id, has_row=False, binding=options.binding)

    def _url(self, options: TrialOptions) -> str:
        if options.receiver_url is not None:
            return f"{options.receiver_url.rstrip('/')}{WEBHOOK_PATH}"
        return str(self._health.get("webhook_url") or f"http://127.0.0.1:{self._settings.receiver_port}{WEBHOOK_PATH}")

    def _event(self, generation_id: str, binding: str) -> dict[str, Any]:
        """Return the body of a webhook for a completed row with the test's output.

        The settings describe the binding `generations` only. For another binding, the body is as its trigger sends it.
        """
        if binding != DEFAULT_BINDING:
            outputs = [{"field": "output", "value": sample_output()}]
            event = {"v": EVENT_VERSION, "binding": binding, "generation_id": generation_id, "outputs": outputs}
            return {"outlast": event | {"event_at": datetime.now(UTC).isoformat()}}
        settings = self._settings
        record = {
            settings.generations_id_column: generation_id,
            settings.generations_status_column: settings.generations_completed_value,
            settings.generations_output_column: sample_output(),
        }
        place = {"schema": settings.generations_schema, "table": settings.generations_table}
        return {"type": "INSERT", **place, "record": record, "old_record": None}

    def _headers(self, body: str) -> dict[str, str]:
        """Return the headers with a signature, or with the shared secret if there is no signing secret.

        Raises StoppedError if there is neither.
        """
        secrets = [secret.get_secret_value() for secret in self._settings.supabase_webhook_secrets]
        signing = next((secret for secret in secrets if secret.startswith("whsec_")), None)
        headers = {"Content-Type": "application/json"}
        if signing is None and not secrets:
            raise StoppedError(STEP, "SUPABASE_WEBHOOK_SECRETS is not set", "`outlast init` makes one")
        if signing is None:
            return headers | {"x-webhook-secret": secrets[0]}
        now, webhook_id = datetime.now(UTC), f"msg_{uuid4()}"
        return headers | {
            "webhook-id": webhook_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(signing).sign(webhook_id, now, body),
        }
