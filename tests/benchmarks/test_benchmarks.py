"""The benchmarks measure what they claim: both sides do the same work, and targets are judged correctly."""

import json
import shutil
import subprocess
import sys

import pytest

from tests.benchmarks import corpus, endurance, intake, queues
from tests.benchmarks.environment import ROOT, BenchmarkEnvironment
from tests.benchmarks.report import Report, meets, spread
from tests.benchmarks.sides import Outlast, Peer


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A folder with one file of each kind. Its animation is short: a long one takes seconds to draw."""
    folder = tmp_path_factory.mktemp("mixed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "FRAMES", 2)
        corpus.make(folder, "mixed", 1)
    return folder


@pytest.fixture
async def environment(rabbitmq, postgres, tmp_path):
    async with BenchmarkEnvironment(tmp_path, rabbitmq, postgres) as environment:
        yield environment


@pytest.mark.parametrize("side", [Outlast(), Peer()], ids=lambda side: side.name)
async def test_both_sides_store_every_file_and_write_its_row(environment, mixed, side):
    shutil.copytree(mixed, environment.files, dirs_exist_ok=True)
    names = sorted(path.name for path in mixed.iterdir())
    async with environment.new_run() as run:
        await side.enqueue_tasks(run, await run.tasks(names, len(names)))
        async with side.run_workers(run):
            await run.wait_for_count(len(names), 60)
        rows = await run.sql.fetch("select output->'images'->0->>'url' as url, media->0 as media from generations")
        stored = {row["url"].rpartition("/")[2]: json.loads(row["media"]) for row in rows}
        assert {name: media["content_type"] for name, media in stored.items()} == {
            "png-1024-0.png": "image/jpeg",
            "jpeg-1024-0.jpg": "image/jpeg",
            "webp-1024-0.webp": "image/jpeg",
            "gif-0.gif": "image/gif" if side.name == "celery" else "image/webp",
            "mp4-0.mp4": "video/mp4",
        }
        for media in stored.values():
            assert (run.objects / media["bucket"] / media["path"]).stat().st_size == media["file_size"]


async def test_a_generation_counts_when_it_is_completed_not_when_it_is_begun(environment):
    async with environment.new_run() as run:
        (task,) = await run.tasks(["a.png"], 1)
        counts = []
        for status in ("pending", "completed"):
            sql = "update generations set media = '[]', media_status = $2 where id = $1::uuid"
            await run.sql.execute(sql, task.generation_id, status)
            counts.append(await run.completed_count())
        assert counts == [0, 1]


def test_the_codec_floor_counts_the_files_of_both_processes(tmp_path):
    names = corpus.make(tmp_path, "tiny", 2)
    program = [sys.executable, "-m", "tests.benchmarks.codec_floor", *(str(tmp_path / name) for name in names)]
    ran = subprocess.run([*program, "--times", "3"], check=True, capture_output=True, cwd=ROOT)  # noqa: S603 - our own
    measured = json.loads(ran.stdout)
    assert measured["files"] == 2 * 3 * len(names)
    assert measured["cpu"] > 0 < measured["seconds"]


async def test_the_consumer_that_does_nothing_drains_its_queue(environment, monkeypatch):
    monkeypatch.setattr(queues, "COUNT", 500)
    monkeypatch.setattr(queues, "QUEUES", {"outlast": queues.QUEUES["outlast"]})
    report = Report()
    await queues.queues(environment, report, 1)
    (row,) = report.rows
    assert row["figures"]["per_second"][0] > 0


async def test_the_receiver_and_the_minimal_handler_accept_every_webhook(environment, monkeypatch):
    monkeypatch.setattr(intake, "REQUESTS", 200)
    monkeypatch.setattr(intake, "BURSTS", 1)
    monkeypatch.setattr(intake, "BURST", 50)
    report = Report()
    await intake.intake(environment, report, 1)
    assert {row["side"] for row in report.rows if "per_second" in row["figures"]} == {"outlast", "bare"}
    assert report.ratios["intake_over_bare"] > 0


async def test_a_long_run_reports_speed_and_memory(environment, monkeypatch):
    monkeypatch.setattr(endurance, "SOAK", 40)
    monkeypatch.setattr(endurance, "MEASUREMENTS", 4)
    report = Report()
    await endurance.soak(environment, report, 1)
    (row,) = report.rows
    assert all(value > 0 for values in row["figures"].values() for value in values)
    assert "soak_mib_per_1000_files" in report.ratios


def test_corpus_pictures_have_realistic_sizes(mixed):
    sizes = {name: (mixed / name).stat().st_size for name in corpus.make(mixed, "1024", 1)}
    assert len(sizes) == 2
    assert all(1_000_000 < size < 2_000_000 for name, size in sizes.items() if name.endswith("png"))
    assert all(300_000 < size < 700_000 for name, size in sizes.items() if name.endswith("jpg"))


def test_ratio_is_judged_by_its_target_or_only_reported(tmp_path):
    assert (meets("throughput_1024", 1.2), meets("throughput_1024", 1.19)) == (True, False)
    assert (meets("cpu_over_codec_floor", 1.5), meets("cpu_over_codec_floor", 1.51)) == (True, False)
    assert meets("queue_over_celery", 0.1) is None
    report = Report()
    report.row("files", "outlast", per_second=[3.0, 1.0, 2.0])
    report.ratio("throughput_1024", 1.1)
    report.series["latency by percentile in seconds"] = {"outlast": [(1, 0.1), (99, 0.3)]}
    report.write(tmp_path)
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["ratios"] == {"throughput_1024": {"value": 1.1, "target": 1.2, "better": "higher", "meets": False}}
    assert (tmp_path / "latency.png").stat().st_size > 5_000
    assert "MISSED" in report.table()
    assert spread([3.0, 1.0, 2.0]) == "2 (1 to 3)"
