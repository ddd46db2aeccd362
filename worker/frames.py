"""A job's properties as bytes. pamqp looks up each field's type, which takes longer than writing all of them."""

import struct
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from aio_pika import DeliveryMode
from pamqp.commands import Basic
from pamqp.encode import encode_table_value, short_string, timestamp

from schemas.jobs import JOB_TYPE

FIELDS: Final = ("content_type", "headers", "delivery_mode", "priority", "message_id", "timestamp", "message_type")
"""What a job has of AMQP's properties, in AMQP's order (0-9-1, 4.2.6.1)."""
FLAGS: Final = sum(Basic.Properties.flags[name] for name in FIELDS)
BEGIN: Final = struct.pack(">H", FLAGS) + short_string("application/json")
PRIORITY: Final = 0
MIDDLE: Final = bytes([DeliveryMode.PERSISTENT, PRIORITY])
END: Final = short_string(JOB_TYPE)
SIZE: Final = struct.Struct(">I")


class JobProperties(Basic.Properties):
    """The properties of a job's message: to pamqp as any other, and the same bytes."""

    def __init__(self, message_id: str, headers: dict[str, Any]) -> None:
        super().__init__(
            content_type="application/json",
            headers=headers,
            delivery_mode=DeliveryMode.PERSISTENT.value,
            priority=PRIORITY,
            message_id=message_id,
            timestamp=datetime.now(UTC),
            message_type=JOB_TYPE,
        )

    def marshal(self) -> bytes:
        """Return the properties' part of a content header frame."""
        table = b"".join([_entry(name, value) for name, value in sorted((self.headers or {}).items())])
        message_id, moment = short_string(self.message_id or ""), timestamp(self.timestamp or datetime.now(UTC))
        return b"".join((BEGIN, SIZE.pack(len(table)), table, MIDDLE, message_id, moment, END))


def _entry(name: str, value: Any) -> bytes:  # noqa: ANN401 - whatever a field table takes
    if not isinstance(value, str):
        return _other(name, value)
    text = value.encode()
    return b"".join((_text(name), SIZE.pack(len(text)), text))


@lru_cache(maxsize=256, typed=True)
def _other(name: str, value: Any) -> bytes:  # noqa: ANN401 - the same
    return short_string(name) + encode_table_value(value)


@lru_cache(maxsize=64)
def _text(name: str) -> bytes:
    return short_string(name) + b"S"
