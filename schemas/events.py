"""What the outside world tells us: webhook bodies as sent, and what a source made of them."""

from typing import Any, Literal

from pydantic import AliasChoices, Field

from schemas.base import Frozen
from schemas.jobs import Origin


class SupabaseWebhook(Frozen):
    """Body of a Supabase Database Webhook, also of our own trigger (pg_net sends jsonb text)."""

    type: Literal["INSERT", "UPDATE", "DELETE"]
    table: str
    schema_name: str = Field(validation_alias=AliasChoices("schema", "schema_name"))
    record: dict[str, Any] | None = None
    old_record: dict[str, Any] | None = None


class FalWebhook(Frozen):
    """Body of FAL's webhook. `payload` is null, with `payload_error`, when FAL could not serialise the output."""

    request_id: str = Field(min_length=1)
    gateway_request_id: str | None = None
    status: Literal["OK", "ERROR"]
    payload: Any = None
    error: str | None = None
    payload_error: str | None = None


class CompletedGeneration(Frozen):
    """A generation is complete: whose it is and what came out, in whatever shape the model has."""

    source: Origin
    generation_id: str | None = None
    request_id: str | None = None
    user_id: str | None = None
    output: Any


class IgnoredWebhook(Frozen):
    """A genuine event that does not matter to us, and why (a short stable word); FAL's failures say whose and what."""

    reason: str
    request_id: str | None = None
    error: str | None = None
