"""Webhook bodies as they are sent, and the events that the sources parse from them."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AliasChoices, AwareDatetime, Field, StringConstraints

from schemas.base import Frozen
from schemas.jobs import DEFAULT_BINDING, BindingName, NamedGeneration, Origin

MAX_ID_CHARACTERS: Final = 256
RowId = Annotated[str, StringConstraints(max_length=MAX_ID_CHARACTERS)]
"""An id from a row. Its length is limited, because it is part of every message, log line and record."""


class EventOutput(Frozen):
    """The value of one output column; `field` is its name."""

    field: str = Field(min_length=1)
    value: Any = None


class TriggerEvent(Frozen):
    """What our trigger sends about a completed row. The receiver needs no column names, because the trigger reads them.

    `timeout_ms` is how long the trigger waits for the response, in milliseconds. Triggers of earlier versions send the
    whole row in `SupabaseWebhook.record`, and here only `timeout_ms`; then `v` is None.
    """

    v: int | None = None
    binding: BindingName | None = None
    generation_id: str | None = None
    user_id: str | None = None
    request_id: str | None = None
    event_at: AwareDatetime | None = None
    outputs: tuple[EventOutput, ...] = ()
    timeout_ms: int | None = Field(default=None, gt=0)

    @property
    def output(self) -> Any:  # noqa: ANN401 - any JSON
        """The value of the output column; if there are several columns, an object of their values by column name."""
        if len(self.outputs) == 1:
            return self.outputs[0].value
        return {output.field: output.value for output in self.outputs}


class SupabaseWebhook(Frozen):
    """The body of a Supabase Database Webhook, which has no `outlast`, or of our trigger's, which has only `outlast`.

    Triggers of earlier versions send all of the fields.
    """

    type: Literal["INSERT", "UPDATE", "DELETE"] | None = None
    table: str | None = None
    schema_name: str | None = Field(default=None, validation_alias=AliasChoices("schema", "schema_name"))
    record: dict[str, Any] | None = None
    old_record: dict[str, Any] | None = None
    outlast: TriggerEvent = TriggerEvent()


class FalWebhook(Frozen):
    """The fields of FAL's webhook that we use. If FAL cannot serialise the output, `payload` is null.

    `error` is a text for most models, and an object for some.
    """

    request_id: str = Field(min_length=1)
    status: Literal["OK", "ERROR"]
    payload: Any = None
    error: Any = None


class CompletedGeneration(Frozen):
    """A completed generation. The form of `output` depends on the model.

    `sender_timeout_ms` is how long the sender waits for the response, and `event_at` when the row was completed; each
    is None if the sender does not send it. `named` is the generation that the webhook's address names.
    The constructor raises ValidationError for an id of more than MAX_ID_CHARACTERS.
    """

    source: Origin
    binding: str = DEFAULT_BINDING
    generation_id: RowId | None = None
    request_id: RowId | None = None
    user_id: RowId | None = None
    output: Any
    sender_timeout_ms: int | None = None
    event_at: datetime | None = None
    named: NamedGeneration | None = None


class IgnoredWebhook(Frozen):
    """A verified webhook that reports no new completion, so its files, if any, are not taken.

    `reason` is a stable code. The other fields are set for failures that FAL reports.
    """

    reason: str
    request_id: str | None = None
    error: str | None = None
