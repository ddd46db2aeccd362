import json

import pytest

from handlers.download.allowlist import Allowlist
from handlers.settings import MediaSettings
from handlers.sources.output_fields import field_order
from handlers.sources.output_urls import MAX_NODES, MAX_PARSED_CHARACTERS, MAX_SEPARATORS, find_data_uri
from handlers.sources.outputs import find_files
from handlers.sources.plan import BULK_FILES, plan_jobs
from handlers.sources.refusals import Refusal, refusal_of
from schemas.events import CompletedGeneration
from schemas.jobs import MAX_JOB_BYTES, Queue
from schemas.urls import MAX_SOURCE_URL_CHARACTERS, MAX_URL_CHARACTERS, is_data_reference, redact_url, source_key

SETTINGS = MediaSettings(_env_file=None)
ALLOWLIST = Allowlist(SETTINGS.source_allowlist)
FAL = "https://v3.fal.media/files"


def urls(output, settings=SETTINGS):
    return [file.url for file in find_files(output, settings, ALLOWLIST).files]


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
def test_files_are_found_in_every_shape_of_output(output, expected):
    assert [url.removeprefix(f"{FAL}/") for url in urls(output)] == expected


PNG = "data:image/png;base64,iVBORw0KGgo="


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (PNG, [PNG]),
        ([PNG, "DATA:audio/wav;base64,UklG"], [PNG, "DATA:audio/wav;base64,UklG"]),
        ({"audio": PNG, "seed": 1}, [PNG]),
        (PNG + "A" * MAX_URL_CHARACTERS, [PNG + "A" * MAX_URL_CHARACTERS]),
        ("data:text/plain;charset=utf-8,a", ["data:text/plain;charset=utf-8,a"]),
        ("data:;base64,QQ==", ["data:;base64,QQ=="]),
        ("data: two plans, one budget", []),
        ("data:,hello", []),
        ("data:image/png;base64", []),
        ("data:image/png;sha256=" + "0" * 64, []),
    ],
)
def test_a_data_uri_needs_no_object(output, expected):
    assert urls(output) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{%s/a.png,%s/b.png}", ["a.png", "b.png"]),
        ('{"%s/a.png?x=1,2",%s/b.png}', ["a.png?x=1,2", "b.png"]),
        ("{ %s/a.png , NULL , %s/b.png }\n", ["a.png", "b.png"]),
        ("{{%s/a.png},{%s/b.png}}", ["a.png", "b.png"]),
        (r'{"{\"url\": \"%s/a.png\"}","{\"url\": \"%s/b.png\"}"}', ["a.png", "b.png"]),
        ("{%s/a.png,%s/b.png", []),
        ('{"%s/a.png "%s/b.png"}', []),
        ("{%s/a.png},%s/b.png", []),
        ('{"see": %s/a.png, %s/b.png}', []),
    ],
)
def test_an_array_literal_in_a_text_is_read(text, expected):
    assert [url.removeprefix(f"{FAL}/") for url in urls(text % (FAL, FAL))] == expected


def test_a_data_uri_in_an_array_literal_is_found():
    assert urls(f'{{"{PNG}"}}') == [PNG]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%s/a.png,%s/b.png", ["a.png", "b.png"]),
        (" %s/a.png ,\n %s/b.png ", ["a.png", "b.png"]),
        ("%s/a.png\r\n%s/b.png\n", ["a.png", "b.png"]),
        ("%s/a.png %s/b.png", ["a.png", "b.png"]),
        ("%s/a,b.png, %s/c.png", ["a,b.png", "c.png"]),
        ("see %s/a.png, %s/b.png", []),
    ],
)
def test_a_list_of_urls_in_a_text_is_read(text, expected):
    found = find_files({"result": text % (FAL, FAL)}, SETTINGS, ALLOWLIST).files
    assert [file.url.removeprefix(f"{FAL}/") for file in found] == expected
    assert [file.field for file in found] == [f"result[{at}]" for at in range(len(expected))]


