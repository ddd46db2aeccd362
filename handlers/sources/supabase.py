"""Webhooks of the database: those of our own trigger, and Supabase's Database Webhooks.

A webhook made in Supabase Studio can send a fixed header only; our trigger signs its webhooks (Standard Webhooks).
Both are accepted. Our trigger sends an event that names the binding, so the receiver needs no column names. Studio's
webhooks, and triggers of earlier versions, send the whole row of the table that the settings GENERATIONS_* describe.
"""

import asyncio
import hmac
from collections.abc import Mapping, Sequence
from typing import Final, Self

from pydantic import SecretStr, ValidationError

from handlers.settings import MediaSettings
from handlers.sources.errors import RejectedError, UnreadableError
from handlers.sources.settings import SourceSettings
from handlers.sources.standard_webhooks import LARGE_BODY_BYTES, PREFIX, SignatureVerifier, has_signature
from handlers.sources.webhook_body import parse_body
from schemas.events import MAX_ID_CHARACTERS, CompletedGeneration, IgnoredWebhook, SupabaseWebhook, TriggerEvent
from schemas.jobs import NamedGeneration

EVENT_VERSION: Final = 2
"""The version of the events of our trigger."""


class SupabaseSource:
    """Verifies and parses events of bound tables."""

    name = "supabase"

    def __init__(self, settings: MediaSettings, secrets: Sequence[SecretStr]) -> None:
        self._settings = settings
        self._secrets = tuple(secret.get_secret_value().encode() for secret in secrets)
        signing = [text for secret in secrets if (text := secret.get_secret_value()).startswith(PREFIX)]
        self._signatures = SignatureVerifier(signing)

    @classmethod
    def from_settings(cls, settings: SourceSettings) -> Self:
        """Return the source for SUPABASE_WEBHOOK_SECRETS and the columns of GENERATIONS_*."""
        return cls(settings, settings.supabase_webhook_secrets)

    async def keep_ready(self) -> None:
        """Nothing needs to be renewed."""

    def check_headers(self, headers: Mapping[str, str]) -> bool:
        """Return True for a valid shared secret, False for a Standard Webhooks signature, still to be verified.

        The timestamp of a signature may differ from the clock by five minutes. `Authorization` or `x-webhook-secret`
        may have the secret: Supabase's own webhooks can send the anon key as `Authorization`. With a signature header,
        the signature must be valid: a shared secret is then not sufficient.

        Raises:
            RejectedError: there is no secret and no signature that could be valid; the message says what is wrong.
        """
        if has_signature(headers):
            self._signatures.check_headers(headers)
            return False
        if not any(map(self._is_shared_secret, _secrets_from(headers))):
            raise RejectedError(
                "send one of SUPABASE_WEBHOOK_SECRETS as 'Authorization: Bearer <secret>' or "
                "'x-webhook-secret: <secret>', "
                "or sign the request (Standard Webhooks)"
            )
        return True

    async def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        """Verify the shared secret, or the signature of the body. Raises RejectedError."""
        if self.check_headers(headers):
            return
        if len(body) < LARGE_BODY_BYTES:
            self._signatures.verify(headers, body)
        else:  # in a thread, so that other webhooks need not wait for the hash
            await asyncio.to_thread(self._signatures.verify, headers, body)

    def _is_shared_secret(self, value: bytes) -> bool:
        """Return whether `value` is one of the secrets. All are compared, each in constant time."""
        matches = [hmac.compare_digest(value, secret) for secret in self._secrets]
        return any(matches)

    def named_generation(self, query: Mapping[str, str]) -> NamedGeneration | None:  # noqa: ARG002 - of the protocol
        """Return None: the body names the generation."""
        return None

    def parse(self, body: bytes) -> CompletedGeneration | IgnoredWebhook:
        """Parse the body and decide whether the event is a new completion.

        An event is a new completion if the new row is completed, and the old row was not completed or had another
        output. Our own trigger sends no other events.

        Raises:
            UnreadableError: the body is neither a Database Webhook nor an event of our trigger that this version reads,
                the row lacks a configured column, or an id is missing or too long.
        """
        try:
            event = SupabaseWebhook.model_validate(parse_body(body))
        except ValidationError as error:
            raise UnreadableError(_error_text(error)) from None
        if event.outlast.v is not None:
            return _completed_in_binding(event.outlast)
        if event.type is None or event.table is None or event.schema_name is None:
            raise UnreadableError("the body is not a Supabase Database Webhook: it lacks type, table or schema")
        reason = self._ignore_reason(event)
        if reason is not None:
            return IgnoredWebhook(reason=reason)
        return self._completed_generation(event.record or {}, event.outlast.timeout_ms)

    def _ignore_reason(self, event: SupabaseWebhook) -> str | None:
        """Return why the event is ignored, or None."""
        settings = self._settings
        if (event.schema_name, event.table) != (settings.generations_schema, settings.generations_table):
            return "other_table"
        if event.type == "DELETE":
            return "not_a_completion"
        if event.record is None:
            raise UnreadableError(f"the {event.type} has no record: send the whole row, as Database Webhooks do")
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
                f"the row has no column {status!r}: set GENERATIONS_STATUS_COLUMN to the column with the status"
            )
        return _as_text(row[status]) == self._settings.generations_completed_value

    def _completed_generation(self, row: Mapping[str, object], timeout_ms: int | None) -> CompletedGeneration:
        settings = self._settings
        for column, variable in (
            (settings.generations_id_column, "GENERATIONS_ID_COLUMN"),
            (settings.generations_output_column, "GENERATIONS_OUTPUT_COLUMN"),
        ):
            if column not in row:
                raise UnreadableError(
                    f"the row has no column {column!r}: set {variable} to the name of an existing one"
                )
        generation_id = _as_text(row[settings.generations_id_column])
        if not generation_id:
            raise UnreadableError(
                f"the row's column {settings.generations_id_column!r} is null or empty: set GENERATIONS_ID_COLUMN to "
                "the primary key"
            )
        try:
            return CompletedGeneration(
                source="supabase",
                generation_id=generation_id,
                request_id=_as_text(row.get(settings.generations_request_column)),
                user_id=_as_text(row.get(settings.generations_user_column)),
                output=row[settings.generations_output_column],
                sender_timeout_ms=timeout_ms,
            )
        except ValidationError:
            raise UnreadableError(
                f"an id of the row has more than {MAX_ID_CHARACTERS} characters; check GENERATIONS_ID_COLUMN, "
                "GENERATIONS_REQUEST_COLUMN and GENERATIONS_USER_COLUMN"
            ) from None


