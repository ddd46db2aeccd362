"""The image, built step by step as deploy/Dockerfile says, stores a generation in surroundings like the container's."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy import dockerfile
from tests.deploy.start_like_image import FILES, run
from tests.deploy.image import CACHE, ROOT, build, isolated
from tests.pythons.interpreters import find

PROBE = 'for place in "$@"; do if (: >"$place/probe") 2>/dev/null; then echo "$place"; fi; done'
CLOSED = ("/", "/etc", "/home", "/mnt", "/opt", "/root", "/run", "/srv", "/usr", "/usr/local", "/var", "/var/lib")


@pytest.fixture(scope="module")
def image():
    """The image, built with the Dockerfile's Python; where that is not found, with ours (CI requires it)."""
    found = find(dockerfile.read().minor)
    folder = ROOT / ".outlast/image"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield build(found.prefix if found else Path(sys.base_prefix), folder)


def output(image, *argv):
    return subprocess.run(image.command(*argv), capture_output=True, text=True, check=True).stdout  # noqa: S603


def test_it_is_the_version_of_the_dockerfile_and_has_nothing_to_install_with(image):
    version = output(image, "python", "-c", "import sys; print('{}.{}'.format(*sys.version_info))").strip()
    assert version == image.dockerfile.minor or (find(image.dockerfile.minor) is None and not os.environ.get("CI"))
    assert not list((image.tree / "bin").glob("pip*"))
    assert "Usage" in output(image, "outlast", "--help")


def test_what_is_installed_is_a_copy_and_not_the_checkout(image):
    place = output(image, "python", "-c", "import worker; print(worker.__file__)").strip()
    assert Path(place).is_relative_to(image.tree)
    assert not list(image.tree.glob("lib/python3*/site-packages/tests"))


def test_only_the_temporary_folder_can_be_written_to(image):
    inside = [str(path) for path in (image.tree, image.tree / "bin", image.folder, ROOT)]
    found = output(image, "sh", "-c", PROBE, "sh", image.writable, *inside, *(CLOSED if isolated() else ()))
    expected = [image.writable]
    if os.geteuid() == 0 and not isolated():
        pytest.fail("root needs mount namespaces for this: run as another user, or allow `unshare --mount`")
    if isolated():
        assert output(image, "id", "-u").strip() == "10001"
        assert found.split() == expected
    else:  # permissions alone: the folder around and the checkout are ours
        assert not {str(image.tree), str(image.tree / "bin")} & set(found.split())
        assert image.writable in found.split()


async def test_receiver_and_worker_store_a_generation(image, tmp_path, record_property):
    """On the local stack, started with the image's entry point, environment and user."""
    await run(tmp_path / "stack", image.command())
    record_property("image", f"{len(FILES)} files stored by Python {image.dockerfile.minor}")


def test_the_health_check_fails_where_nothing_runs(image):
    argv = image.command(*image.dockerfile.health)
    done = subprocess.run([*argv[:6], "env", "RECEIVER_PORT=1", "METRICS_PORT=1", *argv[6:]], check=False)  # noqa: S603
    assert done.returncode == 1


def test_an_instruction_that_nobody_follows_is_an_error(tmp_path):
    text = dockerfile.DOCKERFILE.read_text()
    changed = tmp_path / "Dockerfile"
    changed.write_text(text.replace("WORKDIR /src\n", "WORKDIR /src\nADD https://example.com/x /src/\n"))
    with pytest.raises(ValueError, match="ADD"):
        dockerfile.read(changed)


def test_the_dockerfile_is_read_whole():
    found = dockerfile.read()
    assert found.build.env[CACHE] == "1"
    assert found.entrypoint == ["outlast"]
    assert found.final.env["HOME"] == "/tmp"  # noqa: S108 - the image's
    assert any("--require-hashes -r requirements.lock" in text for text in found.build.all("RUN"))