@pytest.mark.parametrize("levels", [1, 2, 3, 6])
def test_json_within_json_texts_is_read(levels):
    text = {"images": [{"url": f"{FAL}/a.png"}, f"{FAL}/b.png"]}
    for _ in range(levels):
        text = json.dumps(text)
    assert urls(text) == urls({"result": [text]}) == [f"{FAL}/a.png", f"{FAL}/b.png"]


@pytest.mark.parametrize("blank", [" ", "\n", "\t \r\n"])
def test_blanks_around_a_url_are_ignored(blank):
    link = f"{blank}{FAL}/a.png{blank}"
    assert urls(link) == urls([link]) == urls({"url": link}) == [f"{FAL}/a.png"]
    assert urls(blank + PNG) == urls({"url": blank + PNG}) == [PNG]


@pytest.mark.parametrize("field", ["prompt", "Input", "logs"])
@pytest.mark.parametrize("wrap", [lambda text: text, lambda text: {"x": [text, {"y": text}]}, json.dumps])
def test_texts_that_repeat_the_request_are_no_files(field, wrap):
    repeated = {
        "first": f"{FAL}/1.png",
        field: wrap(PNG),
        "also": {field: wrap(f"{FAL}/in.png")},
        "last": f"{FAL}/2.png",
    }
    assert urls(repeated) == [f"{FAL}/1.png", f"{FAL}/2.png"]


def test_a_data_uri_is_found_again_by_its_reference_wherever_it_is():
    huge = " data:image/png;base64," + "A" * MAX_JOB_BYTES
    for output in (huge, [huge], {"url": huge}, {"audio": huge}, json.dumps([huge]), f'{{"{huge}"}}'):
        (job,) = plan_jobs(event(output), SETTINGS, ALLOWLIST)
        assert find_data_uri(output, job.files[0].url) == huge.strip()
    assert find_data_uri([PNG], job.files[0].url) is None
    assert find_data_uri(["text"] * 2 * MAX_NODES, job.files[0].url) is None


def test_a_file_object_may_point_to_any_host_a_bare_string_may_not():
    output = {"image": {"url": "https://elsewhere.example/a.png"}, "help": "https://elsewhere.example/docs"}
    assert urls(output) == ["https://elsewhere.example/a.png"]


@pytest.mark.parametrize(
    ("output", "taken"),
    [
        ({"text": "...", "sources": [{"url": "https://elsewhere.example/docs", "title": "Documents"}]}, False),
        ({"sources": [{"url": f"{FAL}/a"}]}, True),
        ({"sources": [{"url": "https://elsewhere.example/a", "content_type": "image/png"}]}, True),
        ({"sources": [{"url": "https://elsewhere.example/a.glb"}]}, True),
        ({"masks": [{"url": "https://elsewhere.example/a"}]}, True),
        ({"sources": [{"url": PNG}]}, True),
        ({"url": "https://elsewhere.example/a"}, True),
        ([{"url": "https://elsewhere.example/a"}], True),
    ],
)
def test_an_object_with_a_url_is_a_file_if_it_looks_like_one(output, taken):
    assert len(urls(output)) == taken


def test_positions_are_consecutive_without_duplicates():
    output = {"images": [{"url": f"{FAL}/{n}.png"} for n in (1, 2, 1, 3)]}
    assert [(file.position, file.url[-5]) for file in find_files(output, SETTINGS, ALLOWLIST).files] == [
        (0, "1"),
        (1, "2"),
        (2, "3"),
    ]


