"""Parses the JSON of a webhook's body."""

import json
from typing import Any

from handlers.json_text import JsonTooLargeError, parse_json
from handlers.sources.errors import UnreadableError


def parse_body(body: bytes) -> Any:  # noqa: ANN401 - any JSON
    """Return the value of a JSON body. NUL and lone surrogates, which PostgreSQL cannot store, are replaced.

    `json` is used because pydantic's parser needs twice the memory for a large body.

    Raises:
        UnreadableError: the body is not JSON in UTF-8, is nested too deeply, or has too many JSON values.
    """
    try:
        return parse_json(body.decode())
    except UnicodeDecodeError:
        raise UnreadableError("the body is not UTF-8") from None
    except JsonTooLargeError as error:
        raise UnreadableError(f"{error}; the sweep records the generation as failed") from None
    except json.JSONDecodeError as error:
        raise UnreadableError(f"the body is not JSON: {error}") from None
    except ValueError as error:
        raise UnreadableError(f"the body cannot be read: {error}") from None
