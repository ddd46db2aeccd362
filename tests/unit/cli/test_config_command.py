"""`outlast config`, and the names that are no settings."""

import json

import pytest

from schemas.jobs import JobFile
from tests.command_line import call_outlast  # noqa: F401 - the fixture
from worker.cli.process import DownloadProgress

SECRET = "topsecret-topsecret"


def test_config_prints_values_with_their_origin_and_masks_secrets(call_outlast, tmp_path):  # noqa: F811 - the fixture
    (tmp_path / ".env").write_text(
        f"API_TOKEN={SECRET}\nIMAGE_QUALITY=61\nMAX_ATTEMPTS=\nMY_APP=1\nGRAFANA_PASSWORD=x\n"
    )
    environment = {"MAX_CONCURRENT": "5", "NOTIFY_URLS": f"https://hooks.slack.com/services/{SECRET}"}
    code, out, err = call_outlast("config", **environment)
    rows = {row[0]: tuple(row[1:]) for line in out.splitlines() if len(row := line.split("\t")) == 3}
    assert code == 0
    assert rows["API_TOKEN"] == ("**********", ".env")
    assert rows["NOTIFY_URLS"] == ("**********", "environment")
    assert rows["IMAGE_QUALITY"] == ("61", ".env")
    assert rows["MAX_CONCURRENT"] == ("5", "environment")
    assert rows["MAX_ATTEMPTS"] == ("8", "default")
    assert SECRET not in out + err
    assert err == "MY_APP in .env is no setting\n"


@pytest.mark.parametrize(
    ("env_file", "environment", "message"),
    [
        ("WORKER_CONCURENCY=4\n", {}, "WORKER_CONCURENCY in .env is no setting; did you mean WORKER_CONCURRENCY?"),
        ("", {"IMAGE_QUALTY": "4"}, "IMAGE_QUALTY in the environment is no setting; did you mean IMAGE_QUALITY?"),
        ("MAX_ATTEMPTS=none\n", {}, "MAX_ATTEMPTS: must be a whole number (it is 'none')"),
    ],
)
def test_config_fails_for_what_is_misspelt_or_invalid(call_outlast, tmp_path, env_file, environment, message):  # noqa: F811
    (tmp_path / ".env").write_text(env_file)
    code, out, err = call_outlast("config", "--json", **environment)
    answer = json.loads(out)
    assert (code, err) == (1, "")
    said = [
        f"{name['name']} in {name['place']} is no setting; did you mean {name['nearest']}?"
        for name in answer["unknown"]
    ]
    assert message in "\n".join([*said, answer["error"] or ""])


def test_downloads_are_counted_in_bytes_with_an_estimate_for_files_that_have_not_begun():
    progress = DownloadProgress(3, shown=False)
    first, second = (JobFile(position=n, url=f"https://a.b/{n}", source_key=str(n)) for n in range(2))
    progress.received(first, 10, 100)
    assert progress.state == ("0/3 files", 10, 300)
    progress.received(second, 50, 50)
    assert progress.state == ("0/3 files", 60, 225)
    for completed in (1, 2, 3):
        progress.file_done(completed, 3, "")
    assert progress.state == ("3/3 files", 60, 60)