@pytest.mark.parametrize(
    ("output", "fields"),
    [
        (f"{FAL}/a.png", [""]),
        ([f"{FAL}/a.png", [f"{FAL}/b.png"]], ["[0]", "[1][0]"]),
        ({"images": [None, 7, {"url": f"{FAL}/a.png"}], "url": f"{FAL}/b.png"}, ["images[2].url", "url"]),
        (json.dumps({"video": {"url": f"{FAL}/a.mp4"}}), ["video.url"]),
        ({"result": json.dumps([f"{FAL}/a.mp4"])}, ["result[0]"]),
        ({"result": f"{{{FAL}/a.png,{FAL}/b.png}}"}, ["result[0]", "result[1]"]),
        ({"a-b": PNG, "größe": f"{FAL}/a.png"}, ["a-b", "größe"]),
        ({"a b": {"": PNG}}, ['["a b"][""]']),
        ({'x"]': {"1": {"\0\ud800": PNG}}}, [r'["x\"]"]["1"]["\u0000\ud800"]']),
        ({"k" * 300: {"l" * 300: {"m" * 300: PNG}}}, [".".join(["k" * 100, "l" * 100, "m" * 53])]),
    ],
)
def test_a_file_has_the_field_in_which_it_is(output, fields):
    assert [file.field for file in find_files(output, SETTINGS, ALLOWLIST).files] == fields


@pytest.mark.parametrize("order", [sorted, lambda items: sorted(items, reverse=True), list])
def test_files_have_the_order_of_their_fields_whatever_the_order_of_keys(order):
    items = {f"image_{n}": {"url": f"{FAL}/{n}.png"} for n in range(3)}
    items |= {"images": [{"url": f"{FAL}/i{n}.png"} for n in range(12)], "same": {"url": f"{FAL}/0.png"}}
    found = find_files(dict(order(items.items())), SETTINGS, ALLOWLIST).files
    expected = [*(f"image_{n}.url" for n in range(3)), *(f"images[{n}].url" for n in range(12))]
    assert sorted(expected, key=field_order) == [file.field for file in found]
    assert [file.field for file in found if "images" in file.field] == expected[3:]
    assert [file.position for file in found] == list(range(15))


def skipped(output, settings=SETTINGS):
    return [(file.position, file.field, file.code) for file in find_files(output, settings, ALLOWLIST).skipped]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("https://elsewhere.example/anything", [(0, "", "source_forbidden")]),
        (["https://elsewhere.example/a", f"{FAL}/b.png"], [(0, "[0]", "source_forbidden")]),
        ({"image_url": "https://elsewhere.example/a"}, [(0, "image_url", "source_forbidden")]),
        ({"result": "http://elsewhere.example/a.PNG?x=1"}, [(0, "result", "source_forbidden")]),
        ({"output": ["https://elsewhere.example/a"]}, [(0, "output[0]", "source_forbidden")]),
        ({"docs": "https://elsewhere.example/docs", "response_url": "https://queue.fal.run/a/requests/1"}, []),
        ({"text": "https://elsewhere.example/a.png is a picture"}, []),
        ({"prompt": "https://elsewhere.example/a.png"}, []),
        ({"image": "s3://bucket/a.png"}, []),
        ({"a": {"url": "https://elsewhere.example/a.png"}, "image": "https://elsewhere.example/a.png"}, []),
        ({"input_video": {"url": f"{FAL}/a.mp4"}}, [(0, "input_video.url", "request_file")]),
        ({"images": [PNG], "image_style_url": f"{FAL}/a.png"}, [(0, "image_style_url", "request_file")]),
        ({"input_images": [f"{FAL}/a.png"], "images": [{"url": f"{FAL}/a.png"}]}, []),
        ({"input": {"image_url": f"{FAL}/a.png"}}, [(0, "input.image_url", "request_file")]),
        ({"Arguments": [{"image": {"url": f"{FAL}/a.png"}}]}, [(0, "Arguments[0].image.url", "request_file")]),
        ({"input": {"u": f"{FAL}/a.png"}, "original": {"url": f"{FAL}/a.png"}}, [(0, "original.url", "request_file")]),
        ({"image": {"url": f"{FAL}/a.png"}, "input": {"u": f"{FAL}/a.png"}}, [(0, "image.url", "request_file")]),
        ({"input": {"text": f"see {FAL}/a.png", "docs": "https://elsewhere.example/docs"}}, []),
        ({"logs": [f"{FAL}/a.png"], "prompt": f"{FAL}/a.png", "image": {"url": f"{FAL}/a.png"}}, []),
    ],
)
def test_files_that_are_not_taken_are_named_with_the_reason(output, expected):
    assert skipped(output) == expected


