"""Webhook bodies as they are sent, and the events that the sources parse from them."""

from typing import Annotated, Any, Final, Literal

from pydantic import AliasChoices, Field, StringConstraints

from schemas.base import Frozen
from schemas.jobs import Origin

MAX_ID_CHARACTERS: Final = 256
RowId = Annotated[str, StringConstraints(max_length=MAX_ID_CHARACTERS)]
"""An id from a row. Its length is limited, because it is part of every message, log line and record."""


class SenderInfo(Frozen):
    """What our own trigger adds to the body: how long it waits for the response, in milliseconds."""

    timeout_ms: int | None = Field(default=None, gt=0)


class SupabaseWebhook(Frozen):
    """The body of a Supabase Database Webhook. Our own trigger sends the same body, and `outlast`."""

    type: Literal["INSERT", "UPDATE", "DELETE"]
    table: str
    schema_name: str = Field(validation_alias=AliasChoices("schema", "schema_name"))
    record: dict[str, Any] | None = None
    old_record: dict[str, Any] | None = None
    outlast: SenderInfo = SenderInfo()


class FalWebhook(Frozen):
    """What is used of FAL's webhook. If FAL cannot serialise the output, `payload` is null.

    `error` is a text for most models, and an object for some.
    """

    request_id: str = Field(min_length=1)
    status: Literal["OK", "ERROR"]
    payload: Any = None
    error: Any = None


class CompletedGeneration(Frozen):
    """A completed generation. The form of `output` depends on the model.

    `sender_timeout_ms` is how long the sender waits for the response; None if it does not say.
    Raises ValidationError for an id of more than MAX_ID_CHARACTERS.
    """

    source: Origin
    generation_id: RowId | None = None
    request_id: RowId | None = None
    user_id: RowId | None = None
    output: Any
    sender_timeout_ms: int | None = None


class IgnoredWebhook(Frozen):
    """A verified event that leads to no job. `reason` is a stable code; the other fields are set for FAL's failures."""

    reason: str
    request_id: str | None = None
    error: str | None = None
