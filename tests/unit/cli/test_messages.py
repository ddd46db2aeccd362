"""Messages say what is wrong, where, and what to type, without the words of a library."""

from types import SimpleNamespace
from uuid import uuid4

import aiohttp
import pytest

from handlers.network import failure_text
from schemas.dead_letters import BatchRequest, InvalidFilterError
from tests.broker.dead_letter_vhost import DeadLetterVhost
from worker.broker.envelope import Envelope
from worker.broker.errors import error_text
from worker.cli import main
from worker.cli.init_project import Setup, write
from worker.dead_letters.summary import summarize
from worker.tasks.service import InvalidSubmissionError, read_submission

SUBMISSION = {"urls": ["https://v3.fal.media/a.png"], "user_id": "u", "generation_id": "g"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"urls": ["v3.fal.media/a.png"]}, "urls[0]: must be a URL that begins with https://, http:// or data:"),
        ({"urls": []}, "urls: must not be empty"),
        ({"urls": "a"}, "urls: must be a list"),
        ({"generation_id": ""}, "generation_id: must not be empty"),
        ({"user_id": "a\nb"}, "user_id: must not contain control characters"),
        ({"colour": 1}, "colour: is not known"),
        ({"task_options": {"quality": 101}}, "task_options.quality: must be at most 100"),
        ({"task_options": {"quality": "fine"}}, "task_options.quality: must be a whole number"),
        ({"task_options": {"priority": "high"}}, "task_options.priority: must be 'interactive' or 'bulk'"),
        ({"task_options": {"priority": "bulk", "queue": "optimization"}}, "task_options: give priority or queue, not"),
    ],
)
def test_an_invalid_submission_is_told_by_field(changed, message):
    with pytest.raises(InvalidSubmissionError) as refused:
        read_submission(**SUBMISSION | changed)
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"task": "7"}, "task: must be a UUID, for example"),
        ({"limit": "0"}, "limit: must be at least 1"),
        ({"rate": "fast"}, "rate: must be a number"),
        ({"since": "soon"}, "since: is not a date or time; write for example"),
        ({"cod": "x"}, "cod: is not a filter; the filters are ids, code"),
    ],
)
def test_an_invalid_filter_is_told_by_name(given, message):
    with pytest.raises(InvalidFilterError) as refused:
        BatchRequest.parse(given)
    assert str(refused.value).startswith(message)


def test_a_broker_that_does_not_answer_is_not_told_as_the_name_of_a_class():
    assert error_text(TimeoutError()) == "no answer in time"
    assert error_text(ConnectionError("closed")) == "ConnectionError: closed"


def test_a_failed_request_is_told_in_words():
    assert failure_text(TimeoutError()) == "no answer in time (TimeoutError)"
    ended = "the connection ended before the end of the response (ClientPayloadError)"
    assert failure_text(aiohttp.ClientPayloadError()) == ended
    assert failure_text(aiohttp.ClientError()) == "ClientError"


def test_a_folder_that_cannot_be_written_is_named_with_the_option(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"^--write .*file/x: cannot be written to \(Not a directory\); name a folder"):
        write(Setup("", "", "", "", ""), tmp_path / "file" / "x")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(13, "Permission denied", "/proc/x"), "/proc/x: Permission denied; name a folder"),
        (OSError(98, "Address already in use"), "Address already in use; check the addresses and ports"),
        (FileExistsError("a: exists and was not overwritten"), "a: exists and was not overwritten"),
    ],
)
def test_what_the_system_refuses_is_told_with_its_place(error, message):
    assert main._system_error(error).startswith(message)


@pytest.mark.parametrize(
    ("code", "host"), [("storage_rejected", None), ("row_rejected", None), ("corrupted", "a.example")]
)
def test_a_dead_letter_names_the_source_only_if_that_is_where_it_failed(code, host):
    job = DeadLetterVhost.job("https://a.example/x.png")
    message = Envelope(job).message(code=code, error="no", stage="upload")
    delivered = SimpleNamespace(**{name: getattr(message, name) for name in ("headers", "body", "type")})
    delivered.routing_key, delivered.content_encoding, delivered.message_id = "file_processing", None, str(uuid4())
    assert summarize(delivered).item.host == host