def test_a_skipped_file_is_recorded_without_what_is_confidential_and_bounded():
    link = f"https://user:password@elsewhere.example/{'a' * 5_000}.png?token=secret#part"
    (file,) = find_files({"image": link}, SETTINGS, ALLOWLIST).skipped
    assert file.source_url.startswith("https://elsewhere.example/aaa")
    assert len(file.source_url) == MAX_SOURCE_URL_CHARACTERS
    assert len(file.original_filename) == 255


def test_skipped_files_never_displace_files_to_take():
    output = {"a_image": [f"https://elsewhere.example/{n}" for n in range(900)]}
    output["images"] = [{"url": f"{FAL}/{n}.png"} for n in range(990)]
    found = find_files(output, SETTINGS, ALLOWLIST)
    assert (len(found.files), len(found.skipped)) == (990, 10)
    assert [file.position for file in found.skipped] == list(range(10))


def test_files_of_the_request_never_displace_files_to_take():
    output = {"input": [f"{FAL}/in/{n}.png" for n in range(5_000)]}
    output["images"] = [{"url": f"{FAL}/{n}.png"} for n in range(990)]
    found = find_files(output, SETTINGS, ALLOWLIST)
    assert (len(found.files), len(found.skipped)) == (990, 10)


def test_an_event_whose_files_are_all_skipped_is_a_job_without_files():
    (job,) = plan_jobs(event("https://elsewhere.example/a.png"), SETTINGS, ALLOWLIST)
    (other,) = plan_jobs(event("https://elsewhere.example/b.png"), SETTINGS, ALLOWLIST)
    assert (job.files, job.total_files, len(job.skipped)) == ((), 0, 1)
    assert job.task_id != other.task_id
    assert job.output_key != other.output_key


def test_skipped_files_belong_to_the_job_of_their_position_and_to_the_output():
    links = [f"{FAL}/{n}.png" for n in range(21)]
    plain = plan_jobs(event(links), SETTINGS, ALLOWLIST)
    links.insert(12, "https://elsewhere.example/a.png")
    jobs = plan_jobs(event(links), SETTINGS, ALLOWLIST)
    assert [(len(job.files), len(job.skipped)) for job in jobs] == [(10, 0), (10, 1), (1, 0)]
    assert {job.total_files for job in jobs} == {21}
    assert jobs[0].task_id == plain[0].task_id
    assert jobs[0].output_key != plain[0].output_key


def test_messages_with_many_skipped_files_are_not_too_large():
    """The field is the longest that it can be; of longer URLs, fewer are looked at."""
    output = {"\U0001f600" * 100: [f"https://elsewhere.example/{'a' * 1_000}/{n}/{'b' * 255}.png" for n in range(1000)]}
    jobs = plan_jobs(event(output), SETTINGS, ALLOWLIST)
    assert sum(len(job.skipped) for job in jobs) == 1000
    assert all(len(job.model_dump_json().encode()) <= MAX_JOB_BYTES for job in jobs)


@pytest.mark.parametrize("mode", ["skip", "fail", "keep"])
def test_the_name_of_a_file_does_not_decide_whether_it_is_taken(mode):
    output = {"lora_file": {"url": f"{FAL}/x.safetensors"}, "config": {"url": f"{FAL}/y", "file_name": "c.exe"}}
    assert len(urls(output, SETTINGS.model_copy(update={"unsupported_files": mode}))) == 2


