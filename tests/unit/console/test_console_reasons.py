"""The sentences that say why a generation has no media."""

import pytest

from worker.console.generation.reasons import Planned, explain
from worker.console.generation.search import SearchTerms, read_terms
from worker.console.templating import with_code

ROW = {"owner": "u1", "status": "completed", "completed": True, "deleted": False, "empty": False, "past": False}
FACTS = {
    "binding": "clips",
    "bound": True,
    "usable": True,
    "bindings": ["clips"],
    "table": "public.clips",
    "columns": ["output"],
    "completed_values": ["completed", "done"],
    "media_column": "media",
    "row": ROW,
    "media": [],
    "rejected": None,
    "trigger": True,
    "webhook_url": "https://outlast.example.com/webhooks/supabase",
    "secret": True,
    "swept_at": None,
}
TASK = {
    "user_id": "u1",
    "status": "failed",
    "error_code": "source_gone",
    "error": "404",
    "created_at": "2026-11-01T10:00:00Z",
}
PLANNED = Planned(2, {})
STORED, SKIPPED = {"status": "stored", "code": None}, {"status": "skipped", "code": "source_forbidden"}


@pytest.mark.parametrize(
    ("facts", "tasks", "planned", "first"),
    [
        ({"bound": False, "usable": False, "row": None}, [], None, "There is no binding clips"),
        ({"usable": False, "row": None}, [], None, "The table public.clips, or a column"),
        ({"row": None}, [], None, "public.clips has no row with this id"),
        ({"row": ROW | {"deleted": True}}, [], None, "The row counts as deleted"),
        ({"row": ROW | {"completed": False, "status": "running"}}, [], None, "Outlast waits for 'completed' or 'done'"),
        ({"row": ROW | {"completed": False, "status": None}}, [], None, "its status is null"),
        ({"row": ROW | {"empty": True}}, [], None, "output is null, so there is nothing to fetch"),
        ({"row": ROW | {"past": True}}, [], PLANNED, "older than the installation"),
        ({}, [], Planned(0, {}), "The output names no file"),
        ({}, [], PLANNED, "No webhook of this row has arrived"),
        ({}, [TASK | {"status": "running"}], None, "Its files are being fetched: 1 running"),
        ({}, [TASK], None, "A task failed with source_gone: 404"),
        ({}, [TASK | {"status": "cancelled"}], None, "All of its tasks were cancelled"),
        ({"media": [STORED, STORED]}, [TASK | {"status": "completed"}], None, "All 2 files are stored"),
        ({}, [TASK | {"status": "completed", "user_id": "u2"}], None, "Its tasks are of another user (u2)"),
        ({"media": [SKIPPED]}, [TASK | {"status": "completed"}], None, "1 file is skipped, on a host that is not in"),
    ],
)
def test_the_first_reason_is_the_main_one(facts, tasks, planned, first):
    assert first in explain(FACTS | facts, tasks, planned, 300)[0].text


@pytest.mark.parametrize(
    ("facts", "every", "told"),
    [
        ({"trigger": False}, 300, "has no trigger of Outlast"),
        ({"webhook_url": None}, 300, "no address for the webhook"),
        ({"secret": False}, 300, "no secret to sign the webhook with"),
        ({}, 300, "none has run yet"),
        ({}, 0, "RECONCILE_EVERY_SECONDS is 0"),
        ({"media_column": None}, 300, "names no column for media"),
        ({"rejected": {"sqlstate": "23514", "message": "too long"}}, 300, "(SQLSTATE 23514): too long"),
    ],
)
def test_what_is_wrong_with_the_set_up_is_told(facts, every, told):
    assert any(told in reason.text for reason in explain(FACTS | facts, [], PLANNED, every))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (" gen-1 ", SearchTerms("gen-1")),
        (
            "a/b\x00c.png",
            SearchTerms(
                "a/b\N{REPLACEMENT CHARACTER}c.png",
                (),
                ("a/b\N{REPLACEMENT CHARACTER}c.png", "b\N{REPLACEMENT CHARACTER}c.png"),
            ),
        ),
        (
            "https://abc.supabase.co/storage/v1/object/sign/generations/u/ab/x%20y.jpg?token=1",
            ("generations/u/ab/x y.jpg", "u/ab/x y.jpg"),
        ),
        (
            "https://queue.fal.run/fal-ai/flux/requests/0F7A1D3C-0000-4000-8000-000000000001/status",
            "0f7a1d3c-0000-4000-8000-000000000001",
        ),
    ],
)
def test_an_id_or_path_is_read_from_what_was_pasted(text, wanted):
    found = read_terms(text)
    assert wanted in (found, found.paths, found.text)


def test_commands_are_shown_as_code_and_the_rest_is_escaped():
    assert with_code("run `a <b>` & go") == "run <code>a &lt;b&gt;</code> &amp; go"


def test_a_url_is_searched_by_its_source_key_and_a_huge_text_is_cut():
    assert read_terms("https://v3.fal.media/a.png?token=1").keys == read_terms("https://v3.fal.media/a.png").keys
    assert len(read_terms("x" * 100_000).text) <= 8192
