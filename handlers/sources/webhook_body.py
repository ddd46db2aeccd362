"""The text of a webhook's body, made safe to parse."""

from handlers.json_text import JsonTooLargeError, check_size, clean_json
from handlers.sources.errors import UnreadableError


def body_text(body: bytes) -> str:
    """Return the JSON text of a body, with what PostgreSQL cannot store replaced.

    Raises:
        UnreadableError: it is not UTF-8, or has more JSON values than may be parsed.
    """
    try:
        text = body.decode()
        check_size(text)
    except UnicodeDecodeError:
        raise UnreadableError("the body is not UTF-8") from None
    except JsonTooLargeError as error:
        raise UnreadableError(f"{error}; the sweep records the generation as failed") from None
    return clean_json(text)