def test_deeply_nested_output_is_searched():
    nested = {"url": f"{FAL}/bottom.png"}
    for _ in range(50_000):
        nested = [nested]
    assert urls(nested) == [f"{FAL}/bottom.png"]


def event(output, **more):
    return CompletedGeneration(source="supabase", generation_id="g", user_id="u", output=output, **more)


def test_a_large_event_is_split_into_jobs_that_have_the_total():
    jobs = plan_jobs(event([f"{FAL}/{n}.png" for n in range(23)]), SETTINGS, ALLOWLIST)
    assert [len(job.files) for job in jobs] == [10, 10, 3]
    assert [job.files[0].position for job in jobs] == [0, 10, 20]
    assert {(job.total_files, job.output_key) for job in jobs} == {(23, jobs[0].output_key)}
    assert len({job.task_id for job in jobs}) == 3


def test_the_task_id_does_not_depend_on_url_signatures():
    first = plan_jobs(event(f"{FAL}/a.png?token=1"), SETTINGS, ALLOWLIST)
    second = plan_jobs(event(f"{FAL}/a.png?token=2"), SETTINGS, ALLOWLIST)
    assert first[0].task_id == second[0].task_id


def test_inline_files_are_split_by_message_size():
    inline = ["data:image/png;base64," + str(n) * 3_000_000 for n in range(4)]
    jobs = plan_jobs(event({"images": [{"url": url} for url in inline]}), SETTINGS, ALLOWLIST)
    assert [len(job.files) for job in jobs] == [2, 2]
    assert all(len(job.model_dump_json()) <= MAX_JOB_BYTES for job in jobs)


def test_inline_content_too_large_for_a_message_is_replaced_by_a_reference():
    huge = "data:image/png;base64," + "A" * MAX_JOB_BYTES
    (job,) = plan_jobs(event({"images": [{"url": huge}]}), SETTINGS, ALLOWLIST)
    assert is_data_reference(job.files[0].url)
    assert job.files[0].source_key == source_key(huge)


@pytest.mark.parametrize("filling", ['"', "é", "\n"])
def test_the_message_size_is_counted_in_json_bytes(filling):
    inline = [{"url": "data:text/x," + str(n) + filling * 1_500_000} for n in range(4)]
    jobs = plan_jobs(event(inline), SETTINGS, ALLOWLIST)
    assert sum(len(job.files) for job in jobs) == 4
    assert all(len(job.model_dump_json().encode()) <= MAX_JOB_BYTES for job in jobs)


def test_of_an_output_with_too_many_files_the_first_are_taken_and_the_rest_is_reported():
    jobs = plan_jobs(event([{"url": f"{FAL}/{n}.png"} for n in range(100_000)]), SETTINGS, ALLOWLIST)
    files = [file for job in jobs for file in job.files]
    assert [file.url for file in files[:-1]] == [f"{FAL}/{n}.png" for n in range(1000)]
    assert refusal_of(files[-1].url) is Refusal.TOO_MANY_FILES
    assert [file.position for file in files] == list(range(1001))
    assert {(job.total_files, job.queue) for job in jobs} == {(1001, Queue.BULK)}