def _completed_in_binding(event: TriggerEvent) -> CompletedGeneration:
    """Return the generation of our trigger's event. Raises UnreadableError."""
    if event.v != EVENT_VERSION:
        raise UnreadableError(f"the event has version {event.v}, but this receiver reads {EVENT_VERSION}; upgrade it")
    required = {"binding", "generation_id", "event_at", "outputs"}
    missing = sorted(name for name in required if not getattr(event, name))
    if missing:
        raise UnreadableError(f"the event lacks {', '.join(missing)}")
    try:
        return CompletedGeneration(
            source="supabase",
            **event.model_dump(include={"binding", "generation_id", "request_id", "user_id", "event_at"}),
            output=event.output,
            sender_timeout_ms=event.timeout_ms,
        )
    except ValidationError:
        raise UnreadableError(f"an id of the row has more than {MAX_ID_CHARACTERS} characters") from None


def _secrets_from(headers: Mapping[str, str]) -> list[bytes]:
    """Return the values of the headers that can contain the shared secret: the bearer token and `x-webhook-secret`."""
    scheme, _, credentials = headers.get("Authorization", "").partition(" ")
    values = [credentials.strip() if scheme.lower() == "bearer" else "", headers.get("x-webhook-secret", "")]
    return [value.encode(errors="surrogateescape") for value in values if value]


def _as_text(value: object) -> str | None:
    """Return a column's value as text. A boolean becomes `true` or `false`, as in PostgreSQL; a status may be one."""
    if isinstance(value, bool):
        return str(value).lower()
    return None if value is None else str(value)


def _error_text(error: ValidationError) -> str:
    """Return which fields of a Database Webhook are invalid, without any value of the body."""
    problems = [
        f"{'.'.join(map(str, problem['loc'])) or 'body'}: {problem['msg']}"
        for problem in error.errors(include_url=False, include_input=False)
    ]
    return "the body is not a Supabase Database Webhook: " + "; ".join(problems)
