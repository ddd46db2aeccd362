"""Supabase's Database Webhooks, and our own signed trigger, which sends the same body.

Studio's webhooks can only carry a fixed header; our trigger signs (Standard Webhooks). Both are accepted.
"""

import hmac
from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import SecretStr, ValidationError
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from handlers.settings import MediaSettings
from handlers.sources.errors import RejectedError, UnreadableError
from schemas.events import CompletedGeneration, IgnoredWebhook, SupabaseWebhook

SIGNATURE: Final = "webhook-signature"


class SupabaseSource:
    """Verifies and reads events of the generations table."""

    name = "supabase"

    def __init__(self, settings: MediaSettings, secrets: Sequence[SecretStr]) -> None:
        self._settings = settings
        self._shared = tuple(secret.get_secret_value().encode() for secret in secrets)
        self._signers = tuple(Webhook(text.decode()) for text in self._shared if text.startswith(b"whsec_"))

    async def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        """Accept a Standard Webhooks signature at most five minutes old, else a shared secret.

        A signature that is there must be right: a shared secret does not make up for a wrong one.

        Raises:
            RejectedError: neither fits; says which was missing or wrong.
        """
        if SIGNATURE in headers:
            self._verify_signature(headers, body)
        elif not self._knows(_presented(headers)):
            raise RejectedError(
                "send one of SUPABASE_WEBHOOK_SECRETS as 'Authorization: Bearer <secret>' or "
                "'x-webhook-secret: <secret>', "
                "or sign the request (Standard Webhooks)"
            )

    def _verify_signature(self, headers: Mapping[str, str], body: bytes) -> None:
        reason = "no whsec_ secret is configured to check it with"
        for signer in self._signers:
            try:
                signer.verify(body, dict(headers), json_parse=False)
            except (WebhookVerificationError, ValueError) as error:
                reason = str(error)
            else:
                return
        raise RejectedError(f"the webhook signature is not accepted: {reason}")

    def _knows(self, presented: bytes) -> bool:
        """Compare with every secret, each in constant time."""
        matches = [hmac.compare_digest(presented, secret) for secret in self._shared]
        return any(matches)

    def parse(self, body: bytes) -> CompletedGeneration | IgnoredWebhook:
        """Read the event and decide whether it matters.

        It matters when the new row is completed and the old row was not, or had another output.

        Raises:
            UnreadableError: the body is no Database Webhook, or the row lacks a configured column.
        """
        try:
            event = SupabaseWebhook.model_validate_json(body)
        except ValidationError as error:
            raise UnreadableError(_problems(error)) from None
        reason = self._irrelevant(event)
        if reason is not None:
            return IgnoredWebhook(reason=reason)
        return self._completed(event.record or {})

    def _irrelevant(self, event: SupabaseWebhook) -> str | None:
        """Return why the event does not matter, or None."""
        settings = self._settings
        if (event.schema_name, event.table) != (settings.generations_schema, settings.generations_table):
            return "other_table"
        if event.type == "DELETE" or event.record is None:
            return "not_a_completion"
        if not self._is_completed(event.record):
            return "not_completed"
        old, output = event.old_record, settings.generations_output_column
        if old is not None and self._is_completed(old) and old.get(output) == event.record.get(output):
            return "already_completed"
        return None

    def _is_completed(self, row: Mapping[str, object]) -> bool:
        status = self._settings.generations_status_column
        if status not in row:
            raise UnreadableError(
                f"the row has no column {status!r}: set GENERATIONS_STATUS_COLUMN to the one that holds the state"
            )
        return _text(row[status]) == self._settings.generations_completed_value

    def _completed(self, row: Mapping[str, object]) -> CompletedGeneration:
        settings = self._settings
        for column, variable in (
            (settings.generations_id_column, "GENERATIONS_ID_COLUMN"),
            (settings.generations_output_column, "GENERATIONS_OUTPUT_COLUMN"),
        ):
            if column not in row:
                raise UnreadableError(f"the row has no column {column!r}: set {variable} to the right one")
        return CompletedGeneration(
            source="supabase",
            generation_id=str(row[settings.generations_id_column]),
            request_id=_text(row.get(settings.generations_request_column)),
            user_id=_text(row.get(settings.generations_user_column)),
            output=row[settings.generations_output_column],
        )


def _presented(headers: Mapping[str, str]) -> bytes:
    """Return the shared secret a request carries, empty when it carries none."""
    scheme, _, credentials = headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip().encode(errors="surrogateescape")
    return headers.get("x-webhook-secret", "").encode(errors="surrogateescape")


def _text(value: object) -> str | None:
    """Return a column's value as PostgreSQL casts it to text; a state may be a boolean or a number."""
    if isinstance(value, bool):
        return str(value).lower()
    return None if value is None else str(value)


def _problems(error: ValidationError) -> str:
    """Say what a Database Webhook would have had, field by field; nothing of the body is repeated."""
    found = [
        f"{'.'.join(map(str, problem['loc'])) or 'body'}: {problem['msg']}"
        for problem in error.errors(include_url=False, include_input=False)
    ]
    return "the body is no Supabase Database Webhook: " + "; ".join(found)
