from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.download.allowlist import Allowlist
from handlers.settings import MediaSettings
from handlers.sources.plan import (
    UNSUPPORTED_EXTENSIONS,
    _is_unsupported,
    _max_message_bytes,
    _message_bytes,
    find_files,
    plan_jobs,
)
from schemas.events import CompletedGeneration
from schemas.jobs import MAX_JOB_BYTES, JobFile
from schemas.urls import is_data_reference, source_key

SETTINGS = MediaSettings(_env_file=None)
ALLOWLIST = Allowlist(SETTINGS.source_allowlist)
FAL = "https://v3.fal.media/files"


def urls(output, settings=SETTINGS):
    return [file.url for file in find_files(output, settings, ALLOWLIST)]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ({"images": [{"url": f"{FAL}/a.png", "width": None}, {"url": f"{FAL}/b.png"}]}, ["a.png", "b.png"]),
        ({"video": {"url": f"{FAL}/a.mp4", "content_type": "wrong/type"}, "seed": 7}, ["a.mp4"]),
        ({"audio_url": {"url": f"{FAL}/a.mp3"}}, ["a.mp3"]),
        ({"audio_url": f"{FAL}/a.mp3"}, ["a.mp3"]),
        (f"{FAL}/a.mp3", ["a.mp3"]),
        ([f"{FAL}/a.mp3", f"{FAL}/b.png"], ["a.mp3", "b.png"]),
        (f' {{"images": [{{"url": "{FAL}/a.png"}}]}}', ["a.png"]),
        (f'["{FAL}/a.png", "{FAL}/b.png"]', ["a.png", "b.png"]),
        ("{no json", []),
        ("[" * 100_000, []),
        (
            {"model_glb": {"url": f"{FAL}/a.glb"}, "model_urls": {"glb": {"url": f"{FAL}/a.glb"}, "fbx": None}},
            ["a.glb"],
        ),
        ({"masks": [[{"url": f"{FAL}/deep.png"}]]}, ["deep.png"]),
        (f"{FAL}/plain.png", ["plain.png"]),
        ([f"{FAL}/1.png", f"{FAL}/2.png"], ["1.png", "2.png"]),
        (None, []),
        ({"prompt": "see https://fal.media/files/x.png", "seed": 1}, []),
    ],
)
def test_the_shapes_of_outputs(output, expected):
    assert [url.removeprefix(f"{FAL}/") for url in urls(output)] == expected


def test_a_file_object_counts_wherever_it_points_a_bare_string_does_not():
    output = {"image": {"url": "https://elsewhere.example/a.png"}, "help": "https://elsewhere.example/docs"}
    assert urls(output) == ["https://elsewhere.example/a.png"]


def test_positions_count_through_the_document_without_gaps():
    output = {"images": [{"url": f"{FAL}/{n}.png"} for n in (1, 2, 1, 3)]}
    assert [(file.position, file.url[-5]) for file in find_files(output, SETTINGS, ALLOWLIST)] == [
        (0, "1"),
        (1, "2"),
        (2, "3"),
    ]


def test_weights_are_ignored_or_tried_as_the_settings_say():
    output = {"lora_file": {"url": f"{FAL}/x.safetensors"}, "config": {"url": f"{FAL}/y", "file_name": "c.json"}}
    assert urls(output) == []
    assert len(urls(output, SETTINGS.model_copy(update={"unsupported_files": "fail"}))) == 2


def test_depth_is_no_danger():
    nested = {"url": f"{FAL}/bottom.png"}
    for _ in range(50_000):
        nested = [nested]
    assert urls(nested) == [f"{FAL}/bottom.png"]


def event(output, **more):
    return CompletedGeneration(source="supabase", generation_id="g", user_id="u", output=output, **more)


def test_a_large_event_is_split_and_every_job_knows_the_whole():
    jobs = plan_jobs(event([f"{FAL}/{n}.png" for n in range(23)]), SETTINGS, ALLOWLIST)
    assert [len(job.files) for job in jobs] == [10, 10, 3]
    assert [job.files[0].position for job in jobs] == [0, 10, 20]
    assert {(job.total_files, job.output_key) for job in jobs} == {(23, jobs[0].output_key)}
    assert len({job.task_id for job in jobs}) == 3


def test_the_same_event_plans_the_same_tasks_whatever_its_links_are_signed_with():
    first = plan_jobs(event(f"{FAL}/a.png?token=1"), SETTINGS, ALLOWLIST)
    second = plan_jobs(event(f"{FAL}/a.png?token=2"), SETTINGS, ALLOWLIST)
    assert first[0].task_id == second[0].task_id


def test_inline_files_travel_in_jobs_as_large_as_messages_may_be():
    inline = ["data:image/png;base64," + str(n) * 3_000_000 for n in range(4)]
    jobs = plan_jobs(event({"images": [{"url": url} for url in inline]}), SETTINGS, ALLOWLIST)
    assert [len(job.files) for job in jobs] == [2, 2]
    assert all(len(job.model_dump_json()) <= MAX_JOB_BYTES for job in jobs)


def test_inline_content_too_large_for_a_message_is_left_to_the_row():
    huge = "data:image/png;base64," + "A" * MAX_JOB_BYTES
    (job,) = plan_jobs(event({"images": [{"url": huge}]}), SETTINGS, ALLOWLIST)
    assert is_data_reference(job.files[0].url)
    assert job.files[0].source_key == source_key(huge)


@pytest.mark.parametrize("filling", ['"', "é", "\n"])
def test_a_messages_size_is_counted_as_it_will_be_written(filling):
    inline = [{"url": "data:text/x," + str(n) + filling * 1_500_000} for n in range(4)]
    jobs = plan_jobs(event(inline), SETTINGS, ALLOWLIST)
    assert sum(len(job.files) for job in jobs) == 4
    assert all(len(job.model_dump_json().encode()) <= MAX_JOB_BYTES for job in jobs)


def test_names_from_the_internet_are_tamed():
    output = [{"url": f"{FAL}/a%00b.png"}, {"url": f"{FAL}/c.png", "file_name": "x\u0000y" + "z" * 9_000}]
    first, second = find_files(output, SETTINGS, ALLOWLIST)
    assert first.file_name is None
    assert len(second.file_name) == 255
    assert second.file_name.startswith("xyz")


def test_fals_lost_payload_becomes_a_job_that_will_say_so():
    (job,) = plan_jobs(CompletedGeneration(source="fal", request_id="r", output=None), SETTINGS, ALLOWLIST)
    assert job.files == ()
    assert job.request_id == "r"


def test_an_output_without_files_is_no_job():
    assert plan_jobs(event({"text": "hello"}), SETTINGS, ALLOWLIST) == ()


@given(url=st.text(min_size=1), key=st.text(), name=st.none() | st.text(), position=st.integers(0, 10**9))
def test_a_files_weight_is_never_more_than_what_is_reckoned_with(url, key, name, position):
    file = JobFile(position=position, url=url, source_key=key, file_name=name)
    assert _message_bytes(file) <= _max_message_bytes(file)


@given(st.text(alphabet="a./PTpt", max_size=8) | st.text(max_size=8))
def test_a_name_ends_as_paths_do(name):
    assert _is_unsupported(name) == (PurePosixPath(name).suffix.lower().removeprefix(".") in UNSUPPORTED_EXTENSIONS)
