"""The list of what is not stored of FAL's outputs is current, and has nothing but texts and files of the request."""

from pathlib import Path

import pytest

from handlers.sources.outputs import REQUEST_FILE
from tests.fal_outputs.declarations import Type, read_declarations
from tests.fal_outputs.page import install, plan_all, with_new_table

pytestmark = pytest.mark.slow
PAGE = Path(__file__).parents[2] / "deploy/docs/fal-outputs.md"


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    return plan_all(install(tmp_path_factory.mktemp("node")))


def test_every_file_of_every_endpoint_is_planned(planned):
    assert planned.endpoints > 1000
    assert planned.files > planned.endpoints
    assert {entry.reason for entry in planned.not_stored.values()} == {"a text", REQUEST_FILE}
    repeated = {name for name, reason in planned.not_stored if reason == REQUEST_FILE}
    assert repeated == {"image_style_url", "input_video.url"}


def test_the_page_is_up_to_date(planned):
    text = PAGE.read_text()
    assert with_new_table(text, planned) == text, "run `make docs`"


def test_declarations_of_every_form_are_read(tmp_path):
    path = tmp_path / "types.d.ts"
    path.write_text("""export type One = {
    /** The `file`. */
    file?: string | Blob | File;
    "odd-name": Array<Two | null>;
};
export type Two = Record<string, "a" | 7>;
export type EndpointTypeMap = { "an/endpoint": { input: Two; output: One } };
""")
    found = read_declarations(path)
    assert found.outputs == {"an/endpoint": "One"}
    file, odd = found.types["One"].members
    assert (file.name, file.doc, [each.name for each in file.type.arguments]) == (
        "file",
        "The `file`.",
        ["string", "Blob", "File"],
    )
    assert (odd.name, odd.type) == (
        "odd-name",
        Type("Array", arguments=(Type("|", arguments=(Type("Two"), Type("null"))),)),
    )
