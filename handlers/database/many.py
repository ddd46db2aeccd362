"""Sends several calls of one SQL function in one request: a call of `outlast_many`."""

from collections.abc import Sequence
from enum import Enum
from http import HTTPStatus
from typing import Any, Final

from handlers.database.rpc import RpcClient, parse_answer, refusal_error, refusal_text
from handlers.errors import FileProcessingError

MANY: Final = "outlast_many"
OUTAGES: Final = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})
"""Statuses that do not depend on the calls: PostgREST or the database is not available."""


class Undone(Enum):
    """Why a call of a batch has no result, and must be sent again alone. Nothing of the call was recorded."""

    FAILED = "the call failed"
    NOT_MADE = "the call before it took long"
    REFUSED = "all calls were undone, perhaps because of another one"
    NOT_SUPPORTED = "the database has no outlast_many"


async def call_many(rpc: RpcClient, function: str, bodies: Sequence[bytes]) -> list[Any]:
    """Call a function once for each of `bodies`, which are its arguments as JSON.

    Returns the outcome of each call, in order: its result, an error to raise, or an Undone.
    """
    body = b'{"p_function":"%b","p_calls":[%b]}' % (function.encode(), b",".join(bodies))
    try:
        status, answer = await rpc.request(MANY, body)
        if status < HTTPStatus.MULTIPLE_CHOICES:
            outcomes = [
                entry.get("result", Undone.FAILED) for entry in parse_answer(MANY, list[dict[str, Any]], answer)
            ]
            return outcomes + [Undone.NOT_MADE] * (len(bodies) - len(outcomes))
    except FileProcessingError as error:
        return [type(error)(f"{function}: {error}") for _ in bodies]
    if status in OUTAGES:
        return [refusal_error(f"{function}: {refusal_text(answer, status)}", answer) for _ in bodies]
    missing = isinstance(answer, dict) and answer.get("code") == "PGRST202"
    return [Undone.NOT_SUPPORTED if missing else Undone.REFUSED] * len(bodies)