@pytest.mark.parametrize(
    "make_output",
    [
        lambda: [[] for _ in range(MAX_NODES)],
        lambda: ["text"] * MAX_NODES,
        lambda: [{"url": f"{FAL}/a.png?token={n}"} for n in range(100_000)],
        lambda: [f"https://elsewhere.example/{n}" for n in range(100_000)],
        lambda: ["{" + "a," * MAX_NODES + "a}"],
        lambda: ["{" + "a," * 200_000 + '"}'] * 4,
        lambda: ['{"' + r"\"" * (MAX_SEPARATORS + 1) + '"}'],
        lambda: ["[" + "1," * 200_000 + "1]"] * 4,
        lambda: ["[" + "[]," * MAX_NODES + "1]"],
        lambda: [json.dumps("a" * (MAX_PARSED_CHARACTERS // 16))] * 17,
    ],
    ids=[
        *("nodes", "texts", "links to one file", "links elsewhere"),
        *("array", "malformed arrays", "escapes", "numbers", "values", "characters"),
    ],
)
def test_the_search_for_files_is_limited_and_the_rest_is_reported(make_output):
    *_, last = find_files([{"url": f"{FAL}/first.png"}, *make_output()], SETTINGS, ALLOWLIST).files
    assert refusal_of(last.url) is Refusal.TOO_MANY_FILES
    assert source_key(last.url) == last.source_key


def test_blanks_in_a_text_take_linear_time():
    assert len(find_files({"result": f"{FAL}/a.png{' ' * 400_000}x {FAL}/b.png"}, SETTINGS, ALLOWLIST).files) == 1


def test_numbers_are_not_searched():
    (file,) = find_files({"embedding": [0.5] * 2 * MAX_NODES, "url": f"{FAL}/a.png"}, SETTINGS, ALLOWLIST).files
    assert file.url == f"{FAL}/a.png"


@pytest.mark.parametrize(
    ("count", "queue"), [(1, Queue.FILES), (BULK_FILES, Queue.FILES), (BULK_FILES + 1, Queue.BULK)]
)
def test_an_event_with_many_files_goes_to_the_bulk_queue(count, queue):
    jobs = plan_jobs(event([f"{FAL}/{n}.png" for n in range(count)]), SETTINGS, ALLOWLIST)
    assert {job.queue for job in jobs} == {queue}


@pytest.mark.parametrize("escape", [r"\u0000", r"\ud800"])
def test_what_postgresql_cannot_store_is_replaced_in_urls(escape):
    (file,) = find_files(f'{{"url": "{FAL}/a.png?x={escape}"}}', SETTINGS, ALLOWLIST).files
    assert file.url == f"{FAL}/a.png?x=\N{REPLACEMENT CHARACTER}"
    (raw,) = find_files({"url": json.loads(f'"{FAL}/a.png?x={escape}"')}, SETTINGS, ALLOWLIST).files
    assert raw == file


def test_a_url_that_is_too_long_is_a_file_whose_key_needs_no_parsing():
    (file,) = find_files({"url": f"{FAL}/a.png?{'x=1&' * 500_000}"}, SETTINGS, ALLOWLIST).files
    assert len(file.source_key) == 32
    assert len(redact_url(file.url)) <= MAX_URL_CHARACTERS


def test_file_names_are_printable_and_at_most_255_characters():
    output = [{"url": f"{FAL}/a%00b.png"}, {"url": f"{FAL}/c.png", "file_name": "x\u0000y" + "z" * 9_000}]
    first, second = find_files(output, SETTINGS, ALLOWLIST).files
    assert first.file_name is None
    assert len(second.file_name) == 255
    assert second.file_name.startswith("xyz")


def test_a_fal_event_without_payload_is_a_job_without_files():
    (job,) = plan_jobs(CompletedGeneration(source="fal", request_id="r", output=None), SETTINGS, ALLOWLIST)
    assert job.files == ()
    assert job.request_id == "r"


def test_an_output_without_files_gives_no_job():
    assert plan_jobs(event({"text": "hello"}), SETTINGS, ALLOWLIST) == ()


@pytest.mark.parametrize("filling", ["x", '"', "é", "\n", "\x01", "\U0001f600"])
@pytest.mark.parametrize("margin", [0, 5_000, 15_000])
def test_a_message_near_the_size_limit_is_not_too_large(filling, margin):
    """JSON needs up to six bytes for a character."""
    output = {"url": "data:text/x," + filling * (MAX_JOB_BYTES // 6 - margin), "file_name": filling * 255}
    (job,) = plan_jobs(event(output), SETTINGS, ALLOWLIST)
    assert len(job.model_dump_json().encode()) <= MAX_JOB_BYTES
